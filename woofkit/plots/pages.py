"""What widgets show: HTML with words and pictures in the look of the figures, drawn fast and without pyplot."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from woofkit.plots.accuracy import TOP
from woofkit.plots.attention import attention_overlay
from woofkit.plots.dataset import PART_COLORS, tinted
from woofkit.plots.style import difference_name, method_color, method_name
from woofkit.plots.training import learning_curves, overlaid_curves
from woofkit.plots.weights import rank_lines

PAGE_CLASS, WORKING_CLASS, HINT_CLASS = "woofkit-explorer", "woofkit-working", "woofkit-hint"
STYLE = f"""<style>
.{PAGE_CLASS} {{ --jp-widgets-font-size: 16px; --jp-widgets-inline-height: 34px; max-width: 1150px; }}
.{PAGE_CLASS} .widget-hbox {{ flex-flow: row wrap; gap: 4px 16px; margin: 3px 0; overflow: visible; }}
.{PAGE_CLASS} .widget-hbox > * {{ flex-shrink: 0; margin: 0; max-width: 100%; }}
.{PAGE_CLASS} p, .{PAGE_CLASS} figcaption {{ font-size: 20px; line-height: 1.35; margin: 6px 0; }}
.{PAGE_CLASS} .widget-html-content {{ min-width: 0; }}
.jp-OutputArea:has(.{PAGE_CLASS}) .jp-OutputArea-child:has(> * > .{HINT_CLASS}) {{ display: none; }}
.{PAGE_CLASS} figure {{ margin: 0; }}
.{PAGE_CLASS} img {{ width: 100%; display: block; }}
.woofkit-thumbnails {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 14px 12px;
  max-width: 1140px; }}
