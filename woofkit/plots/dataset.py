"""What the data look like: samples, part masks, images per breed and split, sizes, similarities."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from woofkit.plots import style

SPLIT_COLORS = {"train": "#0072B2", "val": "#56B4E9", "test": "#E69F00"}
PART_COLORS = ("#D9D9D9", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#F0E442")
MASK_STRENGTH = 0.75  # of a part's colour over the grey image
CELL = 1.0  # inches of an image in a sheet
GAP = 0.03  # between two images of a sheet, in widths of one
NAME_SIZE = 26  # points; ten rows that fill a slide 7.5 inches high show it at 19


# --- pictures ---


def sample_grid(images: Sequence, titles: Sequence[str], ncols: int = 5) -> Figure:
    """Show images (PIL, or arrays (H, W, 3)), each under its title, `ncols` in a row."""
    style.check_titles(images, titles)
    nrows = -(-len(images) // ncols)
    fig, axes = plt.subplots(nrows, ncols, figsize=(2.6 * ncols, 2.95 * nrows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(np.asarray(image))
        ax.set_title(title, fontsize=13)
    return fig


def contact_sheet(images: np.ndarray, names: Sequence[str]) -> Figure:
    """Show `images` uint8 (rows, columns, H, W, 3) as a sheet, with a name at the left of each row."""
    images = np.asarray(images)
    if images.ndim != 5 or images.shape[-1] != 3 or 0 in images.shape:
        raise ValueError(f"a sheet is made of images (rows, columns, H, W, 3), got shape {images.shape}")
    if len(images) != len(names):
        raise ValueError(f"every row needs a name: got {len(images)} rows and {len(names)} names")
    rows, columns, height, width, _ = images.shape
    gap = max(1, round(GAP * width))
    sheet = np.full((rows, height + gap, columns, width + gap, 3), 255, np.uint8)
    sheet[:, :height, :, :width] = images.transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * (height + gap), columns * (width + gap), 3)[:-gap, :-gap]

    size = (CELL * columns + 2.6, CELL * rows * height / width + 0.2)  # room for the names
    fig, ax = plt.subplots(figsize=size, layout="compressed")
    ax.imshow(sheet)
    two_lines = ["\n".join(name.rsplit(" ", 1)) for name in names]
    ax.set_yticks(np.arange(rows) * (height + gap) + height / 2, two_lines, fontsize=NAME_SIZE)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return fig


def mask_sheet(images: np.ndarray, masks: np.ndarray, names: Sequence[str], part_names: Sequence[str]) -> Figure:
    """Show the images of a `contact_sheet` in grey under their part masks uint8 (rows, columns, H, W).

    `part_names[value]` names a mask value; the legend below the sheet has them all.
    """
    images, masks = np.asarray(images), np.asarray(masks)
    _check_parts(masks, images, part_names)
    fig = contact_sheet(tinted(images, masks), names)
    columns = len(part_names) if images.shape[1] > 6 else 3  # as many as fit below the sheet
    rows = -(-len(part_names) // columns)
    fig.set_figheight(fig.get_figheight() + 0.15 + 0.45 * rows)  # so that the dogs keep their size
    place = {"loc": "outside lower center", "ncols": columns, "fontsize": NAME_SIZE - 4, "frameon": False}
    tight = {"handlelength": 1, "handletextpad": 0.4, "columnspacing": 1, "borderaxespad": 0}
    fig.legend(handles=_part_patches(range(len(part_names)), part_names), **place, **tight)
    return fig


def mask_overlay(image: np.ndarray, mask: np.ndarray, part_names: Sequence[str], ax: Axes) -> Axes:
    """Show an image uint8 (H, W, 3) in grey under its part mask (H, W), with the names of the parts that are there."""
    image, mask = np.asarray(image), np.asarray(mask)
    _check_parts(mask, image, part_names)
    ax.imshow(tinted(image, mask))
    style.legend_beside(ax, handles=_part_patches(np.unique(mask), part_names))
    ax.axis("off")
    return ax


def tinted(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return images uint8 (..., H, W, 3) in grey, each pixel tinted in the colour of its mask value, (..., H, W)."""
    colors = 255 * np.array([to_rgb(color) for color in PART_COLORS], np.float32)
    grey = images.mean(axis=-1, keepdims=True, dtype=np.float32)  # a coat's own colour would shift the part's
    tints = colors[masks % len(colors)]  # (..., H, W, 3)
    return (MASK_STRENGTH * tints + (1 - MASK_STRENGTH) * grey).astype(np.uint8)


def _check_parts(masks: np.ndarray, images: np.ndarray, part_names: Sequence[str]) -> None:
    if masks.shape != images.shape[:-1]:
        raise ValueError(f"masks of shape {masks.shape} do not fit images of shape {images.shape}")
    if masks.size and masks.max() >= len(part_names):
        raise ValueError(f"a mask holds the value {masks.max()}, but only {len(part_names)} parts are named")


