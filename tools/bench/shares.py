"""Where the time of a training step goes: products of matrices, work on single elements, copies, the optimizer."""

from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from tools.bench.contestants import our_step
from tools.bench.setting import Setting, ready_batch

# Operations of PyTorch by what they do, as parts of their names; the first kind that fits counts.
KINDS = {
    "matrix products": ("mm", "linear", "convolution", "attention", "matmul"),
    "optimizer": ("_fused_adam", "_foreach"),
    "copies": ("copy_", "clone", "cat", "index", "gather", "pad", "contiguous", "stack", "_to_copy"),
    "element-wise": ("norm", "gelu", "softmax", "add", "mul", "div", "sub", "sum", "nll", "argmax", "zero_", "fill_"),
}
OTHER = "the rest"
STEPS = 3


def kind_of(operation: str) -> str:
    """The kind of an operation such as "aten::addmm"."""
    name = operation.removeprefix("aten::")
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), OTHER)


def step_shares(setting: Setting, methods: tuple[str, ...] = ("full", "lora", "probe")) -> pd.DataFrame:
    """Milliseconds per image by kind of operation, from PyTorch's profiler: one row per method and kind."""
    rows = []
    for method in methods:
        step, _ = our_step(setting, method, setting.precision)
        batch = ready_batch(setting)
        for _ in range(2):
            step(*batch)
        gpu = setting.device == "cuda"
        with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as measured:
            for _ in range(STEPS):
                step(*batch)
            if gpu:
                torch.cuda.synchronize()
        images = STEPS * setting.batch_size
        for kind, seconds in _by_kind(measured.key_averages(), gpu).items():
            rows.append({"method": method, "kind": kind, "ms_per_image": 1000 * seconds / images})
    return pd.DataFrame(rows)


def _by_kind(events: Any, gpu: bool) -> dict[str, float]:
    seconds = dict.fromkeys([*KINDS, OTHER], 0.0)
    for event in events:
        if event.key.startswith("aten::"):
            seconds[kind_of(event.key)] += (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e6
    return seconds
