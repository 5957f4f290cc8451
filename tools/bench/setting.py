"""What every contestant is given, and the model, the batch and the pictures that all of them start from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from woofkit.config import NUM_BREEDS, LoRAConfig, TrainConfig
from woofkit.data import WoofDataset, load_dataset
from woofkit.fast.runtime import Runtime
from woofkit.models import build_for, data_config

Step = Callable[[Tensor, Tensor], object]  # takes images (B, 3, H, W) and targets (B,)
LR = 4e-4
RANK = 12  # the paper's
SHORT_SIDE = 160  # of imagewoof2-160: the smallest files, whose decoding costs those least who do it in every epoch
OTHER_ATTENTION = {"cpu": "fused", "cuda": "explicit"}  # the kernel that `prefer_fast_attention` passes over


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

    def fill(self, title: str) -> str:
        """A contestant's or pair's title with what depends on the setting filled in."""
        return title.format(other=OTHER_ATTENTION[self.device], precision=self.precision)

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


def timm_config(model: nn.Module, setting: Setting) -> dict[str, Any]:
    """timm's data settings for the model at the size in use."""
    return data_config(model) | {"input_size": (3, setting.image_size, setting.image_size)}


def ready_batch(setting: Setting) -> tuple[Tensor, Tensor]:
    """Normalised images (B, 3, H, W) and targets (B,) on the device; what they show costs no time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(setting.batch_size, 3, setting.image_size, setting.image_size, generator=generator)
    targets = torch.arange(setting.batch_size) % NUM_BREEDS
    return images.to(setting.device), targets.to(setting.device)


def repeat_step(step: Step, setting: Setting) -> Callable[[], int]:
    """A round of steps on one ready batch."""
    ready = [ready_batch(setting)] * setting.steps_per_round
    return train_on(lambda: ready, step)


def train_on(batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], step: Step) -> Callable[[], int]:
    """A round of one step on each of `batches()`; it returns how many images it trained on."""

    def perform() -> int:
        num_images = 0
        for images, targets in batches():
            step(images, targets)
            num_images += len(targets)
        return num_images

    return perform


def jpeg_pictures(num: int, data_dir: str, folder: Path) -> WoofDataset:
    """`num` JPEG files with their breeds: of ImageWoof in `data_dir`, or, with "", drawings written to `folder`.

    Raises:
        ConfigError: `data_dir` does not hold ImageWoof, or holds fewer images.
    """
    size = max(num, NUM_BREEDS)  # a stratified subset has at least one image of each breed
    if data_dir:
        return load_dataset("imagewoof", split="train", scheme="paper", data_dir=data_dir, num=size).subset(range(num))
    drawings = load_dataset("sketchwoof", split="train", num=size, image_size=SHORT_SIDE).subset(range(num))
    keys = tuple(f"{key}.jpg" for key in drawings.keys)
    for index, key in enumerate(keys):
        drawings.image(index).save(folder / key, quality=75)
    return replace(drawings, keys=keys, folder=folder)
