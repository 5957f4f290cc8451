"""The one look of all figures: colours, markers and names, axes and legends, and how a figure is saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from woofkit.files import write_atomic
from woofkit.results import METHOD_NAMES


class Look(NamedTuple):
    """A colour, and a marker and a kind of line for those who cannot tell the colours apart."""

    color: str
    marker: str
    line: str = "-"


# Trained methods, and what they are compared with. A method looks the same in every figure.
METHODS = {
    "zero-shot": Look("#8C8C8C", "X"),
    "original": Look("#4D4D4D", "p"),
    "probe": Look("#CC79A7", "D"),
    "full": Look("#0072B2", "o"),
    "lora": Look("#D55E00", "s"),
    "bitfit": Look("#56B4E9", "v"),
    "norm": Look("#882255", "<"),
    "last": Look("#117733", ">"),
    "random": Look("#E69F00", "^", "--"),
    "centre": Look("#009E73", "d", ":"),
}
METHOD_WORDS = METHOD_NAMES | {"original": "original", "random": "random map", "centre": "centre map"}
MAPS = {"attention": Look("#56B4E9", "o"), "rollout": Look("#CC79A7", "s"), "relevance": Look("#882255", "D")}
MAP_NAMES = {"attention": "Attention of CLS", "rollout": "Rollout", "relevance": "Class relevance"}
MOST_CLASSES = 20  # that a figure of classes shows
OTHER = Look("#999999", "*")  # of a method, split or layer that has no look of its own
FONT = "DejaVu Sans"  # comes with matplotlib: a figure looks alike everywhere
# For class names in scripts that it lacks, where one of these is installed.
OTHER_SCRIPTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Devanagari", "Noto Sans Arabic", "Noto Sans")
OTHER_SCRIPTS += ("Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS")
DASHED = {"color": "0.35", "linestyle": "--", "linewidth": 1.8, "zorder": 0}  # a line to compare with


def use_style() -> None:
    """Set the study's look for every later figure: white ground, light grid, 13-point text."""
    small = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
    look = {"font.size": 13, "axes.labelsize": 14, "axes.titlesize": 15, "figure.titlesize": 17}
    look |= dict.fromkeys(small, 12) | {"lines.linewidth": 2.5, "lines.markersize": 8}
    look |= {"axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True}
    look["axes.prop_cycle"] = plt.cycler(color=[look.color for look in METHODS.values()])
    look |= {"axes.linewidth": 1.25, "grid.linewidth": 1.0, "patch.edgecolor": "white", "patch.force_edgecolor": True}
    look |= {"legend.frameon": True, "image.cmap": "viridis"}
    installed = set(font_manager.get_font_names())
    look["font.family"] = [FONT, *(name for name in OTHER_SCRIPTS if name in installed)]
    plt.style.use(["seaborn-v0_8-whitegrid", look])


def save_figure(fig: Figure, folder: str | Path, name: str, dpi: int = 150, close: bool = False) -> Path:
    """Write `fig` as `folder/name.png` and return its path; an interrupted write leaves nothing.

    With `close`, pyplot forgets it: who saves many would fill the memory.
    """
    if Path(name).name != name or not name:
        raise ValueError(f"a figure's name is a plain file name without a folder, got {name!r}")
    target = Path(folder) / f"{name.removesuffix('.png')}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, lambda path: fig.savefig(path, dpi=dpi, bbox_inches="tight", format="png"))
    if close:
        plt.close(fig)
    return target


# --- methods ---


def method_name(method: str) -> str:
    """Return the name that a figure shows for a method; an unknown one is shown as it is."""
    words = METHOD_WORDS.get(method)
    return words[0].upper() + words[1:] if words else method


def difference_name(model: str, against: str = "") -> str:
    """Return a model's name, or that of its difference from another: "Full fine-tuning minus LoRA"."""
    return method_name(model) + (f" minus {METHOD_WORDS.get(against, against)}" if against else "")


def method_color(method: str) -> str:
    """Return the method's colour; grey for one that has none of its own."""
    return METHODS.get(method, OTHER).color


def method_style(method: str) -> dict[str, str]:
    """Return what makes `Axes.plot` and `Axes.scatter` draw a method: its colour, marker and name."""
    return {"color": method_color(method), "marker": METHODS.get(method, OTHER).marker, "label": method_name(method)}


def method_order(method: str) -> int:
    """Return the place of a method among all; an unknown one comes last."""
    return list(METHODS).index(method) if method in METHODS else len(METHODS)


def map_style(kind: str) -> dict[str, str]:
    """Return what makes `Axes.plot` draw a kind of map, or one that knows nothing: colour, marker, line and name."""
    color, marker, line = (METHODS | MAPS)[kind]
    return {"color": color, "marker": marker, "linestyle": line, "label": MAP_NAMES.get(kind, method_name(kind))}


# --- axes ---


def percent_axis(*axes: Axis) -> None:
    """Show fractions in per cent, with as many decimals as the ticks need."""
    for axis in axes:
        axis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")


def row_axis(ax: Axes, names: Sequence[str], top: float = 0.5, borders: bool = False, **look: Any) -> None:
    """Name the rows 0, 1, ... from the top down, with lines between them if asked; `top` rows are above the first."""
    ax.set_yticks(range(len(names)), names, **look)
    ax.set_ylim(len(names) - 0.5, -top)
    ax.grid(visible=False, axis="y")
    for border in range(1, len(names) if borders else 0):
        ax.axhline(border - 0.5, color="0.9", linewidth=1, zorder=0)


def bars_alone(ax: Axes) -> None:
    """Take away the horizontal axis of bars that carry their values."""
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    ax.grid(visible=False)


def cells(ax: Axes, numbers: pd.DataFrame, words: pd.DataFrame, fontsize: int = 13, **look: Any) -> AxesImage:
    """Show numbers as colours, with a word in each cell, black on light colours and white on dark ones."""
    image = ax.imshow(numbers, **look)
    ax.set_xticks(range(numbers.shape[1]), numbers.columns)
    ax.set_yticks(range(len(numbers)), numbers.index)
    brightness = image.to_rgba(numbers.to_numpy())[..., :3] @ (0.299, 0.587, 0.114)
    for (row, column), word in np.ndenumerate(words):
        if word:
            color = "black" if brightness[row, column] > 0.5 else "white"
            ax.text(column, row, word, ha="center", va="center", color=color, fontsize=fontsize)
    ax.grid(visible=False)
    return image


def legend_beside(ax: Axes, **settings: Any) -> None:
    """Put the legend to the right of the Axes, where it hides nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, **settings)


def model_title(ax: Axes, model: str, against: str = "") -> None:
    """Name the model whose map is shown, or the difference between two, in the method's colour."""
    color = METHODS[model].color if model in METHODS else "black"
    title = difference_name(model, against).replace(" minus", "\nminus")
    ax.set_title(title, fontsize=14, fontweight="bold", color=color)


# --- what is refused ---


def check_fractions(frame: pd.DataFrame, *names: str) -> None:
    """Raise ValueError unless the columns `names` hold fractions from 0 to 1 and nothing else."""
    for name in names:
        if not frame[name].between(0, 1).all():
            raise ValueError(f"{name} must be fractions from 0 to 1, not per cent, and none may be missing")


def check_titles(images: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """Raise ValueError unless there are images and as many titles."""
    if not len(images) or len(images) != len(titles):
        raise ValueError(f"every image needs a title: got {len(images)} images and {len(titles)} titles")
