"""What is in the weights: how many an adapter trains, small matrices by value, updates by layer and direction."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator

from woofkit.plots import style

LAYER_COLORS = {"attn.qkv": "#0072B2", "attn.proj": "#E69F00", "mlp.fc1": "#009E73", "mlp.fc2": "#CC79A7"}
RANK_COLORS = ("#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # the first is LoRA's
MARKERS = "osD^vP*X"


def rank_lines(
    ranks: Sequence[int],
    lines: Mapping[str, Sequence[int]],
    total: int,
    ax: Axes,
    mark: tuple[int, int],
    paper: tuple[int, int],
) -> Axes:
    """Draw trained parameters against the rank, both logarithmic, with the model's `total` as a dashed line.

    Args:
        ranks: R rising ranks.
        lines: name -> R counts; the first line has LoRA's colour.
        mark, paper: (rank, parameters) of the chosen adapter and of the paper's, each with a mark of its own.
    """
    chosen = {"marker": "*", "color": style.method_color("lora"), "markersize": 26, "markeredgecolor": "black"}
    papers = {"marker": "P", "color": "black", "markersize": 15}
    ax.axhline(total, color=style.method_color("full"), linestyle="--", label="full fine-tuning: all of the model")
    for (name, counts), color, marker in zip(lines.items(), RANK_COLORS, MARKERS, strict=False):
        ax.plot(ranks, counts, marker=marker, color=color, label=name, markersize=6)
    ax.plot(*paper, linestyle="none", label=f"the paper's {paper[1]:,}", **papers)
    ax.plot(*mark, linestyle="none", label=f"rank {mark[0]}: {mark[1]:,}", **chosen)
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="trained parameters")
    ax.set_ylim(top=3 * total)
    ax.xaxis.set_major_locator(FixedLocator(ranks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    style.legend_beside(ax)
    return ax


def rank_figure(ranks: Sequence[int], lines: Mapping[str, Sequence[int]], total: int, **marks: tuple) -> Figure:
    """Draw `rank_lines` as a figure of its own."""
    fig, ax = plt.subplots(figsize=(13, 5), layout="constrained")
    rank_lines(ranks, lines, total, ax, **marks)
    return fig


def matrix_values(matrix: np.ndarray, title: str, ax: Axes, room: tuple[int, int]) -> Axes:
    """Show a small matrix (rows, columns) with every value written in its cell; red above zero, blue below.

    `room` is the shape of the largest matrix shown beside it: cells are then equally large in all.
    """
    frame = pd.DataFrame(np.asarray(matrix) + 0.0)  # -0.0 becomes 0.0
    (rows, columns), limit = frame.shape, 1.6 * max(frame.abs().max(axis=None), 1e-12)
    style.cells(ax, frame, frame.map("{:g}".format), 15, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_xlim((columns - 1 - room[1]) / 2, (columns - 1 + room[1]) / 2)
    ax.set_ylim((rows - 1 + room[0]) / 2, (rows - 1 - room[0]) / 2)
    ax.set_title(title)
    ax.axis("off")
    return ax


def layer_heatmap(frame: pd.DataFrame, quantity: str, ax: Axes) -> Axes:
    """Show a share for every layer (rows) and block (columns) of `frame`, darker where it is larger."""
    frame = frame.rename(columns=lambda block: block + 1)
    words = (100 * frame).map("{:.1f}".format)
    image = style.cells(ax, frame, words, fontsize=12, cmap="cividis_r", vmin=0, aspect="auto")
    ax.set_xlabel("block")
    bar = ax.figure.colorbar(image, ax=ax)
    bar.set_label(quantity, fontsize=12)
    style.percent_axis(bar.ax.yaxis)
    return ax


def singular_values(values: Mapping[str, np.ndarray], ax: Axes) -> Axes:
    """Draw the singular values of several matrices, each relative to its largest; `values` is name -> (rank,)."""
    for number, (name, spectrum) in enumerate(values.items()):
        direction = np.arange(1, len(spectrum) + 1)
        marker = MARKERS[number % len(MARKERS)]
        ax.plot(direction, spectrum / max(spectrum[0], 1e-12), marker=marker, label=name)
    ax.set(xlabel="direction", ylabel="singular value,\nrelative to the largest", ylim=(0, 1.05))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend_beside(ax, title="block and layer")
    return ax


def captured_curves(shares: pd.DataFrame, ax: Axes, mark: int) -> Axes:
    """Draw how much of an update a rank holds, one line per layer: the median block, shaded to the extremes.

    `shares` has the columns layer, block, rank and share (0 to 1); `mark` is the rank with a dashed line.
    """
    for (layer, rows), line in zip(shares.groupby("layer"), ("-", "--", "-.", ":") * len(shares), strict=False):
        by_rank = rows.groupby("rank")["share"].agg(["min", "median", "max"])
        color = _layer_color(layer)
        ax.plot(by_rank["median"], line, color=color, label=layer)
        ax.fill_between(by_rank.index, by_rank["min"], by_rank["max"], color=color, alpha=0.12)
    ax.axvline(mark, **style.DASHED)
    ax.annotate(f" rank {mark}", (mark, 0.03), color="0.25")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    style.percent_axis(ax.yaxis)
    ax.set(xlabel="rank", ylabel="held of the update", ylim=(0, 1.02))
    style.legend_beside(ax, title="layer")
    return ax


def overlap_bars(frame: pd.DataFrame, chance: float, ax: Axes) -> Axes:
    """Draw the overlap of two updates as bars, one per block and layer, with a dashed line at chance.

    `frame` has one row per block and one column per layer, values 0 to 1.
    """
    colors = [_layer_color(layer) for layer in frame]
    frame.rename(index=lambda block: block + 1).plot.bar(ax=ax, width=0.8, rot=0, color=colors)
    ax.axhline(chance, label="chance", **style.DASHED | {"zorder": 2})
    style.percent_axis(ax.yaxis)
    ax.set(xlabel="block", ylabel="shared directions", ylim=(0, None))
    ax.grid(visible=False, axis="x")
    style.legend_beside(ax)
    return ax


def _layer_color(layer: str) -> str:
    return LAYER_COLORS.get(layer, style.OTHER.color)
