"""What training costs: operations, memory by what it holds, time; and what a forward costs afterwards.

The operations of a step are counted, not estimated; what weights, gradients, optimiser and activations take is
summed over the very tensors; the peak is measured from outside, at the process or the GPU's allocator.
"""

import copy
import statistics
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from woofkit.config import ConfigError, TrainConfig
from woofkit.fast.device import autocast, pick_device, pick_precision
from woofkit.fast.forward import class_logits, prefer_fast_attention
from woofkit.fast.memory import MEGABYTE, keep_freed_memory, measure_peak_memory
from woofkit.lora import lora_layers, merge_lora
from woofkit.models import build_for, data_config
from woofkit.train import make_optimizer, train_step


class Flops(NamedTuple):
    """Floating-point operations an image, a multiplication and an addition being two."""

    forward: float
    backward: float


class StepMemory(NamedTuple):
    """What a training step holds, in MB; `peak` is measured and so also has what comes and goes within it."""

    weights: float
    optimizer: float
    gradients: float
    activations: float
    peak: float


def count_flops(model: nn.Module, images: Tensor) -> Flops:
    """Count the matrix products of a training step as it is run, forward and backward; (B, 3, H, W).

    Element-wise work (normalisation, softmax, GELU) is not counted: it takes time, but few operations.
    """
    with FlopCounterMode(display=False) as forward:
        loss = F.cross_entropy(class_logits(model, images), images.new_zeros(len(images), dtype=torch.int64))
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    model.zero_grad(set_to_none=True)
    return Flops(forward.get_total_flops() / len(images), backward.get_total_flops() / len(images))


def measure_memory(
    model: nn.Module, images: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, precision: str
) -> StepMemory:
    """Measure a training step's memory; it takes two steps, the first of which sets the optimiser up."""
    held = {t.untyped_storage().data_ptr() for t in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}  # held here, so that no address comes twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            saved[storage.data_ptr()] = storage  # what several tensors share counts once
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        train_step(model, images, targets, optimizer, precision)
    activations = sum(storage.nbytes() for storage in saved.values()) / MEGABYTE
    saved.clear()
    gradients = _megabytes(p.grad for p in model.parameters() if p.grad is not None)
    optimizer.zero_grad(set_to_none=True)
    weights = _megabytes([*model.parameters(), *model.buffers()])
    state = _megabytes(v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
    with measure_peak_memory(images.device, interval=0.002) as added:
        train_step(model, images, targets, optimizer, precision)
    return StepMemory(weights, state, gradients, activations, peak=weights + state + added.megabytes)


def measure_latencies(models: Iterable[nn.Module], image: Tensor, precision: str, rounds: int = 15) -> list[float]:
    """Median seconds of a forward of `image` (1, 3, H, W) through each model; they are in eval mode and take turns."""
    models = list(models)
    with torch.inference_mode(), autocast(image.device, precision):
        times = [
            [_seconds(lambda model=model: class_logits(model.eval(), image), image.device) for model in models]
            for _ in range(rounds + 1)
        ]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def measure_costs(configs: Iterable[TrainConfig], rounds: int = 9) -> pd.DataFrame:
    """Measure a training step of each run's model on made-up images; a row each, named by its method.

    The steps alternate, so that a machine whose speed drifts is as unfair to one as to another.

    Returns:
        method; forward_gflops and backward_gflops (an image); step_seconds (median of `rounds`), round_seconds (each
        round's) and images_per_second; weights_mb, optimizer_mb, gradients_mb, activations_mb and peak_mb; latency_ms
        of one image, and, for adapters, merged_latency_ms.

    Raises:
        ConfigError: a run that trains nothing.
    """
    configs = list(configs)
    if any(config.method == "zero-shot" for config in configs):
        raise ConfigError("zero-shot trains nothing, so no step of it can be measured: leave it out")
    keep_freed_memory()
    rows, steps = [], []
    for config in configs:
        device = pick_device(config.device)
        precision = pick_precision(config.precision, device)
        model = prefer_fast_attention(build_for(config).to(device), device)
        generator = torch.Generator().manual_seed(config.seed)
        images = torch.randn(config.batch_size, *data_config(model)["input_size"], generator=generator).to(device)
        targets = torch.arange(config.batch_size, device=device) % model.num_classes
        optimizer = make_optimizer(model.train(), config.lr)
        flops = count_flops(model, images)
        memory = measure_memory(model, images, targets, optimizer, precision)
        rows.append(
            {
                "method": config.method,
                "forward_gflops": flops.forward / 1e9,
                "backward_gflops": flops.backward / 1e9,
                **{f"{name}_mb": value for name, value in memory._asdict().items()},
            }
        )
        steps.append((model, images, targets, optimizer, precision))
    times = [[_seconds(lambda step=step: train_step(*step), step[1].device) for step in steps] for _ in range(rounds)]
    for row, (_, images, *_), seconds in zip(rows, steps, zip(*times, strict=True), strict=True):
        row["step_seconds"], row["round_seconds"] = statistics.median(seconds), tuple(seconds)
        row["images_per_second"] = len(images) / row["step_seconds"]
    return pd.DataFrame(rows).join(_latencies(steps))


def _latencies(steps: list[tuple]) -> pd.DataFrame:
    """A row a model: latency_ms, and merged_latency_ms of those with adapters."""
    models = {(row, "latency_ms"): model for row, (model, *_) in enumerate(steps)}
    for row, (model, *_) in enumerate(steps):
        if lora_layers(model):
            models[row, "merged_latency_ms"] = merge_lora(copy.deepcopy(model))
    _, images, *_, precision = steps[0]
    seconds = measure_latencies(models.values(), images[:1], precision)
    return pd.Series(1e3 * np.array(seconds), index=pd.MultiIndex.from_tuples(models)).unstack()


def _seconds(call, device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _megabytes(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MEGABYTE
