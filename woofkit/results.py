"""The folder of a run, and tidy tables over many runs.

A run's folder holds:

    config.json           the settings, the hashes that decide which runs are equal, and the environment
    history.csv           one row per epoch
    predictions.parquet   one row per test image: key, label, one logit per class
    model.safetensors, adapter.safetensors, or trained.safetensors (the parameters that were trained)
    metrics.json          the measured numbers; written last, so where it is the run is finished. It has the sizes and
                          hashes of the files beside it, which are compared whenever one is read

Its name is <method>-r<rank>-s<seed>-<hash>. A damaged run is set aside as <name>.damaged, and trained anew.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open

from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.files import write_atomic, write_json, write_table

METHOD_NAMES = {
    "zero-shot": "zero-shot",
    "probe": "linear probe",
    "bitfit": "BitFit",
    "norm": "norms only",
    "last": "last blocks",
    "full": "full fine-tuning",
    "lora": "LoRA",
}
INDEX = ".runs.json"  # see `load_runs`
METRICS, CONFIG = "metrics.json", "config.json"
FILES = (CONFIG, "history.csv", "predictions.parquet")  # what may lie beside metrics.json
FILES += ("model.safetensors", "adapter.safetensors", "trained.safetensors")
NEIGHBOURS, CHECKSUM = "files", "checksum"  # where metrics.json says what these hold, and what it holds itself
AGAIN = "training with its settings sets it aside and makes it anew"
NOT_SETTINGS = ("method", "seed", "data_dir", "device", "lora")  # named elsewhere, or they say where and not what


def run_folder(config: TrainConfig, identity: Mapping[str, Any], root: Path) -> Path:
    """<root>/<method>-r<rank>-s<seed>-<hash of what makes runs equal>; the rank is 0 without an adapter."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    rank = config.lora.rank if config.lora else 0
    return root / f"{config.method}-r{rank}-s{config.seed}-{digest}"


def write_config(
    run: Path,
    config: TrainConfig,
    identity: Mapping[str, Any],
    environment: Mapping[str, Any],
    classes: tuple[str, ...],
) -> None:
    """Make a run's folder and write its config.json."""
    run.mkdir(parents=True, exist_ok=True)
    record = {"config": config.to_dict(), "identity": identity, "environment": environment, "classes": classes}
    write_json(run / "config.json", record)


def write_history(run: Path, history: list[dict]) -> None:
    """Write the epochs' records as history.csv."""
    write_table(pd.DataFrame(history), run / "history.csv")


def write_predictions(
    run: Path, keys: tuple[str, ...], labels: np.ndarray, logits: np.ndarray, last: np.ndarray | None = None
) -> None:
    """Write predictions.parquet: keys (N,), labels (N,), logits (N, C) of the selected epoch.

    `last` (N,) is what the weights of the last epoch predict; without it, the two epochs are the same.
    """
    columns = {f"logit_{index}": logits[:, index] for index in range(logits.shape[1])}
    frame = pd.DataFrame({"key": keys, "label": labels, **columns})
    frame["last"] = logits.argmax(axis=1) if last is None else last
    write_atomic(run / "predictions.parquet", lambda temporary: frame.to_parquet(temporary, index=False))


def write_metrics(run: Path, metrics: Mapping[str, Any]) -> None:
    """Finish a run: write metrics.json, with the size and the sha256 of every file that lies beside it, and its own."""
    files = {
        name: {"bytes": (run / name).stat().st_size, "sha256": file_hash(run / name)}
        for name in FILES
        if (run / name).is_file()
    }
    record = {**metrics, NEIGHBOURS: files}
    write_json(run / METRICS, {**record, CHECKSUM: _checksum(record)})


