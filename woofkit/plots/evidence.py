"""What many runs say together: accuracy by seed and setting, what is gained and what is kept, and verdicts."""

import ast
from collections.abc import Mapping
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED
from woofkit.plots import style
from woofkit.results import percent
from woofkit.sweeps.results import data_words, pixels, with_validation_intervals

# A sweep's grid, the setting that it varies, what is drawn, and in words: the title, the setting.
PANELS = {
    "lr": ("lr", "val_accuracy", "Which learning rate?", "learning rate"),
    "labels": ("label_fraction", "test_accuracy", "How many labels?", "share of the labels"),
    "ranks": ("rank", "test_accuracy", "Which rank?", "LoRA's rank"),
    "epochs": ("epochs", "test_accuracy", "How many epochs?", "epochs"),
}
DOTS = {
    "seeds-paper-lr": "At the paper's learning rate",
    "seeds-best-lr": "At each method's best",
    "targets": "LoRA on which layers?",
}
SETTINGS = ("rank", "targets", "label_fraction", "epochs")  # what a panel may vary beside the learning rate
PAPERS = {"lr": 4e-4, "rank": 12, "epochs": 5}  # the paper's values
BESIDE = 70  # characters in a line beside a row
# How a verdict looks: colour and marker; its word stands beside it.
VERDICTS = {SUPPORTED: ("#009E73", "o"), CONTRADICTED: ("#D55E00", "X"), UNDECIDED: ("#56B4E9", "D")}


def sweep_panels(frame: pd.DataFrame) -> Figure:
    """Draw one panel for each of PANELS whose grid is in `frame`, rows of `sweeps.results.kept_runs`.

    Raises ValueError if there is none.
    """
    for ax, (grid, runs) in _panels(frame, PANELS, columns=2, height=6.6):
        setting, value, title, across = PANELS[grid]
        if value == "val_accuracy":
            runs = with_validation_intervals(runs)
        sweep_lines(runs, setting, ax, value, best=grid == "lr", paper=PAPERS.get(setting))
        up = {"val_accuracy": "validation accuracy", "test_accuracy": "test accuracy"}[value]
        ax.set(title=_title(title, runs), xlabel=across, ylabel=up)
    return ax.figure


def run_dots(frame: pd.DataFrame) -> Figure:
    """Draw each seed's test accuracy and their mean with its interval, one panel for each of DOTS.

    `frame` has rows of `sweeps.results.kept_runs`, of the grids in DOTS that are there.

    Raises ValueError if none is.
    """
    for ax, (grid, runs) in _panels(frame, DOTS, columns=len(DOTS), height=6.4):
        if grid == "targets":
            labels = ["\n".join(ast.literal_eval(text)) for text in runs["targets"]]
        else:
            rates = ["" if row.method == "zero-shot" else f"\n{row.lr:g}" for row in runs.itertuples()]
            labels = runs["method"].map(style.method_name) + rates
        runs = runs.assign(label=labels).rename(columns={"test_accuracy": "accuracy"})
        seed_dots(runs.sort_values("method", key=lambda methods: methods.map(style.method_order), kind="stable"), ax)
        ax.set_title(_title(DOTS[grid], runs))
    return ax.figure


def _title(title: str, runs: pd.DataFrame) -> str:
    """A panel's title, what its runs were trained on and, of settings that share one learning rate, that they do."""
    words = data_words(runs)
    settings = runs.groupby(["method", *SETTINGS], dropna=False).ngroups
    if settings > runs["method"].nunique() and runs["lr"].nunique() == 1:
        words += f",\nall at the rate {runs['lr'].iloc[0]:g}, which was not searched"
    return f"{title}\n{words}"


