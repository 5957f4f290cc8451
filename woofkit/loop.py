"""Training in one readable loop (`fit`), and its counterpart without gradients (`evaluate`)."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.config import TrainConfig
from woofkit.data import Transform, batches
from woofkit.results import write_atomic
from woofkit.speed import (
    autocast,
    class_logits,
    keep_freed_memory,
    logits_for,
    near,
    pick_device,
    pick_precision,
    prefer_fast_attention,
)


class Evaluation(NamedTuple):
    """logits (N, C) float32 and labels (N,) int64 on the CPU; mean cross entropy; accuracy in 0..1."""

    logits: Tensor
    labels: Tensor
    loss: float
    accuracy: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    pixels: Tensor,
    labels: np.ndarray | Tensor,
    transform: Transform,
    *,
    batch_size: int = 64,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Classify every image of `pixels`, uint8 (N, 3, H, W), in eval mode; the model's mode is put back.

    `precision` is "fp32", "bf16", or "auto" (`speed.pick_precision`).

    Raises:
        ValueError: there are no images.
    """
    if len(pixels) == 0:
        raise ValueError("evaluate got no images: pass at least one")
    device = torch.device(device)
    precision = pick_precision(precision, device)
    was_training = model.training
    prefer_fast_attention(model.to(device).eval(), device)
    keep_freed_memory()
    try:
        logits = []
        for images, _ in batches(pixels, labels, batch_size, transform=transform, device=device):
            with autocast(device, precision):
                logits.append(class_logits(model, images).float().cpu())
    finally:
        model.train(was_training)
    logits, labels = torch.cat(logits), torch.as_tensor(labels, dtype=torch.int64).cpu()
    correct = (logits.argmax(1) == labels).float()
    return Evaluation(logits, labels, F.cross_entropy(logits, labels).item(), correct.mean().item())


def fit(
    model: nn.Module,
    pixels: Tensor,
    labels: np.ndarray | Tensor,
    transform: Transform,
    config: TrainConfig,
    *,
    validate: Callable[[nn.Module], Evaluation] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> list[dict]:
    """Train what is trainable in `model`, in place, with Adam on the mean cross entropy.

    With `validate` (called after every epoch) the weights of the epoch with the highest validation accuracy,
    and among equals the lowest loss, are the model's at the end; without it those of the last epoch. With
    `checkpoint`, a file written after every epoch, an interrupted training continues after its last epoch and
    ends as if it had not been interrupted: order and dropout depend on (seed, epoch) alone.

    Args:
        pixels: uint8 (N, 3, H, W). labels: (N,).
        on_epoch: gets each epoch's record.
        on_step: gets the epoch (from 1) and how many of its images are done, after every step.

    Returns:
        A record an epoch: epoch (from 1), lr, train_loss and train_accuracy (means over the epoch's images, each
        taken before the step that used it), seconds (training alone), images_per_second, data_share (of the
        seconds: waited for batches; on a GPU, for them to be on their way), val_loss and val_accuracy (or nan).
    """
    device = pick_device(config.device)
    prefer_fast_attention(model.to(device), device)
    keep_freed_memory()
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = make_optimizer(model, config.lr)
    pixels = near(pixels, device)
    compute_logits = logits_for(config.epochs * len(pixels), config.batch_size, device)
    history, best = _resume(checkpoint, trainable, optimizer, device)

    for epoch in range(len(history), config.epochs):
        measured = _train_epoch(
            model, pixels, labels, transform, config, epoch, optimizer, device, on_step, compute_logits
        )
        record = {"epoch": epoch + 1, **measured}
        score = validate(model) if validate else None
        record["val_loss"] = score.loss if score else math.nan
        record["val_accuracy"] = score.accuracy if score else math.nan
        history.append(record)
        if score and (not best or (score.accuracy, -score.loss) > (best["accuracy"], -best["loss"])):
            tensors = {name: parameter.detach().clone() for name, parameter in trainable.items()}
            best = {"epoch": epoch + 1, "accuracy": score.accuracy, "loss": score.loss, "tensors": tensors}
        if checkpoint:
            tensors = {name: parameter.detach() for name, parameter in trainable.items()}
            state = {"history": history, "best": best, "optimizer": optimizer.state_dict(), "tensors": tensors}
            write_atomic(checkpoint, lambda temporary, state=state: torch.save(state, temporary))
        if on_epoch:
            on_epoch(record)
    if best:
        _copy_into(trainable, best["tensors"])
    return history


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam on what is trainable in `model`; one kernel updates all tensors."""
    return torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr, fused=True)


def train_step(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    optimizer: torch.optim.Optimizer,
    precision: str,
    compute_logits: Callable[[nn.Module, Tensor], Tensor] = class_logits,
) -> tuple[Tensor, Tensor]:
    """One step on a batch, images (B, 3, H, W) and targets (B,): its mean loss and logits (B, C), both detached."""
    with autocast(images.device, precision):
        logits = compute_logits(model, images)
    loss = F.cross_entropy(logits.float(), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach(), logits.detach()


def selected_epoch(history: list[dict]) -> int:
    """The epoch (from 1) whose weights `fit` left in the model: best on validation, or the last."""
    validated = [record for record in history if not math.isnan(record["val_accuracy"])]
    if not validated:
        return history[-1]["epoch"]
    return max(validated, key=lambda record: (record["val_accuracy"], -record["val_loss"], -record["epoch"]))["epoch"]


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step (from 0): constant, or half a cosine from `lr` down to 0."""
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / num_steps))


