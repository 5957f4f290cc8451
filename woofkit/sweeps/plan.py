"""What a sweep comes to: its jobs and their folders, and the best learning rates.

A job is a run, and a run is known by its folder, whose name `run_training` makes of the settings and the hashes of
data and initial weights. What is done is there; a changed setting has another folder. Snakemake does the rest.
"""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from filelock import BaseFileLock, FileLock, Timeout
from torch import nn

from woofkit.config import ConfigError, TrainConfig
from woofkit.data import make_transform
from woofkit.models import build_for, data_config
from woofkit.results import is_finished, read_history, read_metrics
from woofkit.storage.weights import hash_tensors
from woofkit.sweeps.grid import Cell, Sweep
from woofkit.train import load_splits, run_folder, run_identity

DATA_SETTINGS = ("dataset", "scheme", "data_dir", "image_variant", "label")
DIVERGED = "diverged.json"  # in the folder of a run whose loss became no number; without it the run is tried again


class Search(NamedTuple):
    """The runs, each with its lr, among which the best learning rate of a method is chosen."""

    name: str  # "<method>-<hash of the runs>"
    runs: tuple[tuple[float, Path], ...]

    @property
    def finished(self) -> bool:
        return all(is_finished(run) or has_diverged(run) for _, run in self.runs)


@dataclass(frozen=True)
class Job:
    """A run of a sweep. Without `run` its lr is not known yet: `search` has to finish first."""

    config: TrainConfig
    grids: tuple[str, ...]
    run: Path | None
    search: Search | None = None

    @property
    def done(self) -> bool:
        return self.run is not None and is_finished(self.run)

    @property
    def diverged(self) -> bool:
        return self.run is not None and has_diverged(self.run)


def has_diverged(run: Path) -> bool:
    """Whether this training was given up because its loss became no number: it would do so again."""
    return not is_finished(run) and (run / DIVERGED).is_file()


def plan(sweep: Sweep) -> list[Job]:
    """The jobs of a sweep in its order, done or not; runs that are equal are one job.

    Raises:
        ConfigError: as `build_for` and `load_dataset`, for whichever run of the sweep.
    """
    jobs: dict = {}
    for cell in sweep.cells:
        config, search = settle(sweep, cell)
        folder = planned_folder(config, sweep.root)  # where the best lr is not known, this still checks the settings
        known = search is None or search.finished
        key = folder if known else (search, folder)
        if key in jobs:
            jobs[key] = replace(jobs[key], grids=tuple(dict.fromkeys((*jobs[key].grids, cell.grid))))
        else:
            jobs[key] = Job(config, (cell.grid,), folder if known else None, search)
    return list(jobs.values())


def settle(sweep: Sweep, cell: Cell) -> tuple[TrainConfig, Search | None]:
    """The settings of a cell, with the best learning rate where its search has finished, and that search."""
    if not cell.best_of:
        return cell.config, None
    candidates = sweep.candidates(cell.best_of, cell.config.method)
    runs = tuple((config.lr, planned_folder(config, sweep.root)) for config in candidates)
    digest = hashlib.sha256(json.dumps(sorted(run.name for _, run in runs)).encode()).hexdigest()[:8]
    search = Search(f"{cell.config.method}-{digest}", runs)
    if not search.finished:
        return cell.config, search
    return replace(cell.config, lr=best_lr(val_accuracies(search))), search


def val_accuracies(search: Search) -> dict[float, float]:
    """The validation accuracy of each learning rate of a finished search, a mean over its seeds; 0 if one diverged.

    Raises:
        ConfigError: all of them have diverged.
    """
    if all(has_diverged(run) for _, run in search.runs):
        tried = ", ".join(f"{lr:g}" for lr in sorted({lr for lr, _ in search.runs}))
        raise ConfigError(f"every learning rate tried for {search.name} diverged ({tried}): add lower ones")
    by_lr: dict[float, list[float]] = {}
    for lr, run in search.runs:
        by_lr.setdefault(lr, []).append(-math.inf if has_diverged(run) else val_accuracy(run))
    return {lr: max(sum(values) / len(values), 0.0) for lr, values in sorted(by_lr.items())}


def best_lr(accuracies: dict[float, float]) -> float:
    """The learning rate with the highest accuracy; among equals the smallest."""
    return max(accuracies, key=lambda lr: (accuracies[lr], -lr))


def val_accuracy(run: Path) -> float:
    """The validation accuracy of a finished run at its selected epoch; nan without a validation split."""
    metrics = read_metrics(run)
    if "selected_epoch" not in metrics:  # zero-shot
        return math.nan
    return float(read_history(run).set_index("epoch").loc[metrics["selected_epoch"], "val_accuracy"])


# --- the folder of a run, without making it ---
class _Known(NamedTuple):
    """Of a split, what its run's folder and duration depend on."""

    hash: str
    size: int

    def fingerprint(self) -> str:
        return self.hash


def planned_folder(config: TrainConfig, root: Path) -> Path:
    """The very folder that `run_training(config, root)` makes, in about a millisecond: hashes are kept in memory.

    Raises:
        ConfigError: as `build_for` and `load_dataset`.
    """
    weights, image_size = _initial(_weight_settings(config))
    identity = run_identity(config, _known_splits(config, image_size), nn.Identity())
    return run_folder(config, identity | {"initial_weights": weights}, root)


def run_sizes(config: TrainConfig) -> dict[str, int]:
    """How many images each split of a run holds."""
    _, image_size = _initial(_weight_settings(config))
    return {split: known.size for split, known in _known_splits(config, image_size).items()}


def _known_splits(config: TrainConfig, image_size: int) -> dict[str, _Known]:
    return {
        split: _known(_data_settings(config, split), split, image_size) for split in load_splits(config, image_size)
    }


def _weight_settings(config: TrainConfig) -> TrainConfig:
    """The same settings where they decide the initial weights and the images' size, and defaults elsewhere."""
    decisive = {name: getattr(config, name) for name in ("dataset", "label", "preprocess", "model_name", "weights")}
    method = config.method if config.method in ("lora", "zero-shot", "last") else "full"
    return TrainConfig(method=method, seed=config.seed, lora=config.lora, last_blocks=config.last_blocks, **decisive)


def _data_settings(config: TrainConfig, split: str) -> TrainConfig:
    """The same settings where they decide what `split` holds, and defaults elsewhere."""
    decisive = {name: getattr(config, name) for name in DATA_SETTINGS}
    decisive |= {"num_train": 0, "num_test": config.num_test if split == "test" else 0}
    if split == "train":
        decisive |= {name: getattr(config, name) for name in ("num_train", "label_fraction", "seed")}
    return TrainConfig(method="zero-shot" if config.method == "zero-shot" else "full", **decisive)


@cache
def _initial(config: TrainConfig) -> tuple[str, int]:
    model = build_for(config)
    return hash_tensors(model.state_dict()), make_transform(data_config(model), config.preprocess).size


@cache
def _known(config: TrainConfig, split: str, image_size: int) -> _Known:
    dataset = load_splits(config, image_size)[split]
    return _Known(dataset.fingerprint(), len(dataset))


# --- one sweep at a time ---
def hold_folder(root: Path) -> BaseFileLock:
    """Take the folder's lock and return it: it is held until it is released or the process ends, however it ends.

    Raises:
        ConfigError: another sweep holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(root / ".sweep.lock", timeout=2)  # seconds: a killed process may take a moment to be gone
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another sweep is at work in {root}: wait for it, or stop it, and give the same command again"
        ) from None
    return lock
