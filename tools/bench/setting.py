"""What every contestant is given, and the model, the batch and the transform that all of them start from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from woofkit.config import LoRAConfig, TrainConfig
from woofkit.data import Transform, WoofDataset, make_transform
from woofkit.fast.runtime import Runtime
from woofkit.models import build_for, data_config

LR = 4e-4
RANK = 12  # the report's


@dataclass(frozen=True)
class Setting:
    """One measurement: where, how large, and the JPEG files (`pictures`) that the epochs read."""

    device: str
    precision: str  # of our epochs, "fp32" or "bf16"
    image_size: int  # pixels a side
    batch_size: int
    pictures: WoofDataset

    def runtime(self, precision: str) -> Runtime:
        """Where and how our contestants compute."""
        return Runtime(torch.device(self.device), precision)

    @property
    def steps_per_round(self) -> int:
        """A GPU's steps are too short to be timed one by one."""
        return 1 if self.device == "cpu" else 20


def build_vit(setting: Setting, method: str = "full") -> nn.Module:
    """The study's model as our runs build it, with what `method` trains, in train mode on the device."""
    lora = LoRAConfig.paper(RANK) if method == "lora" else None
    model = build_for(TrainConfig(method=method, lora=lora))
    if (setting.image_size, setting.image_size) != model.patch_embed.img_size:
        trained = model.pos_embed.requires_grad
        model.set_input_size(setting.image_size)  # resamples the position embedding into a new parameter
        model.pos_embed.requires_grad_(trained)
    return model.to(setting.device).train()


def timm_config(model: nn.Module, setting: Setting) -> dict:
    """timm's data settings for the model at the size in use."""
    return data_config(model) | {"input_size": (3, setting.image_size, setting.image_size)}


def our_transform(model: nn.Module, setting: Setting) -> Transform:
    """What our runs do to every image."""
    return make_transform(timm_config(model, setting))


def ready_batch(setting: Setting) -> tuple[Tensor, Tensor]:
    """Normalised images (B, 3, H, W) and targets (B,) on the device; what they show costs no time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(setting.batch_size, 3, setting.image_size, setting.image_size, generator=generator)
    targets = torch.arange(setting.batch_size) % 10
    return images.to(setting.device), targets.to(setting.device)


def repeat_step(step: Callable[[Tensor, Tensor], object], setting: Setting) -> Callable[[], int]:
    """A round of steps on one ready batch; it returns how many images it trained on."""
    images, targets = ready_batch(setting)

    def perform() -> int:
        for _ in range(setting.steps_per_round):
            step(images, targets)
        return setting.steps_per_round * len(targets)

    return perform
