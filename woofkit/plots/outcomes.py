"""What training gave: learning curves, accuracy with intervals, confusion, costs, single predictions."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from woofkit.plots.style import METHOD_COLORS, OTHER_COLOR, method_color, method_name


def learning_curves(
    history: pd.DataFrame, axes: Sequence[Axes], label: str = "", color: str | None = None, show_lr: bool = True
) -> Sequence[Axes]:
    """Draw accuracy and loss over epochs on two Axes, as in the paper's Figures 2 and 3.

    `history` has epoch, lr, train_accuracy, train_loss and, where there is a validation split, val_accuracy
    and val_loss. The learning rate is a dashed line on a second, logarithmic axis; leave it out
    (`show_lr=False`) for all but one of several histories on the same Axes.
    """
    color = color or METHOD_COLORS["full"]
    for ax, quantity in zip(axes, ("accuracy", "loss"), strict=True):
        for split, style in (("train", "-o"), ("val", ":s")):
            if history.get(f"{split}_{quantity}", pd.Series(dtype=float)).notna().any():
                face = color if split == "train" else "white"
                ax.plot(
                    history["epoch"],
                    history[f"{split}_{quantity}"],
                    style,
                    color=color,
                    label=f"{label} {split}".strip(),
                    markerfacecolor=face,
                )
        ax.set(xlabel="epoch", ylabel=quantity, title=quantity.capitalize())
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if show_lr:
            right = ax.twinx()
            right.plot(history["epoch"], history["lr"], "--", color=OTHER_COLOR, linewidth=1.8)
            right.set(yscale="log", ylim=(history["lr"].min() / 10, history["lr"].max() * 10))
            right.set_ylabel("learning rate (dashed)", color="0.4", fontsize=12)
            right.tick_params(labelcolor="0.4")
            right.grid(visible=False)
        ax.legend(loc="lower right" if quantity == "accuracy" else "upper right")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    highest = max(np.nanmax(line.get_ydata()) for line in axes[1].get_lines())  # of all histories drawn so far
    axes[1].set_ylim(0, 1.08 * highest)
    return axes


def confusion(matrix: np.ndarray, class_names: Sequence[str], ax: Axes) -> Axes:
    """Draw a confusion matrix of counts (C, C): a row a true breed, shaded by share of the row."""
    matrix = np.asarray(matrix)
    if matrix.shape != (len(class_names), len(class_names)):
        raise ValueError(f"a matrix of shape {matrix.shape} does not fit {len(class_names)} class names")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            ax.text(
                column,
                row,
                f"{count:g}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.55 else "black",
            )
    ax.set_xticks(range(len(class_names)), class_names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(class_names)), class_names)
    ax.set(xlabel="predicted breed", ylabel="true breed")
    ax.grid(visible=False)
    return ax


def accuracy_intervals(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw an accuracy with its interval a row; `frame` has method, accuracy, low and high (0 to 1).

    A column `label`, where there is one, replaces the method's name.
    """
    if not frame[["low", "accuracy", "high"]].stack().between(0, 1).all():
        raise ValueError("accuracy, low and high must be fractions from 0 to 1, not per cent")
    for row, result in enumerate(frame.itertuples()):
        color = method_color(result.method)
        ax.hlines(row, result.low, result.high, color=color, linewidth=5, alpha=0.45)
        ax.plot(result.accuracy, row, "o", color=color, markersize=13)
        ax.annotate(
            f"{100 * result.accuracy:.1f} %",
            (result.accuracy, row),
            xytext=(0, 11),
            textcoords="offset points",
            ha="center",
        )
    labels = frame["label"] if "label" in frame else frame["method"].map(method_name)
    ax.set_yticks(range(len(frame)), labels)
    ax.set(xlabel="accuracy on the test split (with its interval)", ylim=(len(frame) - 0.5, -0.7))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.grid(visible=False, axis="y")
    return ax


def per_class_accuracy(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw a dot a breed and method, easiest breed first; `frame` has breed, method, accuracy (0 to 1)."""
    table = frame.pivot(index="breed", columns="method", values="accuracy")
    table = table.loc[table.mean(axis=1).sort_values(ascending=False).index, frame["method"].unique()]
    ax.hlines(range(len(table)), table.min(axis=1), table.max(axis=1), color="0.75", linewidth=3, zorder=1)
    for method, marker in zip(table.columns, "osD^vP*" * len(table.columns), strict=False):
        ax.scatter(
            table[method],
            range(len(table)),
            s=110,
            marker=marker,
            color=method_color(method),
            edgecolors="white",
            label=method_name(method),
            zorder=2,
        )
    ax.set_yticks(range(len(table)), table.index)
    ax.set(xlabel="accuracy", ylim=(len(table) - 0.5, -0.5))
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def top_predictions(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    k: int = 3,
    color: str | Sequence[str] = METHOD_COLORS["lora"],
) -> Figure:
    """Show images (H, W, 3), one below the other, each beside its `k` most probable classes as bars.

    `probabilities` is (N, C), fractions from 0 to 1. All bars share one scale, so that rows can be compared.
    `color` is that of all bars, or one an image.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    if not len(images) or len(images) != len(titles):
        raise ValueError(f"every image needs a title: got {len(images)} images and {len(titles)} titles")
    if probabilities.shape != (len(images), len(class_names)):
        raise ValueError(
            f"probabilities of shape {probabilities.shape} do not fit {len(images)} images "
            f"and {len(class_names)} class names"
        )
    if not 1 <= k <= len(class_names):
        raise ValueError(f"k = {k} is not allowed: 1 to {len(class_names)}, the number of classes")
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError("probabilities must be fractions from 0 to 1, not logits or per cent")
    fig, axes = plt.subplots(
        len(images), 2, figsize=(11, 3.4 * len(images)), squeeze=False, width_ratios=(1, 1.6), layout="constrained"
    )
    colors = [color] * len(images) if isinstance(color, str) else color
    for (left, right), image, title, row, own in zip(axes, images, titles, probabilities, colors, strict=True):
        left.imshow(np.asarray(image))
        left.set_title(title)
        left.axis("off")
        top = np.argsort(-row, kind="stable")[:k]
        bars = right.barh(range(k), row[top], 0.62, color=own)
        right.bar_label(bars, [f"{value:.0%}".replace("%", " %") for value in row[top]], padding=4, fontsize=16)
        right.set_yticks(range(k), [class_names[label] for label in top], fontsize=16)
        right.set(xlim=(0, 1.18), ylim=(k - 0.5, -0.5), xticks=[])  # every bar carries its value
        right.spines["bottom"].set_visible(False)
        right.grid(visible=False)
    return fig
