"""What the data look like: samples, part masks, breeds per split, image sizes, similarities."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from woofkit.plots.style import METHOD_COLORS, OTHER_COLOR, PART_COLORS, SPLIT_COLORS


def sample_grid(images: Sequence, titles: Sequence[str], ncols: int = 5) -> Figure:
    """Show images (PIL, or arrays (H, W, 3)) with a title each, `ncols` in a row."""
    if not len(images) or len(images) != len(titles):
        raise ValueError(f"every image needs a title: got {len(images)} images and {len(titles)} titles")
    nrows = -(-len(images) // ncols)
    fig, axes = plt.subplots(nrows, ncols, figsize=(2.6 * ncols, 2.95 * nrows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(np.asarray(image))
        ax.set_title(title, fontsize=13)
    return fig


def class_balance(counts: Mapping[str, Mapping[str, int]], ax: Axes) -> Axes:
    """Draw images a breed as bars; `counts` is split -> breed -> number."""
    frame = pd.DataFrame({split: dict(by_breed) for split, by_breed in counts.items()})
    height = 0.8 / len(frame.columns)
    rows = np.arange(len(frame))
    for number, split in enumerate(frame.columns):
        bars = ax.barh(
            rows + (number + 0.5) * height - 0.4,
            frame[split],
            height * 0.92,
            label=split,
            color=SPLIT_COLORS.get(split, OTHER_COLOR),
        )
        ax.bar_label(bars, padding=3, fontsize=12 if len(frame.columns) < 3 else 10)
    ax.set(xlabel="images", ylim=(len(frame) - 0.5, -0.5))
    ax.set_yticks(rows, frame.index)
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.1)
    if len(frame.columns) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def pretraining_overlap(met: Mapping[str, int], unmet: Mapping[str, int], ax: Axes) -> Axes:
    """Stack, for each split, the images that the backbone met in its pretraining and those it did not."""
    left = np.zeros(len(met))
    for counts, label, color in (
        (met, "met in pretraining", SPLIT_COLORS["test"]),
        (unmet, "never met", SPLIT_COLORS["train"]),
    ):
        numbers = np.array([counts[split] for split in met])
        ax.barh(list(met), numbers, left=left, color=color, label=label)
        left += numbers
    for row, split in enumerate(met):
        ax.text(left[row], row, f"  {met[split]:,} of {met[split] + unmet[split]:,} met", va="center")
    ax.set(xlabel="images", xlim=(0, 1.3 * left.max()))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return ax


def image_sizes(widths: Sequence[int], heights: Sequence[int], ax: Axes) -> Axes:
    """Scatter the images' widths and heights in pixels, with a line where an image is square."""
    ax.scatter(widths, heights, s=24, alpha=0.25, color=METHOD_COLORS["full"], edgecolors="none")
    largest = 1.08 * max(np.max(widths), np.max(heights))
    ax.plot([0, largest], [0, largest], "--", color=OTHER_COLOR, linewidth=1.5, zorder=0)
    ax.annotate("square", (0.86 * largest, 0.89 * largest), color="0.35", rotation=45, ha="center", va="center")
    ax.plot(np.median(widths), np.median(heights), "D", color=METHOD_COLORS["lora"], label="median")
    ax.set(xlabel="width (pixels)", ylabel="height (pixels)", xlim=(0, largest), ylim=(0, largest), aspect="equal")
    ax.legend(loc="lower right", frameon=False)
    return ax


def mask_overlay(image: np.ndarray, mask: np.ndarray, part_names: Sequence[str], ax: Axes) -> Axes:
    """Show an image (H, W, 3) under its part mask (H, W); `part_names[value]` names a mask value."""
    image, mask = np.asarray(image), np.asarray(mask)
    if mask.shape != image.shape[:2]:
        raise ValueError(f"the mask's shape {mask.shape} is not the image's {image.shape[:2]}")
    if mask.max() >= len(part_names):
        raise ValueError(f"the mask holds the value {mask.max()}, but only {len(part_names)} parts are named")
    ax.imshow(image)
    colors = ListedColormap([PART_COLORS[part % len(PART_COLORS)] for part in range(len(part_names))])
    ax.imshow(mask, cmap=colors, vmin=-0.5, vmax=len(part_names) - 0.5, alpha=0.7, interpolation="nearest")
    present = np.unique(mask)
    handles = [Patch(color=colors(int(part)), label=part_names[part]) for part in present]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.axis("off")
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
        ax.axvline(line, color="0.25", linestyle="--", linewidth=1.5)
        ax.annotate("copies → ", (line, 0.96), xycoords=("data", "axes fraction"), ha="right", va="top", color="0.25")
    largest = max(len(values) for values in similarities.values())
    ax.set(
        xlabel="similarity to the nearest training image",
        ylabel="share of images",
        yscale="log",
        xlim=(bins[0], bins[-1]),
        ylim=(0.5 / largest, 2),
    )
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(similarities), frameon=False)
    return ax
