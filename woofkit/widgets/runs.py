"""The runs explorer: every finished run below a folder, filtered and sorted; one in detail, or several compared."""

import warnings
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from ipywidgets import HTML, Dropdown, Label, VBox
from matplotlib.figure import Figure

from woofkit.config import ConfigError, TrainConfig
from woofkit.plots.accuracy import accuracy_figure
from woofkit.plots.pages import curves_in_words, curves_png, refusal, run_page, runs_table
from woofkit.plots.style import method_name
from woofkit.results import load_runs, read_history
from woofkit.train import NOT_ZERO_SHOT
from woofkit.widgets.compared_runs import compared_page
from woofkit.widgets.controls import Pager, button, checkbox, drawn_once, dropdown, in_lines, several, shows_work

ON_A_PAGE, IN_A_FIGURE = 15, 20
EVERY = ""  # in place of a profile, method or dataset
FILTERS = ("profile", "method", "dataset")
SORTS = {  # the order in words: by which column, and whether the lowest come first
    "test accuracy, highest first": ("test_accuracy", False),
    "learning rate, lowest first": ("lr", True),
    "rank, lowest first": ("lora.rank", True),
    "training time, shortest first": ("train_seconds", True),
    "images/s, fastest first": ("images_per_second", False),
    "trained parameters, fewest first": ("trainable_parameters", True),
    "date, newest first": ("date", False),
}
NUMBERS = {  # the table's heading: from which column, and how it is written
    "learning rate": ("lr", "g"),
    "rank": ("lora.rank", "g"),
    "epochs": ("epochs", "g"),
    "seed": ("seed", "g"),
    "seconds": ("train_seconds", ",.0f"),
    "images/s": ("images_per_second", ",.1f"),
    "trained parameters": ("trainable_parameters", ",.0f"),
}
COLUMNS = ("run", "method", "profile", "test accuracy (interval)", *NUMBERS, "date")
INTERVAL = ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
NEEDED = ("run", "method", "dataset", "label", "date", "stopped_epoch", *INTERVAL, *dict(NUMBERS.values()))
NOTHING = "-"
HOW_TO_CHOOSE = "Ctrl (⌘) and a click chooses another one or none; Shift and an arrow key, several."


