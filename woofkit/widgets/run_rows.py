"""What the runs explorer says of a run: the cells of its row, its name, its settings. No widgets here."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.plots.style import method_name
from woofkit.results import load_runs
from woofkit.train import NOT_ZERO_SHOT

COLUMNS = (
    "run",
    "method",
    "profile",
    "test accuracy (interval)",
    "learning rate",
    "rank",
    "epochs",
    "seed",
    "seconds",
    "images/s",
    "trained parameters",
    "date",
)
NUMBERS = (
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "lr",
    "rank",
    "epochs",
    "seed",
    "train_seconds",
    "images_per_second",
    "trainable_parameters",
    "stopped_epoch",
)
WORDS = ("method", "dataset", "profile", "folder", "date")
SETTINGS = tuple(field.name for field in fields(TrainConfig) if field.name != "lora")
SETTINGS += tuple(f"lora.{field.name}" for field in fields(LoRAConfig))
NOTHING = "-"


def read_runs(root: Path) -> pd.DataFrame:
    """Every run below `root`, stopped ones too: `load_runs`, with rank, folder and profile, both relative to `root`.

    Raises:
        ConfigError: `root` is a file, or a run's files are damaged.
    """
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root.name} is not a folder: pass the one with the runs, such as 'runs'")
    try:
        frame = load_runs(root, stopped=True)
    except (KeyError, OSError, ValueError) as error:
        raise ConfigError(f"a run below {root.name} cannot be read: {error}") from error
    if frame.empty:
        return pd.DataFrame(columns=[*WORDS, *NUMBERS])
    folders = [Path(run).relative_to(root) for run in frame["run"]]
    whole = root.resolve().name  # of a root that is a profile's folder itself
    profiles = [folder.parent.as_posix() if folder.parent.parts else whole for folder in folders]
    return with_all_columns(frame.assign(folder=[folder.as_posix() for folder in folders], profile=profiles))


def with_all_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column of WORDS and NUMBERS; a number that is not known is nan.

    Settings of a training that did not take place, as in zero-shot, are not known.
    """
    if "lora.rank" in frame:
        frame = frame.assign(rank=frame["lora.rank"])
    if "folder" not in frame and "run" in frame:
        frame = frame.assign(folder=[Path(run).name for run in frame["run"]])
    idle = [name for name in NOT_ZERO_SHOT if name in frame]
    frame = frame.assign(**{name: frame[name].mask(frame["method"] == "zero-shot") for name in idle})
    missing = [name for name in (*WORDS, *NUMBERS) if name not in frame]
    frame = frame.assign(**{name: float("nan") if name in NUMBERS else "" for name in missing})
    return frame.fillna(dict.fromkeys(WORDS, ""))


def run_columns(frame: pd.DataFrame) -> list[str]:
    """The columns to show; that of the profile only where there are several."""
    return [name for name in COLUMNS if name != "profile" or frame["profile"].nunique() > 1]


def run_cells(run: Any, number: int, frame: pd.DataFrame) -> list[str]:
    """A word for each of the columns; `run` is a row as `itertuples` gives it, `number` its place in the list."""
    value, *ends = (100 * each for each in (run.test_accuracy, run.test_accuracy_low, run.test_accuracy_high))
    accuracy = f"{value:.1f} % ({ends[0]:.1f} to {ends[1]:.1f})"
    stopped = "" if pd.isna(run.stopped_epoch) else f", stopped in epoch {run.stopped_epoch:g}"
    cells = {
        "run": str(number),
        "method": _method(run) + stopped,
        "profile": run.profile,
        "test accuracy (interval)": accuracy,
        "learning rate": _written(run.lr, "g"),
        "rank": _written(run.rank, "g"),
        "epochs": _written(run.epochs, "g"),
        "seed": _written(run.seed, "g"),
        "seconds": _written(run.train_seconds, ",.0f"),
        "images/s": _written(run.images_per_second, ",.1f"),
        "trained parameters": _written(run.trainable_parameters, ",.0f"),
        "date": run.date[:10] or NOTHING,
    }
    return [cells[name] for name in run_columns(frame)]


def run_labels(frame: pd.DataFrame) -> list[str]:
    """A name for each run: "LoRA, rank 12, lr 0.0004, seed 0"; what two would share is told apart by the folder."""
    labels = [_label(run) for run in frame.itertuples()]
    ends = [str(folder).rsplit("-", 1)[-1] for folder in frame["folder"]]
    return [
        f"{label} ({end})" if end and labels.count(label) > 1 else label
        for label, end in zip(labels, ends, strict=True)
    ]


def run_settings(frame: pd.DataFrame, run: pd.Series, whole: bool) -> tuple[dict[str, str], bool]:
    """A run's settings in words: all, or those in which the runs of its profile differ; and if it is alone there."""
    peers = frame[frame["profile"] == run["profile"]]
    settings = {}
    for name in SETTINGS:
        if name in frame and (whole or peers[name].astype(str).nunique() > 1) and pd.notna(run[name]):
            settings[name] = _setting(name, run[name])
    return settings, len(peers) == 1


def _label(run: Any) -> str:
    words = [_method(run)]
    for name, value in (("rank", run.rank), ("lr", run.lr), ("seed", run.seed)):
        words += [f"{name} {value:g}"] if pd.notna(value) else []
    words += [f"stopped in epoch {run.stopped_epoch:g}"] if pd.notna(run.stopped_epoch) else []
    return ", ".join(words)


def _method(run: Any) -> str:
    """The method, and what it has learned to name if that is not the breed."""
    label = getattr(run, "label", "breed")
    return method_name(run.method) + ("" if label == "breed" else f" ({label})")


def _written(value: float, pattern: str) -> str:
    return NOTHING if pd.isna(value) else format(value, pattern)


def _setting(name: str, value: Any) -> str:
    if name in ("data_dir", "weights") and isinstance(value, str):  # a path says where somebody's files are
        value = Path(value).name if Path(value).is_absolute() else value
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or NOTHING