def _part_patches(parts: Sequence[int], part_names: Sequence[str]) -> list[Patch]:
    return [Patch(color=PART_COLORS[part % len(PART_COLORS)], label=part_names[part]) for part in parts]


# --- numbers ---


def class_balance(counts: Mapping[str, Mapping[str, int]], ax: Axes) -> Axes:
    """Draw the images of each breed as one bar per split; `counts` is split -> breed -> number.

    Of more classes than style.MOST_CLASSES, those with the fewest images are drawn.
    """
    frame = pd.DataFrame({split: dict(by_breed) for split, by_breed in counts.items()})
    if len(frame) > style.MOST_CLASSES:
        ax.set_title(f"the {style.MOST_CLASSES} smallest of {len(frame)} classes")
        smallest = frame.sum(axis=1).sort_values(kind="stable").index[: style.MOST_CLASSES]
        frame = frame[frame.index.isin(smallest)]
    colors = [SPLIT_COLORS.get(split, style.OTHER.color) for split in frame]
    frame.plot.barh(ax=ax, width=0.8, color=colors, legend=False)
    for bars in ax.containers:
        ax.bar_label(bars, padding=3, fontsize=12 if len(frame.columns) < 3 else 10)
    ax.invert_yaxis()
    ax.set(xlabel="images", ylabel="")
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.1)
    if len(frame.columns) > 1:
        style.legend_beside(ax)
    return ax


def pretraining_overlap(met: Mapping[str, int], unmet: Mapping[str, int], ax: Axes) -> Axes:
    """Stack, for each split, the images that the backbone saw in its pretraining and those it did not."""
    frame = pd.DataFrame({"seen in pretraining": met, "never seen": unmet})
    frame.plot.barh(ax=ax, stacked=True, width=0.8, color=[SPLIT_COLORS["test"], SPLIT_COLORS["train"]])
    totals = frame.sum(axis=1)
    for row, (split, total) in enumerate(totals.items()):
        ax.text(total, row, f"  {met[split]:,} of {total:,} seen", va="center")
    ax.set(xlabel="images", ylabel="", xlim=(0, 1.3 * totals.max()))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return ax


def image_sizes(widths: Sequence[int], heights: Sequence[int], ax: Axes) -> Axes:
    """Scatter the images' widths and heights in pixels, with a line where an image is square."""
    ax.scatter(widths, heights, s=24, alpha=0.25, color=style.method_color("full"), edgecolors="none")
    largest = 1.08 * max(np.max(widths), np.max(heights))
    ax.plot([0, largest], [0, largest], **style.DASHED)
    ax.annotate("square", (0.86 * largest, 0.89 * largest), color="0.35", rotation=45, ha="center", va="center")
    ax.plot(np.median(widths), np.median(heights), "D", color=style.method_color("lora"), label="median")
    ax.set(xlabel="width (pixels)", ylabel="height (pixels)", xlim=(0, largest), ylim=(0, largest), aspect="equal")
    ax.legend(loc="lower right", frameon=False)
    return ax


def similarity_histogram(similarities: Mapping[str, np.ndarray], ax: Axes, line: float | None = None) -> Axes:
    """Draw each group's similarities (N,), up to 1, as a histogram of shares; beyond a dashed `line` lie copies.

    The first group is filled, the others are outlines of different style, so that none hides another. The
    shares' axis is logarithmic, so that one copy among thousands is seen.
    """
    if not similarities or not all(len(values) for values in similarities.values()):
        raise ValueError("a histogram needs at least one group, and a value in each")
    everything = np.concatenate([np.ravel(values) for values in similarities.values()])
    bins = np.linspace(min(0.0, everything.min()), max(1.0, everything.max()), 41)
    looks = [
        {"color": SPLIT_COLORS["test"], "histtype": "stepfilled", "alpha": 0.75},
        {"color": SPLIT_COLORS["train"], "histtype": "step", "linewidth": 2.5},
        {"color": "0.25", "histtype": "step", "linewidth": 2.5, "linestyle": ":"},
    ]
    for number, (name, values) in enumerate(similarities.items()):
        shares = np.full(len(values), 1 / len(values))
        ax.hist(values, bins, weights=shares, label=name, **looks[min(number, len(looks) - 1)])
    if line is not None:
        ax.axvline(line, **style.DASHED)
        ax.annotate("copies → ", (line, 0.96), xycoords=("data", "axes fraction"), ha="right", va="top", color="0.25")
    largest = max(len(values) for values in similarities.values())
    ax.set(xlabel="similarity to the nearest training image", ylabel="share of images", yscale="log")
    ax.set(xlim=(bins[0], bins[-1]), ylim=(0.5 / largest, 2))
    style.percent_axis(ax.yaxis)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(similarities), frameon=False)
    return ax
