"""Training: one readable loop (`fit`), its counterpart without gradients (`evaluate`), and the owner of a run.

`run_training` is what notebooks, command line and sweeps call: it knows a run by its settings and by the hashes of its
data and initial weights, finds it finished or goes on with it, and writes its folder.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.adapters import save_run_model
from woofkit.config import TrainConfig
from woofkit.data import Transform, WoofDataset, batches, cached_pixels, load_dataset, make_transform
from woofkit.fast.device import autocast, near, pick_device, pick_precision
from woofkit.fast.forward import class_logits, logits_for, prefer_fast_attention
from woofkit.fast.memory import keep_freed_memory, measure_peak_memory, return_freed_memory
from woofkit.files import describe_environment, write_atomic, write_json
from woofkit.models import build_for, count_parameters, data_config
from woofkit.results import is_finished, read_history, write_history, write_predictions
from woofkit.stats.intervals import accuracy_interval
from woofkit.storage.weights import hash_tensors


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
        batches(
            pixels,
            labels,
            config.batch_size,
            transform=transform,
            device=device,
            generator_seed=seed,
            augment=config.augment,
        )
    )
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


PROGRESS_SECONDS = 30  # between two lines within an epoch


class Monitor(Protocol):
    """What `run_training` tells somebody who watches, and may end it; `widgets.TrainingMonitor` is one."""

    def begin(self, config: TrainConfig, num_images: int, history: list[dict]) -> None:
        """Training starts with so many images an epoch, or goes on after the epochs in `history`."""

    def step(self, epoch: int, images: int, means: Callable[[], Means]) -> None:
        """After each step: the epoch (from 1), its images so far, and what gives their means."""

    def epoch(self, record: dict) -> None:
        """After each epoch: its record, as `fit` has it."""

    def stop(self) -> bool:
        """Whether training shall end here."""

    def end(self, message: str) -> None:
        """What has become of the run, in a sentence."""


def reporters(config: TrainConfig, num_images: int, report: Callable[[str], None]) -> tuple[Callable, Callable]:
    """The two callbacks of `fit`: a line an epoch, and in long epochs one every PROGRESS_SECONDS."""
    begin = last = time.perf_counter()
    first_epoch = 0  # later than 1 where a run is continued

    def time_left(epoch: int, images: int) -> str:
        done = (epoch - first_epoch) * num_images + images
        seconds = (time.perf_counter() - begin) / done * ((config.epochs - epoch + 1) * num_images - images)
        return f"{round(seconds) // 60}:{round(seconds) % 60:02d} left"

    def on_step(epoch: int, images: int, means: Callable[[], Means]) -> None:
        nonlocal first_epoch, last
        first_epoch = first_epoch or epoch
        if (now := time.perf_counter()) - last >= PROGRESS_SECONDS:
            last = now
            rate = ((epoch - first_epoch) * num_images + images) / (now - begin)
            report(
                f"{config.method:<5} epoch {epoch}/{config.epochs}  {images:,} of {num_images:,} images"
                f"  {rate:5.1f} images/s  {time_left(epoch, images)}"
            )

    def on_epoch(record: dict) -> None:
        nonlocal last
        last = time.perf_counter()
        line = f"{config.method:<5} epoch {record['epoch']}/{config.epochs}  loss {record['train_loss']:.3f}"
        line += f"  accuracy {record['train_accuracy']:6.1%}"
        if not math.isnan(record["val_accuracy"]):
            line += f"  val {record['val_accuracy']:6.1%}"
        left = time_left(record["epoch"], num_images)
        report(f"{line}  {record['images_per_second']:5.1f} images/s  {left}")

    return on_step, on_epoch


def watchers(
    config: TrainConfig, num_images: int, report: Callable[[str], None], monitor: Monitor | None = None
) -> dict[str, Callable]:
    """The callbacks of `fit` that tell `report` and, if there is one, the monitor."""
    line_a_step, line_an_epoch = reporters(config, num_images, report)
    if not monitor:
        return {"on_step": line_a_step, "on_epoch": line_an_epoch}

    def on_step(epoch: int, images: int, means: Callable[[], Means]) -> None:
        line_a_step(epoch, images, means)
        monitor.step(epoch, images, means)

    def on_epoch(record: dict) -> None:
        line_an_epoch(record)
        monitor.epoch(record)

    def on_start(history: list[dict]) -> None:
        monitor.begin(config, num_images, history)

    return {"on_start": on_start, "on_step": on_step, "on_epoch": on_epoch, "stop": monitor.stop}


def counter(title: str, total: int, unit: str, report: Callable[[str], None]) -> Callable[[int], None]:
    """A callback for the number done so far: a line every PROGRESS_SECONDS, with rate and time left."""
    begin = last = time.perf_counter()

    def on_done(done: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= PROGRESS_SECONDS and done < total:
            last = now
            left = round((now - begin) / done * (total - done))
            report(
                f"  {title}: {done:,} of {total:,} {unit}  {done / (now - begin):.1f} {unit}/s"
                f"  {left // 60}:{left % 60:02d} left"
            )

    return on_done


# Where the images and weights come from, and on what they run, is not part of what a run is: their hashes are.
NOT_IDENTITY = ("data_dir", "weights", "device")
# Nothing is trained in zero-shot, so nothing about training makes two of them different.
NOT_ZERO_SHOT = ("num_train", "label_fraction", "epochs", "batch_size", "lr", "schedule", "augment")


class Images(NamedTuple):
    """A split as it enters the model: its dataset and the pixels uint8 (N, 3, H, W)."""

    dataset: WoofDataset
    pixels: Tensor


def load_splits(config: TrainConfig, image_size: int) -> dict[str, WoofDataset]:
    """The splits that a run reads: train, val under scheme "clean", test; only test for zero-shot."""
    shared = {"scheme": config.scheme, "data_dir": config.data_dir, "image_variant": config.image_variant}
    shared |= {"seed": config.seed, "image_size": image_size, "label": config.label}
    splits = {}
    if config.method != "zero-shot":
        fraction = config.label_fraction
        splits["train"] = load_dataset(
            config.dataset, split="train", num=config.num_train, label_fraction=fraction, **shared
        )
        if config.scheme == "clean":
            splits["val"] = load_dataset(config.dataset, split="val", **shared)
    splits["test"] = load_dataset(config.dataset, split="test", num=config.num_test, **shared)
    return splits


def run_identity(config: TrainConfig, splits: dict[str, WoofDataset], model: nn.Module) -> dict[str, Any]:
    """What makes two runs equal: the settings, and the hashes of the data and of the initial weights."""
    ignored = NOT_IDENTITY + (NOT_ZERO_SHOT if config.method == "zero-shot" else ())
    ignored += () if config.method == "last" else ("last_blocks",)
    settings = {name: value for name, value in config.to_dict().items() if name not in ignored}
    settings["precision"] = pick_precision(config.precision, pick_device(config.device))
    data = {split: dataset.fingerprint() for split, dataset in splits.items()}
    return {"settings": settings, "data": data, "initial_weights": hash_tensors(model.state_dict())}


def run_folder(config: TrainConfig, identity: dict[str, Any], root: Path) -> Path:
    """<root>/<method>-r<rank>-s<seed>-<hash>; the rank is 0 without an adapter."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    rank = config.lora.rank if config.lora else 0
    return root / f"{config.method}-r{rank}-s{config.seed}-{digest}"


