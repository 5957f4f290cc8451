"""What the evidence says: calibration, runs by seed, what is kept and what is gained, verdicts."""

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED
from woofkit.plots.style import METHOD_COLORS, OTHER_COLOR, method_color, method_name
from woofkit.stats.intervals import proportion_interval

METHOD_MARKERS = dict(zip(METHOD_COLORS, "XpDosv<^hd", strict=True))
# How a verdict looks: colour and marker; its word stands beside it.
VERDICT_LOOKS = {SUPPORTED: ("#009E73", "o"), CONTRADICTED: ("#D55E00", "X"), UNDECIDED: ("#56B4E9", "D")}
PERCENT = PercentFormatter(1.0, decimals=0, symbol=" %")
PERCENT_OR_TENTHS = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")  # as many decimals as the ticks need


def method_marker(method: str) -> str:
    """Return the method's marker; a star for one that has none of its own."""
    return METHOD_MARKERS.get(method, "*")


def reliability_diagram(bins: Mapping[str, pd.DataFrame], ax: Axes) -> Axes:
    """Draw accuracy against confidence, a line a method; the strip above counts the images of each bin.

    `bins` is method -> frame of `calibration.reliability`, all with the same bins. A dot stands at a bin's mean
    confidence, with Wilson's interval; on the dashed line a model is as often right as it says.

    Raises ValueError if there is no method, or the methods' bins differ.
    """
    tables = list(bins.values())
    if not tables or any(list(table["high"]) != list(tables[0]["high"]) for table in tables):
        raise ValueError(f"every method needs the same bins, got {[len(table) for table in tables]} of them")
    ax.plot([0, 1], [0, 1], "--", color="0.4", linewidth=1.8, label="calibrated")
    strip = ax.inset_axes((0, 1.03, 1, 0.085 * len(bins)))
    for row, (method, table) in enumerate(bins.items()):
        color, filled = method_color(method), table[table["count"] > 0]
        ends = [proportion_interval(*pair)[1:3] for pair in zip(filled["accuracy"], filled["count"], strict=True)]
        ax.vlines(filled["confidence"], *np.transpose(ends), color=color, linewidth=4, alpha=0.4)
        ax.plot(
            filled["confidence"],
            filled["accuracy"],
            marker=method_marker(method),
            color=color,
            markeredgecolor="white",
            markersize=10,
            label=method_name(method),
        )
        for low, high, count in zip(filled["low"], filled["high"], filled["count"], strict=True):
            strip.text((low + high) / 2, row, f"{count:,.0f}", ha="center", va="center", color=color, fontsize=12)
    edges = np.array([*tables[0]["low"], tables[0]["high"].iloc[-1]])
    strip.vlines(edges, -0.5, len(bins) - 0.5, color="0.85", linewidth=1)
    strip.set(xlim=(0, 1), ylim=(len(bins) - 0.5, -0.5), xticks=[])
    strip.set_yticks(range(len(bins)), [f"images, {method_name(method)}" for method in bins], fontsize=12)
    strip.tick_params(length=0)
    strip.grid(visible=False)
    strip.spines[:].set_visible(False)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    ax.xaxis.set_major_formatter(PERCENT)
    ax.yaxis.set_major_formatter(PERCENT)
    ax.legend(loc="lower right")
    return ax


def seed_dots(frame: pd.DataFrame, ax: Axes, value: str = "accuracy", reference: float | None = None) -> Axes:
    """Draw a dot a seed and the mean with its interval, a row a method and setting.

    `frame` has a row a run: method, `value` (0 to 1) and, where there are settings, `label`, the row's name. Columns
    low and high, the same for all runs of a row, are the interval of its mean (`uncertainty.seed_and_image_variance`).
    `reference` is drawn as a dashed line.
    """
    check_fractions(frame, value)
    named = frame.assign(label=frame["label"] if "label" in frame else frame["method"].map(method_name))
    rows = list(named.groupby(["method", "label"], sort=False))
    for row, ((method, _), runs) in enumerate(rows):
        color, mean = method_color(method), runs[value].mean()
        if "low" in runs:
            ax.hlines(row, runs["low"].iloc[0], runs["high"].iloc[0], color=color, linewidth=7, alpha=0.35)
        ax.plot([mean, mean], [row - 0.22, row + 0.22], color=color, linewidth=3.5)
        ax.scatter(
            runs[value],
            np.full(len(runs), row),
            s=75,
            marker=method_marker(method),
            color=color,
            edgecolors="white",
            zorder=3,
        )
        ax.annotate(f"{100 * mean:.1f} %", (mean, row - 0.22), xytext=(0, 3), textcoords="offset points", ha="center")
    if reference is not None:
        ax.axvline(reference, color="0.3", linestyle="--", linewidth=1.8, zorder=0)
    ax.set_yticks(range(len(rows)), [label for (_, label), _ in rows])
    ax.set(xlabel=f"{value} (a mark a seed; bar: the mean)", ylim=(len(rows) - 0.5, -0.7))
    ax.xaxis.set_major_formatter(PERCENT_OR_TENTHS)
    ax.grid(visible=False, axis="y")
    return ax


