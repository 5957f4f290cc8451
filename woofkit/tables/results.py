"""The results table: finished runs side by side, as a frame, as markdown, and as files that are kept.

The columns are the same in a study's results.csv and in data/results/, where measurements that took long are
kept, so that one function renders both.
"""

from collections.abc import Iterable, Iterator
from math import hypot
from pathlib import Path

import pandas as pd

from woofkit.config import METHODS, ConfigError, StudyConfig
from woofkit.files import RESULTS, require_folder, write_atomic, write_table
from woofkit.results import METHOD_NAMES, load_run, load_runs, other_settings, percent, set_apart
from woofkit.stats.intervals import proportion_interval
from woofkit.stats.seeds import mean_of_intervals
from woofkit.sweeps.results import pixels
from woofkit.tables import markdown_table, signed_points

SETTINGS = ("dataset", "scheme", "preprocess", "model_name", "lr", "epochs", "batch_size", "precision", "seed")
MEASURED = ("num_test_images", "num_train_images", "selected_epoch", "train_accuracy", "train_loss")
MEASURED += ("trainable_parameters", "total_parameters", "images_per_second", "peak_memory_mb", "checkpoint_bytes")
MEASURED += ("unseen_accuracy", "unseen_accuracy_low", "unseen_accuracy_high", "num_unseen_images")
MEASURED += ("last_test_accuracy", "date", "machine", "torch")
RENAMED = {"test_accuracy": "accuracy", "test_accuracy_low": "low", "test_accuracy_high": "high"}
RENAMED |= {"test_loss": "loss", "train_seconds": "seconds"}
NUMBERS = (  # heading, column, format
    ("test loss", "loss", ".3f"),
    ("trainable parameters", "trainable_parameters", ",.0f"),
    ("training, s", "seconds", ",.0f"),
    ("images/s", "images_per_second", ".1f"),
    ("peak memory, MB", "peak_memory_mb", ",.0f"),
    ("file, MB", "checkpoint_mb", ".2f"),
)


