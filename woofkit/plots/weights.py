"""What is in the weights: small matrices by value, updates by layer, singular values."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from woofkit.plots.style import LAYER_COLORS, OTHER_COLOR


def matrix_values(matrix: np.ndarray, title: str, ax: Axes, room: tuple[int, int]) -> Axes:
    """Show a small matrix (rows, columns) with every value written in its cell; red above zero, blue below.

    `room` is the shape of the largest matrix shown beside it: cells are then equally large in all.
    """
    matrix = np.asarray(matrix) + 0.0  # -0.0 becomes 0.0
    limit = max(np.abs(matrix).max(), 1e-12)
    ax.imshow(matrix, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit)
    for (row, column), value in np.ndenumerate(matrix):
        ax.text(column, row, f"{value:g}", ha="center", va="center", fontsize=15)
    middle_row, middle_column = (matrix.shape[0] - 1) / 2, (matrix.shape[1] - 1) / 2
    ax.set_xlim(middle_column - room[1] / 2, middle_column + room[1] / 2)
    ax.set_ylim(middle_row + room[0] / 2, middle_row - room[0] / 2)
    ax.set(title=title)
    ax.axis("off")
    return ax


def layer_heatmap(frame: pd.DataFrame, quantity: str, ax: Axes) -> Axes:
    """Show a share for every layer (rows) and block (columns) of `frame`, darker where it is larger."""
    image = ax.imshow(frame, cmap="cividis_r", vmin=0, aspect="auto")
    middle = 0.55 * np.nanmax(frame.to_numpy())
    for (row, column), value in np.ndenumerate(frame.to_numpy()):
        ax.text(
            column,
            row,
            f"{100 * value:.1f}",
            ha="center",
            va="center",
            fontsize=12,
            color="white" if value > middle else "black",
        )
    ax.set_xticks(range(frame.shape[1]), [column + 1 for column in frame.columns])
    ax.set_yticks(range(len(frame)), frame.index)
    ax.set(xlabel="block")
    ax.grid(visible=False)
    bar = ax.figure.colorbar(image, ax=ax, format=PercentFormatter(1.0, symbol=" %"))
    bar.set_label(quantity, fontsize=12)
    return ax


def singular_values(values: Mapping[str, np.ndarray], ax: Axes) -> Axes:
    """Draw the singular values of several matrices, each relative to its largest; `values` is name -> (rank,)."""
    markers = "osD^vP*X" * len(values)
    for (name, spectrum), marker in zip(values.items(), markers, strict=False):
        direction = np.arange(1, len(spectrum) + 1)
        ax.plot(direction, spectrum / max(spectrum[0], 1e-12), marker=marker, label=name)
    ax.set(xlabel="direction", ylabel="singular value,\nrelative to the largest", ylim=(0, 1.05))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(title="block and layer", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def captured_curves(shares: pd.DataFrame, ax: Axes, mark: int) -> Axes:
    """Draw how much of an update a rank holds, a line a layer: the median block, shaded to the extremes.

    `shares` has the columns layer, block, rank and share (0 to 1); `mark` is the rank with a dashed line.
    """
    for (layer, rows), style in zip(shares.groupby("layer"), ("-", "--", "-.", ":") * len(shares), strict=False):
        by_rank = rows.groupby("rank")["share"]
        color = LAYER_COLORS.get(layer, OTHER_COLOR)
        ax.plot(by_rank.median(), style, color=color, label=layer)
        ax.fill_between(by_rank.median().index, by_rank.min(), by_rank.max(), color=color, alpha=0.12)
    ax.axvline(mark, color="0.25", linestyle=":", linewidth=1.5)
    ax.annotate(f" rank {mark}", (mark, 0.03), color="0.25")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set(xlabel="rank", ylabel="held of the update", ylim=(0, 1.02))
    ax.legend(title="layer", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def overlap_bars(frame: pd.DataFrame, chance: float, ax: Axes) -> Axes:
    """Draw the overlap of two updates a block as bars, a colour a layer, with a dashed line at chance.

    `frame` has a row a block and a column a layer, values 0 to 1.
    """
    width = 0.8 / len(frame.columns)
    for number, layer in enumerate(frame.columns):
        place = np.arange(len(frame)) + (number + 0.5) * width - 0.4
        ax.bar(place, frame[layer], 0.92 * width, color=LAYER_COLORS.get(layer, OTHER_COLOR), label=layer)
    ax.axhline(chance, color="0.25", linestyle="--", linewidth=1.5, label="chance")
    ax.set_xticks(range(len(frame)), [block + 1 for block in frame.index])
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.set(xlabel="block", ylabel="shared directions", ylim=(0, None))
    ax.grid(visible=False, axis="x")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
