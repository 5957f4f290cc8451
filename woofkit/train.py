"""The owner of a training run: its identity, its folder, and the model it leaves behind.

`run_training` is what notebooks, command line and sweeps call. The loop itself, `fit`, stands in woofkit/loop.py.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from woofkit.cache import cached_pixels
from woofkit.config import TrainConfig
from woofkit.costs import measure_peak_memory
from woofkit.data import Transform, WoofDataset, load_dataset, make_transform
from woofkit.environment import describe_environment
from woofkit.evaluation import Evaluation, evaluate
from woofkit.loop import fit, selected_epoch
from woofkit.methods import build_for
from woofkit.metrics import accuracy_interval
from woofkit.models import count_parameters, data_config, hash_tensors
from woofkit.progress import Monitor, watchers
from woofkit.results import (
    is_finished,
    read_history,
    write_history,
    write_json,
    write_predictions,
)
from woofkit.run_models import load_run_model, save_run_model
from woofkit.speed import near, pick_device, pick_precision, return_freed_memory

__all__ = ["evaluate", "fit", "load_run_model", "load_splits", "run_folder", "run_identity", "run_training"]

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
        split: Images(dataset, cached_pixels(dataset, transform, fingerprint=identity["data"][split], report=report))
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
        history = fit(model, pixels, train.dataset.labels, transform, config, validate=validate,
                      checkpoint=run / "checkpoint.pt", **watch)  # fmt: skip
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