def _panels(frame: pd.DataFrame, known: Mapping[str, Any], columns: int, height: float) -> list[tuple]:
    """Make an Axes for each known grid in the frame; return the Axes, each with the grid's name and rows."""
    there = [(grid, frame[frame["grid"] == grid]) for grid in known if (frame["grid"] == grid).any()]
    if not there:
        raise ValueError(f"no grid to draw: {', '.join(known)} are known")
    columns = min(columns, len(there))
    rows = -(-len(there) // columns)
    size = (8 * columns, height * rows)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat[len(there) :]:
        ax.axis("off")
    return list(zip(axes.flat, there, strict=False))


def sweep_lines(
    frame: pd.DataFrame, x: str, ax: Axes, value: str = "accuracy", best: bool = True, paper: float | None = None
) -> Axes:
    """Draw `value` (0 to 1) against a setting `x`: one mark per seed, one line per method through the seeds' means.

    `frame` has one row per run: method, `x`, `value`; columns low and high, the same for all runs of a method and
    setting, are drawn as a band. `best` rings each method's highest mean (of what is drawn: choose on validation
    images). `paper`, the paper's value of `x`, is a dashed line.
    """
    style.check_fractions(frame, value)
    if not (frame[x] > 0).all():
        raise ValueError(f"a logarithmic axis needs {x} above 0, got {frame[x].min()}")
    if paper is not None:
        ax.axvline(paper, label=f"the paper's {paper:g}", **style.DASHED)
    for method, runs in frame.groupby("method", sort=False):
        look, settings = style.method_style(method), runs.groupby(x)
        color, means = look["color"], settings[value].mean()
        if {"low", "high"} <= set(runs):
            ends = settings[["low", "high"]].first()
            ax.fill_between(means.index, ends["low"], ends["high"], color=color, alpha=0.18, linewidth=0)
        ax.plot(means.index, means, markeredgecolor=color, markersize=10, **look)
        ax.scatter(runs[x], runs[value], s=45, alpha=0.55, linewidths=0, marker=look["marker"], color=color)
        if best:
            ring = {"facecolors": "none", "edgecolors": color, "linewidths": 2.5, "zorder": 4}
            ax.scatter(means.idxmax(), means.max(), s=330, **ring)
    ax.set_xscale("log")
    swept = np.sort(frame[x].unique())
    if len(swept) <= 8:
        ax.xaxis.set_major_locator(FixedLocator(swept))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
    ax.set(xlabel=x, ylabel=value)
    style.percent_axis(ax.yaxis)
    ax.legend(loc="best")
    return ax


def seed_dots(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one mark per seed and the mean with its interval, one row per method and setting.

    `frame` has one row per run: method, label (the row's name), accuracy (0 to 1), and low and high, the same for all
    runs of a row, the interval of its mean.
    """
    style.check_fractions(frame, "accuracy")
    rows = list(frame.groupby(["method", "label"], sort=False))
    for row, ((method, _), runs) in enumerate(rows):
        look, mean = style.method_style(method), runs["accuracy"].mean()
        ends = runs[["low", "high"]].iloc[0]
        ax.hlines(row, *ends, color=look["color"], linewidth=7, alpha=0.35)
        ax.plot([mean, mean], [row - 0.22, row + 0.22], color=look["color"], linewidth=3.5)
        ax.scatter(runs["accuracy"], np.full(len(runs), row), s=75, edgecolors="white", zorder=3, **look)
        ax.annotate(percent(mean), (mean, row - 0.22), xytext=(0, 3), textcoords="offset points", ha="center")
    style.row_axis(ax, [label for (_, label), _ in rows], top=0.7)
    ax.set_xlabel("test accuracy (one mark per seed; bar: the mean)")
    style.percent_axis(ax.xaxis)
    return ax


def target_versus_source(frame: pd.DataFrame, ax: Axes, backbone: float) -> Axes:
    """Draw one mark per run: accuracy on the new task (to the right) against accuracy kept on the earlier one.

    `frame` has method, test_accuracy and head (the earlier task's accuracy), 0 to 1. `backbone`, the untouched
    backbone's accuracy on the earlier task, is a dashed line: what lies below it was forgotten.
    """
    style.check_fractions(frame, "test_accuracy", "head")
    for method, runs in frame.groupby("method", sort=False):
        look = style.method_style(method)
        ax.scatter(runs["test_accuracy"], runs["head"], s=110, edgecolors="white", zorder=3, **look)
    ax.margins(0.12)
    return _gained_and_kept(frame, ax, backbone)


def forgetting_lines(frame: pd.DataFrame, ax: Axes, backbone: float) -> Axes:
    """Draw what is kept of the earlier task against what is learned of the new one, as a setting grows.

    One line per method through its learning rates, and one through LoRA's ranks; the last mark is the largest setting.

    Args:
        frame: one row per run: method, lr, rank, test_accuracy and head (the earlier task's accuracy), 0 to 1, and
            `line`, the setting ("lr" or "rank") that varies along the row's line. Runs that differ in their seed alone
            are drawn as their mean.
        backbone: the untouched backbone's accuracy on the earlier task, a dashed line.
    """
    style.check_fractions(frame, "test_accuracy", "head")
    for (method, setting), runs in frame.groupby(["method", "line"], sort=False):
        means = runs.groupby(setting)[["test_accuracy", "head"]].mean().sort_index()
        over = {"lr": "learning rates", "rank": "ranks"}[setting]
        words = f"{style.method_name(method)},\n{over} {means.index[0]:g} to {means.index[-1]:g}"
        if setting == "rank":
            words += f"\nat {runs['lr'].iloc[0]:g}" if runs["lr"].nunique() == 1 else ",\neach at its own rate"
        filled = setting == "lr"
        look = style.method_style(method) | {"markerfacecolor": style.method_color(method) if filled else "white"}
        line = {"linestyle": "-" if filled else ":", "markersize": 9, "label": words}
        ax.plot(means["test_accuracy"], means["head"], **look | line)
        ax.plot(*means.to_numpy()[-1], **look | {"markersize": 18, "label": None})
    ax.margins(0.06)
    return _gained_and_kept(frame, ax, backbone, title="the large mark is the largest setting")


def _gained_and_kept(frame: pd.DataFrame, ax: Axes, backbone: float, **legend: str) -> Axes:
    ax.axhline(backbone, label="untouched backbone", **style.DASHED)
    ax.set(xlabel="test accuracy on the new task", ylabel="accuracy kept on the earlier task")
    style.percent_axis(ax.xaxis, ax.yaxis)
    style.legend_beside(ax, **legend)
    if "dataset" in frame:
        ax.set_title(f"models trained on images of {' or '.join(pixels(frame))} pixels")
    return ax


def verdict_table(verdicts: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the hypotheses as a forest plot: of each, a row with its verdict, then one row per condition.

    `verdicts` has the columns of `tables.claims.verdict_frame`. A condition's row has its effect, interval and verdict
    in word and mark, and what it was measured on. Effects have different units, so every row has a scale of its own and
    the axis no numbers: the dashed line is the threshold, right of it the condition holds, and the grey zone left of it
    is the margin, in which there is a difference that is too small to matter. An effect of nan has no mark, and a
    hypothesis of which nothing was measured no row but its own.

    Raises ValueError if an interval does not hold its value.
    """
    labels, place = [], -1
    for _, rows in verdicts.groupby("hypothesis", sort=False):
        first, place = rows.iloc[0], place + 1
        labels.append(fill(f"{' '.join(filter(None, (first.hypothesis, first.claim)))}: {first.says}", 52))
        ax.axhspan(place - 0.5, place + 0.5, color="0.93", linewidth=0, zorder=-1)
        color, marker = VERDICTS.get(first.of_the_claim, style.OTHER[:2])
        ax.scatter(1.14, place, s=190, marker=marker, color=color, clip_on=False)
        ax.text(1.22, place, first.of_the_claim.upper(), fontweight="bold", va="bottom")
        p = f"p = {first.p_value:.2g}, corrected" if first.p_value > 1e-4 else "p < 0.0001, corrected"
        p = p if first.p_value == first.p_value else first.why
        ax.text(1.22, place, _beside(first.kind, p), va="top", fontsize=12)
        for row in rows.itertuples() if rows["value"].notna().any() else ():
            place += 1
            labels.append(fill(row.statement, 46))
            _condition(row, place, ax)
    ax.axvline(0, **style.DASHED | {"zorder": 1})
    style.row_axis(ax, labels, borders=True)
    for label, text in zip(ax.get_yticklabels(), labels, strict=True):
        label.set_fontweight("bold" if text.startswith("H") and ":" in text[:12] else "normal")
    ax.set(xlim=(-1.05, 1.05), xticks=[], xlabel="← short of the threshold    |    beyond it, the condition holds →")
    return ax


def _condition(row: Any, place: int, ax: Axes) -> None:
    """One condition's row: the interval on a scale of its own, about the threshold."""
    color, marker = VERDICTS.get(row.verdict, style.OTHER[:2])
    ax.text(1.22, place, row.verdict, va="bottom", fontsize=12)
    if np.isnan(row.value):
        return
    if not row.low <= row.value <= row.high:
        raise ValueError(f"{row.hypothesis}: the interval {row.low} to {row.high} does not hold {row.value}")
    ends = (np.array([row.low, row.value, row.high]) - row.threshold) * (1 if row.above else -1)
    scale = max(np.abs(ends).max(), row.margin) or 1.0
    low, value, high = sorted(ends / scale)
    ax.fill_betweenx([place - 0.35, place + 0.35], -row.margin / scale, 0, color="0.85", linewidth=0, zorder=0)
    ax.hlines(place, low, high, color=color, linewidth=5, alpha=0.5)
    ax.scatter(value, place, s=130, marker=marker, color=color, edgecolors="white", zorder=3)
    ax.text(1.22, place, _beside(_effect(row), row.source), va="top", fontsize=12)


def _beside(*words: str) -> str:
    """What stands beside a row, in lines; a sweep's name is not broken at its hyphen."""
    return fill("; ".join(filter(None, words)), BESIDE, break_on_hyphens=False)


def _effect(row: Any) -> str:
    factor = 100 if row.unit in ("points", "%") else 1
    numbers = [f"{factor * number:.3g}".replace("-", "−") for number in (row.value, row.low, row.high)]
    interval = f" ({numbers[1]} to {numbers[2]})" if row.low < row.high else ""  # what is counted has none
    if row.unit == "%":
        return f"{numbers[0]}%{interval}"
    return f"{numbers[0]}{interval} {row.unit}".rstrip()
