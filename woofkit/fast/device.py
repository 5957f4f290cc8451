"""Which device computes, and in which number format: "auto" becomes a fact here."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from woofkit.config import ConfigError

BF16_CPUS = ("avx512_bf16", "amx_bf16")  # instruction sets that multiply in bf16; others would emulate it, slowly


def pick_device(name: str) -> torch.device:
    """The device for "auto" (a GPU if there is one), "cpu" or "cuda".

    Raises:
        ConfigError: "cuda" is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' is not available here: allowed are 'auto' and 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def pick_precision(precision: str, device: torch.device) -> str:
    """What "auto" means on `device`: "bf16" where it multiplies in bf16, "fp32" elsewhere; others stay."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if any(able.get(instructions) for instructions in BF16_CPUS) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 mixed precision on `device`, or nothing for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def near(pixels: Tensor, device: torch.device) -> Tensor:
    """`pixels` on the GPU, where they take at most half of its free memory, and else where they are.

    From a GPU's own memory a batch is ready in microseconds; uint8 images are small (150 kB at 224 pixels).
    """
    if device.type != "cuda" or pixels.device.type == "cuda":
        return pixels
    free, _ = torch.cuda.mem_get_info(device)
    return pixels.to(device) if pixels.nbytes <= free // 2 else pixels