def _checksum(record: Mapping[str, Any]) -> str:
    """The sha256 of what metrics.json holds beside it."""
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hash(file: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def accuracy_metrics(correct: np.ndarray, unseen: np.ndarray) -> dict[str, float | int]:
    """The accuracy on the test images, with its interval, as metrics.json has it.

    Args:
        correct: bool (N,), whether the answer was right.
        unseen: bool (N,), whether pretraining has not seen the image. Where these are a part of all (scheme "paper"),
            they also have an accuracy of their own.
    """
    from woofkit.stats.intervals import accuracy_interval

    metrics = {}
    for name, chosen in (("test", np.ones_like(unseen)), ("unseen", unseen)):
        if name == "test" or 0 < unseen.sum() < len(unseen):
            value, low, high, count = accuracy_interval(correct[chosen])
            metrics |= {f"{name}_accuracy": value, f"{name}_accuracy_low": low, f"{name}_accuracy_high": high}
            metrics[f"num_{name}_images"] = count
    return metrics


def is_finished(run: Path) -> bool:
    """Whether the run in this folder is finished, and its files are there and as long as they were."""
    try:
        record = _read_metrics(run)
        return bool(record) and not _cut_files(run, record)
    except (OSError, ValueError):
        return False


def is_whole(run: Path, set_aside: Callable[[str], None] | None = None) -> bool:
    """Whether the run is finished, and every file holds what was written; this reads them all.

    With `set_aside`, the files of a damaged run are moved to <name>.damaged beside it, and `set_aside` gets a line.
    """
    why = damage(run)
    if why and set_aside:
        set_aside(f"{run.name} is damaged ({why}): set aside as {_set_aside(run).name}, and trained anew")
    return not why and (run / METRICS).is_file()


def damage(run: Path) -> str:
    """What is damaged in the folder of a finished run, in words; "" of one that is whole, or is not finished.

    A run that was finished before the hashes were kept is only asked whether its files can be read.
    """
    if not (run / METRICS).is_file():
        return ""
    try:
        record = _read_metrics(run)
        if not record:
            return f"{METRICS} is empty"
        if cut := _cut_files(run, record):
            return cut
        known = record.get(NEIGHBOURS, {}).items()
        changed = [name for name, kept in known if file_hash(run / name) != kept["sha256"]]
        return f"{changed[0]} is not what was written" if changed else _unreadable(run) if not known else ""
    except (OSError, ValueError) as error:
        return f"{METRICS}: {error}"


def _unreadable(run: Path) -> str:
    """Which file of a run without hashes cannot be read, in words: of the weights, whether they are cut."""
    readers = {CONFIG: read_config, "history.csv": read_history, "predictions.parquet": read_predictions}
    for name in [CONFIG, *(name for name in FILES if (run / name).is_file())]:
        try:
            if name.endswith(".safetensors"):
                with safe_open(run / name, framework="numpy"):
                    pass
            else:
                readers[name](run)
        except (ConfigError, SafetensorError, OSError, LookupError, TypeError) as error:
            return f"{name}: {str(error).removesuffix(f': {AGAIN}')}"
    return ""


def _cut_files(run: Path, record: Mapping[str, Any]) -> str:
    """Which file of a run is gone or has another size than metrics.json says, in words. Raises ValueError."""
    try:
        for name, kept in record.get(NEIGHBOURS, {}).items():
            if not (run / name).is_file():
                return f"{name} is missing"
            if (size := (run / name).stat().st_size) != kept["bytes"]:
                return f"{name} has {size:,} bytes and not {kept['bytes']:,}"
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it is not what a run writes ({error!r})") from error
    return ""


def _set_aside(run: Path) -> Path:
    # The folder itself stays, with the lock that whoever trains the run holds, and with its checkpoints.
    aside = run.with_name(f"{run.name}.damaged")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}-")
    aside.mkdir()
    for name in (METRICS, *FILES):  # metrics.json first: without it, the run is unfinished
        with suppress(FileNotFoundError):
            os.replace(run / name, aside / name)
    return aside