def runs_explorer(root: str | Path) -> VBox:
    """Make the controls (filters, order, page, which run) with the table of runs and the chosen one in detail.

    Where other runs are chosen to compare it with, their curves are laid over each other, and the differences of their
    accuracies are said (`compared_page`).

    Stopped runs are shown too, and marked. New runs appear when "read again" is pressed.

    Args:
        root: the folder with the runs of one or more profiles; nothing needs to be in it yet.

    Raises:
        ConfigError: `root` is a file.
    """
    root = Path(root)
    runs = listed = read_runs(root)
    filters = {name: dropdown(name) for name in FILTERS}
    sort = dropdown("sort by", list(SORTS), list(SORTS.values()))
    pages, again = Pager(ON_A_PAGE), button("read again")
    run, whole, others = dropdown("run"), checkbox("all settings"), several("compare with", 4)
    table, detail = HTML(layout={"width": "100%"}), HTML()

    @lru_cache(64)
    def curves(folder: str, method: str) -> tuple[bytes | None, str]:
        if not (root / folder / "history.csv").is_file():
            return None, ""  # nothing was trained
        history = read_history(root / folder)
        return curves_png(history, method), curves_in_words(history, method)

    @shows_work(detail)
    def draw(_change: Any = None) -> None:
        here = listed.iloc[pages.here]
        numbered = enumerate(here.to_dict("records"), pages.here.start + 1)
        rows = [{"method": each["method"], "cells": [str(number), *_cells(each)]} for number, each in numbered]
        folders = list(here["folder"])
        chosen = folders.index(run.value) if run.value in folders else None
        table.value = runs_table(heading(), COLUMNS, rows, chosen)
        compared = [folder for folder in others.value if folder != run.value]
        detail.value = shown_runs([run.value, *compared]) if compared else shown_run() if run.value else ""

    def shown_run() -> str:
        [one] = runs[runs["folder"] == run.value].to_dict("records")
        note, settings = _settings(runs, one, whole.value)
        return run_page(one["name"], run.value, note, settings, *curves(run.value, one["method"]))

    def shown_runs(folders: Sequence[str]) -> str:
        rows = runs.set_index("folder", drop=False).loc[list(folders)]
        words = {name: [_setting(name, value) for value in rows[name]] for name in _differing(rows)}
        return compared_page(rows.to_dict("records"), words)

    def heading() -> str:
        if runs.empty:
            return "There is no finished run here yet: train one, then read again."
        if listed.empty:
            return f"None of the {len(runs)} runs matches: choose another profile, method or dataset."
        return pages.position("run")

    def select(_change: Any = None) -> None:
        nonlocal listed
        column, rising = sort.value
        listed = runs.sort_values(column, ascending=rising, kind="stable", na_position="last")
        for name, control in filters.items():
            listed = listed if control.value == EVERY else listed[listed[name] == control.value]
        with drawn_once(draw, [pages.number, run, others]):
            pages.restart(len(listed))
            names, folders = (
                [f"{number} · {name}" for number, name in enumerate(listed["name"], 1)],
                [*listed["folder"]],
            )
            _offer(run, names, folders)
            chosen = [folder for folder in others.value if folder in folders]
            others.options, others.value = list(zip(names, folders, strict=True)), chosen
        run.disabled = whole.disabled = others.disabled = listed.empty

    def fill() -> None:
        with drawn_once(select, list(filters.values())):
            for name, control in filters.items():
                found = sorted(runs[name].unique())
                words = map(method_name, found) if name == "method" else found
                _offer(control, [f"all {name}s", *words], [EVERY, *found])

    def read(_button: Any) -> None:
        nonlocal runs
        try:
            runs = read_runs(root)
        except ConfigError as error:
            detail.value = refusal(str(error))
            return
        curves.cache_clear()
        fill()
        if damaged := runs.attrs["damaged"]:
            detail.value = refusal(damaged)

    for control in (*filters.values(), sort):
        control.observe(select, "value")
    for control in (pages.number, run, whole, others):
        control.observe(draw, "value")
    again.on_click(read)
    fill()
    lines = [
        (*filters.values(), sort),
        (*pages.controls, again),
        (table,),
        (run, whole),
        (others, Label(HOW_TO_CHOOSE)),
    ]
    return in_lines(lines, detail, "runs explorer")


def runs_figure(frame: pd.DataFrame) -> Figure:
    """Draw the test accuracies of runs with their intervals, method by method, at most IN_A_FIGURE.

    Args:
        frame: one row per run, as `load_runs` gives it. Of more runs, the most accurate are drawn, and the title says
            so.

    Raises:
        ConfigError: there is no run.
    """
    if frame.empty:
        raise ConfigError("there is no run to draw: run_training makes some")
    best = _completed(frame).sort_values("test_accuracy", ascending=False, kind="stable").head(IN_A_FIGURE)
    best = best.assign(highest=best.groupby("method")["test_accuracy"].transform("max"), label=best["name"])
    best = best.sort_values(["highest", "method", "test_accuracy"], ascending=[False, True, False], kind="stable")
    title = f"{len(frame)} runs" if len(frame) > 1 else "1 run"
    if len(best) < len(frame):
        title = f"The {len(best)} most accurate of {len(frame)} runs"
    return accuracy_figure(best.rename(columns=dict(zip(INTERVAL, ("accuracy", "low", "high"), strict=True))), title)


