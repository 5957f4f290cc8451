"""How fast the contestants of the benchmark are, ours in the methods' colours and rivals in grey."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from woofkit.plots.style import OTHER, method_color, method_name, row_axis

HATCHES = ("", "//", "", "..", "")  # beside the colours, for who prints in grey


def throughput_bars(contestants: Sequence[Mapping[str, Any]], ax: Axes, title: str) -> Axes:
    """Draw images/s as one bar per contestant, with a whisker from the slowest to the fastest round.

    A contestant has title, method, ours, median, low and high, the last three in images/s.
    """
    frame = pd.DataFrame(list(contestants))
    colors = frame["method"].map(method_color).where(frame["ours"], OTHER.color)
    whiskers = [frame["median"] - frame["low"], frame["high"] - frame["median"]]
    ax.barh(frame.index, frame["median"], 0.72, color=colors, xerr=whiskers, capsize=5, error_kw={"elinewidth": 2})
    for row, one in enumerate(frame.itertuples()):
        number = f"{one.median:,.1f}" if one.median < 100 else f"{one.median:,.0f}"
        look = {"fontsize": 16, "fontweight": "bold" if one.ours else "normal", "va": "center"}
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.annotate(number, (one.high, row), xytext=(9, 0), textcoords="offset points", bbox=ground, **look)
    row_axis(ax, frame["title"], fontsize=15)
    ax.set(xlabel="images/s", xlim=(0, 1.2 * frame["high"].max()))
    ax.set_title(title, fontsize=17, loc="left")
    return ax


def throughput_figure(result: Mapping[str, Any]) -> Figure:
    """Draw both parts of a benchmark's result, one below the other: steps on a ready batch, epochs from files."""
    parts = [list(result[part].values()) for part in ("steps", "epochs")]
    counts = [len(part) for part in parts]
    size = (12, 2.6 + 0.58 * sum(counts))
    fig, axes = plt.subplots(2, 1, figsize=size, height_ratios=counts, layout="constrained")
    settings, machine = result["settings"], result["environment"]["machine"]
    rounds = settings["rounds"]
    throughput_bars(parts[0], axes[0], "Training steps on a batch in memory")
    throughput_bars(parts[1], axes[1], f"Epochs 2 to {rounds + 1} over JPEG files (ours decoded them in epoch 1)")
    methods = dict.fromkeys(one["method"] for one in parts[0] + parts[1] if one["ours"])
    entries = [Patch(color=method_color(method), label=f"{method_name(method)} (ours)") for method in methods]
    entries.append(Patch(color=OTHER.color, label="what others use"))
    fig.legend(handles=entries, loc="outside lower center", ncols=len(entries), fontsize=14, frameon=False)
    batches = f"batches of {settings['batch_size']} at {settings['image_size']} px"
    fig.suptitle(f"Training speed: {machine}\n{batches}; median and range of {rounds} rounds", fontsize=16)
    return fig


def limit_figure(result: Mapping[str, Any]) -> Figure:
    """Draw where the time of a step goes, one bar per method, and how long full's products take at the peak."""
    shares = pd.DataFrame(result["where_time_goes"]).pivot(index="method", columns="kind", values="ms_per_image")
    shares = shares.loc[list(dict.fromkeys(row["method"] for row in result["where_time_goes"]))]
    kinds = list(dict.fromkeys(row["kind"] for row in result["where_time_goes"]))
    fig, ax = plt.subplots(figsize=(12, 4.6), layout="constrained")
    start = pd.Series(0.0, shares.index)
    colors = plt.get_cmap("cividis")(np.linspace(0.05, 0.95, len(kinds)))
    for kind, color, hatch in zip(kinds, colors, HATCHES, strict=True):
        ax.barh(range(len(shares)), shares[kind], 0.62, start, color=color, hatch=hatch, edgecolor="white", label=kind)
        start += shares[kind]
    settings = result["settings"]
    limit = 1e3 * result["flops_per_image"] / (1e9 * result["peak_gflops"][settings["precision"]]["median"])
    ax.axvline(limit, color="black", linestyle="--")
    ax.annotate(
        "full's products\nat the peak", (limit, -0.62), ha="center", va="bottom", fontsize=14, annotation_clip=False
    )
    row_axis(ax, pd.Series([method_name(method) for method in shares.index]), fontsize=16)
    ax.set(xlabel="milliseconds per image")
    ax.legend(fontsize=14, ncols=len(kinds), loc="lower center", bbox_to_anchor=(0.5, -0.48))
    fig.suptitle(f"Where a training step spends its time: {result['environment']['machine']}", fontsize=17)
    return fig
