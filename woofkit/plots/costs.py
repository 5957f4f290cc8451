"""What training and its result cost: one cost as a bar a method, or a bar made of what it consists of."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from woofkit.plots.style import method_color, method_name

# Okabe and Ito's colours from the lightest to the darkest, so that neighbours in a stack differ in grey, too.
STACK_COLORS = ("#56B4E9", "#E69F00", "#009E73", "#0072B2")


def cost_bars(frame: pd.DataFrame, column: str, title: str, ax: Axes, number: str = "{:,.0f}") -> Axes:
    """Draw one cost, `frame[column]`, as a bar a method (`frame["method"]`); `number` formats the labels."""
    values = frame[column].to_numpy(dtype=float)
    bars = ax.barh(range(len(frame)), values, color=[method_color(method) for method in frame["method"]])
    ax.bar_label(bars, [number.format(value) for value in values], padding=4)
    ax.set_title(title)
    return _bar_axes(frame["method"], ax, values.max())


def stacked_costs(
    frame: pd.DataFrame,
    parts: Mapping[str, str],
    title: str,
    ax: Axes,
    number: str = "{:,.0f}",
    marker: tuple[str, str] | None = None,
) -> Axes:
    """Draw a bar a method, made of the columns `parts` (column: name), with its sum behind it.

    `marker` (column, name) is a black line across each bar, for what was measured beside what adds up; its number
    then takes the place of the sum.
    """
    start = pd.Series(0.0, index=frame.index)
    for (column, name), color in zip(parts.items(), STACK_COLORS, strict=False):
        ax.barh(range(len(frame)), frame[column], left=start, color=color, label=name)
        start = start + frame[column]
    shown, furthest = start, start
    if marker:
        shown = frame[marker[0]]
        furthest = np.maximum(start, shown)
        rows = np.arange(len(frame))
        ax.vlines(shown, rows - 0.4, rows + 0.4, "black", linewidth=4, label=marker[1])
    for row, (value, end) in enumerate(zip(shown, furthest, strict=True)):
        ax.annotate(number.format(value), (end, row), xytext=(6, 0), textcoords="offset points", va="center")
    ax.set_title(title, pad=34)
    names = [*parts.values(), *([marker[1]] if marker else [])]
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        [handles[labels.index(name)] for name in names],
        names,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(names),
        frameon=False,
        borderpad=0,
        handlelength=1,
        columnspacing=1,
    )
    return _bar_axes(frame["method"], ax, furthest.max())


def _bar_axes(methods: Sequence[str], ax: Axes, highest: float) -> Axes:
    ax.set_yticks(range(len(methods)), [method_name(method) for method in methods])
    ax.set(ylim=(len(methods) - 0.5, -0.5), xlim=(0, 1.3 * max(highest, 1e-12)))
    ax.set_xticks([])  # every bar carries its value
    ax.spines["bottom"].set_visible(False)
    ax.grid(visible=False)
    return ax