def read_runs(root: Path) -> pd.DataFrame:
    """Every run below `root`, stopped ones too: `load_runs`, with `folder` and `profile` relative to `root`, `name`.

    `attrs["damaged"]` has a sentence for the folders that were passed over, or "".

    Raises:
        ConfigError: `root` is a file.
    """
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root.name} is not a folder: pass the one with the runs, such as 'runs'")
    with warnings.catch_warnings(record=True) as damaged:
        warnings.simplefilter("always")
        frame = _completed(load_runs(root, stopped=True))
    folders = [Path(run).relative_to(root) for run in frame["run"]]
    whole = root.resolve().name  # of a root that is a profile's folder itself
    profiles = [folder.parent.as_posix() if folder.parent.parts else whole for folder in folders]
    frame = frame.assign(folder=[folder.as_posix() for folder in folders], profile=profiles)
    frame.attrs["damaged"] = "; ".join(str(each.message) for each in damaged)
    return frame


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with every column of NEEDED, and with names such as "LoRA, rank 12, lr 0.0004, seed 0".

    What is not known is nan, and so are the settings of a training that did not take place, as in zero-shot. Names that
    several runs would share end in the hash of the run's folder.
    """
    frame = frame.reindex(columns=frame.columns.union(list(NEEDED), sort=False))
    idle = [name for name in NOT_ZERO_SHOT if name in frame]
    frame["label"] = frame["label"].fillna("breed")  # of runs that know no other
    frame = frame.assign(**{name: frame[name].mask(frame["method"] == "zero-shot") for name in idle})
    names = [_name(run) for run in frame.to_dict("records")]
    hashes = [run.rsplit("-", 1)[-1] for run in frame["run"]]
    told_apart = [f"{name} ({end})" if names.count(name) > 1 else name for name, end in zip(names, hashes, strict=True)]
    return frame.assign(name=told_apart)


def _name(run: dict[str, Any]) -> str:
    parts = {"rank": "lora.rank", "lr": "lr", "seed": "seed", "stopped in epoch": "stopped_epoch"}
    known = [f"{word} {run[column]:g}" for word, column in parts.items() if pd.notna(run[column])]
    return ", ".join([_method(run), *known])


def _method(run: dict[str, Any]) -> str:
    """The method, and what it has learned to name if that is not the breed."""
    return method_name(run["method"]) + ("" if run["label"] == "breed" else f" ({run['label']})")


def _cells(run: dict[str, Any]) -> list[str]:
    """The words for COLUMNS, after the run's number."""
    stopped = "" if pd.isna(run["stopped_epoch"]) else f", stopped in epoch {run['stopped_epoch']:g}"
    accuracy = "{:.1f}% ({:.1f} to {:.1f})".format(*(100 * run[column] for column in INTERVAL))
    numbers = [NOTHING if pd.isna(run[column]) else format(run[column], form) for column, form in NUMBERS.values()]
    return [_method(run) + stopped, run["profile"], accuracy, *numbers, run["date"][:10]]


def _settings(runs: pd.DataFrame, run: dict[str, Any], whole: bool) -> tuple[str, dict[str, str]]:
    """Which settings are shown, and these: all of a run, or those in which the runs of its profile differ."""
    peers = runs[runs["profile"] == run["profile"]]
    if whole:
        note, names = "All settings:", _setting_names(runs)
    elif len(peers) == 1:
        note, names = f"It is the only run of profile {run['profile']}.", []
    else:
        names = _differing(peers)
        note = f"Settings in which the runs of profile {run['profile']} differ:" if names else "No setting differs."
    return note, {name: _setting(name, run[name]) for name in names if pd.notna(run[name])}


def _setting_names(runs: pd.DataFrame) -> list[str]:
    known = {field.name for field in fields(TrainConfig)}
    return [name for name in runs if name in known or name.startswith("lora.")]


def _differing(runs: pd.DataFrame) -> list[str]:
    """The settings in which these runs differ."""
    return [name for name in _setting_names(runs) if runs[name].astype(str).nunique() > 1]


def _setting(name: str, value: Any) -> str:
    if pd.isna(value):  # a setting of another method
        return NOTHING
    if name in ("data_dir", "weights") and Path(value).is_absolute():  # a path says where somebody's files are
        return Path(value).name
    return f"{value:g}" if isinstance(value, float) else str(value) or NOTHING


def _offer(control: Dropdown, words: Sequence[str], values: Sequence[str]) -> None:
    """Give a dropdown other options. What was chosen stays chosen where it is still among them."""
    value = control.value if control.value in values else values[0] if values else None
    control.options = list(zip(words, values, strict=True))
    control.value = value
