"""What came of a sweep: its finished runs as a table, kept in data/results/ and read back for notebook 05."""

import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from woofkit.config import SKETCH_SIZES, ConfigError
from woofkit.files import RESULTS, require_folder, write_table
from woofkit.results import METHOD_NAMES, is_finished, load_run, other_settings, read_answers, set_apart
from woofkit.stats.intervals import accuracy_interval, proportion_interval
from woofkit.stats.seeds import mean_of_intervals, seed_and_image_variance
from woofkit.sweeps.grid import Sweep

NAMED = ("lr", "rank", "targets", "blocks", "label_fraction", "epochs")  # the rest is in `other`
SAME = ("grid", "method", *NAMED, "num_train_images", "other")
MEASURED = ("val_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "low", "high", "test_loss")
COSTS = ("trainable_parameters", "checkpoint_bytes", "images_per_second", "train_seconds", "date", "machine")
# Grids in which each setting has its own best learning rate.
TUNED = ("seeds-best-lr", "full-best-lr", "seeds-more", "seeds-mlp", "seeds-all-layers", "rank-1", "rank-64")
IMAGEWOOF_SIZES = {"clean": {"train": 8687, "val": 3767, "test": 500}, "paper": {"train": 9025, "val": 0, "test": 3929}}
KEPT = (*SAME, "seed", *MEASURED, *COSTS, "dataset")


def outcome_path(root: Path, job: str) -> Path:
    """The small file that says what came of a job, by the job's name."""
    return root / "jobs" / f"{job}.json"


def read_outcome(root: Path, job: str) -> dict[str, Any]:
    """What came of a job: {"run", "val_accuracy"} of a finished run, {"diverged"} with the message, or {}.

    `run` is the run's folder, relative to `root`. {} stands for a job that is not done, or whose folder is gone.
    """
    path = outcome_path(root, job)
    outcome = json.loads(path.read_text()) if path.is_file() else {}
    return {} if "run" in outcome and not is_finished(root / outcome["run"]) else outcome


def collect(sweep: Sweep, log: Callable[[str], None] | None = None) -> pd.DataFrame:
    """One row per grid and finished run: what `load_run` gives, with `grid`, `val_accuracy` and the adapter's settings.

    `other` has in words what is neither the default nor among NAMED. The frame is empty, without a column, if no run
    has finished. While the sweep is at work, it holds what has finished by then. `log` gets lines of progress.
    """
    from woofkit.progress import reported

    rows = {}
    jobs = [(grid, job.name) for grid in sweep.grids for job in sweep.jobs_of(grid)]
    for grid, job in reported(jobs + widened_jobs(sweep), "reading", "runs", log):
        if "run" in (outcome := read_outcome(sweep.root, job)):
            row = load_run(sweep.root / outcome["run"])
            adapter = {name: row.get(f"lora.{name}") for name in ("rank", "targets", "blocks")}
            more = {"other": other_settings(row, NAMED), "val_accuracy": outcome["val_accuracy"]}
            rows[grid, outcome["run"]] = {"grid": grid, **adapter, **more, **row}  # once, if two jobs were one run
    return pd.DataFrame(list(rows.values()))


def widened_jobs(sweep: Sweep) -> list[tuple[str, str]]:
    """The grid and the name of every job that a search has added at the edge of its grid."""
    grids, found = {job.name: job.grids[0] for job in sweep.jobs}, []
    for search, tried in sweep.searches.items():
        path = sweep.root / "best_lr" / f"{search}.json"
        names = json.loads(path.read_text()).get("widened", []) if path.is_file() else []
        found += [(grids[tried[0][1]], name) for name in names]
    return found


def keep(sweep: Sweep, folder: Path = RESULTS) -> Path:
    """Write the finished runs' main columns to sweep_<name>.csv in `folder`; return the file.

    `low` and `high` hold the mean test accuracy of the runs that differ in their seed alone: over seeds and images, or,
    of a single seed, over images. Rows of runs that are no longer there stay as they were kept, unless their grid is
    gone from the sweep.

    Raises:
        ConfigError: no run has finished.
    """
    require_folder("the folder for the table", folder)
    table = collect(sweep, partial(print, flush=True))
    if table.empty:
        raise ConfigError(f"sweep {sweep.name!r} has no finished run in {sweep.root}: nothing to keep")
    table = with_intervals(table).reindex(columns=KEPT)
    path = folder / f"sweep_{sweep.name}.csv"
    if path.is_file():
        fresh = _read_kept(io.StringIO(table.to_csv(index=False)))  # as it will be read back
        before = _read_kept(path)
        known = set(_settings(fresh))
        gone = ~_settings(before).map(known.__contains__) & before["grid"].isin(sweep.grids)
        order = {grid: number for number, grid in enumerate(sweep.grids)}
        table = pd.concat([fresh, before[gone]]).sort_values("grid", key=lambda grid: grid.map(order), kind="stable")
    write_table(table, path)
    return path


def with_intervals(runs: pd.DataFrame) -> pd.DataFrame:
    """Add `low` and `high`, the interval of the mean accuracy over the runs that differ in their seed alone.

    `runs` is a frame of `collect`; the runs' folders must be there.
    """
    parts = []
    for _, group in runs.groupby([name for name in SAME if name in runs], sort=False, dropna=False):
        correct, labels = read_answers([Path(run) for run in group["run"]])
        found = seed_and_image_variance(correct, labels) if len(correct) > 1 else accuracy_interval(correct[0])
        parts.append(group.assign(low=found.low, high=found.high))
    return pd.concat(parts).loc[runs.index]


def with_validation_intervals(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `kept_runs` with the interval of the mean *validation* accuracy as `low` and `high`.

    From each run's accuracy and the number of images, as the answers are not kept: over seeds and images, or, of a
    single seed, over images. The interval is nan where the number of validation images is not known.
    """
    parts = []
    for _, group in runs.groupby([name for name in SAME if name in runs], sort=False, dropna=False):
        size, values, other = 0, group["val_accuracy"].tolist(), group["other"].iloc[0]
        if group["dataset"].iloc[0] == "sketchwoof":
            size = SKETCH_SIZES["val"]
        elif group["dataset"].iloc[0] == "imagewoof":
            size = IMAGEWOOF_SIZES["clean"]["val"]
        size = int(setting_of(other, "num_val", str(size)))
        low, high = float("nan"), float("nan")
        if size:
            ends = [proportion_interval(value, size)[1:3] for value in values]
            _, low, high, _ = mean_of_intervals(values, *zip(*ends, strict=True))
        parts.append(group.assign(low=max(low, 0.0), high=min(high, 1.0)))
    return pd.concat(parts).loc[runs.index]


def kept_runs(dataset: str, folder: Path = RESULTS, every: bool = False) -> pd.DataFrame:
    """The rows of every sweep that is kept for a dataset, with `sweep`, each run once per grid; empty without any.

    Where two sweeps have the same run, the last in the order of their names counts: "rigor" before "rigor-small".
    Sweeps of other amounts of data or other sizes of images may have a grid of the same name: the one over the most
    training images counts, or with `every` all do.
    """
    paths = sorted(folder.glob("sweep_*.csv"))  # ".csv" comes after "-small.csv"
    if not paths:
        return pd.DataFrame(columns=[*KEPT, "sweep"])
    names = [path.stem.removeprefix("sweep_") for path in paths]
    table = pd.concat([_read_kept(path).assign(sweep=name) for path, name in zip(paths, names, strict=True)])
    table = table.reset_index(drop=True)
    for end in ("low", "high"):  # older tables have none for a single seed: there it is the run's own
        table[end] = table[end].fillna(table[f"test_accuracy_{end}"])
    table = table[table["dataset"] == dataset]
    if not every and len(table):
        most = table.groupby(["grid", "sweep"])["num_train_images"].transform("max").fillna(0)  # zero-shot has none
        table = table[most == most.groupby(table["grid"]).transform("max")]
    return table[~_settings(table).duplicated(keep="last")].reset_index(drop=True)


def tuned_runs(dataset: str, folder: Path = RESULTS) -> pd.DataFrame:
    """Each setting at its own best learning rate: one row per method and name, of the runs in the grids TUNED.

    All rows are of one sweep, so that they can be compared: of the kept ones, that with the most methods times seeds,
    then with the most training images and the latest runs. Columns: method, name, trainable_parameters, accuracy,
    low, high, lr (nan of what trains nothing), seeds; and dataset, num_train_images and other as in `kept_runs`.
    """
    columns = ["method", "name", "trainable_parameters", "accuracy", "low", "high", "lr", "seeds"]
    columns += ["dataset", "num_train_images", "other"]
    runs = kept_runs(dataset, folder, every=True)
    runs = runs[runs["grid"].isin(TUNED)]
    if runs.empty:
        return pd.DataFrame(columns=columns)
    sweeps = [own for _, own in runs.groupby("sweep")]
    runs = max(
        sweeps,
        key=lambda own: (
            len(own.drop_duplicates(["method", "seed"])),
            own["num_train_images"].max(),
            own["date"].max(),
        ),
    )
    rows = []
    for (method, name), same in runs.assign(name=runs.apply(_setting_name, axis=1)).groupby(["method", "name"]):
        groups = list(same.groupby("other"))
        for (other, own), apart in zip(groups, set_apart([other for other, _ in groups]), strict=True):
            first = own.iloc[0]
            lr = first["lr"] if first["trainable_parameters"] else float("nan")
            values = ", ".join([name, *apart]), first["trainable_parameters"], own["test_accuracy"].mean()
            rows.append(
                (method, *values, first["low"], first["high"], lr, len(own), dataset, first["num_train_images"], other)
            )
    return pd.DataFrame(rows, columns=columns)


def data_words(runs: pd.DataFrame) -> str:
    """What rows of `kept_runs` or `tuned_runs` were trained on at most, as "2,270 drawings at 96 pixels"."""
    dataset, images = runs["dataset"].iloc[0], runs["num_train_images"].max()
    words = {"sketchwoof": "drawings", "imagewoof": "photographs"}.get(dataset, "images")
    return f"{images:,.0f} {words} at {' or '.join(pixels(runs))} pixels"


def pixels(runs: pd.DataFrame) -> list[str]:
    """The sizes of the images, the smallest first, by the columns dataset and other, and model_name where it is there.

    It is the size that the model takes, where that was set; else the shorter side of photographs as they are stored,
    and of other images what the model was pretrained with.
    """
    sizes = set()
    for run in runs.to_dict("records"):
        other = run["other"] if isinstance(run.get("other"), str) else ""
        if run.get("dataset") == "imagewoof":
            usual = setting_of(other, "image_variant", "160")
        else:
            named = re.search(r"_(\d+)(\.|$)", run.get("model_name") or setting_of(other, "model_name", ""))
            usual = named[1] if named else "224"
        sizes.add(setting_of(other, "image_size", usual))
    return sorted(sizes, key=int)


def setting_of(other: str, name: str, usual: str) -> str:
    """A setting in the words of `other_settings`, `usual` where they do not name it."""
    found = re.search(rf"(?:^|; ){name} ([^;]+)", other)
    return found[1] if found else usual


def _setting_name(run: pd.Series) -> str:
    """A run's method, and of LoRA its rank and its layers unless these are attention's."""
    if run["method"] != "lora":
        return METHOD_NAMES[run["method"]]
    layers = "MLPs" if "attn" not in run["targets"] else "all layers" if "mlp" in run["targets"] else ""
    return f"LoRA, rank {run['rank']:.0f}" + (f", {layers}" if layers else "")


def _read_kept(path: Path | io.StringIO) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"other": str}).fillna({"other": ""})


def _settings(table: pd.DataFrame) -> pd.Series:
    """What a row is known by: one tuple per row, in which a missing value equals a missing value."""
    settings = table[[*SAME, "seed"]].astype(object)
    return pd.Series(list(settings.where(settings.notna(), None).itertuples(index=False, name=None)), table.index)
