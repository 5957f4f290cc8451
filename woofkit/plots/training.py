"""What training gives, epoch by epoch, and what it and its result cost."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from woofkit.plots import style

MARKERS = ("o", "^", "s", "D", "v", "P")  # of several runs of one method
# Okabe and Ito's colours from the lightest to the darkest, so that neighbours in a stack differ in grey, too.
STACK_COLORS = ("#56B4E9", "#E69F00", "#009E73", "#0072B2")


def learning_curves(
    history: pd.DataFrame, axes: Sequence[Axes], method: str = "full", show_lr: bool = True
) -> Sequence[Axes]:
    """Draw accuracy and loss over epochs on two Axes, as in the paper's Figures 2 and 3.

    `history` has epoch, lr, train_accuracy, train_loss and, where there is a validation split, val_accuracy
    and val_loss. The learning rate is a dashed line on a second, logarithmic axis; leave it out
    (`show_lr=False`) for all but one of several histories on the same Axes.
    """
    color = style.method_color(method)
    for ax, quantity in zip(axes, ("accuracy", "loss"), strict=True):
        for split, line, face in (("train", "-o", color), ("val", ":s", "white")):
            values = history.get(f"{split}_{quantity}")
            if values is not None and values.notna().any():
                label = f"{style.method_name(method)} {split}"
                ax.plot(history["epoch"], values, line, color=color, markerfacecolor=face, label=label)
        ax.set(xlabel="epoch", ylabel=quantity, title=quantity.capitalize())
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if show_lr:
            right = ax.twinx()
            right.plot(history["epoch"], history["lr"], "--", color=style.OTHER.color, linewidth=1.8)
            right.set(yscale="log", ylim=(history["lr"].min() / 10, history["lr"].max() * 10))
            right.set_ylabel("learning rate (dashed)", color="0.4", fontsize=12)
            right.tick_params(labelcolor="0.4")
            right.grid(visible=False)
        if ax.lines:
            ax.legend(loc="lower right" if quantity == "accuracy" else "upper right")
    style.percent_axis(axes[0].yaxis)
    highest = max((np.nanmax(line.get_ydata()) for line in axes[1].lines), default=1.0)  # of all histories so far
    axes[1].set_ylim(0, 1.08 * highest)
    return axes


def overlaid_curves(runs: Sequence[tuple[str, str, pd.DataFrame]], axes: Sequence[Axes]) -> Sequence[Axes]:
    """Draw several runs' accuracy and loss over each other: training as a solid line, validation as a dotted one.

    `runs` are (name, method, history) as for `learning_curves`. Runs of one method share its colour; the later ones are
    lighter, and have another marker.
    """
    drawn = {}  # method -> how many of its runs are there
    for name, method, history in runs:
        before = drawn[method] = drawn.get(method, -1) + 1
        color = np.array(to_rgb(style.method_color(method)))
        color = 1 - (1 - color) * 0.62**before
        marker = MARKERS[before % len(MARKERS)]
        for ax, quantity in zip(axes, ("accuracy", "loss"), strict=True):
            for split, line, face in (("train", "-", color), ("val", ":", "white")):
                values = history.get(f"{split}_{quantity}")
                if values is not None and values.notna().any():
                    label = name if split == "train" else "_"  # one line of the legend per run
                    ax.plot(
                        history["epoch"], values, line, color=color, marker=marker, markerfacecolor=face, label=label
                    )
    for ax, quantity in zip(axes, ("accuracy", "loss"), strict=True):
        ax.set(xlabel="epoch", ylabel=quantity, title=f"{quantity.capitalize()} (solid: training, dotted: validation)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.percent_axis(axes[0].yaxis)
    axes[1].set_ylim(bottom=0)
    return axes


def cost_bars(frame: pd.DataFrame, column: str, title: str, ax: Axes, number: str = "{:,.0f}") -> Axes:
    """Draw one cost, `frame[column]`, as one bar per method (`frame["method"]`); `number` formats the labels."""
    values = frame[column].to_numpy(dtype=float)
    bars = ax.barh(range(len(frame)), values, color=[style.method_color(method) for method in frame["method"]])
    ax.bar_label(bars, [number.format(value) for value in values], padding=4)
    ax.set_title(title)
    return _method_rows(ax, frame["method"], values.max())


def stacked_costs(
    frame: pd.DataFrame,
    parts: Mapping[str, str],
    title: str,
    ax: Axes,
    number: str = "{:,.0f}",
    marker: tuple[str, str] | None = None,
) -> Axes:
    """Draw one bar per method, made of the columns `parts` (column: name), with its sum behind it.

    `marker` (column, name) is a black line across each bar, for what was measured beside what adds up; its number
    then takes the place of the sum.
    """
    stack = frame[list(parts)].rename(columns=parts)
    stack.plot.barh(ax=ax, stacked=True, width=0.8, color=STACK_COLORS, legend=False, ylabel="")
    shown = ends = stack.sum(axis=1)
    if marker:
        shown, rows = frame[marker[0]], np.arange(len(frame))
        ends = np.maximum(ends, shown)
        ax.vlines(shown, rows - 0.4, rows + 0.4, "black", linewidth=4, label=marker[1])
    for row, (value, end) in enumerate(zip(shown, ends, strict=True)):
        ax.annotate(number.format(value), (end, row), xytext=(6, 0), textcoords="offset points", va="center")
    ax.set_title(title, pad=34)
    entries = [*ax.containers, *ax.collections]
    close = {"frameon": False, "borderpad": 0, "handlelength": 1, "columnspacing": 1}
    ax.legend(handles=entries, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(entries), **close)
    return _method_rows(ax, frame["method"], ends.max())


def _method_rows(ax: Axes, methods: Sequence[str], highest: float) -> Axes:
    style.row_axis(ax, [style.method_name(method) for method in methods])
    style.bars_alone(ax)
    ax.set_xlim(0, 1.3 * max(highest, 1e-12))
    return ax
