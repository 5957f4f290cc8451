"""Where a model looks: heat maps of patches over images, how they differ by layer and head, and what they are worth."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from woofkit.plots import style

# --- maps over images ---


def attention_overlay(
    image: np.ndarray, heatmap: np.ndarray, ax: Axes, vmax: float | None = None, signed: bool = False
) -> Axes:
    """Lay a map of patches (gh, gw) over an image (H, W, 3), each patch as a square of one colour.

    The image is shown in grey and the map more opaque where it is stronger, so that the dog stays visible.
    The scale runs from 0 to `vmax` (default: the map's largest value); with `signed`, from -vmax (blue) to
    vmax (red).
    """
    image, heatmap = np.asarray(image), np.asarray(heatmap, dtype=float)
    if heatmap.ndim != 2:
        raise ValueError(f"a heat map has two axes (height, width), got shape {heatmap.shape}")
    vmax = max(float(np.abs(heatmap).max() if vmax is None else vmax), 1e-12)
    height, width = image.shape[:2]
    grey = image.mean(axis=2) if image.ndim == 3 else image
    ground = {"vmin": -400, "vmax": 255} if signed else {"vmin": 0, "vmax": 420}  # the scale's zero: white or black
    ax.imshow(grey * (255 if grey.max() <= 1 else 1), cmap="gray", **ground)
    colors = {"cmap": "RdBu_r", "vmin": -vmax} if signed else {"cmap": "inferno", "vmin": 0}
    strength = 0.85 * np.clip(np.abs(heatmap) / vmax, 0, 1) ** 0.5
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.imshow(heatmap, vmax=vmax, extent=extent, alpha=strength, interpolation="nearest", **colors)
    ax.axis("off")
    return ax


def attention_comparison(
    images: Sequence[np.ndarray],
    maps: Mapping[str, np.ndarray],
    titles: Sequence[str],
    captions: Mapping[str, Sequence[str]] | None = None,
    label: str = "attention",
    against: str = "",
) -> Figure:
    """Show rows of dogs: the image, each model's map (N, gh, gw) on one scale, and what is different in some.

    `maps` is model -> maps and gives the columns their order and names; `titles` are the dogs' breeds;
    `captions[model][dog]` stands under a map, say a prediction. Every model but `against` gets one more column: its
    map minus that of `against`, red for more and blue for less, on one scale too. Each scale has a colour bar and
    ends at the 98th percentile of its maps, so that one stray patch does not darken the rest; `label` names it.
    """
    for model, stack in maps.items():
        if len(stack) != len(images):
            raise ValueError(f"{len(images)} images, but {len(stack)} maps of {model!r}")
    if not maps or len(titles) != len(images):
        raise ValueError(f"{len(images)} images need as many titles and a model's maps, got {len(titles)} titles")
    if against and against not in maps:
        raise ValueError(f"no maps of {against!r} to compare with: there are {', '.join(maps)}")
    others = [model for model in maps if against and model != against]
    differences = {model: np.asarray(maps[model]) - np.asarray(maps[against]) for model in others}
    nrows, ncols = len(images), 1 + len(maps) + len(differences)
    size = (2.75 * ncols + 0.8, (3.7 if captions else 3.2) * nrows)
    fig, axes = plt.subplots(nrows, ncols, figsize=size, squeeze=False)
    for ax, image, title in zip(axes[:, 0], images, titles, strict=True):
        ax.imshow(np.asarray(image))
        ax.set_title(title, fontsize=14, fontweight="bold")
        ax.axis("off")
    _map_columns(axes[:, 1 : 1 + len(maps)], images, maps, label)
    for model, column in zip(maps, axes[:, 1:].T, strict=False):
        for ax, text in zip(column, (captions or {}).get(model, ()), strict=False):
            ax.text(0.5, -0.02, text, transform=ax.transAxes, ha="center", va="top")
    if differences:
        words = "less (blue) or more (red), in even shares"
        _map_columns(axes[:, 1 + len(maps) :], images, differences, words, against)
    return fig


def _map_columns(
    axes: np.ndarray, images: Sequence[np.ndarray], columns: Mapping[str, np.ndarray], label: str, against: str = ""
) -> None:
    """Fill axes (dogs, models) with maps on one scale, or with differences from `against`, and add a colour bar."""
    vmax = float(np.percentile(np.abs(np.concatenate([np.ravel(stack) for stack in columns.values()])), 98))
    for line, (model, stack) in zip(axes.T, columns.items(), strict=True):
        for ax, image, heatmap in zip(line, images, stack, strict=True):
            attention_overlay(image, heatmap, ax, vmax, signed=bool(against))
        style.model_title(line[0], model, against)
    place = {"shrink": min(1.0, 2 / len(axes)), "aspect": 25, "pad": 0.01, "extend": "both" if against else "max"}
    ax.figure.colorbar(ax.images[-1], ax=axes, **place).set_label(label)


def explorer_grid(
    picture: np.ndarray, maps: Mapping[str, Mapping[str, np.ndarray]], says: Mapping[str, str], title: str
) -> Figure:
    """Show one picture to several models: a row for each, with the picture and what it says, a column per kind of map.

    `maps` is kind -> model -> (gh, gw), in multiples of the even share; `says` is model -> words under the picture.
    Each kind has one scale and one colour bar, up to the 98th percentile of its maps.
    """
    fig = plt.figure(figsize=(3.3 * (1 + len(maps)), 3.9 * len(says) + 1), layout="constrained")
    axes = fig.subplots(len(says) + 1, 1 + len(maps), squeeze=False, height_ratios=[1] * len(says) + [0.05])
    axes[-1, 0].axis("off")
    for ax, (model, words) in zip(axes[:, 0], says.items(), strict=False):
        ax.imshow(picture)
        style.model_title(ax, model)
        ax.set(xlabel=words, xticks=[], yticks=[])
    for (*column, place), (kind, by_model) in zip(axes[:, 1:].T, maps.items(), strict=True):
        vmax = float(np.percentile([by_model[model] for model in says], 98))
        for ax, model in zip(column, says, strict=True):
            attention_overlay(picture, by_model[model], ax, vmax)
        column[0].set_title(style.MAP_NAMES[kind], fontsize=14, fontweight="bold")
        bar = fig.colorbar(ax.images[-1], cax=place, orientation="horizontal", extend="max")
        bar.set_label("1 = even share")
    fig.suptitle(title, fontweight="bold")
    return fig


def all_heads(image: np.ndarray, maps: np.ndarray) -> Figure:
    """Show the map of every layer and head, (layers, heads, grid height, grid width), over one image.

    Two bands of half the layers each, a column for each layer and a row for each head. Each map has its own scale, as
    the shares of early and late layers differ tenfold: compare where they lie, not how bright they are.
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


# --- maps without images, and numbers from them ---


def map_rows(rows: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Show maps (height, width) without an image: a row and a scale for each quantity, a column for each model."""
    models = list(next(iter(rows.values())))
    size = (3.1 * len(models) + 1.2, 3.2 * len(rows))
    fig, axes = plt.subplots(len(rows), len(models), figsize=size, squeeze=False)
    for (quantity, maps), line in zip(rows.items(), axes, strict=True):
        vmax = max(np.max(maps[model]) for model in models)
        for ax, model in zip(line, models, strict=True):
            image = ax.imshow(maps[model], cmap="inferno", vmin=0, vmax=vmax)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(quantity)
        fig.colorbar(image, ax=line, shrink=0.9)
    for ax, model in zip(axes[0], models, strict=True):
        style.model_title(ax, model)
    return fig


def by_layer_and_head(values: Mapping[str, np.ndarray], label: str) -> Figure:
    """Show a number for each layer and head (layers, heads), a panel for each model, all on one scale."""
    vmax = max(float(np.max(array)) for array in values.values())
    fig, axes = plt.subplots(len(values), 1, figsize=(12, 2.6 * len(values)), squeeze=False)
    for ax, (model, array) in zip(axes[:, 0], values.items(), strict=True):
        blocks, heads = (np.arange(1, count + 1) for count in array.shape)
        frame, look = pd.DataFrame(array.T, heads, blocks), {"cmap": "cividis_r", "aspect": "auto"}
        image = style.cells(ax, frame, frame.map("{:.2f}".format), vmin=0, vmax=vmax, **look)
        ax.set_ylabel("head")
        style.model_title(ax, model)
    ax.set_xlabel("block")
    fig.colorbar(image, ax=axes).set_label(label)
    return fig


def layer_lines(values: Mapping[str, np.ndarray], label: str, ax: Axes) -> Axes:
    """Draw a number by block for each model, (layers, heads): a line through the heads' mean, a dot for each head."""
    for model, array in values.items():
        blocks, look = np.arange(1, len(array) + 1), style.method_style(model)
        ax.plot(blocks, array.mean(axis=1), **look)
        ax.scatter(np.repeat(blocks, array.shape[1]), array.ravel(), color=look["color"], s=18, alpha=0.5)
    ax.set(xlabel="block", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def interval_dots(frame: pd.DataFrame, by: str, value: str, ax: Axes, reference: float | None = None) -> Axes:
    """Draw one mark with its interval per model and group; `frame` has model, `by`, `value`, low and high.

    Groups stand one below the other in the frame's order; `reference` is drawn as a dashed line.
    """
    groups, models = list(frame[by].unique()), sorted(frame["model"].unique(), key=style.method_order)
    offsets = 0.75 * (np.arange(len(models)) - (len(models) - 1) / 2) / len(models)
    for model, offset in zip(models, offsets, strict=True):
        rows, look = frame[frame["model"] == model], style.method_style(model)
        places = np.array([groups.index(group) for group in rows[by]]) + offset
        ax.hlines(places, rows["low"], rows["high"], color=look["color"], linewidth=4, alpha=0.45)
        ax.scatter(rows[value], places, s=80, edgecolors="white", zorder=3, **look)
    if reference is not None:
        ax.axvline(reference, **style.DASHED)
    style.row_axis(ax, groups, borders=True)
    style.legend_beside(ax)
    return ax


# --- what maps are worth ---


def faithfulness_curves(shares: np.ndarray, curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw deletion and insertion, a panel for each, one line per kind of map.

    `curves` is "deletion" or "insertion" -> kind -> probabilities (dogs, len(shares)); lines are means over the dogs.
    """
    words = {"deletion": ("taken away", "lower"), "insertion": ("given back", "higher")}
    fig, axes = plt.subplots(1, len(curves), figsize=(6.5 * len(curves), 5.5), sharey=True, squeeze=False)
    for ax, (name, kinds) in zip(axes[0], curves.items(), strict=True):
        for kind, probabilities in kinds.items():
            ax.plot(shares, probabilities.mean(axis=0), **style.map_style(kind))
        done, better = words[name]
        title = f"{name.capitalize()}: {better} is better"
        ax.set(xlabel=f"share of patches {done}", title=title, ylim=(0, None))
        style.percent_axis(ax.xaxis, ax.yaxis)
    axes[0, 0].set_ylabel("probability of the predicted class")
    style.legend_beside(ax, title="patches in the order of")
    return fig


def sanity_lines(likeness: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how like the trained model's map each kind stays; `likeness` has one row per stage, one column per kind."""
    for kind in likeness:
        ax.plot(range(len(likeness)), likeness[kind], **style.map_style(kind))
    ax.axhline(0, color="0.6", linewidth=1.5)
    ax.set_xticks(range(len(likeness)), likeness.index, rotation=45, ha="right")
    ax.set(xlabel="shuffled, from the head down to", ylabel="likeness to the map\nof the trained model")
    ax.set_ylim(min(-0.3, likeness.to_numpy().min() - 0.05), 1.05)
    style.legend_beside(ax)
    return ax
