"""Training: the owner of a run (`run_training`), one readable loop (`fit`), and the test of a model (`evaluate`).

`run_training` is what notebooks, command line and sweeps call. It knows a run by its settings and by the hashes of its
data and initial weights, hands it back where it is finished, goes on with it where it is not, and writes its folder.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from woofkit.adapters import save_run_model
from woofkit.config import SAVES_MEMORY, TrainConfig
from woofkit.data import Images, WoofDataset, batches, cache_file, cached_pixels, load_dataset, make_transform
from woofkit.fast.forward import Forward, Step
from woofkit.fast.loss_guard import LossGuard
from woofkit.fast.memory import measure_peak_memory, naming_what_fits, return_freed_memory
from woofkit.fast.runtime import Runtime
from woofkit.files import describe_environment, hold, require_folder, require_room
from woofkit.models import build_for, count_parameters, data_config, run_classes
from woofkit.progress import Means, Monitor, ProgressLines, Stopwatch, Timed
from woofkit.results import (
    accuracy_metrics,
    equal_run,
    is_whole,
    read_history,
    run_folder,
    write_config,
    write_history,
    write_metrics,
    write_predictions,
)
from woofkit.storage.checkpoints import (
    copy_into,
    load_checkpoint,
    remove_checkpoints,
    room_for_training,
    save_checkpoint,
)
from woofkit.storage.weights import hash_tensors

# Where the images and weights come from, and on what they run, is not part of what a run is: their hashes are.
NOT_IDENTITY = ("data_dir", "skip_unreadable", "weights", "device")
# Nothing is trained in zero-shot, so nothing about training makes two of them different.
NOT_ZERO_SHOT = ("num_train", "num_val", "label_fraction", "epochs", "batch_size", "lr", "schedule", "augment")
NOT_ZERO_SHOT += (*SAVES_MEMORY, "validate_every")


class Evaluation(NamedTuple):
    """logits (N, C) float32 and labels (N,) int64 on the CPU; mean cross entropy; accuracy in 0..1."""

    logits: Tensor
    labels: Tensor
    loss: float
    accuracy: float


def run_training(config: TrainConfig, root: Path, monitor: Monitor | None = None) -> Path:
    """Train, evaluate on test and write the run's folder below `root`; return the folder.

    A finished equal run is handed back at once; an unfinished one continues after its last epoch; one that another
    process trains is waited for. Nothing is written before settings, images and weights have been found in order. Of
    the processes that torchrun has started (`fast.ranks`) each makes this call, all train, and the first one writes.

    A monitor (by default `ProgressLines`) may stop the training. What was learned by then is tested and kept in a
    folder of its own, which is returned, and is never taken for the whole run: the same call goes on after the last
    whole epoch.

    Raises:
        ConfigError: as `load_dataset`, `build_model` and `add_lora`.
    """
    from woofkit.fast.frozen import start_late

    require_folder("runs_dir", Path(root))
    runtime = Runtime.of(config)
    ranks = runtime.ranks
    monitor = (monitor or ProgressLines()) if ranks.first else Monitor()
    model = ranks.in_turn(build_for, config)
    transform = make_transform(data_config(model), config.preprocess)
    splits = ranks.in_turn(load_splits, config, transform.size)
    identity = run_identity(config, splits, model, runtime)
    ranks.agree("settings, images or weights", identity)
    run = ranks.once(equal_run, run_folder(config, identity, Path(root)), identity)
    if ranks.once(is_whole, run):
        return _found(run, config, splits, monitor)
    require_room("runs_dir", run, room_for_training(model))
    images, files = {}, {}
    for split, dataset in splits.items():
        fingerprint = identity["data"][split]
        files[split] = cache_file(dataset, transform, fingerprint)
        pixels = ranks.in_turn(cached_pixels, dataset, transform, fingerprint=fingerprint, log=monitor.log)
        images[split] = Images(runtime.near(pixels), dataset.labels, transform)
    runtime, images, frozen = ranks.in_turn(start_late, model, images, runtime, config.augment, files, monitor.log)
    environment, checkpoint = describe_environment(runtime.device) | ranks.described, run / "checkpoint.pt"
    busy = f"another process ({{owner}}) trains {run.name}: waiting for it"
    with hold(run / "lease", busy, monitor.log) if ranks.first else nullcontext():
        if ranks.once(partial(is_whole, set_aside=monitor.log), run):
            return _found(run, config, splits, monitor)
        if ranks.first:
            write_config(run, config, identity, environment, run_classes(config))
        try:
            history, costs = _train(model, images, config, runtime, checkpoint, monitor)
            test = last = evaluate(model, images["test"], runtime)
            ended = f"test accuracy {test.accuracy:.1%}, loss {test.loss:.3f}"
            if stopped := _where_stopped(history, config, images):
                run = run_folder(config, identity | stopped, Path(root))
                ended += f", stopped in epoch {stopped['stopped_epoch']}"
                ended += "; the same settings go on after the last whole epoch"
            elif history and costs["selected_epoch"] < config.epochs:
                last = _test_last_epoch(model, images["test"], runtime, checkpoint)
            if ranks.first:
                metrics = _test_metrics(test, splits["test"], model) | {"precision": runtime.precision}
                if stopped:
                    (run / "metrics.json").unlink(missing_ok=True)
                    write_config(run, config, identity, environment, run_classes(config))
                if history:
                    write_history(run, history)
                    metrics["last_test_accuracy"] = last.accuracy
                metrics["checkpoint_bytes"] = save_run_model(run, model.cpu(), config).stat().st_size
                keys, labels = splits["test"].keys, test.labels.numpy()
                write_predictions(run, keys, labels, test.logits.numpy(), last.logits.argmax(1).numpy())
                costs = frozen.added_to(costs, sum(record["images"] for record in history))
                write_metrics(run, {**metrics, **costs, **stopped, **environment})
                remove_checkpoints(run / "checkpoint.pt")
            ranks.wait()  # so that the run is finished for all
        except BaseException as error:  # an interrupt, too
            monitor.end(f"{config.method}: broken off ({str(error) or type(error).__name__})")
            raise
    return_freed_memory()  # an open notebook would hold a gigabyte that it no longer needs
    monitor.end(f"{config.method}: {ended}, in {run.name}")
    return run


def _found(run: Path, config: TrainConfig, splits: dict[str, WoofDataset], monitor: Monitor) -> Path:
    """A finished run, which the monitor hears of as if it had just been trained."""
    remove_checkpoints(run / "checkpoint.pt")  # of a process that was killed in the end
    history = [] if config.method == "zero-shot" else read_history(run).to_dict("records")
    monitor.begin(config, len(splits.get("train", ())), history)
    monitor.end(f"{config.method}: found finished in {run.name}")
    return run


def load_splits(config: TrainConfig, image_size: int = 0) -> dict[str, WoofDataset]:
    """The splits that a run reads: train, val under scheme "clean", test; only test for zero-shot.

    Drawings are made `image_size` pixels a side: what the model takes; 0 is the setting, or 224.
    """
    names = ("scheme", "data_dir", "skip_unreadable", "image_variant", "label_fraction", "seed", "label")
    shared = {name: getattr(config, name) for name in names} | {"image_size": image_size or config.image_size or 224}
    splits = {}
    if config.method != "zero-shot":
        splits["train"] = load_dataset(config.dataset, split="train", num=config.num_train, **shared)
        if config.scheme == "clean":
            splits["val"] = load_dataset(config.dataset, split="val", num=config.num_val, **shared)
    splits["test"] = load_dataset(config.dataset, split="test", num=config.num_test, **shared)
    return splits


def run_identity(
    config: TrainConfig, splits: dict[str, WoofDataset], model: nn.Module, runtime: Runtime
) -> dict[str, Any]:
    """What makes two runs equal: settings, hashes of data and initial weights, and the transform that weights bring."""
    ignored = NOT_IDENTITY + (NOT_ZERO_SHOT if config.method == "zero-shot" else ())
    ignored += () if config.method == "last" else ("last_blocks",)
    settings = {name: value for name, value in config.to_dict().items() if name not in ignored}
    settings["precision"] = runtime.precision
    data = {split: dataset.fingerprint() for split, dataset in splits.items()}
    transform = {
        name: str(value) for name, value in vars(make_transform(data_config(model), config.preprocess)).items()
    }
    weights = hash_tensors(model.state_dict())
    return {"settings": settings, "data": data, "transform": transform, "initial_weights": weights}


def _train(
    model: nn.Module,
    images: dict[str, Images],
    config: TrainConfig,
    runtime: Runtime,
    checkpoint: Path,
    monitor: Monitor,
) -> tuple[list[dict], dict[str, Any]]:
    """The epochs' records and what training cost; of zero-shot, neither."""
    if config.method == "zero-shot":
        monitor.begin(config, 0, [])
        return [], {}
    runtime.prepare(model)
    # The peak is what training takes beside the weights and the images.
    with naming_what_fits(model, config.batch_size), measure_peak_memory(runtime.device) as memory:
        history = fit(model, images, config, runtime, checkpoint=checkpoint, monitor=monitor)
    return history, {
        "train_seconds": sum(record["seconds"] for record in history),
        "images_per_second": float(np.median([record["images_per_second"] for record in history])),
        "peak_memory_mb": memory.megabytes,
        "num_train_images": len(images["train"]),
        "num_val_images": len(images.get("val", ())),
        "selected_epoch": selected_epoch(history),
        "train_accuracy": history[-1]["train_accuracy"],
        "train_loss": history[-1]["train_loss"],
    }


