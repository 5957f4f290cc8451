"""A run folder, written whole, and tidy tables over many.

    <method>-r<rank>-s<seed>-<hash>/
        config.json           the settings, the hashes they are equal by, and the environment
        history.csv           a row an epoch
        predictions.parquet   a row a test image: key, label, one logit a class
        model.safetensors, adapter.safetensors, or trained.safetensors (what trained of it)
        metrics.json          its presence means finished: it is written last
"""

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from woofkit.config import ConfigError


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: `path` is whole or not there.

    A failed write leaves no file behind.
    """
    # process numbers repeat on the machines of a cluster, which share their files
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n"))


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically."""
    write_atomic(path, lambda temporary: table.to_csv(temporary, index=False))


def write_history(run: Path, history: list[dict]) -> None:
    """Write the epochs' records as history.csv."""
    write_table(pd.DataFrame(history), run / "history.csv")


def write_predictions(run: Path, keys: tuple[str, ...], labels: np.ndarray, logits: np.ndarray) -> None:
    """Write predictions.parquet: keys (N,), labels (N,), logits (N, C)."""
    columns = {f"logit_{index}": logits[:, index] for index in range(logits.shape[1])}
    frame = pd.DataFrame({"key": keys, "label": labels, **columns})
    write_atomic(run / "predictions.parquet", lambda temporary: frame.to_parquet(temporary, index=False))


def is_finished(run: Path) -> bool:
    """Whether the run in this folder has ended and all its files are there."""
    return (run / "metrics.json").is_file()


def read_config(run: Path) -> dict[str, Any]:
    """The settings of a run, as `TrainConfig.to_dict` gave them."""
    return json.loads((run / "config.json").read_text())["config"]


def read_metrics(run: Path) -> dict[str, Any]:
    """The measured numbers of a finished run.

    Raises:
        ConfigError: the run is not finished.
    """
    if not is_finished(run):
        raise ConfigError(f"run {run} is not finished: it has no metrics.json")
    return json.loads((run / "metrics.json").read_text())


def read_history(run: Path) -> pd.DataFrame:
    """A row an epoch: epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy, seconds, images_per_second,
    data_share."""
    return pd.read_csv(run / "history.csv")


def read_predictions(run: Path) -> pd.DataFrame:
    """A row a test image: key, label, logit_0, logit_1, ..., and `predicted`, the class with the highest logit."""
    frame = pd.read_parquet(run / "predictions.parquet")
    logits = frame.filter(regex=r"^logit_\d+$").to_numpy()
    return frame.assign(predicted=logits.argmax(axis=1))


def load_run(run: Path) -> dict[str, Any]:
    """Settings (the adapter's as lora.*), metrics and path (`run`) of one finished run, flat.

    Raises:
        ConfigError: the run is not finished.
    """
    metrics, settings = read_metrics(run), read_config(run)
    adapter = settings.pop("lora") or {}
    flat = {f"lora.{name}": str(value) if isinstance(value, list) else value for name, value in adapter.items()}
    return {**settings, **flat, **metrics, "run": str(run)}


def load_runs(root: Path, stopped: bool = False) -> pd.DataFrame:
    """Every finished run below `root` as one tidy frame, a row a run as `load_run` gives it; empty without any.

    With `stopped` also those that somebody stopped before their end, known by a `stopped_epoch`.
    """
    rows = [load_run(file.parent) for file in sorted(Path(root).rglob("metrics.json"))]
    return pd.DataFrame([row for row in rows if stopped or "stopped_epoch" not in row])
