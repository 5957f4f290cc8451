"""Our contestants: the functions that a run of the study calls for its batches and steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from tools.bench.setting import LR, Setting, build_vit, our_transform, repeat_step
from woofkit.data import batches, load_pixels
from woofkit.fast.device import near
from woofkit.fast.forward import class_logits, compiled_logits, prefer_fast_attention
from woofkit.fast.memory import keep_freed_memory
from woofkit.train import make_optimizer, train_step


def prepare_steps(
    setting: Setting, method: str, precision: str, other_attention: bool = False, compiled: bool = False
) -> Callable[[], int]:
    """Training steps on a ready batch; `other_attention` takes the kernel that `prefer_fast_attention` passes over."""
    keep_freed_memory()
    model = prefer_fast_attention(build_vit(setting, method), torch.device(setting.device))
    if other_attention:
        for block in model.blocks:
            block.attn.fused_attn = not block.attn.fused_attn
    optimizer = make_optimizer(model, LR)
    logits = compiled_logits(setting.batch_size) if compiled else class_logits

    def step(images: Tensor, targets: Tensor) -> None:
        train_step(model, images, targets, optimizer, precision, logits)

    return repeat_step(step, setting)


def prepare_epochs(setting: Setting, method: str) -> Callable[[], int]:
    """Epochs over the files, which are read in the first one."""
    keep_freed_memory()
    device = torch.device(setting.device)
    model = prefer_fast_attention(build_vit(setting, method), device)
    transform, optimizer = our_transform(model, setting), make_optimizer(model, LR)
    pixels, epoch = None, 0

    def perform() -> int:
        nonlocal pixels, epoch
        if pixels is None:
            pixels = near(load_pixels(setting.pictures, transform, progress=False), device)
        for images, targets in batches(
            pixels,
            setting.pictures.labels,
            setting.batch_size,
            transform=transform,
            device=device,
            generator_seed=epoch,
        ):
            train_step(model, images, targets, optimizer, setting.precision)
        epoch += 1
        return len(pixels)

    return perform