def _test_last_epoch(model: nn.Module, test: Images, runtime: Runtime, checkpoint: Path) -> Evaluation:
    """Test the weights of the last epoch, which the checkpoint still has; the model keeps the selected ones."""
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    selected = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    copy_into(trainable, load_checkpoint(checkpoint, trainable, runtime.device, print)["tensors"])
    found = evaluate(model, test, runtime)
    copy_into(trainable, selected)
    return found


def _where_stopped(history: list[dict], config: TrainConfig, images: dict[str, Images]) -> dict[str, int]:
    """Where training ended before its end, as metrics.json has it; empty if it did not."""
    if not history or (len(history) == config.epochs and history[-1]["images"] == len(images["train"])):
        return {}
    return {"stopped_epoch": history[-1]["epoch"], "stopped_images": history[-1]["images"]}


def _test_metrics(test: Evaluation, dataset: WoofDataset, model: nn.Module) -> dict[str, Any]:
    """Accuracy with its interval, loss and parameters, as metrics.json has them."""
    count, correct = count_parameters(model), (test.logits.argmax(1) == test.labels).numpy()
    parameters = {"trainable_parameters": count.trainable, "total_parameters": count.total}
    return accuracy_metrics(correct, ~dataset.sees_pretraining) | {"test_loss": test.loss} | parameters


