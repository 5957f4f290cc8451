"""How often models are right: on all test images, by breed, by confidence, and on a single picture."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from woofkit.plots import style
from woofkit.results import percent
from woofkit.stats.intervals import proportion_interval

TOP = 3  # how many of a picture's most probable classes are shown


def accuracy_intervals(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one accuracy with its interval per row; `frame` has method, accuracy, low and high (0 to 1).

    A column `label`, where there is one, replaces the method's name.
    """
    style.check_fractions(frame, "accuracy", "low", "high")
    for row, result in enumerate(frame.itertuples()):
        color = style.method_color(result.method)
        ax.hlines(row, result.low, result.high, color=color, linewidth=5, alpha=0.45)
        ax.plot(result.accuracy, row, markersize=13, **style.method_style(result.method))
        place = (result.accuracy, row)
        ax.annotate(percent(result.accuracy), place, xytext=(0, 11), textcoords="offset points", ha="center")
    style.row_axis(ax, frame["label"] if "label" in frame else frame["method"].map(style.method_name), top=0.7)
    ax.set_xlabel("accuracy on the test split (with its interval)")
    style.percent_axis(ax.xaxis)
    return ax


def accuracy_figure(frame: pd.DataFrame, title: str) -> Figure:
    """Draw `accuracy_intervals` as a figure of its own."""
    fig, ax = plt.subplots(figsize=(13, 1.8 + 0.62 * len(frame)), layout="constrained")
    accuracy_intervals(frame, ax)
    ax.set_title(title)
    return fig


def accuracy_by_parameters(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw accuracy against trained parameters, logarithmic: one mark with its interval per setting, and its name.

    `frame` has method, name, trainable_parameters, accuracy, low and high (0 to 1). LoRA's ranks on the same layers,
    which are named alike but for the rank, are joined by a line. What trains nothing is a dashed line.
    """
    style.check_fractions(frame, "accuracy", "low", "high")
    untrained = frame["trainable_parameters"] == 0
    for row in frame[untrained].itertuples():
        ax.axhline(row.accuracy, **style.DASHED)
        ax.annotate(row.name, (0.01, row.accuracy), xycoords=("axes fraction", "data"), va="bottom", fontsize=12)
    frame = frame[~untrained].sort_values("trainable_parameters")
    for (method, _), rows in frame.groupby(["method", frame["name"].str.replace(r"rank \d+", "rank", regex=True)]):
        look = style.method_style(method)
        ax.plot(rows["trainable_parameters"], rows["accuracy"], color=look["color"], linewidth=1.5, alpha=0.6)
        ax.vlines(rows["trainable_parameters"], rows["low"], rows["high"], color=look["color"], linewidth=5, alpha=0.4)
        ax.scatter(rows["trainable_parameters"], rows["accuracy"], s=130, edgecolors="white", zorder=3, **look)
    _name_beside(frame, ax)
    ax.set(xscale="log", xlabel="trained parameters", ylabel="test accuracy")
    ax.margins(x=0.12)
    style.percent_axis(ax.yaxis)
    return ax


def _name_beside(frame: pd.DataFrame, ax: Axes) -> None:
    """Write each row's name right of its mark; of marks above each other, in a column with lines to the marks.

    `frame` is in rising order of trainable_parameters. Marks within a quarter of a decade of the first are one column.
    """
    sizes = np.log10(frame["trainable_parameters"])
    columns, start = [], -np.inf
    for size in sizes:
        start = size if size > start + 0.25 else start
        columns.append(start)
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
    for _, rows in frame.groupby(columns):
        several, rows = len(rows) > 1, rows.sort_values("accuracy", ascending=False)
        for place, row in enumerate(rows.itertuples()):
            level = (len(rows) - 1) / 2 - place
            beside = {"xytext": (30 if several else 9, 5 + 34 * level), "textcoords": "offset points"}
            line = {"arrowprops": {"arrowstyle": "-", "color": "0.6"}, "bbox": behind} if several else {}
            name = row.name if row.name.count(", ") < 2 else ",\n".join(row.name.rsplit(", ", 1))
            ax.annotate(name, (row.trainable_parameters, row.accuracy), fontsize=12, **beside, **line)


def label_curves(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw accuracy against the number of training images, logarithmic: what was measured, and dashed what is expected.

    `frame` has method, images, accuracy, low and high (0 to 1), and expected (bool), rows in rising order of images.
    """
    style.check_fractions(frame, "accuracy", "low", "high")
    for method, rows in frame.groupby("method", sort=False):
        look, measured = style.method_style(method), rows[~rows["expected"]]
        beyond = rows[rows["images"] >= measured["images"].max()]
        ax.vlines(measured["images"], measured["low"], measured["high"], color=look["color"], linewidth=5, alpha=0.4)
        name = style.method_name(method)
        ax.plot(measured["images"], measured["accuracy"], markersize=11, **look | {"label": f"{name}, measured"})
        ax.plot(beyond["images"], beyond["accuracy"], "--", color=look["color"], label=f"{name}, expected")
        ax.fill_between(beyond["images"], beyond["low"], beyond["high"], color=look["color"], alpha=0.15)
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks := sorted(set(frame["images"])), [f"{images:,}" for images in ticks])
    ax.set(xlabel="training images", ylabel="test accuracy")
    style.percent_axis(ax.yaxis)
    ax.legend(loc="lower right")
    return ax


