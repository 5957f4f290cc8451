"""The owner of a training run: its identity, its folder, and the model it leaves behind.

`run_training` is what notebooks, command line and sweeps call. The loop itself, `fit`, stands in woofkit/loop.py.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from woofkit.adapters import load_adapter, save_adapter
from woofkit.cache import cached_pixels
from woofkit.config import ConfigError, TrainConfig
from woofkit.costs import measure_peak_memory
from woofkit.data import Transform, WoofDataset, load_dataset, make_transform
from woofkit.environment import describe_environment
from woofkit.loop import Evaluation, evaluate, fit, selected_epoch
from woofkit.methods import build_for, new_model
from woofkit.metrics import accuracy_interval
from woofkit.models import count_parameters, data_config, hash_tensors, tensor_differences
from woofkit.progress import reporters
from woofkit.results import is_finished, read_config, write_atomic, write_history, write_json, write_predictions
from woofkit.speed import near, pick_device, pick_precision, return_freed_memory

__all__ = ["evaluate", "fit", "load_run_model", "load_splits", "run_folder", "run_identity", "run_training"]

# Where the images and weights come from, and on what they run, is not part of what a run is: their hashes are.
NOT_IDENTITY = ("data_dir", "weights", "device")
# Nothing is trained in zero-shot, so nothing about training makes two of them different.
NOT_ZERO_SHOT = ("num_train", "label_fraction", "epochs", "batch_size", "lr", "schedule", "augment")
# What a finished run keeps of its model; where a method trained a few parameters of it, TRAINED holds those.
CHECKPOINTS = {"full": "model.safetensors", "zero-shot": "model.safetensors", "lora": "adapter.safetensors"}
TRAINED = "trained.safetensors"


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


def run_training(config: TrainConfig, root: Path, *, report: Callable[[str], None] | None = None) -> Path:
    """Train, evaluate on test and write the run's folder below `root`; return the folder.

    A finished equal run is handed back at once; an unfinished one continues after its last epoch. Nothing is
    written before settings, images and weights have been found in order.

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
        report(f"{config.method}: found finished in {run.name}")
        return run

    images = {
        split: Images(dataset, cached_pixels(dataset, transform, fingerprint=identity["data"][split], report=report))
        for split, dataset in splits.items()
    }
    run.mkdir(parents=True, exist_ok=True)
    environment = describe_environment(device)
    write_json(run / "config.json", {"config": config.to_dict(), "identity": identity, "environment": environment})
    history, costs = _train(model, images, transform, config, run, report)
    test = _evaluate(model, images["test"], transform, config)
    _write_run(run, model, config, images["test"].dataset, test, history, {**costs, **environment})
    return_freed_memory()  # an open notebook would hold a gigabyte that it no longer needs
    report(f"{config.method}: test accuracy {test.accuracy:.1%}, loss {test.loss:.3f}, in {run.name}")
    return run


def load_run_model(run: Path) -> nn.Module:
    """The model of a finished run, in eval mode; LoRA's with its adapters on and unmerged.

    Raises:
        ConfigError: the run is not finished, its weights are damaged or do not fit, or the weights that it started
            from are no longer where they were.
    """
    if not is_finished(run):
        raise ConfigError(f"run {run} is not finished: run_training with the same settings finishes it")
    config = TrainConfig(**{**read_config(run), "data_dir": ""})  # its images may be gone
    if config.method == "lora":
        return load_adapter(new_model(config), run / CHECKPOINTS["lora"]).eval()
    model = build_for(config)
    path = run / CHECKPOINTS.get(config.method, TRAINED)
    if path.name == TRAINED:
        _require_base(model, run)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is missing or damaged: {error}") from error
    if problems := tensor_differences(_state_to_save(model, config.method), tensors):
        raise ConfigError(f"the weights in {run} do not fit their settings: {'; '.join(problems)}")
    model.load_state_dict(tensors, strict=False)
    return model.eval()


def _require_base(model: nn.Module, run: Path) -> None:
    expected = json.loads((run / "config.json").read_text())["identity"]["initial_weights"]
    found = hash_tensors(model.state_dict())
    if found != expected:
        raise ConfigError(
            f"{run.name} started from other weights than these: hash {expected[:12]}..., here {found[:12]}..."
        )


def _state_to_save(model: nn.Module, method: str) -> dict[str, Tensor]:
    """What a checkpoint holds: the whole model, or, where only some of it trained, that."""
    if method in CHECKPOINTS:
        return model.state_dict()
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def _evaluate(model: nn.Module, images: Images, transform: Transform, config: TrainConfig) -> Evaluation:
    device = pick_device(config.device)
    labels = images.dataset.labels
    return evaluate(model, images.pixels, labels, transform, precision=config.precision, device=device)


def _train(model, images, transform, config, run, report) -> tuple[list[dict], dict]:
    if config.method == "zero-shot":
        return [], {}
    device = pick_device(config.device)
    validate = (lambda model: _evaluate(model, images["val"], transform, config)) if "val" in images else None
    train = images["train"]
    on_step, on_epoch = reporters(config, len(train.dataset), report)
    model.to(device)
    pixels = near(train.pixels, device)
    with measure_peak_memory(device) as memory:  # what training takes beside the weights and the images
        history = fit(model, pixels, train.dataset.labels, transform, config, validate=validate,
                      checkpoint=run / "checkpoint.pt", on_epoch=on_epoch, on_step=on_step)  # fmt: skip
    write_history(run, history)
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
    file = run / CHECKPOINTS.get(config.method, TRAINED)
    model.cpu()
    if config.method == "lora":
        save_adapter(model, config.lora, file)
    else:
        write_atomic(file, lambda temporary: save_file(_state_to_save(model, config.method), temporary))
    metrics["checkpoint_bytes"] = file.stat().st_size
    write_predictions(run, dataset.keys, test.labels.numpy(), test.logits.numpy())
    write_json(run / "metrics.json", {**metrics, **extra})
    (run / "checkpoint.pt").unlink(missing_ok=True)
