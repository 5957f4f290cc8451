"""Ideas as pictures, before any formula: LoRA beside its matrix, patches and tokens, a block, what each method trains.

Grey is frozen, orange with stripes is trained. Large words, few lines: they are read from the back of a lecture hall.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from woofkit.plots import style

FROZEN = {"facecolor": "#D5DADF", "edgecolor": "#6B737A", "linewidth": 1.5}
TRAINED = {"facecolor": "#F6B26B", "edgecolor": "#A84300", "linewidth": 2.5, "hatch": "/"}
PLAIN = {"facecolor": "white", "edgecolor": "#6B737A", "linewidth": 1.5}
WORDS = {"ha": "center", "va": "center", "fontsize": 20}
ON_STRIPES = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}  # behind words


def lora_picture(width: int, rank: int) -> Figure:
    """Draw one linear layer of `width` inputs and outputs: fully fine-tuned, with LoRA of `rank` beside it, merged."""
    fig, axes = plt.subplots(1, 3, figsize=(15, 7), width_ratios=(1, 1.55, 1))
    full, lora, merged = axes
    square = f"{width} × {width}"
    for ax in (full, merged):
        _canvas(ax, (0, 8), (0, 10))
        for ends in (((4, 0.9), (4, 2.9)), ((4, 7.1), (4, 9.1))):
            _arrow(ax, *ends)
        ax.text(4, 0.4, "input x", **WORDS)
        ax.text(4, 9.6, "output h", **WORDS)
    _box(full, (2, 3), (4, 4), f"W\n{square}", trained=True)
    _box(merged, (2, 3), (4, 4), f"W + B A\n{square}")
    _canvas(lora, (0, 12.4), (0, 10))
    _box(lora, (1, 3), (4, 4), f"W\n{square}")
    _box(lora, (7, 3), (4, 0.8), f"A: {rank} × {width}", trained=True)
    _box(lora, (8.6, 4.5), (0.8, 2.5), "", trained=True)
    lora.text(9.7, 5.75, f"B: {width} × {rank}", **WORDS | {"ha": "left"})
    lora.text(6, 0.4, "input x", **WORDS)
    lora.text(6, 9.6, "output h", **WORDS)
    _arrow(lora, (5.6, 0.9), (3, 2.9))
    _arrow(lora, (6.4, 0.9), (9, 2.9))
    _arrow(lora, (9, 3.8), (9, 4.5))
    _arrow(lora, (3, 7.1), (5.6, 8.1))
    _arrow(lora, (9, 7.1), (6.4, 8.1))
    lora.text(6, 8.25, "+", **WORDS | {"fontsize": 24}, bbox={"boxstyle": "circle,pad=0.15", **PLAIN})
    _arrow(lora, (6, 8.7), (6, 9.25))
    for ax, title in zip(axes, ("Full fine-tuning", "LoRA, while it learns", "LoRA, merged"), strict=True):
        ax.set_title(title, fontsize=23, fontweight="bold")
    _legend(fig)
    return fig


def patches_and_tokens(image: np.ndarray, patch: int) -> Figure:
    """Draw a square image (H, H, 3), H a multiple of `patch`, cut into patches, and the tokens made of them.

    Raises ValueError for an image that cannot be cut so.
    """
    height, across = image.shape[:2]
    if height != across or height % patch:
        raise ValueError(f"an image of {height} × {across} pixels cannot be cut into squares of {patch}")
    side = height // patch
    fig, (left, right) = plt.subplots(1, 2, figsize=(16, 6.4), width_ratios=(1, 1.65))
    left.imshow(image)
    for line in range(patch, height, patch):
        left.axhline(line - 0.5, color="white", linewidth=1)
        left.axvline(line - 0.5, color="white", linewidth=1)
    left.axis("off")
    left.set_title(f"{side} × {side} patches", fontsize=23, fontweight="bold")
    _canvas(right, (0, 16), (0, 9.6))
    middle = side * side // 2 + side // 2
    tokens = ["CLS", 0, 1, None, middle, middle + 1, None, side * side - 1]
    for place, token in enumerate(tokens):
        x = 2 * place + 0.1
        if token is None:
            right.text(x + 0.9, 2.2, "…", **WORDS | {"fontsize": 28})
            continue
        if token == "CLS":
            _box(right, (x, 1.3), (1.8, 1.8), "CLS", look={**PLAIN, "facecolor": "#BFE3F7"})
        else:
            row, column = patch * (token // side), patch * (token % side)
            right.imshow(image[row : row + patch, column : column + patch], extent=(x, x + 1.8, 1.3, 3.1), zorder=2)
            _box(right, (x, 1.3), (1.8, 1.8), "", look={**PLAIN, "facecolor": "none"})
            right.text(x + 0.9, 0.7, f"{token + 1}", **WORDS)
        _arrow(right, (x + 0.9, 3.2), (x + 0.9, 4.3))
    _box(right, (0.1, 4.4), (15.8, 1.7), "12 blocks mix the tokens")
    _arrow(right, (1, 6.2), (1, 7.3))
    _box(right, (0.1, 7.4), (3.2, 1.4), "head")
    _arrow(right, (3.4, 8.1), (4.6, 8.1))
    right.text(4.9, 8.1, "one number per breed", **WORDS | {"ha": "left"})
    right.set(xlim=(0, 16), ylim=(0, 9.6))
    title = f"{side * side} patches + CLS = {side * side + 1} tokens"
    right.set_title(title, fontsize=23, fontweight="bold")
    return fig


def block_diagram() -> Figure:
    """Draw one block of a Vision Transformer: attention mixes the tokens, the MLP changes each by itself."""
    fig, ax = plt.subplots(figsize=(16, 6.6))
    _canvas(ax, (0, 24), (0, 9.9))
    ax.text(1.3, 7, "tokens\nin", **WORDS)
    ax.text(22.8, 7, "tokens\nout", **WORDS)
    for start, part in ((3.4, "attention"), (12.6, "MLP")):
        _box(ax, (start, 6.2), (2, 1.6), "norm", look=PLAIN)
        _box(ax, (start + 2.9, 6.2), (3.4, 1.6), part)
        ax.text(start + 7.6, 7, "+", **WORDS | {"fontsize": 24}, bbox={"boxstyle": "circle,pad=0.15", **PLAIN})
        _arrow(ax, (start + 2.05, 7), (start + 2.85, 7))
        _arrow(ax, (start + 6.35, 7), (start + 7, 7))
        _arrow(ax, (start - 0.75, 7.3), (start + 7.5, 7.7), connectionstyle="arc3,rad=-0.45")
    for ends in (((2.2, 7), (3.35, 7)), ((11.6, 7), (12.55, 7)), ((20.8, 7), (21.8, 7))):
        _arrow(ax, *ends)
    for centre, all_pairs, words in (
        (8, True, "each token gathers from all tokens"),
        (17.2, False, "each token is changed by itself"),
    ):
        places = centre + 1.5 * (np.arange(5) - 2)
        for one in places:
            for other in places if all_pairs else (one,):
                ax.plot((one, other), (1.9, 4.5), color="#6B737A", linewidth=1.3, zorder=1)
        for height in (1.9, 4.5):
            colors = ["#56B4E9", *["#D5DADF"] * 4]
            ax.scatter(places, [height] * 5, s=420, c=colors, edgecolors="#6B737A", linewidths=1.5, zorder=2)
            ax.text(places[0] - 0.65, height, "CLS", **WORDS | {"ha": "right", "fontsize": 17})
        ax.text(centre, 0.7, words, **WORDS)
    return fig


def what_moves(trained: Mapping[str, int]) -> Figure:
    """Draw a Vision Transformer once per method, with what the method trains in orange.

    `trained` is method -> number of trained parameters, of the methods "full", "bitfit", "probe" and "lora".

    Raises ValueError for another method.
    """
    moves = {
        "full": {"embedding", "norm", "head", "bias", "attention", "MLP"},
        "bitfit": {"bias", "head"},
        "probe": {"head"},
        "lora": {"norm", "head", "adapter"},
    }
    if unknown := trained.keys() - moves.keys():
        raise ValueError(f"no picture of {', '.join(sorted(unknown))}: there are {', '.join(moves)}")
    fig, axes = plt.subplots(1, len(trained), figsize=(4 * len(trained), 8.2), squeeze=False)
    for ax, (method, count) in zip(axes[0], trained.items(), strict=True):
        moving = moves[method]
        _canvas(ax, (0, 8), (0, 12.2))
        ends = (("patches", "embedding", 0.2), ("norm", "norm", 9.4))
        for words, part, low in ends:
            _box(ax, (1, low), (4.8, 1), words, part in moving, fontsize=18)
            _box(ax, (5.9, low), (0.5, 1), "", bool({"bias", part} & moving))
        for block in range(3):
            bottom = 1.9 + 2.5 * block
            for part, low in (("MLP", bottom + 1.05), ("attention", bottom)):
                _box(ax, (1, low), (4.8, 0.9), part, part in moving, fontsize=18)
                _box(ax, (5.9, low), (0.5, 0.9), "", "bias" in moving)
            if "adapter" in moving:
                _box(ax, (6.7, bottom + 0.05), (0.35, 0.8), "", trained=True)
                _box(ax, (7.15, bottom + 0.3), (0.8, 0.3), "", trained=True)
        ax.text(0.45, 5.6, "12 blocks", **WORDS | {"fontsize": 18}, rotation=90)
        _box(ax, (1, 10.7), (5.4, 1.1), "head", "head" in moving, fontsize=18)
        ax.set_title(f"{style.method_name(method)}\n{count:,}", fontsize=22, fontweight="bold")
    _legend(fig, "narrow column: biases; beside it: LoRA's B and A")
    return fig


# --- pieces ---


def _canvas(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    ax.set(xlim=x, ylim=y, aspect="equal")
    ax.axis("off")


def _box(
    ax: Axes,
    corner: tuple[float, float],
    size: tuple[float, float],
    words: str,
    trained: bool = False,
    *,
    look: Mapping | None = None,
    fontsize: int = 20,
) -> None:
    ax.add_patch(Rectangle(corner, *size, **(look or (TRAINED if trained else FROZEN)), zorder=2))
    if words:
        behind = ON_STRIPES if trained else None
        centre = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
        ax.text(*centre, words, **WORDS | {"fontsize": fontsize}, zorder=4, bbox=behind)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], connectionstyle: str = "arc3") -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 22, "linewidth": 2.2, "color": "#2B2F33"}
    ax.add_patch(FancyArrowPatch(start, end, connectionstyle=connectionstyle, zorder=3, **look))


def _legend(fig: Figure, note: str = "") -> None:
    handles = [Rectangle((0, 0), 1, 1, **look) for look in (FROZEN, TRAINED)]
    labels = ["frozen", "trained"]
    if note:
        handles.append(Rectangle((0, 0), 1, 1, visible=False))
        labels.append(note)
    fig.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=18, frameon=False)
