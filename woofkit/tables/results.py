"""The results table: finished runs side by side, as a frame, as markdown, and as files that are kept.

The columns are the same in a study's results.csv and in data/results/, where measurements that took long are
kept, so that one function renders both.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from woofkit.claims.effects import RESULTS
from woofkit.config import METHODS, ConfigError, resolve_path
from woofkit.files import write_atomic, write_table
from woofkit.results import METHOD_LABELS, load_run, load_runs, other_settings, percent, set_apart
from woofkit.stats.intervals import proportion_interval

SETTINGS = ("dataset", "scheme", "preprocess", "model_name", "lr", "epochs", "batch_size", "precision", "seed")
MEASURED = (
    "num_test_images",
    "num_train_images",
    "selected_epoch",
    "train_accuracy",
    "train_loss",
    "trainable_parameters",
    "total_parameters",
    "images_per_second",
    "peak_memory_mb",
    "checkpoint_bytes",
    "unseen_accuracy",
    "unseen_accuracy_low",
    "unseen_accuracy_high",
    "num_unseen_images",
    "date",
    "machine",
    "torch",
)
RENAMED = {
    "test_accuracy": "accuracy",
    "test_accuracy_low": "low",
    "test_accuracy_high": "high",
    "test_loss": "loss",
    "train_seconds": "seconds",
}


def compare_runs(runs: Iterable[Path], profile: str) -> pd.DataFrame:
    """A row a finished run, in the given order: profile, method, accuracy with interval, loss, costs, settings.

    `other` has in words what is neither the default nor in a column of its own.

    Raises:
        ConfigError: a run is not finished.
    """
    columns = ["method", *RENAMED, *MEASURED, *SETTINGS, "other"]
    rows = [{**row, "other": other_settings(row, SETTINGS)} for row in map(load_run, runs)]
    frame = pd.DataFrame(rows).reindex(columns=columns).rename(columns=RENAMED)
    frame.insert(0, "profile", profile)
    return frame


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for runs that differ in their seed alone: means, Wilson's interval about the mean accuracy, `by_seed`.

    All seeds face the same test images, so the interval counts each image once: it says how far another test
    could move the mean. How far another training could move it shows in `by_seed`, the single accuracies.
    """
    same = [name for name in ("profile", "method", *SETTINGS, "other") if name in frame and name != "seed"]
    rows = []
    for _, runs in frame.groupby(same, sort=False, dropna=False):
        row = runs.iloc[0].copy()
        if len(runs) > 1:
            numbers = runs.select_dtypes("number").columns.difference(["seed"])
            row[numbers] = runs[numbers].mean()
            row["low"], row["high"] = proportion_interval(row["accuracy"], int(row["num_test_images"]))[1:3]
        row["by_seed"] = tuple(runs["accuracy"])
        rows.append(row)
    return pd.DataFrame(rows).infer_objects()


def results_markdown(frame: pd.DataFrame) -> str:
    """The results table in markdown, with date and machine below it; what was not measured is a dash.

    Runs that differ in their seed alone make one row, of their means. Where a method has several rows in a profile,
    each says what sets it apart.
    """
    frame = over_seeds(frame)
    frame["name"] = _row_names(frame)
    several = frame["profile"].nunique() > 1
    head = ["profile"] if several else []
    head += ["method", "test accuracy (95 % interval)", "test loss", "trainable parameters", "training, s", "images/s"]
    head += ["peak memory, MB", "file, MB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * (1 + several) + "---:|" * (len(head) - 1 - several)]
    for row in frame.itertuples():
        cells = [row.profile] if several else []
        cells += [
            row.name,
            f"{percent(row.accuracy)} ({100 * row.low:.1f} to {100 * row.high:.1f})",
            _number(row.loss, ".3f"),
            _number(row.trainable_parameters, ",.0f"),
            _number(row.seconds, ",.0f"),
            _number(row.images_per_second, ".1f"),
            _number(row.peak_memory_mb, ",.0f"),
            _number(row.checkpoint_bytes / 1e6, ".2f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    tests = ", ".join(f"{int(count):,}" for count in frame["num_test_images"].unique())
    measured = "; ".join(sorted({f"{row.date[:10]}, {row.machine}, {row.precision}" for row in frame.itertuples()}))
    notes = [f"{tests} test images. Measured {measured}."]
    if (frame["by_seed"].str.len() > 1).any():
        names = [f"{row.profile}, " * several + row.name for row in frame.itertuples()]
        seeds = [f"{name}: {', '.join(map(percent, row))}" for name, row in zip(names, frame["by_seed"], strict=True)]
        notes.append(f"Means over training seeds; the interval is about the test images. By seed: {'; '.join(seeds)}.")
    if frame.get("unseen_accuracy", pd.Series(dtype=float)).notna().any():
        for profile, rows in frame[frame["unseen_accuracy"].notna()].groupby("profile", sort=False):
            accuracies = [
                f"{row.name} {percent(row.unseen_accuracy)} "
                f"({100 * row.unseen_accuracy_low:.1f} to {100 * row.unseen_accuracy_high:.1f})"
                for row in rows.itertuples()
            ]
            notes.append(
                f"Profile {profile}, on the {rows['num_unseen_images'].iloc[0]:.0f} test images that "
                f"pretraining has not seen: {', '.join(accuracies)}."
            )
    return "\n".join([*lines, "", "\n\n".join(notes)])


def _row_names(frame: pd.DataFrame) -> pd.Series:
    """Each row's method, and where its profile has several of it, the settings in which they differ."""
    names = frame["method"].map(METHOD_LABELS)
    for _, rows in frame.groupby(["profile", "method"]):
        other = rows["other"].fillna("") if "other" in rows else [""] * len(rows)
        varying = [name for name in SETTINGS if name in rows and name != "seed" and rows[name].nunique() > 1]
        for place, apart in zip(rows.index, set_apart(other), strict=True):
            own = [f"{name} {rows.at[place, name]}" for name in varying]
            names[place] = ", ".join([names[place], *own, *apart])
    return names


def write_results(frame: pd.DataFrame, folder: Path) -> None:
    """Write results.md and results.csv into a study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "results.md", lambda path: path.write_text(results_markdown(frame) + "\n", encoding="utf-8"))
    write_table(frame, folder / "results.csv")


def keep_results(profile: str, runs_dir: str = "runs", folder: Path = RESULTS) -> Path:
    """Write the table of a profile's finished runs to <dataset>_<profile>.csv in data/results/ and return its path.

    For measurements that took long: runs/ is not part of the repository, data/results/ is.

    Raises:
        ConfigError: no run of the profile is finished, or its runs are on several datasets.
    """
    study = resolve_path(runs_dir) / profile
    runs = load_runs(study)
    if runs.empty:
        raise ConfigError(f"no finished run in {study}: run make study PROFILE={profile}")
    datasets = runs["dataset"].unique()
    if len(datasets) > 1:
        raise ConfigError(f"{study} has runs on {' and '.join(datasets)}: keep those of one dataset in one profile")
    order = runs["method"].map(METHODS.index).sort_values(kind="stable").index
    path = folder / f"{datasets[0]}_{profile}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(compare_runs(map(Path, runs.loc[order, "run"]), profile), path)
    return path


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)