def target_versus_source(
    frame: pd.DataFrame, ax: Axes, backbone: float | None = None, target: str = "target", source: str = "source"
) -> Axes:
    """Draw a mark a run: accuracy on the new task (`target`, to the right) against accuracy kept on the old (`source`).

    `frame` has method, `target` and `source` (0 to 1) and, if wanted, `label`, written beside the mark. `backbone`, the
    untouched backbone's accuracy on the old task, is a dashed line: what lies below it was forgotten.
    """
    check_fractions(frame, target)
    check_fractions(frame, source)
    for method, runs in frame.groupby("method", sort=False):
        ax.scatter(
            runs[target],
            runs[source],
            s=110,
            marker=method_marker(method),
            color=method_color(method),
            edgecolors="white",
            label=method_name(method),
            zorder=3,
        )
        for text, place in zip(runs.get("label", ()), runs[[target, source]].to_numpy(), strict=False):
            ax.annotate(str(text), place, xytext=(8, 5), textcoords="offset points", fontsize=12)
    if backbone is not None:
        ax.axhline(backbone, color="0.4", linestyle="--", linewidth=1.8, zorder=0, label="untouched backbone")
    ax.set(xlabel="accuracy on the new task", ylabel="accuracy kept on the old task")
    ax.xaxis.set_major_formatter(PERCENT_OR_TENTHS)
    ax.yaxis.set_major_formatter(PERCENT_OR_TENTHS)
    ax.margins(0.12)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def verdict_table(verdicts: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the claims as a forest plot: a row a claim with its effect, its interval, and the verdict in word and mark.

    `verdicts` has claim, statement, verdict, value, low and high; if wanted limit (default 0), above (default True:
    the claim holds above the limit), margin (default 0) and unit (written after the numbers; fractions with the unit
    "points" or "%" are shown times 100). Effects have different units, so every row has a scale of its own and the axis
    no numbers: the dashed line is the limit, right of it the claim holds, and the grey zone is the margin that is too
    small to be worth the name. An effect of nan has no mark.

    Raises ValueError if an interval does not hold its value.
    """
    defaults = {"limit": 0.0, "above": True, "margin": 0.0, "unit": ""}
    rows = verdicts.assign(**{name: default for name, default in defaults.items() if name not in verdicts})
    for place, row in enumerate(rows.itertuples()):
        color, marker = VERDICT_LOOKS.get(row.verdict, (OTHER_COLOR, "s"))
        ax.text(1.08, place, row.verdict, fontweight="bold", va="bottom")
        if np.isnan(row.value):
            continue
        if not row.low <= row.value <= row.high:
            raise ValueError(f"{row.claim}: the interval {row.low} to {row.high} does not hold {row.value}")
        ends = (np.array([row.low, row.value, row.high]) - row.limit) * (1 if row.above else -1)
        scale = max(np.abs(ends).max(), row.margin) or 1.0
        low, value, high = sorted(ends / scale)
        ax.fill_betweenx([place - 0.35, place + 0.35], 0, row.margin / scale, color="0.88", linewidth=0, zorder=0)
        ax.hlines(place, low, high, color=color, linewidth=5, alpha=0.5)
        ax.scatter(value, place, s=150, marker=marker, color=color, edgecolors="white", zorder=3)
        ax.text(1.08, place, _effect(row), va="top", fontsize=12)
    ax.axvline(0, color="0.3", linestyle="--", linewidth=1.8, zorder=1)
    names = [fill(f"{row.claim}: {row.statement}", 46) for row in rows.itertuples()]
    ax.set_yticks(range(len(rows)), names)
    ax.set(xlim=(-1.05, 1.05), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    ax.set_xlabel("← against the claim    |    for the claim →")
    ax.grid(visible=False)
    for border in np.arange(len(rows) - 1) + 0.5:
        ax.axhline(border, color="0.9", linewidth=1)
    return ax


def _effect(row) -> str:
    factor = 100 if row.unit in ("points", "%") else 1
    numbers = [f"{factor * number:.3g}".replace("-", "−") for number in (row.value, row.low, row.high)]
    interval = f" ({numbers[1]} to {numbers[2]})" if row.low < row.high else ""  # what is counted has none
    return f"{numbers[0]}{interval} {row.unit}".rstrip()


def check_fractions(frame: pd.DataFrame, name: str) -> None:
    """Raise ValueError unless the column `name` holds fractions from 0 to 1 and nothing else."""
    if not frame[name].between(0, 1).all():
        raise ValueError(f"{name} must be fractions from 0 to 1, not per cent, and none may be missing")
