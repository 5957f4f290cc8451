"""Training in one readable loop: `fit`."""

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
from woofkit.evaluation import Evaluation
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


class Means(NamedTuple):
    """Mean cross entropy and accuracy (0 to 1) over the images of an epoch so far."""

    loss: float
    accuracy: float


def fit(
    model: nn.Module,
    pixels: Tensor,
    labels: np.ndarray | Tensor,
    transform: Transform,
    config: TrainConfig,
    *,
    validate: Callable[[nn.Module], Evaluation] | None = None,
    checkpoint: Path | None = None,
    on_start: Callable[[list[dict]], None] | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    on_step: Callable[[int, int, Callable[[], Means]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[dict]:
    """Train what is trainable in `model`, in place, with Adam on the mean cross entropy.

    With `validate` (called after every epoch) the weights of the epoch with the highest validation accuracy,
    and among equals the lowest loss, are the model's at the end; without it those of the last epoch. With
    `checkpoint`, a file written after every epoch, an interrupted training continues after its last epoch and
    ends as if it had not been interrupted: order and dropout depend on (seed, epoch) alone.

    Training ends early once `stop`, asked after every step, says True. What was learned stays in the model, as if
    training had been meant to end there; the checkpoint stays as the last whole epoch left it.

    Args:
        pixels: uint8 (N, 3, H, W). labels: (N,).
        on_start: gets the records of the epochs that were done before.
        on_epoch: gets each epoch's record.
        on_step: gets the epoch (from 1), how many of its images are done, and a function that gives the epoch's means
            so far (on a GPU it waits for the step), after every step.

    Returns:
        A record an epoch: epoch (from 1), images (fewer than all if stopped within it), lr, train_loss and
        train_accuracy (means over these images, each taken before the step that used it), seconds (training alone,
        without `on_step`), images_per_second, data_share (of the seconds: waited for batches; on a GPU, for them to
        be on their way), val_loss and val_accuracy (or nan).
    """
    device = pick_device(config.device)
    prefer_fast_attention(model.to(device), device)
    keep_freed_memory()
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = make_optimizer(model, config.lr)
    pixels = near(pixels, device)
    compute_logits = logits_for(config.epochs * len(pixels), config.batch_size, device)
    history, best = _resume(checkpoint, trainable, optimizer, device)
    if on_start:
        on_start(list(history))

    for epoch in range(len(history), config.epochs):
        measured, ended = _train_epoch(
            model, pixels, labels, transform, config, epoch, optimizer, device, on_step, stop, compute_logits
        )
        record = {"epoch": epoch + 1, **measured}
        score = validate(model) if validate else None
        record["val_loss"] = score.loss if score else math.nan
        record["val_accuracy"] = score.accuracy if score else math.nan
        history.append(record)
        if score and (not best or (score.accuracy, -score.loss) > (best["accuracy"], -best["loss"])):
            tensors = {name: parameter.detach().clone() for name, parameter in trainable.items()}
            best = {"epoch": epoch + 1, "accuracy": score.accuracy, "loss": score.loss, "tensors": tensors}
        if checkpoint and record["images"] == len(pixels):
            tensors = {name: parameter.detach() for name, parameter in trainable.items()}
            state = {"history": history, "best": best, "optimizer": optimizer.state_dict(), "tensors": tensors}
            write_atomic(checkpoint, lambda temporary, state=state: torch.save(state, temporary))
        if on_epoch:
            on_epoch(record)
        if ended:
            break
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
    model, pixels, labels, transform, config, epoch, optimizer, device, on_step, stop, compute_logits
) -> tuple[dict, bool]:
    seed = config.seed * 10_000 + epoch
    torch.manual_seed(seed)  # dropout
    steps_per_epoch = math.ceil(len(pixels) / config.batch_size)
    precision = pick_precision(config.precision, device)
    loss_sum, num_correct, num_seen = torch.zeros((), device=device), torch.zeros((), device=device), 0

    def means() -> Means:
        return Means(loss_sum.item() / num_seen, num_correct.item() / num_seen)  # waits for a GPU

    model.train()
    start, watched = time.perf_counter(), 0.0
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
        num_seen += len(targets)
        if on_step:
            begin = time.perf_counter()
            on_step(epoch + 1, num_seen, means)
            watched += time.perf_counter() - begin
        if ended := bool(stop and stop()):
            break
    mean_loss, accuracy = means()
    seconds = max(time.perf_counter() - start - watched, 1e-9)
    model.eval()
    if not math.isfinite(mean_loss):
        raise FloatingPointError(f"the loss is {mean_loss} in epoch {epoch + 1}: try a lower lr than {config.lr:g}")
    measured = {
        "images": num_seen,
        "lr": optimizer.param_groups[0]["lr"],
        "train_loss": mean_loss,
        "train_accuracy": accuracy,
        "seconds": seconds,
        "images_per_second": num_seen / seconds,
        "data_share": loader.seconds / seconds,
    }
    return measured, ended


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
