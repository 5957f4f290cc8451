"""Whether a map can be trusted, and how attention differs by layer and head."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from woofkit.plots.attention import attention_overlay
from woofkit.plots.style import MAP_LOOKS, MAP_NAMES, OTHER_COLOR, method_color, method_name


def all_heads(image: np.ndarray, maps: np.ndarray) -> Figure:
    """Show the map of every layer and head, (layers, heads, grid height, grid width), over one image.

    Two bands of half the layers each, a column a layer, a row a head. Each map has its own scale, as the shares of
    early and late layers differ tenfold: compare where they lie, not how bright they are.
    """
    layers, heads = maps.shape[:2]
    half = -(-layers // 2)
    fig = plt.figure(figsize=(2.2 * half, 4.8 * heads))
    for number, band in enumerate(fig.subfigures(2, 1, hspace=0.03)):
        axes = band.subplots(heads, half, squeeze=False)
        for (head, column), ax in np.ndenumerate(axes):
            ax.axis("off")
            layer = number * half + column
            if layer == layers:  # an odd number of layers
                continue
            attention_overlay(image, maps[layer, head], ax)
            if head == 0:
                ax.set_title(f"Block {layer + 1}", fontsize=15, fontweight="bold")
            if column == 0:
                ax.text(-0.06, 0.5, f"Head {head + 1}", transform=ax.transAxes, ha="right", va="center", rotation=90)
    return fig


def by_layer_and_head(values: Mapping[str, np.ndarray], label: str) -> Figure:
    """Show a number for each layer and head (layers, heads), a panel a model, all on one scale."""
    vmax = max(float(np.max(array)) for array in values.values())
    fig, axes = plt.subplots(len(values), 1, figsize=(12, 2.6 * len(values)), squeeze=False)
    for ax, (model, array) in zip(axes[:, 0], values.items(), strict=True):
        image = ax.imshow(np.asarray(array).T, cmap="cividis_r", vmin=0, vmax=vmax, aspect="auto")
        for (layer, head), value in np.ndenumerate(array):
            color = "white" if value > 0.55 * vmax else "black"
            ax.text(layer, head, f"{value:.2f}", ha="center", va="center", color=color)
        ax.set_xticks(range(len(array)), range(1, len(array) + 1))
        ax.set_yticks(range(array.shape[1]), range(1, array.shape[1] + 1))
        ax.set(ylabel="head")
        ax.set_title(method_name(model), fontweight="bold", color=method_color(model))
        ax.grid(visible=False)
    axes[-1, 0].set_xlabel("block")
    fig.colorbar(image, ax=axes).set_label(label)
    return fig


def layer_lines(values: Mapping[str, np.ndarray], label: str, ax: Axes) -> Axes:
    """Draw a number by block for each model, (layers, heads): a line through the heads' mean, a dot a head."""
    for (model, array), marker in zip(values.items(), "osD^vP*X", strict=False):
        blocks = np.arange(1, len(array) + 1)
        ax.plot(blocks, array.mean(axis=1), color=method_color(model), marker=marker, label=method_name(model))
        ax.scatter(np.repeat(blocks, array.shape[1]), array.ravel(), color=method_color(model), s=18, alpha=0.5)
    ax.set(xlabel="block", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def faithfulness_curves(shares: np.ndarray, curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw deletion and insertion, a panel each, a line a kind of map.

    `curves` is "deletion" or "insertion" -> kind -> probabilities (dogs, len(shares)); lines are means over the dogs.
    """
    words = {"deletion": "share of patches taken away", "insertion": "share of patches given back"}
    fig, axes = plt.subplots(1, len(curves), figsize=(6.5 * len(curves), 5.5), sharey=True, squeeze=False)
    for ax, (name, kinds) in zip(axes[0], curves.items(), strict=True):
        for kind, probabilities in kinds.items():
            color, style, marker = MAP_LOOKS[kind]
            ax.plot(shares, probabilities.mean(axis=0), style, color=color, marker=marker, label=MAP_NAMES[kind])
        better = "lower is better" if name == "deletion" else "higher is better"
        ax.set(xlabel=words[name], title=f"{name.capitalize()}: {better}", ylim=(0, None))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes[0, 0].set_ylabel("probability of the predicted breed")
    axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes[0, -1].legend(title="patches in the order of", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return fig


def sanity_lines(likeness: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how like the trained model's map each kind stays; `likeness` has a row a stage and a column a kind."""
    for kind in likeness:
        color, style, marker = MAP_LOOKS[kind]
        ax.plot(range(len(likeness)), likeness[kind], style, color=color, marker=marker, label=MAP_NAMES[kind])
    ax.axhline(0, color=OTHER_COLOR, linewidth=1.5)
    ax.set_xticks(range(len(likeness)), likeness.index, rotation=45, ha="right")
    ax.set(
        xlabel="shuffled, from the head down to",
        ylabel="likeness to the map\nof the trained model",
        ylim=(min(-0.3, likeness.to_numpy().min() - 0.05), 1.05),
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