def run_training(
    config: TrainConfig, root: Path, *, report: Callable[[str], None] | None = None, monitor: Monitor | None = None
) -> Path:
    """Train, evaluate on test and write the run's folder below `root`; return the folder.

    A finished equal run is handed back at once; an unfinished one continues after its last epoch. Nothing is
    written before settings, images and weights have been found in order.

    A monitor may stop the training. What was learned by then is tested and kept in a folder of its own, which is
    returned, and is never taken for the whole run: the same call goes on after the last whole epoch.

    Args:
        report: gets each line of progress; None prints it.

    Raises:
        ConfigError: as `load_dataset`, `build_model` and `add_lora`.
    """
    report = report or (lambda line: print(line, flush=True))
    device = pick_device(config.device)
    model = build_for(config)
    transform = make_transform(data_config(model), config.preprocess)
    splits = load_splits(config, transform.size)
    identity = run_identity(config, splits, model)
    run = run_folder(config, identity, Path(root))
    if is_finished(run):
        report(found := f"{config.method}: found finished in {run.name}")
        if monitor:
            history = [] if config.method == "zero-shot" else read_history(run).to_dict("records")
            monitor.begin(config, len(splits.get("train", ())), history)
            monitor.end(found)
        return run

    images = {
        split: Images(dataset, cached_pixels(dataset, transform, fingerprint=identity["data"][split], log=report))
        for split, dataset in splits.items()
    }
    environment = describe_environment(device)
    _write_config(run, config, identity, environment)
    try:
        history, costs = _train(model, images, transform, config, run, report, monitor)
        test = _evaluate(model, images["test"], transform, config)
        ended = f"test accuracy {test.accuracy:.1%}, loss {test.loss:.3f}"
        if stopped := _where_stopped(history, config, images):
            run = run_folder(config, identity | stopped, Path(root))
            (run / "metrics.json").unlink(missing_ok=True)
            _write_config(run, config, identity, environment)
            costs |= stopped
            ended += f", stopped in epoch {stopped['stopped_epoch']}; "
            ended += "the same settings go on after the last whole epoch"
        _write_run(run, model, config, images["test"].dataset, test, history, {**costs, **environment})
    except BaseException as error:  # an interrupt, too
        if monitor:
            monitor.end(f"{config.method}: broken off ({str(error) or type(error).__name__})")
        raise
    return_freed_memory()  # an open notebook would hold a gigabyte that it no longer needs
    report(ended := f"{config.method}: {ended}, in {run.name}")
    if monitor:
        monitor.end(ended)
    return run


