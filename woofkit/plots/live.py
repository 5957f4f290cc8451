"""Learning curves while they grow: drawn fast, without pyplot, for the training monitor."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.ticker import PercentFormatter

from woofkit.plots.outcomes import learning_curves
from woofkit.plots.page import figure_png, new_figure
from woofkit.plots.style import method_color, method_name

WIDTH, HEIGHT = 1100, 400  # pixels


def live_curves(
    history: Sequence[Mapping],
    epochs: int,
    num_images: int,
    method: str,
    running: tuple[float, float, float] | None = None,
) -> bytes:
    """Draw accuracy and loss of the epochs so far on axes that are wide enough for all of them: a PNG.

    Args:
        history: records of `fit`, of whole epochs or, at the end, of a part of one, which is drawn where it ended.
        epochs: how many there will be, of `num_images` each.
        running: how far training is, in epochs, and the mean loss and accuracy of the epoch that it is in.
    """
    rows = [
        {**record, "epoch": record["epoch"] - 1 + record.get("images", num_images) / num_images} for record in history
    ]
    if running:
        place, loss, accuracy = running
        rows.append({"epoch": place, "train_loss": loss, "train_accuracy": accuracy})
    fig = new_figure(WIDTH, HEIGHT)
    axes = fig.subplots(1, 2)
    if rows:
        learning_curves(pd.DataFrame(rows), axes, method_name(method), method_color(method), show_lr=False)
    else:
        for ax, quantity in zip(axes, ("accuracy", "loss"), strict=True):
            ax.set(xlabel="epoch", ylabel=quantity, title=quantity.capitalize())
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    for ax in axes:
        ax.set_xlim(0, epochs + 0.1)
    axes[0].set_ylim(0, 1.02)
    return figure_png(fig)
