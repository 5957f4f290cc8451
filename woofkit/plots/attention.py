"""Where a model looks: heat maps of patches over images, on one scale."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from woofkit.plots.style import METHOD_COLORS, method_color, method_name


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
    norm, cmap = _scale(np.abs(heatmap).max() if vmax is None else vmax, signed)
    height, width = image.shape[:2]
    grey = image.mean(axis=2) if image.ndim == 3 else image
    ground = {"vmin": -400, "vmax": 255} if signed else {"vmin": 0, "vmax": 420}  # the scale's zero: white or black
    ax.imshow(grey * (255 if grey.max() <= 1 else 1), cmap="gray", **ground)
    strength = np.abs(heatmap) / norm.vmax
    ax.imshow(
        heatmap,
        cmap=cmap,
        norm=norm,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        alpha=0.85 * np.clip(strength, 0, 1) ** 0.5,
        interpolation="nearest",
    )
    ax.axis("off")
    return ax


def _scale(vmax: float, signed: bool) -> tuple[Normalize, str]:
    vmax = max(float(vmax), 1e-12)
    return (Normalize(-vmax, vmax), "RdBu_r") if signed else (Normalize(0, vmax), "inferno")


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
    height = 3.7 if captions else 3.2
    fig, axes = plt.subplots(nrows, ncols, figsize=(2.75 * ncols + 0.8, height * nrows), squeeze=False)
    for ax, image, title in zip(axes[:, 0], images, titles, strict=True):
        ax.imshow(np.asarray(image))
        ax.set_title(title, fontsize=14, fontweight="bold")
        ax.axis("off")
    _map_columns(axes[:, 1 : 1 + len(maps)], images, maps, label)
    for model, column in zip(maps, axes[:, 1:].T, strict=False):
        _column_title(column[0], model, method_name(model))
        for ax, text in zip(column, (captions or {}).get(model, ()), strict=False):
            ax.text(0.5, -0.02, text, transform=ax.transAxes, ha="center", va="top")
    if differences:
        columns = axes[:, 1 + len(maps) :]
        _map_columns(columns, images, differences, "less (blue) or more (red), in even shares", signed=True)
        for ax, model in zip(columns[0], differences, strict=True):
            _column_title(ax, model, f"{method_name(model)}\nminus {method_name(against).lower()}")
    return fig


def _map_columns(axes: np.ndarray, images, columns: Mapping[str, np.ndarray], label: str, signed: bool = False) -> None:
    """Fill axes (dogs, models) with maps on one scale, and put its colour bar beside them."""
    vmax = float(np.percentile(np.abs(np.concatenate([np.ravel(stack) for stack in columns.values()])), 98))
    for line, stack in zip(axes.T, columns.values(), strict=True):
        for ax, image, heatmap in zip(line, images, stack, strict=True):
            attention_overlay(image, heatmap, ax, vmax, signed)
    norm, cmap = _scale(vmax, signed)
    bar = axes[0, 0].figure.colorbar(
        ScalarMappable(norm, cmap),
        ax=axes,
        shrink=min(1.0, 2 / len(axes)),
        aspect=25,
        pad=0.01,
        extend="both" if signed else "max",
    )
    bar.set_label(label)


def map_rows(rows: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Show maps (height, width) without an image: a row a quantity, a column a model, a scale for each row."""
    models = list(next(iter(rows.values())))
    size = (3.1 * len(models) + 1.2, 3.2 * len(rows))
    fig, axes = plt.subplots(len(rows), len(models), figsize=size, squeeze=False)
    for (quantity, maps), line in zip(rows.items(), axes, strict=True):
        vmax = max(float(np.max(np.asarray(maps[model]))) for model in models)
        for ax, model in zip(line, models, strict=True):
            image = ax.imshow(np.asarray(maps[model]), cmap="inferno", vmin=0, vmax=vmax)
            ax.set(xticks=[], yticks=[])
            if quantity == next(iter(rows)):
                _column_title(ax, model, method_name(model))
        line[0].set_ylabel(quantity)
        fig.colorbar(image, ax=line, shrink=0.9)
    return fig


def _column_title(ax: Axes, model: str, title: str) -> None:
    ax.set_title(title, fontsize=14, fontweight="bold", color=METHOD_COLORS.get(model, "black"))


def _place(model: str) -> int:
    order = list(METHOD_COLORS)
    return order.index(model) if model in order else len(order)


def interval_dots(frame: pd.DataFrame, by: str, value: str, ax: Axes, reference: float | None = None) -> Axes:
    """Draw a dot with its interval a model and group; `frame` has model, `by`, `value`, low and high.

    Groups stand one below the other in the frame's order; `reference` is drawn as a dashed line.
    """
    groups, models = list(frame[by].unique()), sorted(frame["model"].unique(), key=_place)
    step = 0.75 / len(models)
    for number, model in enumerate(models):
        rows = frame[frame["model"] == model]
        offset = (number - (len(models) - 1) / 2) * step
        places = np.array([groups.index(group) for group in rows[by]]) + offset
        color = method_color(model)
        ax.hlines(places, rows["low"], rows["high"], color=color, linewidth=4, alpha=0.45)
        ax.scatter(
            rows[value],
            places,
            s=80,
            marker="osD^vP*X"[number % 8],
            color=color,
            edgecolors="white",
            label=method_name(model),
            zorder=3,
        )
    if reference is not None:
        ax.axvline(reference, color="0.3", linestyle="--", linewidth=1.5, zorder=0)
    ax.set_yticks(range(len(groups)), groups)
    ax.set(ylim=(len(groups) - 0.5, -0.5))
    ax.grid(visible=False, axis="y")
    for border in np.arange(len(groups) - 1) + 0.5:
        ax.axhline(border, color="0.9", linewidth=1)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
