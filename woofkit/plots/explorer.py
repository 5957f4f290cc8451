"""What the attention explorer shows: a page with one map, drawn fast and without pyplot; and its twin on paper."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from woofkit.plots.attention import attention_overlay
from woofkit.plots.page import encoded, figure_png, img, new_figure
from woofkit.plots.style import MAP_NAMES, method_color, method_name

PANEL, BAR = 500, 140  # pixels: the side of a map, and what its colour bar takes beside it


def strongest(heatmap: np.ndarray, percent: float) -> np.ndarray:
    """Which patches are the strongest `percent` % of a map, whatever their sign: bool like the map, rounded up."""
    kept = np.zeros(heatmap.size, dtype=bool)
    order = np.argsort(-np.abs(heatmap), axis=None, kind="stable")
    kept[order[: math.ceil(percent * heatmap.size / 100)]] = True
    return kept.reshape(heatmap.shape)


def difference_name(model: str, against: str = "") -> str:
    """Return a model's name, or that of its difference from another."""
    return method_name(model) + (f" minus {method_name(against).lower()}" if against else "")


def verdict(probabilities: Sequence[float], label: int | None, class_names: Sequence[str]) -> str:
    """What a model says of a picture, how surely, and whether that is right: "beagle, 97 % (right)"."""
    probabilities = np.asarray(probabilities)
    predicted = int(probabilities.argmax())
    judged = "" if label is None else " (right)" if predicted == label else " (wrong)"
    return f"{class_names[predicted]}, {100 * probabilities[predicted]:.0f} %{judged}"


def map_page(
    picture: np.ndarray,
    title: str,
    heatmap: np.ndarray,
    caption: str,
    says: Mapping[str, str],
    vmax: float,
    percent: float = 100,
) -> str:
    """The picture, uint8 (H, W, 3), and its map (gh, gw) over it, with words for those who cannot see them, as HTML.

    `says` is model -> its verdict. With two models, the map is the first one's minus the second one's, with a sign.
    Only the strongest `percent` % of the patches are coloured.
    """
    kept, size, signed = strongest(heatmap, percent), np.abs(heatmap), len(says) == 2
    who = difference_name(*says)
    lines = [f"{method_name(model)} says {words}." for model, words in says.items()]
    held = 100 * size[kept].sum() / max(size.sum(), 1e-12)
    lines.append(
        "All patches are shown."
        if kept.all()
        else f"{kept.sum()} of {kept.size} patches are shown, with {held:.0f} % of the "
        f"{'difference' if signed else 'map'}."
    )
    unit = "difference, in even shares" if signed else "1 = even share"
    drawn = map_png(picture, np.where(kept, heatmap, 0), vmax, unit, signed)
    alt = f"{who}: {caption}, over the picture {title}. {lines[-1]} The scale ends at {vmax:.2g} even shares."
    return f"""<div style="display: flex; gap: 14px; align-items: flex-end">
<figure style="flex: {PANEL}"><figcaption><b>{escape(title)}</b><br>picture</figcaption>
{img(encoded(Image.fromarray(picture)), f"Picture {title}")}</figure>
<figure style="flex: {PANEL + BAR}"><figcaption><b>{escape(who)}</b><br>{escape(caption)}</figcaption>
{img(drawn, alt)}</figure>
</div><p>{"<br>".join(map(escape, lines))}</p>"""


def map_png(picture: np.ndarray, heatmap: np.ndarray, vmax: float, unit: str, signed: bool = False) -> bytes:
    """Draw a map (gh, gw) over a picture, with its colour bar: a PNG of PANEL + BAR by PANEL pixels.

    Arguments as for `attention_overlay`; `unit` stands beside the bar. No figure stays open.
    """
    width = PANEL + BAR
    fig = new_figure(width, PANEL)
    fig.set_layout_engine("none")
    ax = attention_overlay(picture, heatmap, fig.add_axes((0, 0, PANEL / width, 1)), vmax, signed)
    place = fig.add_axes(((PANEL + 16) / width, 0.03, 24 / width, 0.94))
    bar = fig.colorbar(ax.images[-1], cax=place, extend="both" if signed else "max", ticks=MaxNLocator(6))
    bar.set_label(unit, fontsize=17)
    bar.ax.tick_params(labelsize=16)
    return figure_png(fig)


def explorer_grid(
    picture: np.ndarray, maps: Mapping[str, Mapping[str, np.ndarray]], says: Mapping[str, str], title: str
) -> Figure:
    """Show one picture to several models: a row a model, with the picture and what it says, and a column a kind of map.

    `maps` is kind -> model -> (gh, gw), in multiples of the even share; `says` is model -> words under the picture.
    Each kind has one scale and one colour bar, up to the 98th percentile of its maps.
    """
    fig = plt.figure(figsize=(3.3 * (1 + len(maps)), 3.9 * len(says) + 1), layout="constrained")
    axes = fig.subplots(len(says) + 1, 1 + len(maps), squeeze=False, height_ratios=[1] * len(says) + [0.05])
    axes[-1, 0].axis("off")
    for ax, (model, words) in zip(axes[:, 0], says.items(), strict=False):
        ax.imshow(picture)
        ax.set_title(method_name(model), fontsize=15, fontweight="bold", color=method_color(model))
        ax.set(xlabel=words, xticks=[], yticks=[])
    for (*column, place), (kind, by_model) in zip(axes[:, 1:].T, maps.items(), strict=True):
        vmax = float(np.percentile([by_model[model] for model in says], 98))
        for ax, model in zip(column, says, strict=True):
            attention_overlay(picture, by_model[model], ax, vmax)
        column[0].set_title(MAP_NAMES[kind], fontsize=15, fontweight="bold")
        bar = fig.colorbar(column[0].images[-1], cax=place, orientation="horizontal", extend="max")
        bar.set_label("1 = even share")
    fig.suptitle(title, fontweight="bold")
    return fig
