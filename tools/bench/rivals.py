"""What people would use instead: a plain PyTorch loop in float32, and Hugging Face PEFT under bf16 autocast.

The models are as timm and PEFT hand them out, unless a contestant says otherwise.
"""

from collections.abc import Callable
from importlib import import_module

import torch
from timm.data import create_transform
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tools.bench.pictures import JpegFiles
from tools.bench.setting import LR, RANK, Setting, build_vit, repeat_step, timm_config
from woofkit.fast.forward import prefer_fast_attention

LOADER_WORKERS = 2


def peft_vit(setting: Setting) -> nn.Module:
    """The model in PEFT's wrapping: the same targets and rank as ours, the final norm and the head trained too."""
    peft = import_module("peft")  # a package for this comparison alone, so woofkit does not require it
    settings = peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=["attn.qkv", "attn.proj"], modules_to_save=["head"]
    )
    model = peft.get_peft_model(build_vit(setting), settings)
    # named in modules_to_save, "norm" would match and wrap fifty more modules, most of them empty
    model.base_model.model.norm.requires_grad_(True)
    return model.to(setting.device).train()


def prepare_peft_steps(setting: Setting, our_attention: bool = False) -> Callable[[], int]:
    """bf16 training steps of PEFT's LoRA; `our_attention` gives it the attention kernel that ours use."""
    model = peft_vit(setting)
    if our_attention:
        prefer_fast_attention(model.base_model.model, torch.device(setting.device))
    return repeat_step(_plain_step(model, setting.device, bf16=True), setting)


def prepare_plain_steps(setting: Setting) -> Callable[[], int]:
    """float32 training steps of full fine-tuning."""
    return repeat_step(_plain_step(build_vit(setting), setting.device), setting)


def prepare_plain_epochs(setting: Setting) -> Callable[[], int]:
    """float32 epochs of full fine-tuning over a DataLoader whose workers read the files with timm's transform."""
    model = build_vit(setting)
    files = JpegFiles(setting.pictures, create_transform(**timm_config(model, setting)))
    loader = DataLoader(
        files,
        batch_size=setting.batch_size,
        shuffle=True,
        num_workers=LOADER_WORKERS,
        pin_memory=setting.device != "cpu",
    )
    step = _plain_step(model, setting.device)

    def perform() -> int:
        for images, targets in loader:
            step(images.to(setting.device, non_blocking=True), targets.to(setting.device, non_blocking=True))
        return len(files)

    return perform


def _plain_step(model: nn.Module, device: str, bf16: bool = False) -> Callable[[Tensor, Tensor], None]:
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=LR)

    def step(images: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()

    return step
