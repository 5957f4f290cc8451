"""Runs at a glance: a table of many, the settings and learning curves of one, and their accuracies on paper."""

from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from woofkit.plots.outcomes import accuracy_intervals, learning_curves
from woofkit.plots.page import figure_png, img, new_figure
from woofkit.plots.style import method_color, method_name

WIDTH, HEIGHT = 1100, 380  # pixels of the learning curves
CELL = "padding: 3px 8px; text-align: left"
CHOSEN = "outline: 3px solid #009E73"


def runs_table(heading: str, columns: Sequence[str], rows: Sequence[Mapping], chosen: int | None = None) -> str:
    """A heading and a table as HTML.

    Args:
        columns: names, the first of them the rows' heads.
        rows: of each run its `method`, for the colour at its left, and its `cells`, a word a column.
        chosen: the row that is marked, if it is among them.
    """
    heads = "".join(f'<th scope="col" style="{CELL}">{escape(name)}</th>' for name in columns)
    body = "".join(_row(row, place == chosen) for place, row in enumerate(rows))
    return f"""<p role="status"><b>{escape(heading)}</b></p><div style="overflow-x: auto; padding: 3px">
<table style="font-size: 15px; line-height: 1.3; border-collapse: collapse; width: 100%">
<thead><tr style="border-bottom: 2px solid">{heads}</tr></thead><tbody>{body}</tbody></table></div>"""


def _row(row: Mapping, chosen: bool) -> str:
    first, *others = row["cells"]
    mark = ("▶ " if chosen else "") + first
    line = f"border-left: 8px solid {method_color(row['method'])}; border-bottom: 1px solid #8888"
    cells = "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in others)
    return (
        f'<tr style="white-space: nowrap; {line}; {CHOSEN if chosen else ""}"><th scope="row" style="{CELL}">'
        f"{escape(mark)}</th>{cells}</tr>"
    )


def run_page(title: str, folder: str, note: str, settings: Mapping[str, str], curves: bytes | None, alt: str) -> str:
    """One run as HTML: its folder, some of its settings in two columns, and its learning curves as a PNG."""
    pairs = "".join(
        f'<div style="break-inside: avoid"><b>{escape(name)}</b>: {escape(value)}</div>'
        for name, value in settings.items()
    )
    picture = img(curves, alt) if curves else "<p>Nothing was trained, so there are no learning curves.</p>"
    where = f'<code style="font-size: 18px">{escape(folder)}</code>'
    return f"""<p><b>{escape(title)}</b><br>folder: {where}<br>{escape(note)}</p>
<div style="columns: 2; font-size: 17px; line-height: 1.4; margin-bottom: 10px">{pairs}</div>{picture}"""


def curves_png(history: pd.DataFrame, method: str) -> bytes:
    """A run's learning curves, drawn fast and without pyplot; with the learning rate where it changes."""
    fig = new_figure(WIDTH, HEIGHT)
    changes = history["lr"].nunique() > 1
    learning_curves(history, fig.subplots(1, 2), color=method_color(method), show_lr=changes)
    return figure_png(fig)


def curves_in_words(history: pd.DataFrame, method: str) -> str:
    """The learning curves for those who cannot see them."""
    last = history.iloc[-1]
    words = f"Learning curves, {method_name(method)}: after epoch {last['epoch']:g} the training accuracy is "
    words += f"{last['train_accuracy']:.1%}"
    if pd.notna(last.get("val_accuracy")):
        words += f", the validation accuracy {last['val_accuracy']:.1%}"
    return words


def runs_chart(frame: pd.DataFrame, title: str) -> Figure:
    """`accuracy_intervals` as a figure with a title; `frame` has method, label, accuracy, low and high."""
    fig, ax = plt.subplots(figsize=(13, 1.8 + 0.62 * len(frame)), layout="constrained")
    accuracy_intervals(frame, ax)
    ax.set_title(title)
    return fig
