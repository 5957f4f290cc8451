"""Contact sheets: many images at one glance, a row a breed, and the same images under their part masks."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from woofkit.plots.style import PART_COLORS

CELL = 1.0  # inches an image
GAP = 0.03  # between two images, in widths of one
NAME_SIZE = 26  # points; ten rows that fill a slide 7.5 inches high show it at 19
MASK_STRENGTH = 0.75


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
    if masks.shape != images.shape[:-1]:
        raise ValueError(f"the masks' shape {masks.shape} does not fit the images' {images.shape}")
    if masks.size and masks.max() >= len(part_names):
        raise ValueError(f"a mask holds the value {masks.max()}, but only {len(part_names)} parts are named")
    colors = [PART_COLORS[part % len(PART_COLORS)] for part in range(len(part_names))]
    fig = contact_sheet(tinted(images, masks, colors), names)
    handles = [Patch(color=color, label=name) for color, name in zip(colors, part_names, strict=True)]
    columns = len(handles) if images.shape[1] > 6 else 3  # as many as fit below the sheet
    rows = -(-len(handles) // columns)
    fig.set_figheight(fig.get_figheight() + 0.15 + 0.45 * rows)  # so that the dogs keep their size
    fig.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=NAME_SIZE - 4,
        frameon=False,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=1,
        borderaxespad=0,
    )
    return fig


def tinted(images: np.ndarray, masks: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Images uint8 (..., H, W, 3) in grey, each pixel tinted in the colour of its mask value, (..., H, W)."""
    tints = 255 * np.array([to_rgb(color) for color in colors], np.float32)[masks]  # (..., H, W, 3)
    grey = images.mean(axis=-1, keepdims=True, dtype=np.float32)  # a coat's own colour would shift the part's
    return (MASK_STRENGTH * tints + (1 - MASK_STRENGTH) * grey).astype(np.uint8)