def _train_epoch(
    model, pixels, labels, transform, config, epoch, optimizer, device, on_step, compute_logits
) -> dict:
    seed = config.seed * 10_000 + epoch
    torch.manual_seed(seed)  # dropout
    steps_per_epoch = math.ceil(len(pixels) / config.batch_size)
    precision = pick_precision(config.precision, device)
    loss_sum = torch.zeros((), device=device)
    num_correct = torch.zeros((), device=device)
    model.train()
    start = time.perf_counter()
    loader = _Timed(
        batches(pixels, labels, config.batch_size, transform=transform, device=device, generator_seed=seed,
                augment=config.augment)
    )  # fmt: skip
    for step, (images, targets) in enumerate(loader, start=epoch * steps_per_epoch):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step, config.epochs * steps_per_epoch)
        loss, logits = train_step(model, images, targets, optimizer, precision, compute_logits)
        loss_sum += loss * len(targets)  # weighted: the last batch is smaller
        num_correct += (logits.argmax(1) == targets).sum()
        if on_step:
            on_step(epoch + 1, min((step - epoch * steps_per_epoch + 1) * config.batch_size, len(pixels)))
    mean_loss, accuracy = loss_sum.item() / len(pixels), num_correct.item() / len(pixels)  # waits for a GPU
    seconds = time.perf_counter() - start
    model.eval()
    if not math.isfinite(mean_loss):
        raise FloatingPointError(f"the loss is {mean_loss} in epoch {epoch + 1}: try a lower lr than {config.lr:g}")
    return {
        "lr": optimizer.param_groups[0]["lr"],
        "train_loss": mean_loss,
        "train_accuracy": accuracy,
        "seconds": seconds,
        "images_per_second": len(pixels) / seconds,
        "data_share": loader.seconds / seconds,
    }


class _Timed:
    """An iterator that knows how many seconds were spent waiting for its items."""

    def __init__(self, items: Iterator):
        self.items, self.seconds = items, 0.0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        start = time.perf_counter()
        try:
            return next(self.items)
        finally:
            self.seconds += time.perf_counter() - start


def _resume(checkpoint, trainable, optimizer, device) -> tuple[list[dict], dict]:
    if not checkpoint or not checkpoint.exists():
        return [], {}
    state = torch.load(checkpoint, map_location=device, weights_only=True)
    _copy_into(trainable, state["tensors"])
    optimizer.load_state_dict(state["optimizer"])
    return state["history"], state["best"]


@torch.no_grad()
def _copy_into(parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
