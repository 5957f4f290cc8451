"""What people would use instead: Hugging Face PEFT, a plain PyTorch loop, and the paper's own pipeline, rebuilt.

The models are as timm and PEFT hand them out, unless a contestant says otherwise. The paper's pipeline keeps what makes
it slow: each epoch reads and decodes every file again in the training process, normalises images before it enlarges
them, and computes in float32 with the optimiser's default settings.
"""

from collections.abc import Callable

import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from tools.bench.setting import LR, RANK, Setting, build_vit, repeat_step, timm_config, train_on
from woofkit.data import IMAGENET_MEAN, IMAGENET_STD, WoofDataset
from woofkit.fast.forward import prefer_fast_attention


def prepare_peft_steps(setting: Setting, our_attention: bool = False) -> Callable[[], int]:
    """bf16 training steps of PEFT's LoRA; `our_attention` gives it the attention kernel that ours use."""
    model = peft_vit(setting)
    if our_attention:
        prefer_fast_attention(model.base_model.model, torch.device(setting.device))
    return repeat_step(_plain_step(model, setting.device, bf16=True), setting)


def peft_vit(setting: Setting) -> nn.Module:
    """The model in PEFT's wrapping: the same targets and rank as ours, the final norm and the head trained too."""
    import peft  # here, as its import takes seconds

    targets = ["attn.qkv", "attn.proj"]
    settings = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, modules_to_save=["head"])
    model = peft.get_peft_model(build_vit(setting), settings)
    # named in modules_to_save, "norm" would match and wrap fifty more modules, most of them empty
    model.base_model.model.norm.requires_grad_(True)
    return model.to(setting.device).train()


def prepare_plain_steps(setting: Setting) -> Callable[[], int]:
    """float32 training steps of full fine-tuning."""
    return repeat_step(_plain_step(build_vit(setting), setting.device), setting)


def prepare_plain_epochs(setting: Setting) -> Callable[[], int]:
    """float32 epochs of full fine-tuning over a DataLoader whose workers read the files with timm's transform."""
    model = build_vit(setting)
    files = JpegFiles(setting.pictures, create_transform(**timm_config(model, setting)))
    options = {"num_workers": 2, "pin_memory": setting.device != "cpu"}
    loader = DataLoader(files, batch_size=setting.batch_size, shuffle=True, **options)
    return train_on(lambda: loader, _plain_step(model, setting.device))


def prepare_paper_epochs(setting: Setting, method: str) -> Callable[[], int]:
    """Epochs of the paper's full fine-tuning or LoRA."""
    model = build_vit(setting)
    if method == "lora":
        add_copied_lora(model).to(setting.device)
    loader, step = paper_loader(setting), _plain_step(model, setting.device)
    return train_on(lambda: loader, lambda *batch: step(*batch).item())  # the paper's loop logs every loss


def paper_loader(setting: Setting) -> DataLoader:
    """Shuffled batches without workers: greyscale, tensor, normalise, and only then resize, to a square."""
    grey = [transforms.Grayscale(3), transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    transform = transforms.Compose([*grey, transforms.Resize((setting.image_size, setting.image_size))])
    return DataLoader(JpegFiles(setting.pictures, transform), batch_size=setting.batch_size, shuffle=True)


def add_copied_lora(model: nn.Module, rank: int = RANK) -> nn.Module:
    """Wrap `attn.qkv` and `attn.proj` of every block, in place; the final norm and the head train beside them."""
    model.requires_grad_(False)
    for block in model.blocks:
        block.attn.qkv = CopiedLoRA(block.attn.qkv, rank)
        block.attn.proj = CopiedLoRA(block.attn.proj, rank)
    model.norm.requires_grad_(True)
    model.head.requires_grad_(True)
    return model


class CopiedLoRA(nn.Module):
    """The paper's h = W x + b + B A x + b_B, with frozen copies of W and b and two more matrix products.

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
        return F.linear(x, self.weight.to(x.device), self.bias.to(x.device)) + self.B(self.A(x))


class JpegFiles(Dataset):
    """The usual data set over files: each access reads, decodes and transforms one image anew."""

    def __init__(self, pictures: WoofDataset, transform: Callable[[Image.Image], Tensor]):
        self.paths, self.labels = [pictures.folder / key for key in pictures.keys], pictures.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


def _plain_step(model: nn.Module, device: str, bf16: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """A training step as tutorials write it; it returns the loss."""
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=LR)

    def step(images: Tensor, targets: Tensor) -> Tensor:
        images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        return loss

    return step
