"""What came of a sweep: its finished runs as a table, kept in data/results/ and read back for notebook 05."""

import ast
import io
from pathlib import Path

import pandas as pd

from woofkit.comparison import METHOD_LABELS, percent
from woofkit.config import METHODS, ConfigError
from woofkit.differences import other_settings, set_apart
from woofkit.evidence import read_answers
from woofkit.kept_evidence import RESULTS
from woofkit.metrics import accuracy_interval
from woofkit.results import load_run, write_table
from woofkit.sweep_plan import plan, val_accuracy
from woofkit.sweeps import Sweep
from woofkit.uncertainty import seed_and_image_variance

WORDS = {
    "seeds-paper-lr": "seeds, the report's rate",
    "seeds-best-lr": "seeds, the best rate",
    "full-paper-lr": "the report's rate",
    "full-best-lr": "the best rate",
    "labels": "labels",
    "epochs": "epochs",
    "ranks": "rank",
    "targets": "layers",
}
VARIES = {"labels": "label_fraction", "epochs": "epochs", "ranks": "rank", "targets": "targets"}  # a grid's setting
NAMED = ("lr", "rank", "targets", "blocks", "label_fraction", "epochs")  # the rest is in `other`
SAME = ("grid", "method", *NAMED, "num_train_images", "other")
MEASURED = ("val_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "low", "high", "test_loss",
            "trainable_parameters", "checkpoint_bytes", "images_per_second", "train_seconds", "date",
            "machine")  # fmt: skip
KEPT = (*SAME, "seed", *MEASURED, "dataset")


def collect(sweep: Sweep) -> pd.DataFrame:
    """Every finished run of a sweep as `load_run` gives it, with `grid`, `val_accuracy` and the adapter's settings.

    `other` has in words what is neither the default nor among NAMED. A run in two grids has two rows. Empty, without a
    column, if none has finished.
    """
    rows = []
    for job in plan(sweep):
        if not job.done:
            continue
        row = load_run(job.run)
        adapter = {name: row.get(f"lora.{name}") for name in ("rank", "targets", "blocks")}
        adapter["other"] = other_settings(row, NAMED)
        rows += [{"grid": grid, **adapter, "val_accuracy": val_accuracy(job.run), **row} for grid in job.grids]
    order = {grid: number for number, grid in enumerate(sweep.grids)}
    return pd.DataFrame(sorted(rows, key=lambda row: order[row["grid"]]))


def keep(sweep: Sweep, folder: Path = RESULTS) -> Path:
    """Write the finished runs' main columns to sweep_<name>.csv in `folder`; return the file.

    `low` and `high` hold the mean test accuracy of the runs that differ in their seed alone: over seeds and images, or,
    of a single seed, over images. Rows of runs that are no longer there stay as they were kept, unless their grid is
    gone from the sweep.

    Raises:
        ConfigError: no run has finished.
    """
    table = collect(sweep)
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


def kept_runs(dataset: str, folder: Path = RESULTS) -> pd.DataFrame:
    """The rows of every sweep that is kept for a dataset, each run once in each grid; empty if nothing is kept.

    Where two sweeps have the same run, the last in the order of their names counts: "rigor" before "rigor-small".
    """
    paths = sorted(folder.glob("sweep_*.csv"))  # ".csv" comes after "-small.csv"
    if not paths:
        return pd.DataFrame(columns=list(KEPT))
    table = pd.concat([_read_kept(path) for path in paths], ignore_index=True)
    table = table[table["dataset"] == dataset]
    return table[~_settings(table).duplicated(keep="last")].reset_index(drop=True)


def kept_markdown(runs: pd.DataFrame) -> str:
    """The rows of `kept_runs` as a table in markdown: a line for runs that differ in their seed alone."""
    lines = ["| what varies | method | learning rate | setting | seeds | test accuracy (95 % interval) |",
             "|---|---|---:|---|---:|---:|"]  # fmt: skip
    runs = runs[runs["grid"].isin(WORDS)]
    for grid, words in WORDS.items():
        rows = runs[runs["grid"] == grid].sort_values(["lr", *filter(None, [VARIES.get(grid)])], kind="stable")
        rows = rows.sort_values("method", key=lambda each: each.map(METHODS.index), kind="stable")
        for _, own in rows.groupby("method"):
            rows.loc[own.index, "apart"] = [", ".join(words) for words in set_apart(own["other"])]
        for _, same in rows.groupby(list(SAME), sort=False, dropna=False):
            first = same.iloc[0]
            setting = ", ".join(filter(None, [_in_words(first, VARIES.get(grid, "")), first["apart"]]))
            own = {name: first[f"test_accuracy_{name}"] for name in ("low", "high")}  # all that older tables have
            ends = [first[name] if pd.notna(first[name]) else end for name, end in own.items()]
            value = "{} ({:.1f} to {:.1f})".format(percent(same["test_accuracy"].mean()), *(100 * end for end in ends))
            name = METHOD_LABELS.get(first["method"], first["method"])
            lines.append(f"| {words} | {name} | {first['lr']:g} | {setting} | {len(same)} | {value} |")
    dates, machines = sorted(runs["date"].str[:10].unique()), sorted(runs["machine"].unique())
    count = len(runs.drop_duplicates(["method", *SAME[2:], "seed"]))
    note = f"{count} runs; the interval counts seeds and images, with one seed the images alone."
    return "\n".join([*lines, "", f"{note} Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, "
                                  f"{'; '.join(machines)}."])  # fmt: skip


def _in_words(row: pd.Series, name: str) -> str:
    if name == "targets":
        return " and ".join(f"`{target}`" for target in ast.literal_eval(row["targets"]))
    if name == "label_fraction":
        return f"{row[name]:.0%} of the labels".replace("%", " %")
    if name == "epochs":
        return f"{row[name]} epoch{'s' if row[name] > 1 else ''}"
    return f"rank {row[name]:g}" if name else ""


def _read_kept(path: Path | io.StringIO) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"other": str}).fillna({"other": ""})


def _settings(table: pd.DataFrame) -> pd.Series:
    """What a row is known by: a tuple a row, in which what is missing equals what is missing."""
    settings = table[[*SAME, "seed"]].astype(object)
    return pd.Series(list(settings.where(settings.notna(), None).itertuples(index=False, name=None)), table.index)