def fit(
    model: nn.Module,
    images: Mapping[str, Images],
    config: TrainConfig,
    runtime: Runtime,
    *,
    checkpoint: Path | None = None,
    monitor: Monitor | None = None,
) -> list[dict]:
    """Train what is trainable in `model`, in place, with Adam on the mean cross entropy of `images["train"]`.

    `images["val"]` is evaluated after every epoch, or as `validate_every` has it and after the last. The weights of the
    epoch with the highest validation accuracy, and among equals the lowest loss, are the model's at the end; without
    validation those of the last epoch. With `checkpoint`, a file written after every epoch, an interrupted training
    continues after its last epoch and ends as if it had not been interrupted: order and dropout depend on (seed,
    epoch) alone.

    Training ends early once the monitor's `stop` says True. What was learned stays in the model, as if training had
    been meant to end there; the checkpoint stays as the last whole epoch left it.

    Returns:
        One record per epoch: epoch (from 1), images (fewer than all if stopped within it), lr, train_loss and
        train_accuracy (means over these images, each taken before the step that used it), seconds (training alone,
        without the monitor), images_per_second, data_share (of the seconds: waited for batches; on a GPU, for them to
        be on their way), val_loss and val_accuracy (or nan).

    Raises:
        FloatingPointError: a loss is no number; the message has its step, and what is to blame.
    """
    runtime.prepare(model)
    images = {split: replace(each, pixels=runtime.near(each.pixels)) for split, each in images.items()}
    train, val = images["train"], images.get("val")
    optimizer = make_optimizer(model, config.lr, runtime)
    forward = runtime.forward(config.epochs * len(train), config.batch_size)
    step = partial(train_step, model, optimizer=optimizer, runtime=runtime, forward=forward)
    step = runtime.ranks.repeated(runtime.repeated(step, config.batch_size), optimizer)
    guard = LossGuard(model, config.lr, config.batch_size)
    run = _Loop(model, train, config, runtime, optimizer, step, monitor or Monitor(), guard)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    state = load_checkpoint(checkpoint, trainable, runtime.device, run.monitor.log) if checkpoint else {}
    history, best = state.get("history", []), state.get("best", {})
    runtime.ranks.agree("finished epochs", len(history))
    if state:
        copy_into(trainable, state["tensors"])
        run.optimizer.load_state_dict(state["optimizer"])
    run.monitor.begin(config, len(train), list(history))
    for epoch in range(len(history), config.epochs):
        record, stopped = _train_epoch(run, epoch)
        due = val and ((epoch + 1) % config.validate_every == 0 or epoch + 1 == config.epochs)
        score = evaluate(model, val, runtime) if due else None
        record |= {"val_loss": score.loss if score else math.nan, "val_accuracy": score.accuracy if score else math.nan}
        history.append(record)
        if score and (not best or (score.accuracy, -score.loss) > (best["accuracy"], -best["loss"])):
            tensors = {name: parameter.detach().clone() for name, parameter in trainable.items()}
            best = {"epoch": epoch + 1, "accuracy": score.accuracy, "loss": score.loss, "tensors": tensors}
        if checkpoint and runtime.ranks.first and record["images"] == len(train):
            tensors = {name: parameter.detach() for name, parameter in trainable.items()}
            state = {"history": history, "best": best, "optimizer": run.optimizer.state_dict(), "tensors": tensors}
            save_checkpoint(checkpoint, state)
        run.monitor.epoch(record)
        if stopped:
            break
    if best:
        copy_into(trainable, best["tensors"])
    return history


