"""The runs explorer: every finished run below a folder, filtered and sorted, and one of them in detail."""

from functools import lru_cache
from pathlib import Path

import pandas as pd
from ipywidgets import HTML, BoundedIntText, Dropdown, VBox
from matplotlib.figure import Figure

from woofkit.config import ConfigError
from woofkit.plots.accuracy import accuracy_figure
from woofkit.plots.pages import curves_in_words, curves_png, refusal, run_page, runs_table
from woofkit.plots.style import method_name
from woofkit.results import read_history
from woofkit.widgets.controls import LABEL, WIDE, button, checkbox, drawn_once, dropdown, in_lines, undisturbed
from woofkit.widgets.run_rows import read_runs, run_cells, run_columns, run_labels, run_settings, with_all_columns

ON_A_PAGE, IN_A_FIGURE = 15, 20
EVERY = ""  # in place of a profile, method or dataset
SORTS = {
    "test accuracy, highest first": ("test_accuracy", False),
    "learning rate, lowest first": ("lr", True),
    "rank, lowest first": ("rank", True),
    "training time, shortest first": ("train_seconds", True),
    "images/s, fastest first": ("images_per_second", False),
    "trained parameters, fewest first": ("trainable_parameters", True),
    "date, newest first": ("date", False),
}
FILTERS = {"profile": "profile", "method": "method", "dataset": "dataset"}  # control -> column


def runs_explorer(root: str | Path) -> VBox:
    """Make the controls (filters, order, page, which run) with the table of runs and the chosen one in detail.

    Runs that were stopped before their end are among them, and called so. New runs appear at "read again".

    Args:
        root: the folder with the runs of one or more profiles; nothing needs to be in it yet.

    Raises:
        ConfigError: `root` is a file, or a run below it is damaged.
    """
    root = Path(root)
    frame = [read_runs(root)]
    filters = {name: Dropdown(description=name, style=LABEL, layout=WIDE) for name in FILTERS}
    sort = dropdown("sort by", list(SORTS), list(SORTS.values()))
    page = BoundedIntText(description="page", min=1, max=1, value=1, style=LABEL, layout={"width": "140px"})
    previous, following, again = (button(words) for words in ("◀ previous page", "next page ▶", "read again"))
    run = Dropdown(description="run", style=LABEL, layout=WIDE)
    whole = checkbox("all settings")
    table, detail, listed = HTML(layout={"width": "100%"}), HTML(), [frame[0]]
    curves = lru_cache(64)(lambda folder, method: _curves(root / folder, method))

    @undisturbed
    def draw(_change=None) -> None:
        first = (page.value - 1) * ON_A_PAGE
        here = listed[0].iloc[first : first + ON_A_PAGE]
        folders = list(here["folder"])
        rows = [
            {"method": row.method, "cells": run_cells(row, number, frame[0])}
            for number, row in enumerate(here.itertuples(), first + 1)
        ]
        chosen = folders.index(run.value) if run.value in folders else None
        heading = _heading(first, len(here), len(listed[0]), len(frame[0]))
        table.value = runs_table(heading, run_columns(frame[0]), rows, chosen)
        detail.value = _detail(frame[0], run.value, whole.value, curves) if run.value else ""

    def select(_change=None) -> None:
        chosen = frame[0]
        for name, control in filters.items():
            chosen = chosen[chosen[FILTERS[name]] == control.value] if control.value != EVERY else chosen
        column, rising = sort.value
        listed[0] = chosen.sort_values(column, ascending=rising, kind="stable", na_position="last")
        labels = [f"{number} · {label}" for number, label in enumerate(run_labels(listed[0]), 1)]
        with drawn_once(draw, [page, run]):
            page.value, page.max = 1, max(1, -(-len(labels) // ON_A_PAGE))
            _offer(run, labels, list(listed[0]["folder"]))
        previous.disabled = following.disabled = page.disabled = page.max == 1
        run.disabled = whole.disabled = not labels

    def fill() -> None:
        with drawn_once(select, list(filters.values())):
            for name, control in filters.items():
                found = sorted(frame[0][FILTERS[name]].unique())
                words = [method_name(each) for each in found] if name == "method" else found
                _offer(control, [f"all {name}s", *words], [EVERY, *found])

    def read(_button) -> None:
        try:
            frame[0] = read_runs(root)
        except ConfigError as error:
            detail.value = refusal(str(error))
            return
        curves.cache_clear()
        fill()

    def step(by: int) -> None:
        page.value = (page.value - 1 + by) % page.max + 1

    for control in (*filters.values(), sort):
        control.observe(select, "value")
    for control in (page, run, whole):
        control.observe(draw, "value")
    again.on_click(read)
    previous.on_click(lambda _button: step(-1))
    following.on_click(lambda _button: step(1))
    fill()
    lines = [(*filters.values(), sort), (previous, page, following, again), (table,), (run, whole)]
    return in_lines(lines, detail)


def runs_figure(frame: pd.DataFrame) -> Figure:
    """Draw the test accuracies of runs with their intervals, for paper, method by method, at most IN_A_FIGURE.

    Args:
        frame: a row a run, as `load_runs` gives it; of more runs, the most accurate are drawn, and the title says so.

    Raises:
        ConfigError: there is no run.
    """
    if frame.empty:
        raise ConfigError("there is no run to draw: run_training makes some")
    best = with_all_columns(frame).sort_values("test_accuracy", ascending=False, kind="stable").head(IN_A_FIGURE)
    highest = best.groupby("method")["test_accuracy"].transform("max")
    best = best.assign(highest=highest, label=run_labels(best))
    best = best.sort_values(["highest", "method", "test_accuracy"], ascending=[False, True, False], kind="stable")
    names = {"test_accuracy": "accuracy", "test_accuracy_low": "low", "test_accuracy_high": "high"}
    title = f"{len(frame)} runs" if len(frame) > 1 else "1 run"
    if len(best) < len(frame):
        title = f"The {len(best)} most accurate of {len(frame)} runs"
    return accuracy_figure(best.rename(columns=names)[["method", "label", *names.values()]], title)


def _offer(control: Dropdown, words: list[str], values: list) -> None:
    """Give a dropdown other options, and keep what was chosen where it is still among them."""
    value = control.value if control.value in values else values[0] if values else None
    control.options = list(zip(words, values, strict=True))
    control.value = value


def _heading(first: int, count: int, total: int, everywhere: int) -> str:
    if not everywhere:
        return "There is no finished run here yet: train one, then read again."
    if not total:
        return f"None of the {everywhere} runs is like that: choose another profile, method or dataset."
    return f"runs {first + 1} to {first + count} of {total}" if count > 1 else f"run {first + 1} of {total}"


def _detail(frame: pd.DataFrame, folder: str, whole: bool, curves) -> str:
    """The chosen run as HTML."""
    one = frame[frame["folder"] == folder].iloc[0]
    settings, alone = run_settings(frame, one, whole)
    if whole:
        note = "All settings:"
    elif alone:
        note = f"It is the only run of profile {one['profile']}."
    else:
        note = f"Settings in which the runs of profile {one['profile']} differ:" if settings else "No setting differs."
    png, alt = curves(folder, one["method"])
    return run_page(run_labels(frame[frame["folder"] == folder])[0], folder, note, settings, png, alt)


def _curves(run: Path, method: str) -> tuple[bytes | None, str]:
    """The learning curves of a run and the words for them; None where nothing was trained."""
    if not (run / "history.csv").is_file():
        return None, ""
    history = read_history(run)
    return curves_png(history, method), curves_in_words(history, method)