def label_curve_figure(frame: pd.DataFrame) -> Figure:
    """Draw `label_curves` as a figure of its own."""
    fig, ax = plt.subplots(figsize=(11, 6), layout="constrained")
    label_curves(frame, ax)
    ax.set_title("What more labels would bring")
    return fig


def per_class_accuracy(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one mark per class and method, easiest class first; `frame` has breed, method, accuracy (0 to 1).

    Of more classes than style.MOST_CLASSES, the hardest are drawn.
    """
    table = frame.pivot(index="breed", columns="method", values="accuracy")
    hardest_last = table.mean(axis=1).sort_values(ascending=False, kind="stable").index
    if len(hardest_last) > style.MOST_CLASSES:
        ax.set_title(f"the {style.MOST_CLASSES} hardest of {len(hardest_last)} classes")
    table = table.loc[hardest_last[-style.MOST_CLASSES :], frame["method"].unique()]
    style.row_axis(ax, table.index)
    rows = range(len(table))
    ax.hlines(rows, table.min(axis=1), table.max(axis=1), color="0.75", linewidth=3, zorder=1)
    for method in table:
        ax.scatter(table[method], rows, s=130, edgecolors="white", zorder=2, **style.method_style(method))
    ax.set_xlabel("accuracy")
    style.percent_axis(ax.xaxis)
    if np.ptp(ax.get_xlim()) < 0.12:  # all alike, such as 0 where the hardest of many classes have few images
        ax.set_xlim(-0.03, 1.03)
    style.legend_beside(ax)
    return ax


def confusion(matrix: np.ndarray, class_names: Sequence[str], ax: Axes, of: np.ndarray | None = None) -> Axes:
    """Draw a confusion matrix of counts (C, C): one row per true class, shaded by share of the row.

    Of more classes than style.MOST_CLASSES, those with the most errors, to either side, are drawn: errors in `of`, by
    default the matrix itself. Panels that share their rows need the same `of`.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(class_names), len(class_names)):
        raise ValueError(f"a matrix of shape {matrix.shape} does not fit {len(class_names)} class names")
    judged = matrix if of is None else np.asarray(of)
    errors = judged.sum(0) + judged.sum(1) - 2 * np.diag(judged)
    worst = np.sort(np.argsort(-errors, kind="stable")[: style.MOST_CLASSES])
    counts = pd.DataFrame(matrix, class_names, class_names)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0).iloc[worst, worst]
    counts = counts.iloc[worst, worst]
    style.cells(ax, shares, counts.astype(str).where(counts > 0, ""), cmap="Blues", vmin=0, vmax=1)
    plt.setp(ax.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
    part = f" ({len(worst)} of {len(matrix)})" if len(worst) < len(matrix) else ""
    ax.set(xlabel="predicted", ylabel=f"true{part}")
    return ax


def top_predictions(
    images: Sequence[np.ndarray], titles: Sequence[str], probabilities: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Show images (H, W, 3), one below the other, each beside its most probable classes as bars.

    `probabilities` is (N, C), fractions from 0 to 1. All bars share one scale, so that rows can be compared.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    style.check_titles(images, titles)
    if probabilities.shape != (len(images), len(class_names)):
        fitting = f"{len(images)} images and {len(class_names)} class names"
        raise ValueError(f"probabilities of shape {probabilities.shape} do not fit {fitting}")
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError("probabilities must be fractions from 0 to 1, not logits or per cent")
    size = (11, 3.4 * len(images))
    fig, axes = plt.subplots(len(images), 2, figsize=size, squeeze=False, width_ratios=(1, 1.6), layout="constrained")
    for (left, right), image, title, row in zip(axes, images, titles, probabilities, strict=True):
        left.imshow(np.asarray(image))
        left.set_title(title)
        left.axis("off")
        top = np.argsort(-row, kind="stable")[:TOP]
        bars = right.barh(range(len(top)), row[top], 0.62, color=style.method_color("lora"))
        right.bar_label(bars, [f"{100 * value:.0f}%" for value in row[top]], padding=4, fontsize=16)
        style.row_axis(right, [class_names[label] for label in top], fontsize=16)
        style.bars_alone(right)
        right.set_xlim(0, 1.18)
    return fig


def reliability_diagram(bins: Mapping[str, pd.DataFrame], ax: Axes) -> Axes:
    """Draw accuracy against confidence, one line per method; the strip above counts the images of each bin.

    `bins` is method -> frame of `calibration.reliability`, all with the same bins. A mark stands at a bin's mean
    confidence, with Wilson's interval; on the dashed line a model is as often right as it says.

    Raises ValueError if there is no method, or the methods' bins differ.
    """
    tables = list(bins.values())
    if not tables or any(list(table["high"]) != list(tables[0]["high"]) for table in tables):
        raise ValueError(f"every method needs the same bins, got {[len(table) for table in tables]} of them")
    ax.plot([0, 1], [0, 1], label="calibrated", **style.DASHED)
    strip = ax.inset_axes((0, 1.03, 1, 0.085 * len(bins)))
    for row, (method, table) in enumerate(bins.items()):
        color, filled = style.method_color(method), table[table["count"] > 0]
        ends = [proportion_interval(*pair)[1:3] for pair in zip(filled["accuracy"], filled["count"], strict=True)]
        ax.vlines(filled["confidence"], *np.transpose(ends), color=color, linewidth=4, alpha=0.4)
        look = style.method_style(method) | {"markersize": 10, "markeredgecolor": "white"}
        ax.plot(filled["confidence"], filled["accuracy"], **look)
        for low, high, count in zip(filled["low"], filled["high"], filled["count"], strict=True):
            strip.text((low + high) / 2, row, f"{count:,.0f}", ha="center", va="center", color=color, fontsize=12)
    edges = np.array([*tables[0]["low"], tables[0]["high"].iloc[-1]])
    strip.vlines(edges, -0.5, len(bins) - 0.5, color="0.85", linewidth=1)
    style.row_axis(strip, [f"images, {style.method_name(method)}" for method in bins], fontsize=12)
    strip.set(xlim=(0, 1), xticks=[])
    strip.tick_params(length=0)
    strip.spines[:].set_visible(False)
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    style.percent_axis(ax.xaxis, ax.yaxis)
    ax.legend(loc="lower right")
    return ax