@dataclass(frozen=True)
class _Loop:
    """What every epoch of a training shares."""

    model: nn.Module
    images: Images
    config: TrainConfig
    runtime: Runtime
    optimizer: torch.optim.Optimizer
    step: Step
    monitor: Monitor
    guard: LossGuard


def _train_epoch(run: _Loop, epoch: int) -> tuple[dict, bool]:
    """Train for one epoch (from 0); return its record, and whether the monitor stopped it."""
    config, count, device, ranks = run.config, len(run.images), run.runtime.device, run.runtime.ranks
    seed = config.seed * 10_000 + epoch
    torch.manual_seed(seed + 10**9 * ranks.place)  # dropout, which every rank draws for itself
    steps_per_epoch = math.ceil(count / config.batch_size)
    sums, num_seen = torch.zeros(3, device=device), 0  # over this rank's images: losses, correct answers, images

    def means() -> Means:
        loss_sum, num_correct, number = sums.tolist()  # waits for a GPU
        return Means(loss_sum / number, num_correct / number)

    run.model.train()
    share = batches(
        run.images, config.batch_size, device=device, generator_seed=seed, augment=config.augment, share=ranks.share
    )
    watch, loader = Stopwatch(), Timed(share)
    for step, (images, targets) in enumerate(loader, start=epoch * steps_per_epoch):
        lr = learning_rate(config, step, config.epochs * steps_per_epoch)
        set_learning_rate(run.optimizer, lr)
        loss, logits = run.step(images, targets)
        run.guard.step(loss, epoch + 1, step, lr, len(targets))
        correct, number = (logits.argmax(1) == targets).sum(), torch.full_like(loss, len(targets))
        sums += torch.stack([loss * number, correct, number])  # weighted: the last batch is smaller
        num_seen = min(num_seen + config.batch_size, count)
        with watch.paused():
            run.monitor.step(epoch + 1, num_seen, means)
        if stopped := ranks.any(run.monitor.stop()):
            break
    run.guard.end_epoch(epoch + 1)
    ranks.sum(sums)
    mean_loss, accuracy = means()
    seconds, lack = watch.read(), watch.lack(torch.get_num_threads())
    run.model.eval()
    record = {
        "epoch": epoch + 1,
        "images": num_seen,
        "lr": lr,
        "train_loss": mean_loss,
        "train_accuracy": accuracy,
        "seconds": seconds,
        "images_per_second": num_seen / seconds,
        "data_share": loader.seconds / seconds,
    }
    if lack and device.type == "cpu":
        run.monitor.log(f"epoch {epoch + 1} {lack}")
    return record, stopped


