"""The report's training pipeline, rebuilt to be timed: its LoRA wrapper, its reading of images, its loop.

It keeps what makes it slow: each epoch reads and decodes every file again in the training process, normalises
images before it enlarges them, and computes in float32 with the optimiser's default settings.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms

from tools.bench.pictures import JpegFiles
from tools.bench.setting import LR, RANK, Setting, build_vit
from woofkit.data import IMAGENET_MEAN, IMAGENET_STD


class CopiedLoRA(nn.Module):
    """h = W x + b + B A x + b_B, with frozen copies of W and b and two more matrix products.

    Shapes: x (..., in) -> (..., out); A (rank, in), normal with std 0.01; B (out, rank) and its bias start at zero.
    """

    def __init__(self, linear: nn.Linear, rank: int = RANK):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().clone())
        self.register_buffer("bias", linear.bias.detach().clone())
        self.A = nn.Linear(linear.in_features, rank, bias=False)
        self.B = nn.Linear(rank, linear.out_features)
        nn.init.normal_(self.A.weight, std=0.01)
        nn.init.zeros_(self.B.weight)
        nn.init.zeros_(self.B.bias)

    def forward(self, x: Tensor) -> Tensor:
        base = F.linear(x, self.weight.to(x.device), self.bias.to(x.device))
        return base + self.B(self.A(x))


def add_copied_lora(model: nn.Module, rank: int = RANK) -> nn.Module:
    """Wrap `attn.qkv` and `attn.proj` of every block, in place; the final norm and the head train beside them."""
    model.requires_grad_(False)
    for block in model.blocks:
        block.attn.qkv = CopiedLoRA(block.attn.qkv, rank)
        block.attn.proj = CopiedLoRA(block.attn.proj, rank)
    model.norm.requires_grad_(True)
    model.head.requires_grad_(True)
    return model


def paper_loader(setting: Setting) -> DataLoader:
    """Shuffled batches without workers: greyscale, tensor, normalise, and only then resize, to a square."""
    size = (setting.image_size, setting.image_size)
    transform = transforms.Compose(
        [
            transforms.Grayscale(num_output_channels=3),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            transforms.Resize(size),
        ]
    )
    return DataLoader(JpegFiles(setting.pictures, transform), batch_size=setting.batch_size, shuffle=True)


def prepare_epochs(setting: Setting, method: str) -> Callable[[], int]:
    """Epochs of the report's full fine-tuning or LoRA."""
    model = build_vit(setting)
    if method == "lora":
        add_copied_lora(model).to(setting.device)
    loader = paper_loader(setting)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=LR)

    def perform() -> int:
        summed = 0.0
        for images, targets in loader:
            images, targets = images.to(setting.device), targets.to(setting.device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
            summed += loss.item()  # the report's loop logs it
        return len(loader.dataset)

    return perform
