"""What many runs say: accuracy over learning rates, labels, ranks and epochs, and what it costs of the earlier task."""

import ast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from woofkit.plots.evidence import PERCENT_OR_TENTHS, check_fractions, method_marker, seed_dots
from woofkit.plots.style import METHOD_COLORS, method_color, method_name

# A sweep's grid, the setting it varies, what is drawn, and in words: the title, the axes.
PANELS = (
    ("lr", "lr", "val_accuracy", "Which learning rate?", "learning rate", "validation accuracy"),
    ("labels", "label_fraction", "test_accuracy", "How many labels?", "share of the labels", "test accuracy"),
    ("ranks", "rank", "test_accuracy", "Which rank?", "LoRA's rank", "test accuracy"),
    ("epochs", "epochs", "test_accuracy", "How many epochs?", "epochs", "test accuracy"),
)
DOTS = {
    "seeds-paper-lr": "At the report's learning rate",
    "seeds-best-lr": "At each method's best",
    "targets": "LoRA on which layers?",
}
PAPERS = {"lr": 4e-4, "rank": 12, "epochs": 5}  # the report's values


def sweep_panels(frame: pd.DataFrame) -> Figure:
    """Draw a panel for each of PANELS whose grid is in `frame`, rows of `sweep_results.kept_runs`.

    Raises ValueError if there is none.
    """
    there = [panel for panel in PANELS if (frame["grid"] == panel[0]).any()]
    if not there:
        raise ValueError(f"no grid to draw: {', '.join(panel[0] for panel in PANELS)} are known")
    rows = -(-len(there) // 2)
    fig, axes = plt.subplots(
        rows, min(len(there), 2), figsize=(8 * min(len(there), 2), 6.2 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(there) :]:
        ax.axis("off")
    for ax, (grid, setting, value, title, across, up) in zip(axes.flat, there, strict=False):
        runs = frame[frame["grid"] == grid]
        if value == "val_accuracy":
            runs = runs.drop(columns=["low", "high"])  # those of the test accuracy
        sweep_lines(runs, setting, ax, value, best=grid == "lr", paper=PAPERS.get(setting))
        ax.set(title=title, xlabel=across, ylabel=up)
    return fig


def sweep_lines(
    frame: pd.DataFrame,
    x: str,
    ax: Axes,
    value: str = "accuracy",
    log: bool = True,
    best: bool = True,
    paper: float | None = None,
) -> Axes:
    """Draw `value` (0 to 1) against a setting `x`: a mark a seed, a line a method through the means over seeds.

    `frame` has a row a run: method, `x`, `value`; columns low and high, the same for all runs of a method and setting,
    are drawn as a band. `best` rings each method's highest mean (of what is drawn: choose on validation images).
    `paper`, the report's value of `x`, is a dashed line.
    """
    check_fractions(frame, value)
    if log and not (frame[x] > 0).all():
        raise ValueError(f"a logarithmic axis needs {x} above 0, got {frame[x].min()}")
    if paper is not None:
        ax.axvline(paper, color="0.4", linestyle="--", linewidth=1.8, zorder=0, label=f"the report's {paper:g}")
    for method, runs in frame.groupby("method", sort=False):
        color, marker, settings = method_color(method), method_marker(method), runs.groupby(x)
        means = settings[value].mean()
        if {"low", "high"} <= set(runs):
            ends = settings[["low", "high"]].first()
            ax.fill_between(means.index, ends["low"], ends["high"], color=color, alpha=0.18, linewidth=0)
        ax.plot(
            means.index,
            means,
            marker=marker,
            color=color,
            markeredgecolor=color,
            markersize=10,
            label=method_name(method),
        )
        ax.scatter(runs[x], runs[value], s=45, marker=marker, color=color, alpha=0.55, linewidths=0)
        if best:
            ax.scatter(
                means.idxmax(), means.max(), s=330, facecolors="none", edgecolors=color, linewidths=2.5, zorder=4
            )
    swept = np.sort(frame[x].unique())
    if log:
        ax.set_xscale("log")
    if len(swept) <= 8:
        ax.xaxis.set_major_locator(FixedLocator(swept))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
    ax.set(xlabel=x, ylabel=value)
    ax.yaxis.set_major_formatter(PERCENT_OR_TENTHS)
    ax.legend(loc="best")
    return ax


def run_dots(frame: pd.DataFrame) -> Figure:
    """Draw each seed's test accuracy and their mean with its interval, a panel a grid.

    `frame` has rows of `sweep_results.kept_runs`, of the grids in DOTS that are there.

    Raises ValueError if none is.
    """
    there = [grid for grid in DOTS if (frame["grid"] == grid).any()]
    if not there:
        raise ValueError(f"no grid to draw: {', '.join(DOTS)} are known")
    fig, axes = plt.subplots(1, len(there), figsize=(8 * len(there), 6), squeeze=False, layout="constrained")
    for ax, grid in zip(axes.flat, there, strict=True):
        runs = frame[frame["grid"] == grid].rename(columns={"test_accuracy": "accuracy"})
        if grid == "targets":
            runs = runs.assign(label=[_layers(text) for text in runs["targets"]])
        else:
            runs = runs.assign(label=[f"{method_name(row.method)}\n{row.lr:g}" for row in runs.itertuples()])
        seed_dots(runs.sort_values("method", key=_in_order, kind="stable"), ax)
        ax.set(title=DOTS[grid])
    return fig


def _layers(text: str) -> str:
    return "\n".join(ast.literal_eval(text))


def _in_order(methods: pd.Series) -> pd.Series:
    return methods.map(list(METHOD_COLORS).index)


def forgetting_lines(frame: pd.DataFrame, ax: Axes, backbone: float) -> Axes:
    """Draw what is kept of the earlier task against what is learned of the new one, as a setting grows.

    A line a method through its learning rates, and one through LoRA's ranks; the last mark is the largest setting.

    Args:
        frame: a row a run: method, lr, rank, test_accuracy and head (the earlier task's accuracy), 0 to 1, and `line`,
            the setting ("lr" or "rank") that varies along the row's line. Runs that differ in their seed alone are
            drawn as their mean.
        backbone: the untouched backbone's accuracy on the earlier task, a dashed line.
    """
    check_fractions(frame, "test_accuracy")
    check_fractions(frame, "head")
    ax.axhline(backbone, color="0.4", linestyle="--", linewidth=1.8, zorder=0, label="untouched backbone")
    for (method, setting), runs in frame.groupby(["method", "line"], sort=False):
        means = runs.groupby(setting)[["test_accuracy", "head"]].mean().sort_index()
        over = {"lr": "learning rates", "rank": "ranks"}[setting]
        color, face = method_color(method), method_color(method) if setting == "lr" else "white"
        ax.plot(
            means["test_accuracy"],
            means["head"],
            marker=method_marker(method),
            color=color,
            markersize=9,
            linestyle="-" if setting == "lr" else ":",
            markerfacecolor=face,
            label=f"{method_name(method)},\n{over} {means.index[0]:g} to {means.index[-1]:g}",
        )
        ax.plot(*means.to_numpy()[-1], marker=method_marker(method), color=color, markersize=18, markerfacecolor=face)
    ax.set(xlabel="test accuracy on the new task", ylabel="accuracy kept on the earlier task")
    ax.xaxis.set_major_formatter(PERCENT_OR_TENTHS)
    ax.yaxis.set_major_formatter(PERCENT_OR_TENTHS)
    ax.margins(0.06)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="the large mark is the largest setting")
    return ax
