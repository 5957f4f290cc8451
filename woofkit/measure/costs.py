"""What training costs: operations, memory by what it holds, time; and what a forward pass costs afterwards.

The operations of a step are counted, not estimated. The memory of weights, gradients, optimiser and activations is
summed over their tensors; the peak is measured from outside, at the process or at the GPU's allocator.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from woofkit.adapters import save_run_model
from woofkit.config import ConfigError, TrainConfig
from woofkit.fast.cuda_graph import WARM_UP, GraphedStep
from woofkit.fast.memory import MEGABYTE, measure_peak_memory
from woofkit.fast.runtime import Runtime
from woofkit.lora import lora_layers, merge_lora
from woofkit.models import build_for, data_config
from woofkit.train import make_optimizer, train_step


class Flops(NamedTuple):
    """Floating-point operations per image; a multiplication and an addition are two."""

    forward: float
    backward: float


class StepMemory(NamedTuple):
    """What a training step holds, in MB. `peak` is measured, so it also includes what lives only within the step."""

    weights: float
    optimizer: float
    gradients: float
    activations: float
    peak: float


class Step(NamedTuple):
    """A training step that can be repeated: what `train_step` takes; images (B, 3, H, W), targets (B,)."""

    model: nn.Module
    images: Tensor
    targets: Tensor
    optimizer: torch.optim.Optimizer
    runtime: Runtime


def count_flops(model: nn.Module, images: Tensor, runtime: Runtime) -> Flops:
    """Count the matrix products of a training step as it is run, forward and backward; images (B, 3, H, W).

    Element-wise work (normalisation, softmax, GELU) is not counted: it takes time, but few operations.
    """
    with FlopCounterMode(display=False) as forward:
        logits = runtime.forward()(model, images)
        loss = F.cross_entropy(logits, images.new_zeros(len(images), dtype=torch.int64))
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    model.zero_grad(set_to_none=True)
    return Flops(forward.get_total_flops() / len(images), backward.get_total_flops() / len(images))


def measure_memory(step: Step) -> StepMemory:
    """Measure a training step's memory. It takes two steps; the first one sets the optimiser up."""
    model, images, targets, optimizer, runtime = step
    part = runtime.micro_batch or len(images)  # one part's activations are freed before the next one's are made
    held = {t.untyped_storage().data_ptr() for t in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}  # kept alive here, so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            saved[storage.data_ptr()] = storage  # storage that several tensors share counts once
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        train_step(model, images[:part], targets[:part], optimizer, runtime)
    activations = sum(storage.nbytes() for storage in saved.values()) / MEGABYTE
    saved.clear()
    gradients = _megabytes(p.grad for p in model.parameters() if p.grad is not None)
    optimizer.zero_grad(set_to_none=True)
    weights = _megabytes([*model.parameters(), *model.buffers()])
    state = _megabytes(v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
    with measure_peak_memory(images.device, interval=0.002) as added:
        train_step(*step)
    return StepMemory(weights, state, gradients, activations, peak=weights + state + added.megabytes)


def measure_latencies(models: Iterable[nn.Module], image: Tensor, runtime: Runtime, rounds: int = 15) -> list[float]:
    """Median seconds that each model takes for `image` (1, 3, H, W); they are in eval mode and take turns."""
    calls = [partial(runtime.forward(), model.eval(), image) for model in models]
    with torch.inference_mode(), runtime.autocast():
        times = _time_in_turn(calls, rounds + 1, image.device)
    return [statistics.median(seconds[1:]) for seconds in times]  # the first round warms up


def measure_costs(configs: Iterable[TrainConfig], rounds: int = 9) -> pd.DataFrame:
    """Measure a training step of each run's model on made-up images: one row per run, named by its method.

    The steps alternate, so that a machine whose speed drifts affects all runs alike.

    Returns:
        method; trainable_parameters and file_mb, as a run would keep it; forward_gflops and backward_gflops (per
        image); step_seconds (median of `rounds`), round_seconds (each round's) and images_per_second; weights_mb,
        optimizer_mb, gradients_mb, activations_mb and peak_mb; latency_ms of one image, and, for adapters,
        merged_latency_ms.

    Raises:
        ConfigError: a run that trains nothing.
    """
    configs = list(configs)
    if any(config.method == "zero-shot" for config in configs):
        raise ConfigError("zero-shot trains nothing, so no step of it can be measured: leave it out")
    steps = [_made_up_step(config) for config in configs]
    rows = []
    for config, step in zip(configs, steps, strict=True):
        flops = count_flops(step.model, step.images, step.runtime)
        memory = {f"{name}_mb": value for name, value in measure_memory(step)._asdict().items()}
        gflops = {"forward_gflops": flops.forward / 1e9, "backward_gflops": flops.backward / 1e9}
        rows.append({"method": config.method, **sizes(step.model, config), **gflops, **memory})
    times = _time_in_turn([_rehearsed(step) for step in steps], rounds, steps[0].images.device)
    for row, step, seconds in zip(rows, steps, times, strict=True):
        row["step_seconds"], row["round_seconds"] = statistics.median(seconds), seconds
        row["images_per_second"] = len(step.images) / row["step_seconds"]
    return pd.DataFrame(rows).join(_latencies(steps))


def sizes(model: nn.Module, config: TrainConfig) -> dict[str, float]:
    """The number of trained parameters, and the size in MB of the file that a run keeps of the model."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    with TemporaryDirectory() as folder:
        file = save_run_model(Path(folder), copy.deepcopy(model).cpu(), config)
        return {"trainable_parameters": trained, "file_mb": file.stat().st_size / MEGABYTE}


def _made_up_step(config: TrainConfig) -> Step:
    """A step of the run's model on images of noise."""
    runtime = Runtime.of(config)
    model = runtime.prepare(build_for(config)).train()
    generator = torch.Generator().manual_seed(config.seed)
    images = torch.randn(config.batch_size, *data_config(model)["input_size"], generator=generator).to(runtime.device)
    targets = torch.arange(config.batch_size, device=runtime.device) % model.num_classes
    return Step(model, images, targets, make_optimizer(model, config.lr, runtime), runtime)


def _rehearsed(step: Step) -> Callable[[], object]:
    """What a training repeats; on a GPU its first steps, which record it, are done."""
    model, images, targets, optimizer, runtime = step
    repeated = runtime.repeated(partial(train_step, model, optimizer=optimizer, runtime=runtime), len(images))
    for _ in range(WARM_UP + 1 if isinstance(repeated, GraphedStep) else 0):
        repeated(images, targets)
    return partial(repeated, images, targets)


def _latencies(steps: list[Step]) -> pd.DataFrame:
    """One row per model: latency_ms, and merged_latency_ms of those with adapters."""
    models = {(row, "latency_ms"): step.model for row, step in enumerate(steps)}
    for row, step in enumerate(steps):
        if lora_layers(step.model):
            models[row, "merged_latency_ms"] = merge_lora(copy.deepcopy(step.model))
    seconds = measure_latencies(models.values(), steps[0].images[:1], steps[0].runtime)
    return pd.Series(1e3 * np.array(seconds), index=pd.MultiIndex.from_tuples(models)).unstack()


def _time_in_turn(calls: Sequence[Callable[[], object]], rounds: int, device: torch.device) -> list[tuple[float, ...]]:
    """Seconds of each call in every round; in a round, each is called once."""

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return list(zip(*([seconds(call) for call in calls] for _ in range(rounds)), strict=True))


def _megabytes(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / MEGABYTE