def compare_runs(runs: Iterable[Path], profile: str) -> pd.DataFrame:
    """One row per finished run, in the given order: profile, method, accuracy with interval, loss, costs, settings.

    `other` says in words which other settings are not the defaults.

    Raises:
        ConfigError: a run is not finished.
    """
    columns = ["method", *RENAMED, *MEASURED, *SETTINGS, "other"]
    rows = [{**row, "other": other_settings(row, SETTINGS)} for row in map(load_run, runs)]
    frame = pd.DataFrame(rows).reindex(columns=columns).rename(columns=RENAMED)
    frame.insert(0, "profile", profile)
    return frame


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for runs that differ in their seed alone: means, the interval over seeds and images, and `by_seed`."""
    same = [name for name in ("profile", "method", *SETTINGS, "other") if name in frame and name != "seed"]
    rows = []
    for _, runs in frame.groupby(same, sort=False, dropna=False):
        row = runs.iloc[0].copy()
        if len(runs) > 1:
            numbers = runs.select_dtypes("number").columns.difference(["seed"])
            row[numbers] = runs[numbers].mean()
            found = mean_of_intervals(*(runs[name] for name in ("accuracy", "low", "high")))
            row["low"], row["high"] = max(found.low, 0.0), min(found.high, 1.0)
        row["by_seed"] = tuple(runs["accuracy"])
        rows.append(row)
    return pd.DataFrame(rows).infer_objects()


def results_markdown(frame: pd.DataFrame) -> str:
    """The results table in markdown, with date and machine below it; what was not measured is a dash.

    Runs that differ in their seed alone make one row, of their means. Where a method has several rows in a profile,
    each says what sets it apart.
    """
    frame = over_seeds(frame)
    frame = frame.assign(name=_row_names(frame), checkpoint_mb=frame["checkpoint_bytes"] / 1e6)
    several = frame["profile"].nunique() > 1
    names = ["profile", "method"] if several else ["method"]
    head = [*names, "test accuracy (95% interval)", *(title for title, _, _ in NUMBERS)]
    rows = [
        [*([row.profile] if several else []), row.name, _accuracy(row.accuracy, row.low, row.high)]
        + [_number(getattr(row, column), form) for _, column, form in NUMBERS]
        for row in frame.itertuples()
    ]
    table = markdown_table(head, rows, "l" * len(names) + "r" * (1 + len(NUMBERS)))
    return "\n\n".join([table, *_notes(frame, several)])


def _notes(frame: pd.DataFrame, several: bool) -> Iterator[str]:
    """What stands below the table of these rows, which have a `name`."""
    tests = " or ".join(f"{int(count):,}" for count in frame["num_test_images"].unique())
    measured = "; ".join(sorted({f"{row.date[:10]}, {row.machine}, {row.precision}" for row in frame.itertuples()}))
    yield f"{tests} test images of {' or '.join(pixels(frame))} pixels. Measured {measured}."
    if (frame["by_seed"].str.len() > 1).any():
        seeds = [
            (f"{row.profile}, " if several else "") + f"{row.name}: {', '.join(map(percent, row.by_seed))}"
            for row in frame.itertuples()
        ]
        yield f"Means over training seeds; the interval counts seeds and images. By seed: {'; '.join(seeds)}."
    if "last_test_accuracy" in frame and (chosen := frame[frame["last_test_accuracy"].notna()]).size:
        last = [
            (f"{row.profile}, " if several else "") + f"{row.name} {percent(row.last_test_accuracy)}"
            for row in chosen.itertuples()
        ]
        yield f"Tested after the epoch that was best on validation images. After the last epoch: {', '.join(last)}."
    if "unseen_accuracy" not in frame:
        return
    for profile, rows in frame[frame["unseen_accuracy"].notna()].groupby("profile", sort=False):
        yield seen_and_unseen(rows, profile)


def seen_and_unseen(rows: pd.DataFrame, profile: str) -> str:
    """The accuracy on the test images that pretraining has seen beside that on the others, and how far they differ.

    `rows` are of one profile and have a `name`, the accuracy on all test images and that on the unseen ones. The two
    groups share no image, so the difference has Newcombe's interval, from Wilson's of each (Statistics in Medicine 17,
    1998, method 10). It counts images alone: seeds move both accuracies alike.
    """
    table = []
    for row in rows.itertuples():
        unseen, new = row.unseen_accuracy, row.num_unseen_images
        old = row.num_test_images - new
        seen = (row.accuracy * row.num_test_images - unseen * new) / old
        (_, *first, _), (_, *other, _) = proportion_interval(seen, int(old)), proportion_interval(unseen, int(new))
        gap = seen - unseen
        low, high = gap - hypot(seen - first[0], other[1] - unseen), gap + hypot(first[1] - seen, unseen - other[0])
        cells = _accuracy(seen, *first), _accuracy(unseen, *other), signed_points((gap, low, high))
        table.append([row.name, *cells])
    head = ["method", f"on the {old:,.0f} seen", f"on the {new:,.0f} not seen", "seen minus not seen, points"]
    words = f"Profile {profile}, on the test images that pretraining has seen and on those that it has not:"
    return f"{words}\n\n{markdown_table(head, table, 'lrrr')}"


def _row_names(frame: pd.DataFrame) -> pd.Series:
    """Each row's method, and where its profile has several of it, the settings in which they differ."""
    names = frame["method"].map(METHOD_NAMES)
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
        ConfigError: `profile` is no folder's name, none of its runs is finished, or they are on several datasets.
    """
    study = StudyConfig(profile=profile, runs_dir=runs_dir).run_root
    require_folder("the folder for the table", folder)
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


def _accuracy(value: float, low: float, high: float) -> str:
    return f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f})"


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)