def train_step(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    optimizer: torch.optim.Optimizer,
    runtime: Runtime,
    forward: Forward | None = None,
) -> tuple[Tensor, Tensor]:
    """One step on a batch, images (B, 3, H, W) and targets (B,): its mean loss and logits (B, C), both detached."""
    forward, size = forward or runtime.forward(), runtime.micro_batch or len(images)
    optimizer.zero_grad(set_to_none=True)
    losses, logits = [], []
    for part, classes in zip(images.split(size), targets.split(size), strict=True):  # whose gradients add up
        with runtime.autocast():
            found = forward(model, part)
        loss = F.cross_entropy(found.float(), classes) * (len(part) / len(images))  # its share of the batch's mean
        loss.backward()
        losses.append(loss.detach())
        logits.append(found.detach())
    runtime.ranks.average_gradients(optimizer, len(images))
    optimizer.step()
    return torch.stack(losses).sum(), torch.cat(logits)


@torch.inference_mode()
def evaluate(model: nn.Module, images: Images, runtime: Runtime | None = None, batch_size: int = 0) -> Evaluation:
    """Classify every image in eval mode, by default on the CPU in float32; the model's mode is put back.

    A `batch_size` of 0 is what suits the device.

    Raises:
        ValueError: there are no images.
    """
    if len(images) == 0:
        raise ValueError("evaluate got no images: pass at least one")
    runtime, was_training = runtime or Runtime(), model.training
    ranks, part = runtime.ranks, runtime.ranks.evaluated(len(images))
    mine = replace(images, pixels=images.pixels[part], labels=images.labels[part])
    runtime.prepare(model).eval()
    try:
        logits = []
        for batch, _ in batches(mine, batch_size or runtime.evaluation_batch, device=runtime.device):
            with runtime.autocast():
                logits.append(runtime.forward()(model, batch).float())
    finally:
        model.train(was_training)
    logits = ranks.gather(torch.cat(logits), len(images)).cpu()
    labels = torch.as_tensor(images.labels, dtype=torch.int64).cpu()
    correct = (logits.argmax(1) == labels).float()
    return Evaluation(logits, labels, F.cross_entropy(logits, labels).item(), correct.mean().item())


def make_optimizer(model: nn.Module, lr: float, runtime: Runtime) -> torch.optim.Adam:
    """Adam on what is trainable in `model`; with `runtime.fast`, one kernel updates all tensors.

    On a GPU it can be recorded in a CUDA graph: the learning rate and the count of steps are tensors there.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if runtime.fast and runtime.device.type == "cuda":
        return torch.optim.Adam(trainable, lr=torch.tensor(lr, device=runtime.device), fused=True, capturable=True)
    return torch.optim.Adam(trainable, lr=lr, fused=runtime.fast or None)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let the next steps use `lr`; where the rate is a tensor, in place, as a recorded step reads it there."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def selected_epoch(history: list[dict]) -> int:
    """The epoch (from 1) whose weights `fit` left in the model: best on validation, or the last."""
    validated = [record for record in history if not math.isnan(record["val_accuracy"])] or history[-1:]
    return max(validated, key=lambda record: (record["val_accuracy"], -record["val_loss"], -record["epoch"]))["epoch"]


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step (from 0): constant, or half a cosine from `lr` down to 0."""
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / num_steps))
