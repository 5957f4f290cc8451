"""How many parameters an adapter trains, by rank: a line for the chosen layers, and what to measure it by."""

from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator

from woofkit.plots.page import figure_png, img, new_figure
from woofkit.plots.style import METHOD_COLORS

PAPER = "the report's"
OTHERS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # colours of further lines
MARKERS = "sD^v"


def rank_lines(
    ranks: Sequence[int],
    lines: Mapping[str, Sequence[int]],
    total: int,
    ax: Axes,
    mark: tuple[int, int] | None = None,
    paper: tuple[int, int] | None = None,
) -> Axes:
    """Draw trained parameters against the rank, both logarithmic, with the model's `total` as a dashed line.

    Args:
        ranks: R rising ranks.
        lines: name -> R counts; the first line has LoRA's colour.
        mark, paper: (rank, parameters) of the chosen adapter and of the report's, each a mark of its own.
    """
    ax.axhline(total, color=METHOD_COLORS["full"], linestyle="--", label="full fine-tuning: all of the model")
    styles = zip((METHOD_COLORS["lora"], *OTHERS), "o" + MARKERS, strict=True)
    for (name, counts), (color, marker) in zip(lines.items(), styles, strict=False):
        ax.plot(ranks, counts, marker=marker, color=color, label=name, markersize=6)
    if paper:
        ax.plot(*paper, marker="P", color="black", markersize=15, linestyle="none", label=f"{PAPER} {paper[1]:,}")
    if mark:
        ax.plot(
            *mark,
            marker="*",
            color=METHOD_COLORS["lora"],
            markersize=26,
            markeredgecolor="black",
            linestyle="none",
            label=f"rank {mark[0]}: {mark[1]:,}",
        )
    ax.set(xscale="log", yscale="log", xlabel="rank", ylabel="trained parameters")
    ax.set_ylim(top=3 * total)
    ax.xaxis.set_major_locator(FixedLocator([r for r in (1, 2, 4, 8, 16, 32, 64, 128, 256) if r <= max(ranks)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return ax


def rank_figure(ranks: Sequence[int], lines: Mapping[str, Sequence[int]], total: int, **marks) -> Figure:
    """`rank_lines` as a figure of its own, for paper."""
    fig, ax = plt.subplots(figsize=(13, 5), layout="constrained")
    rank_lines(ranks, lines, total, ax, **marks)
    return fig


def rank_lines_png(ranks: Sequence[int], lines: Mapping[str, Sequence[int]], total: int, **marks) -> bytes:
    """`rank_lines` as a PNG, drawn fast and without pyplot."""
    fig = new_figure(1100, 400)
    rank_lines(ranks, lines, total, fig.subplots(), **marks)
    return figure_png(fig)


def numbers_page(
    words: str, names: tuple[str, str], rows: Sequence[tuple], sums: Sequence[str], picture: bytes, alt: str
) -> str:
    """The result in large words, a table of (what, adapter's, model's) rows beside the sums, the picture, as HTML."""
    colors = (METHOD_COLORS["lora"], METHOD_COLORS["full"])
    heads = "".join(f'<th style="color: {color}">{name}</th>' for name, color in zip(names, colors, strict=True))
    body = "".join(
        f'<tr><th style="text-align: left; font-weight: normal">{escape(what)}</th>'
        + "".join(f'<td style="padding-left: 20px">{escape(value)}</td>' for value in values)
        + "</tr>"
        for what, *values in rows
    )
    return f"""<p style="font-size: 26px; font-weight: bold">{escape(words)}</p>
<div style="display: flex; flex-flow: row wrap; gap: 8px 60px; align-items: flex-start">
<table style="font-size: 18px; text-align: right"><tr><td></td>{heads}</tr>{body}</table>
<p style="margin: 0">{"<br>".join(map(escape, sums))}</p></div>
{img(picture, alt)}"""