.woofkit-thumbnails figure img {{ aspect-ratio: 1; object-fit: contain; }}
.{PAGE_CLASS} .woofkit-thumbnails figcaption {{ font-size: 17px; line-height: 1.25; overflow-wrap: break-word; }}
.{WORKING_CLASS} {{ position: relative; }}
.{WORKING_CLASS}::before {{ content: "working ..."; position: absolute; top: 0; right: 0; z-index: 1; padding: 2px 10px;
  font-size: 18px; background: #FFF3C4; color: #000; opacity: 0; animation: woofkit-appears 0.1s 0.5s forwards; }}
@keyframes woofkit-appears {{ to {{ opacity: 1; }} }}
</style>"""
# ipywidgets gives a slider's handle no name. A picture of one pixel runs this once its page is there.
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
NAME_SLIDERS = f"""<img alt="" src="{PIXEL}" style="width: 1px; position: absolute; opacity: 0" onload="
const explorer = this.closest('.{PAGE_CLASS}'), name = () => explorer.querySelectorAll('.widget-slider').forEach(
  slider => slider.querySelectorAll('.noUi-handle').forEach(
    handle => handle.setAttribute('aria-label', slider.querySelector('.widget-label').textContent)));
if (explorer) [0, 500, 2000].forEach(wait => setTimeout(name, wait));">"""
DPI = 100  # of what is drawn for a page: a figure's inches times 100 are its pixels
FAST = {"png": {"compress_level": 1}, "jpeg": {"quality": 88}}  # a PNG in a third of the time, if larger
WIDTH, HEIGHT = 1100, 400  # pixels of curves
PANEL, BAR = 500, 140  # pixels: the side of a map, and what its colour bar takes beside it
THUMBNAIL, DRAWING = 224, 360  # pixels of a thumbnail's longer side, and of a drawn dog as it is shown, at most
CELL = "padding: 3px 8px; text-align: left"
CHOSEN = "outline: 3px solid #009E73"
# A word, a sign, a colour and a kind of line: whoever cannot tell one of them apart has the others.
JUDGED = {True: ("right", "✓", method_color("full"), "solid"), False: ("wrong", "✗", method_color("lora"), "double")}


# --- pieces ---


def new_figure(width: int = WIDTH, height: int = HEIGHT) -> Figure:
    """Return a figure of so many pixels that pyplot knows nothing of, so that none stays open."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")


def figure_png(fig: Figure) -> bytes:
    """Return a figure as PNG, made fast."""
    memory = io.BytesIO()
    fig.savefig(memory, format="png", pil_kwargs=FAST["png"])
    return memory.getvalue()


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    """Return an image as PNG or "jpeg", made fast."""
    memory = io.BytesIO()
    image.save(memory, format=kind, **FAST[kind])
    return memory.getvalue()


def img(data: bytes, alt: str, kind: str = "png") -> str:
    """Return a PNG, or a "jpeg", as an HTML element, with the words for those who cannot see it."""
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def refusal(words: str) -> str:
    """Return a sentence that says what was wrong, as HTML; screen readers read it out at once."""
    return f'<p role="alert" style="color: var(--jp-error-color1, #B00020)">{escape(words)}</p>'


def verdict(probabilities: Sequence[float], label: int | None, class_names: Sequence[str]) -> str:
    """Return what a model says of a picture, how surely, and whether that is right: "beagle, 97% (right)"."""
    probabilities = np.asarray(probabilities)
    predicted = int(probabilities.argmax())
    judged = "" if label is None else " (right)" if predicted == label else " (wrong)"
    return f"{class_names[predicted]}, {100 * probabilities[predicted]:.0f}%{judged}"


def _lines(words: Sequence[str]) -> str:
    return "<br>".join(map(escape, words))


# --- the dataset browser ---


class Caption(NamedTuple):
    """The words below an image: its number and true class, what a model says of it (or ""), and whether that is so."""

    title: str
    says: str = ""
    right: bool | None = None


def thumbnail(image: np.ndarray, mask: np.ndarray | None = None) -> bytes:
    """Return an image uint8 (H, W, 3) as a small JPEG; with a part mask (H, W), in grey under the parts' colours."""
    small = Image.fromarray(image if mask is None else tinted(image, mask))
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return encoded(small, "jpeg")


def thumbnails_page(
    heading: str, note: str, thumbnails: Sequence[bytes], captions: Sequence[Caption], parts: Sequence[str] = ()
) -> str:
    """Return JPEGs with their captions below a heading and a sentence; `parts` are named in their colours."""
    figures = "".join(map(_thumbnail_figure, thumbnails, captions))
    swatch = '<span style="display: inline-block; width: 0.9em; height: 0.9em; background: {}"></span> {}'
    keys = [swatch.format(color, escape(part)) for part, color in zip(parts, PART_COLORS, strict=False)]
    legend = f'<p style="font-size: 17px">{" &ensp; ".join(keys)}</p>' if keys else ""
    words = f"<b>{escape(heading)}</b>" + (f"<br>{escape(note)}" if note else "")
    return f'<p role="status">{words}</p>{legend}<div class="woofkit-thumbnails">{figures}</div>'


def _thumbnail_figure(jpeg: bytes, caption: Caption) -> str:
    words, line, alt = f"<b>{escape(caption.title)}</b>", "", caption.title
    if caption.right is not None:
        word, sign, color, style = JUDGED[caption.right]
        alt += f"; the model says {caption.says}: {word}"
        line = f"border-bottom: 6px {style} {color}"
        words += f"<br>{escape(caption.says)}<br><b>{sign} {word}</b>"
    picture = f'<div style="{line}">{img(jpeg, alt, "jpeg")}</div>'
    return f"<figure>{picture}<figcaption>{words}</figcaption></figure>"


# --- the attention explorer ---


def strongest(heatmap: np.ndarray, percent: float) -> np.ndarray:
    """Tell which patches are the strongest `percent` % of a map, whatever their sign: bool like it, rounded up."""
    kept = np.zeros(heatmap.size, dtype=bool)
    order = np.argsort(-np.abs(heatmap), axis=None, kind="stable")
    kept[order[: math.ceil(percent * heatmap.size / 100)]] = True
    return kept.reshape(heatmap.shape)


class MapView(NamedTuple):
    """A map (gh, gw) in even shares, what it is, where its colours end, and the % of its patches that are coloured."""

    heatmap: np.ndarray
    caption: str
    vmax: float
    percent: float = 100


def map_page(picture: np.ndarray, title: str, view: MapView, says: Mapping[str, str]) -> str:
    """Return the picture, uint8 (H, W, 3), beside its map, with words for those who cannot see them.

    `says` is model -> its verdict. With two models, the map is the first one's minus the second one's, with a sign.
    """
    heatmap, caption, vmax, percent = view
    kept, size, signed = strongest(heatmap, percent), np.abs(heatmap), len(says) == 2
    who, what = difference_name(*says), "difference" if signed else "map"
    lines = [f"{method_name(model)} says {words}." for model, words in says.items()]
    held = 100 * size[kept].sum() / max(size.sum(), 1e-12)
    some = f"{kept.sum()} of {kept.size} patches are shown, with {held:.0f}% of the {what}."
    lines.append("All patches are shown." if kept.all() else some)
    drawn = map_png(picture, np.where(kept, heatmap, 0), vmax, signed)
    alt = f"{who}: {caption}, over the picture {title}. {lines[-1]} The scale ends at {vmax:.2g} even shares."
    return f"""<div style="display: flex; gap: 14px; align-items: flex-end">
<figure style="flex: {PANEL}"><figcaption><b>{escape(title)}</b><br>picture</figcaption>
{img(encoded(Image.fromarray(picture)), f"Picture {title}")}</figure>
<figure style="flex: {PANEL + BAR}"><figcaption><b>{escape(who)}</b><br>{escape(caption)}</figcaption>
{img(drawn, alt)}</figure>
</div><p>{_lines(lines)}</p>"""


def map_png(picture: np.ndarray, heatmap: np.ndarray, vmax: float, signed: bool) -> bytes:
    """Draw a map (gh, gw) as `attention_overlay` does, with its colour bar: a PNG of PANEL + BAR by PANEL pixels."""
    width = PANEL + BAR
    fig = new_figure(width, PANEL)
    fig.set_layout_engine("none")
    ax = attention_overlay(picture, heatmap, fig.add_axes((0, 0, PANEL / width, 1)), vmax, signed)
    place = fig.add_axes(((PANEL + 16) / width, 0.03, 24 / width, 0.94))
    bar = fig.colorbar(ax.images[-1], cax=place, extend="both" if signed else "max", ticks=MaxNLocator(6))
    bar.set_label("difference, in even shares" if signed else "1 = even share", fontsize=17)
    bar.ax.tick_params(labelsize=16)
    return figure_png(fig)


# --- a dog of one's own ---


def own_dog_page(
    picture: np.ndarray,
    alt: str,
    answers: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    class_names: Sequence[str],
    distances: Mapping[str, float],
    lines: Sequence[str],
) -> str:
    """Return the picture, uint8 (H, W, 3), beside each model's most probable classes, and sentences below them.

    Args:
        answers: model -> probabilities (C,), from 0 to 1, and those before the change, or None: these are grey.
        distances: breed -> how far the dog's traits are from it; a class that is not in it has none.
    """
    blocks = "".join(_answer(model, *answer, class_names, distances) for model, answer in answers.items())
    return f"""<div style="display: flex; flex-flow: row wrap; gap: 10px 28px; align-items: flex-start">
<div style="flex: 0 1 {DRAWING}px">{img(encoded(Image.fromarray(picture)), alt)}</div>
<div role="status" style="flex: 1 1 520px"><div style="display: flex; flex-flow: row wrap; gap: 4px 28px">{blocks}</div>
<p style="margin-top: 16px">{_lines(lines)}</p></div>
</div>"""


def photo_page(
    picture: np.ndarray,
    title: str,
    answers: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    maps: Mapping[str, np.ndarray],
    lines: Sequence[str],
) -> str:
    """Return a photograph, uint8 (H, W, 3), with each model's answer, its map (gh, gw) in even shares, and sentences.

    The maps of all models have one scale.
    """
    said = {model: (probabilities, None) for model, probabilities in answers.items()}
    vmax = max(float(np.percentile(list(maps.values()), 98)), 1.0)
    figure = '<figure style="flex: 0 1 420px"><figcaption><b>{}</b> looks at</figcaption>{}</figure>'
    drawn = "".join(
        figure.format(
            escape(method_name(model)),
            img(map_png(picture, heatmap, vmax, False), f"{method_name(model)}: attention of CLS over {title}"),
        )
        for model, heatmap in maps.items()
    )
    page = own_dog_page(picture, f"Picture {title}", said, class_names, {}, lines)
    return f'{page}<div style="display: flex; flex-flow: row wrap; gap: 8px 20px">{drawn}</div>'


def _answer(
    model: str, now: np.ndarray, before: np.ndarray | None, class_names: Sequence[str], distances: Mapping[str, float]
) -> str:
    rows = []
    for label in np.argsort(-now, kind="stable")[:TOP]:
        name, share = class_names[label], 100 * float(now[label])
        bar = f'<div style="width: {share:.2f}%; height: 100%; background: {method_color(model)}"></div>'
        if before is not None:
            was = 100 * float(before[label])
            bar = bar.replace("height: 100%", "height: 62%")
            bar += f'<div title="before: {was:.0f}%" style="width: {was:.2f}%; height: 38%; background: #888"></div>'
        distance = f"distance {distances[name]:.2f}" if name in distances else ""
        rows.append(
            f'<span>{escape(name)}</span><div style="height: 0.9em; background: #8883">{bar}</div>'
            f'<span style="text-align: right">{share:.0f}%</span><span>{distance}</span>'
        )
    grid = "display: grid; grid-template-columns: 190px minmax(60px, 1fr) 56px auto; gap: 2px 12px; align-items: center"
    look = f"{grid}; font-size: 18px; line-height: 1.35; margin-bottom: 12px; white-space: nowrap"
    words = escape(f"{method_name(model)} says {verdict(now, None, class_names)}")
    said = "" if before is None else escape(f"before the change (grey): {verdict(before, None, class_names)}")
    line = f'<p style="font-size: 17px; margin: 0 0 4px; opacity: 0.75">{said}</p>' if said else ""
    head = f'<p style="font-size: 22px; margin: 0 0 4px"><b>{words}</b></p>{line}'
    return f'<div style="flex: 1 1 420px">{head}<div style="{look}">{"".join(rows)}</div></div>'


# --- the calculator of adapters ---


def numbers_page(
    words: str, names: tuple[str, str], rows: Sequence[tuple], sums: Sequence[str], picture: bytes, alt: str
) -> str:
    """Return the result in large words, a table of (what, adapter's, model's) rows beside the sums, and the picture."""
    colors = (method_color("lora"), method_color("full"))
    heads = "".join(f'<th style="color: {color}">{name}</th>' for name, color in zip(names, colors, strict=True))
    body = ""
    for what, *values in rows:
        cells = "".join(f'<td style="padding-left: 20px">{escape(value)}</td>' for value in values)
        body += f'<tr><th style="text-align: left; font-weight: normal">{escape(what)}</th>{cells}</tr>'
    return f"""<p style="font-size: 26px; font-weight: bold">{escape(words)}</p>
<div style="display: flex; flex-flow: row wrap; gap: 8px 60px; align-items: flex-start">
<table style="font-size: 18px; text-align: right"><tr><td></td>{heads}</tr>{body}</table>
<p style="margin: 0">{_lines(sums)}</p></div>
{img(picture, alt)}"""


def rank_lines_png(ranks: Sequence[int], lines: Mapping[str, Sequence[int]], total: int, **marks: tuple) -> bytes:
    """Draw `rank_lines` as a PNG."""
    fig = new_figure()
    rank_lines(ranks, lines, total, fig.subplots(), **marks)
    return figure_png(fig)


# --- the runs explorer and the training monitor ---


def runs_table(heading: str, columns: Sequence[str], rows: Sequence[Mapping], chosen: int | None = None) -> str:
    """Return a heading and a table.

    Args:
        columns: names, the first of them the rows' heads.
        rows: of each run its `method`, for the colour at its left, and its `cells`, one word per column.
        chosen: the row that is marked, if it is among them.
    """
    heads = "".join(f'<th scope="col" style="{CELL}">{escape(name)}</th>' for name in columns)
    body = ""
    for place, row in enumerate(rows):
        mark, outline = ("▶ ", CHOSEN) if place == chosen else ("", "")
        head, *others = row["cells"]
        look = f"border-left: 8px solid {method_color(row['method'])}; border-bottom: 1px solid #8888; {outline}"
        cells = f'<th scope="row" style="{CELL}">{escape(mark + head)}</th>'
        cells += "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in others)
        body += f'<tr style="white-space: nowrap; {look}">{cells}</tr>'
    return f"""<p role="status"><b>{escape(heading)}</b></p><div style="overflow-x: auto; padding: 3px">
<table style="font-size: 15px; line-height: 1.3; border-collapse: collapse; width: 100%">
<thead><tr style="border-bottom: 2px solid">{heads}</tr></thead><tbody>{body}</tbody></table></div>"""


def run_page(title: str, folder: str, note: str, settings: Mapping[str, str], curves: bytes | None, alt: str) -> str:
    """Return one run: its folder, some of its settings in two columns, and its learning curves, a PNG."""
    pair = '<div style="break-inside: avoid"><b>{}</b>: {}</div>'
    pairs = "".join(pair.format(escape(name), escape(value)) for name, value in settings.items())
    picture = img(curves, alt) if curves else "<p>Nothing was trained, so there are no learning curves.</p>"
    where = f'<code style="font-size: 18px">{escape(folder)}</code>'
    return f"""<p><b>{escape(title)}</b><br>folder: {where}<br>{escape(note)}</p>
<div style="columns: 2; font-size: 17px; line-height: 1.4; margin-bottom: 10px">{pairs}</div>{picture}"""


def comparison_page(
    names: Sequence[str], settings: Mapping[str, Sequence[str]], lines: Sequence[str], curves: bytes | None, alt: str
) -> str:
    """Return several runs over each other: sentences, their settings (name -> one word per run), and their curves."""
    heads = "".join(f'<th scope="col" style="{CELL}">{escape(name)}</th>' for name in ("setting", *names))
    body = ""
    for name, values in settings.items():
        cells = "".join(f'<td style="{CELL}">{escape(value)}</td>' for value in values)
        body += (
            f'<tr style="border-bottom: 1px solid #8888"><th scope="row" style="{CELL}">{escape(name)}</th>{cells}</tr>'
        )
    table = f"""<div style="overflow-x: auto"><table style="font-size: 16px; border-collapse: collapse; margin: 8px 0">
<thead><tr style="border-bottom: 2px solid">{heads}</tr></thead><tbody>{body}</tbody></table></div>"""
    table *= bool(settings)
    picture = img(curves, alt) if curves else "<p>None of them was trained, so there are no learning curves.</p>"
    return f'<div role="status">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</div>{table}{picture}'


def overlaid_png(runs: Sequence[tuple[str, str, pd.DataFrame]]) -> bytes:
    """Draw `overlaid_curves` with one legend below both panels, as a PNG."""
    fig = new_figure(WIDTH, HEIGHT + 26 * len(runs))
    axes = overlaid_curves(runs, fig.subplots(1, 2))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", frameon=False)
    return figure_png(fig)


def curves_png(history: pd.DataFrame, method: str) -> bytes:
    """Draw a run's learning curves, with the learning rate where it changes, as a PNG."""
    fig = new_figure()
    learning_curves(history, fig.subplots(1, 2), method, show_lr=history["lr"].nunique() > 1)
    return figure_png(fig)


def curves_in_words(history: pd.DataFrame, method: str) -> str:
    """Return the learning curves for those who cannot see them."""
    last = history.iloc[-1]
    words = f"Learning curves, {method_name(method)}: after epoch {last['epoch']:g} the training accuracy is "
    validation = last.get("val_accuracy")
    more = f", the validation accuracy {validation:.1%}" if pd.notna(validation) else ""
    return f"{words}{last['train_accuracy']:.1%}{more}"


def live_curves(
    history: Sequence[Mapping], epochs: int, num_images: int, method: str, running: tuple[float, float, float] | None
) -> bytes:
    """Draw accuracy and loss of the epochs so far on axes that are wide enough for all of them, as a PNG.

    Args:
        history: records of `fit`, of whole epochs or, at the end, of a part of one, which is drawn where it ended.
        epochs: how many there will be, of `num_images` each.
        running: how far training is, in epochs, and the mean loss and accuracy of the epoch that it is in, if any.
    """
    places = [record["epoch"] - 1 + record.get("images", num_images) / num_images for record in history]
    rows = [{**record, "epoch": place} for record, place in zip(history, places, strict=True)]
    if running:
        rows.append(dict(zip(("epoch", "train_loss", "train_accuracy"), running, strict=True)))
    fig = new_figure()
    axes = fig.subplots(1, 2)
    learning_curves(pd.DataFrame(rows), axes, method, show_lr=False)
    for ax in axes:
        ax.set_xlim(0, epochs + 0.1)
    axes[0].set_ylim(0, 1.02)
    return figure_png(fig)