def _where_stopped(history: list[dict], config: TrainConfig, images: dict[str, Images]) -> dict[str, int]:
    """Where training ended before its end, as metrics.json has it; empty if it did not."""
    if not history or (len(history) == config.epochs and history[-1]["images"] == len(images["train"].dataset)):
        return {}
    return {"stopped_epoch": history[-1]["epoch"], "stopped_images": history[-1]["images"]}


def _write_config(run: Path, config: TrainConfig, identity: dict[str, Any], environment: dict[str, Any]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "config.json", {"config": config.to_dict(), "identity": identity, "environment": environment})


def _evaluate(model: nn.Module, images: Images, transform: Transform, config: TrainConfig) -> Evaluation:
    device = pick_device(config.device)
    labels = images.dataset.labels
    return evaluate(model, images.pixels, labels, transform, precision=config.precision, device=device)


def _train(model, images, transform, config, run, report, monitor) -> tuple[list[dict], dict]:
    if config.method == "zero-shot":
        if monitor:
            monitor.begin(config, 0, [])
        return [], {}
    device = pick_device(config.device)
    validate = (lambda model: _evaluate(model, images["val"], transform, config)) if "val" in images else None
    train = images["train"]
    watch = watchers(config, len(train.dataset), report, monitor)
    model.to(device)
    pixels = near(train.pixels, device)
    with measure_peak_memory(device) as memory:  # what training takes beside the weights and the images
        history = fit(
            model,
            pixels,
            train.dataset.labels,
            transform,
            config,
            validate=validate,
            checkpoint=run / "checkpoint.pt",
            **watch,
        )
    return history, {
        "train_seconds": sum(record["seconds"] for record in history),
        "images_per_second": float(np.median([record["images_per_second"] for record in history])),
        "peak_memory_mb": memory.megabytes,
        "num_train_images": len(train.dataset),
        "selected_epoch": selected_epoch(history),
        "train_accuracy": history[-1]["train_accuracy"],
        "train_loss": history[-1]["train_loss"],
    }


def _write_run(run, model, config, dataset, test: Evaluation, history, extra) -> None:
    count = count_parameters(model)
    correct = (test.logits.argmax(1) == test.labels).numpy()
    accuracy = accuracy_interval(correct)
    metrics = {
        "test_accuracy": accuracy.value,
        "test_accuracy_low": accuracy.low,
        "test_accuracy_high": accuracy.high,
        "test_loss": test.loss,
        "num_test_images": accuracy.count,
        "trainable_parameters": count.trainable,
        "total_parameters": count.total,
        "precision": pick_precision(config.precision, pick_device(config.device)),  # what "auto" was
    }
    unseen = ~dataset.sees_pretraining
    if 0 < unseen.sum() < len(unseen):  # scheme "paper": the few test images that pretraining has not seen
        clean = accuracy_interval(correct[unseen])
        metrics |= {"unseen_accuracy": clean.value, "unseen_accuracy_low": clean.low}
        metrics |= {"unseen_accuracy_high": clean.high, "num_unseen_images": clean.count}
    if history:
        write_history(run, history)
    metrics["checkpoint_bytes"] = save_run_model(run, model.cpu(), config).stat().st_size
    write_predictions(run, dataset.keys, test.labels.numpy(), test.logits.numpy())
    write_json(run / "metrics.json", {**metrics, **extra})
    (run / "checkpoint.pt").unlink(missing_ok=True)