def whole_file(run: Path, name: str) -> Path:
    """The path of a file in a run's folder, whose content is compared with what metrics.json says of it.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        kept = _read_metrics(run).get(NEIGHBOURS, {}).get(name)
    except (OSError, ValueError, AttributeError):  # no finished run, or one that is damaged itself
        kept = None
    file = run / name
    if not file.is_file():
        raise ConfigError(f"{file} is missing: {AGAIN}")
    if kept and file_hash(file) != kept["sha256"]:
        raise ConfigError(f"{file} is damaged: {AGAIN}")
    return file


def _read_metrics(run: Path) -> dict[str, Any]:
    """What metrics.json holds. Raises OSError or ValueError if it is missing or damaged; old ones have no checksum."""
    record = _read_mapping(run / METRICS)
    if record.get(CHECKSUM, checksum := _checksum(record)) != checksum:
        raise ValueError("it is not what was written")
    return record


def _read_mapping(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds no names with values")
    return found


def equal_run(run: Path, identity: Mapping[str, Any]) -> Path:
    """`run`, the folder of this identity; where it is not finished, a finished run beside it that is the same training.

    Such a run is older than some settings: its identity lacks them, and they have their defaults. One from before
    transforms were part of an identity counts if its weights were this project's or timm's, which bring the same ever.
    """
    if is_finished(run):
        return run
    usual = {field.name: field.default for field in fields(TrainConfig)}
    for other in sorted(run.parent.glob(f"{run.name.rpartition('-')[0]}-*")):
        try:
            record = json.loads((other / "config.json").read_text(encoding="utf-8"))
            older, weights = record["identity"], record["config"]["weights"]
            lacking = {name: usual[name] for name in identity["settings"] if name not in older["settings"]}
        except (OSError, ValueError, KeyError, TypeError):  # no run, or a damaged one
            continue
        completed = {**older, "settings": older["settings"] | lacking}
        if weights in ("bundled", "timm"):
            completed.setdefault("transform", identity.get("transform"))
        if completed == identity and is_finished(other) and "stopped_epoch" not in _read_metrics(other):
            return other
    return run


def read_config(run: Path) -> dict[str, Any]:
    """The settings of a run, as `TrainConfig.to_dict` gave them. Raises ConfigError where they are damaged."""
    settings = read_record(run).get("config")
    if not isinstance(settings, dict) or "method" not in settings:
        raise ConfigError(f"{run / CONFIG} is damaged: it has no settings; {AGAIN}")
    return settings


def read_record(run: Path) -> dict[str, Any]:
    """What config.json holds: `config`, `identity`, `environment`, `classes`.

    Raises:
        ConfigError: it is damaged.
    """
    file = whole_file(run, CONFIG)
    try:
        return _read_mapping(file)
    except ValueError as error:
        raise ConfigError(f"{file} is damaged ({error}): {AGAIN}") from error


def read_classes(run: Path) -> tuple[str, ...]:
    """What a run has learned to name; of a folder, the names of its class folders."""
    return tuple(read_record(run).get("classes", ()))


def read_metrics(run: Path) -> dict[str, Any]:
    """The measured numbers of a finished run.

    Raises:
        ConfigError: the run is not finished, or a file of it is cut or gone.
    """
    if not (run / METRICS).is_file():
        raise ConfigError(f"run {run} is not finished: it has no {METRICS}")
    try:
        record = _read_metrics(run)
        why = _cut_files(run, record) if record else f"{METRICS} is empty"
    except ValueError as error:
        why = f"{METRICS}: {error}"
    if why:
        raise ConfigError(f"run {run} is not finished, as it is damaged ({why}): {AGAIN}")
    return {name: value for name, value in record.items() if name not in (NEIGHBOURS, CHECKSUM)}


def read_history(run: Path) -> pd.DataFrame:
    """One row per epoch, with the columns that `train.fit` records. Raises ConfigError where it is damaged."""
    file = whole_file(run, "history.csv")
    try:
        return pd.read_csv(file)
    except ValueError as error:  # what pandas raises for a file that is empty or no table
        raise ConfigError(f"{file} is damaged ({error}): {AGAIN}") from error


def read_predictions(run: Path) -> pd.DataFrame:
    """One row per test image: key, label, logit_0, logit_1, ..., predicted (the highest logit's class), and last.

    `predicted` is the answer of the selected epoch, `last` that of the last one. Raises ConfigError where the file is
    damaged.
    """
    file = whole_file(run, "predictions.parquet")
    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise ConfigError(f"{file} is damaged ({error}): {AGAIN}") from error
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


def load_runs(root: Path, stopped: bool = False, log: Callable[[str], None] | None = None) -> pd.DataFrame:
    """Every finished run below `root` as one tidy frame: one row per run, as `load_run` gives it. It may be empty.

    With `stopped`, runs that somebody stopped before their end are included; they have a `stopped_epoch`. A damaged
    folder is named in a warning and passed over. With `log`, lines say how far it is where there are many.
    """
    rows = _indexed_rows(Path(root), log)
    return pd.DataFrame([row for row in rows if stopped or "stopped_epoch" not in row])


def _indexed_rows(root: Path, log: Callable[[str], None] | None) -> list[dict[str, Any]]:
    """`load_run` of every finished run below `root`, in the order of their paths.

    The index, a file in `root`, spares reading what has not changed since. It heals itself: a run whose files have
    another date or size is read again, and a damaged index is made anew. Where it cannot be written, there is none.
    """
    from woofkit.progress import reported

    index = root / INDEX
    try:
        known = {name: [stamp, dict(row)] for name, (stamp, row) in json.loads(index.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # there is none, or it is no index
        known = {}
    found = {}
    for run in reported(sorted(file.parent for file in root.rglob(METRICS)), "reading", "runs", log):
        if re.search(r"\.damaged-*$", run.name):
            continue
        name, stamp = str(run.relative_to(root)), [_stamp(run / each) for each in (METRICS, *FILES)]
        entry = known.get(name)
        if entry and entry[0] == stamp:
            found[name] = entry
            continue
        try:
            found[name] = [stamp, load_run(run)]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            why = damage(run) or " ".join(str(error).split()).replace(f"{run}{os.sep}", "").removesuffix(f": {AGAIN}")
            warnings.warn(f"{run} is damaged ({why}): passed over; {AGAIN}", stacklevel=3)
    if found != known:
        with suppress(OSError):
            write_atomic(index, lambda temporary: temporary.write_text(json.dumps(found)))
    return [row | {"run": str(root / name)} for name, (_, row) in found.items()]


def _stamp(file: Path) -> list[int]:
    try:
        status = file.stat()
    except OSError:
        return [0, 0]
    return [status.st_mtime_ns, status.st_size]


def other_settings(run: Mapping[str, Any], named: Collection[str] = ()) -> str:
    """The settings of a run that differ from the defaults, as "rank 4; label_fraction 0.1".

    Args:
        run: the settings as `load_run` gives them, the adapter's as lora.*; a missing one has its default.
        named: settings to leave out, the adapter's without "lora.".
    """
    usual = {field.name: field.default for field in fields(TrainConfig) if field.name not in NOT_SETTINGS}
    found = {name: run.get(name, value) for name, value in usual.items()}
    found["weights"] = Path(found["weights"]).name  # of a file, wherever it lies
    if run["method"] == "lora":
        rank = int(run.get("lora.rank", LoRAConfig.paper().rank))
        usual |= {"rank": LoRAConfig.paper().rank}
        adapter = {name: value for name, value in asdict(LoRAConfig.paper(rank)).items() if name != "rank"}
        usual |= {name: str(list(value)) if isinstance(value, tuple) else value for name, value in adapter.items()}
        found |= {"rank": rank} | {name: run.get(f"lora.{name}", usual[name]) for name in adapter}
    differ = [name for name in usual if name not in named and found[name] != usual[name]]
    return "; ".join(
        f"{name} {found[name]:g}" if isinstance(found[name], float) else f"{name} {found[name]}" for name in differ
    )


def set_apart(others: Sequence[str]) -> list[list[str]]:
    """For each row's `other_settings`, the settings that the rows do not all share."""
    each = [other.split("; ") if other else [] for other in others]
    shared = set.intersection(*map(set, each)) if each else set()
    return [[words for words in row if words not in shared] for row in each]


def percent(fraction: float) -> str:
    """A fraction in per cent with one decimal: 0.8978 is "89.8%"."""
    return f"{100 * fraction:.1f}%"


def read_answers(runs: Sequence[Path], last: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Which test images each run got right, bool (runs, images), and the images' labels (images,).

    The answers are those of the selected epoch, or, with `last`, of the last one.

    Raises:
        ValueError: the runs were not tested on the same images.
    """
    predictions = [read_predictions(run) for run in runs]
    for run, frame in zip(runs, predictions, strict=True):
        if not frame["key"].equals(predictions[0]["key"]):
            raise ValueError(f"{run.name} and {runs[0].name} were tested on different images")
    answers = "last" if last else "predicted"
    if lacking := [run.name for run, frame in zip(runs, predictions, strict=True) if answers not in frame]:
        raise ValueError(f"{lacking[0]} has no answers of its last epoch: it was trained before they were kept")
    correct = np.stack([(frame[answers] == frame["label"]).to_numpy() for frame in predictions])
    return correct, predictions[0]["label"].to_numpy()
