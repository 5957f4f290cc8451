"""How fast the contestants of `python -m tools.bench` are, ours in the methods' colours and rivals in grey."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from woofkit.plots.style import OTHER_COLOR, method_color, method_name


def throughput_bars(contestants: Sequence[Mapping[str, Any]], ax: Axes, title: str) -> Axes:
    """Draw images/s as a bar a contestant, with a whisker from the slowest to the fastest round.

    A contestant has title, method, ours, median, low and high, the last three in images/s.
    """
    rows = range(len(contestants))
    medians = [one["median"] for one in contestants]
    errors = [[one["median"] - one["low"] for one in contestants], [one["high"] - one["median"] for one in contestants]]
    colors = [method_color(one["method"]) if one["ours"] else OTHER_COLOR for one in contestants]
    ax.barh(rows, medians, 0.72, color=colors)
    ax.errorbar(medians, rows, xerr=errors, fmt="none", ecolor="black", elinewidth=2, capsize=5)
    for row, one in enumerate(contestants):
        number = f"{one['median']:,.1f}" if one["median"] < 100 else f"{one['median']:,.0f}"
        ax.annotate(
            number,
            (one["high"], row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=16,
            fontweight="bold" if one["ours"] else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    ax.set_yticks(rows, [one["title"] for one in contestants], fontsize=15)
    highest = max(one["high"] for one in contestants)
    ax.set(xlabel="images/s", ylim=(len(contestants) - 0.4, -0.6), xlim=(0, 1.2 * highest))
    ax.set_title(title, fontsize=17, loc="left")
    ax.grid(visible=False, axis="y")
    return ax


def throughput_figure(result: Mapping[str, Any]) -> Figure:
    """Draw both parts of a benchmark's result, one below the other: steps on a ready batch, epochs from files."""
    parts = [list(result[part].values()) for part in ("steps", "epochs")]
    fig, axes = plt.subplots(
        2, 1, figsize=(12, 2.6 + 0.58 * sum(map(len, parts))), height_ratios=list(map(len, parts)), layout="constrained"
    )
    settings, machine = result["settings"], result["environment"]["machine"]
    titles = (
        "Training steps on a batch in memory",
        f"Epochs 2 to {settings['rounds'] + 1} over JPEG files (ours decoded them in epoch 1)",
    )
    for contestants, ax, title in zip(parts, axes, titles, strict=True):
        throughput_bars(contestants, ax, title)
    methods = dict.fromkeys(one["method"] for one in parts[0] + parts[1] if one["ours"])
    entries = [Patch(color=method_color(method), label=f"{method_name(method)} (ours)") for method in methods]
    entries.append(Patch(color=OTHER_COLOR, label="what others use"))
    fig.legend(handles=entries, loc="outside lower center", ncols=len(entries), fontsize=14, frameon=False)
    fig.suptitle(
        f"Training speed: {machine}\nbatches of {settings['batch_size']} at {settings['image_size']} px; "
        f"median and range of {settings['rounds']} rounds",
        fontsize=16,
    )
    return fig
