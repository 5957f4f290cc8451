"""The yardstick: how fast the device multiplies matrices, and how many FLOPs a training step needs."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from tools.bench.setting import LR, Setting, build_vit, ready_batch
from woofkit.fast.forward import plain_logits
from woofkit.train import make_optimizer, train_step

REPEATS = 5
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def count_step_flops(setting: Setting, whole: bool = False) -> int:
    """FLOPs of one step of our full fine-tuning on a batch, counted while it runs (a multiply-add is two).

    What the step leaves out is not counted, so that a share of the peak says how busy the device was; `whole` counts
    the step of the model as timm calls it, the usual yardstick of training speed (model FLOPs utilisation).
    """
    runtime = setting.runtime("bf16")
    model = runtime.prepare(build_vit(setting))
    optimizer = make_optimizer(model, LR)
    forward = plain_logits if whole else runtime.forward()
    with FlopCounterMode(display=False) as counter:
        train_step(model, *ready_batch(setting), optimizer, runtime, forward)
    return counter.get_total_flops()


def prepare_peak(setting: Setting) -> Callable[[], dict[str, float]]:
    """A round: the highest GFLOP/s of a few square products in either format; with it the FLOPs an image."""
    size = 2048 if setting.device == "cpu" else 8192
    flops = {
        name: count_step_flops(setting, whole) / setting.batch_size
        for name, whole in (("flops_per_image", False), ("model_flops_per_image", True))
    }
    operands = {
        name: [torch.randn(size, size).to(setting.device, dtype) for _ in range(3)] for name, dtype in DTYPES.items()
    }

    def perform() -> dict[str, float]:
        peaks = {name: max(_gflops(*matrices) for _ in range(REPEATS)) for name, matrices in operands.items()}
        return peaks | flops

    return perform


def _gflops(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> float:
    synchronize(a.device.type)
    start = time.perf_counter()
    torch.mm(a, b, out=out)
    synchronize(a.device.type)
    return 2 * len(a) ** 3 / (time.perf_counter() - start) / 1e9


def synchronize(device: str) -> None:
    """Wait until the device has done what it was told; a CPU has."""
    if device == "cuda":
        torch.cuda.synchronize()
