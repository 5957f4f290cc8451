"""The one look of all figures: colours, names, text sizes, and how a figure is saved."""

from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure

from woofkit.files import write_atomic

METHOD_COLORS = {
    "zero-shot": "#8C8C8C",
    "original": "#4D4D4D",
    "probe": "#CC79A7",
    "full": "#0072B2",
    "lora": "#D55E00",
    "bitfit": "#56B4E9",
    "norm": "#882255",
    "last": "#117733",
    "random": "#E69F00",
    "centre": "#009E73",
}
METHOD_NAMES = {
    "zero-shot": "Zero-shot",
    "original": "Original",
    "probe": "Linear probe",
    "full": "Full fine-tuning",
    "lora": "LoRA",
    "bitfit": "BitFit",
    "norm": "Norms only",
    "last": "Last blocks",
    "random": "Random map",
    "centre": "Centre map",
}
# Kinds of maps: colour, line style and marker, so that they can be told apart in grey too.
MAP_LOOKS = {
    "attention": ("#56B4E9", "-", "o"),
    "rollout": ("#CC79A7", "-", "s"),
    "relevance": ("#882255", "-", "D"),
    "random": (METHOD_COLORS["random"], "--", "^"),
    "centre": (METHOD_COLORS["centre"], ":", "v"),
}
MAP_NAMES = {
    "attention": "Attention of CLS",
    "rollout": "Rollout",
    "relevance": "Class relevance",
    "random": METHOD_NAMES["random"],
    "centre": METHOD_NAMES["centre"],
}
SPLIT_COLORS = {"train": "#0072B2", "val": "#56B4E9", "test": "#E69F00"}
PART_COLORS = ("#D9D9D9", "#E69F00", "#0072B2", "#CC79A7", "#009E73", "#F0E442")
LAYER_COLORS = {"attn.qkv": "#0072B2", "attn.proj": "#E69F00", "mlp.fc1": "#009E73", "mlp.fc2": "#CC79A7"}
OTHER_COLOR = "#999999"  # for a method or split that has no colour of its own


def use_style() -> None:
    """Set the study's look for every later figure: white ground, light grid, 13-point text."""
    small = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
    look = {"font.size": 13, "axes.labelsize": 14, "axes.titlesize": 15, "figure.titlesize": 17}
    look |= dict.fromkeys(small, 12) | {"lines.linewidth": 2.5, "lines.markersize": 8}
    look |= {"axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True}
    sns.set_theme(style="whitegrid", palette=list(METHOD_COLORS.values()), rc=look)


def save_figure(fig: Figure, folder: str | Path, name: str, dpi: int = 150) -> Path:
    """Write `fig` as `folder/name.png` and return its path; an interrupted write leaves nothing."""
    if Path(name).name != name or not name:
        raise ValueError(f"a figure's name is a plain file name without a folder, got {name!r}")
    target = Path(folder) / f"{name.removesuffix('.png')}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, lambda path: fig.savefig(path, dpi=dpi, bbox_inches="tight", format="png"))
    return target


def method_name(method: str) -> str:
    """Return the name a figure shows for a method; an unknown one is shown as it is."""
    return METHOD_NAMES.get(method, method)


def method_color(method: str) -> str:
    """Return the method's colour; grey for one that has none of its own."""
    return METHOD_COLORS.get(method, OTHER_COLOR)
