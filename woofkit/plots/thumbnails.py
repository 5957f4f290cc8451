"""Small pictures side by side with words below each, as the dataset browser shows them."""

import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from woofkit.plots.page import img
from woofkit.plots.pictures import sample_grid
from woofkit.plots.sheets import tinted
from woofkit.plots.style import METHOD_COLORS, PART_COLORS

SIDE = 224  # pixels of a thumbnail's longer side
COLUMNS = 6
# A word, a sign, a colour and a kind of line: whoever cannot tell one of them apart has the others.
JUDGED = {True: ("right", "✓", METHOD_COLORS["full"], "solid"), False: ("wrong", "✗", METHOD_COLORS["lora"], "double")}
LOOK = f"""<style>
.woofkit-thumbnails {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 14px 12px;
  max-width: {COLUMNS * 190}px; }}
.woofkit-thumbnails figure img {{ aspect-ratio: 1; object-fit: contain; }}
.woofkit-thumbnails figure figcaption {{ font-size: 17px; line-height: 1.25; overflow-wrap: break-word; }}
</style>"""


class Caption(NamedTuple):
    """The words below an image: its number and true class, what a model says of it (or ""), and whether that is so."""

    title: str
    says: str = ""
    right: bool | None = None

    @property
    def judgement(self) -> str:
        """ "✓ right", "✗ wrong", or nothing."""
        if self.right is None:
            return ""
        word, sign, *_ = JUDGED[self.right]
        return f"{sign} {word}"


def thumbnail(image: np.ndarray, mask: np.ndarray | None = None) -> bytes:
    """An image uint8 (H, W, 3) as a small JPEG; with a part mask (H, W), in grey under the colours of the parts."""
    if mask is not None:
        image = tinted(image, mask, PART_COLORS)
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE))
    memory = io.BytesIO()
    small.save(memory, format="jpeg", quality=88)
    return memory.getvalue()


def thumbnails_page(
    heading: str, note: str, thumbnails: Sequence[bytes], captions: Sequence[Caption], parts: Sequence[str] = ()
) -> str:
    """JPEGs with their captions below a heading and a sentence, as HTML; `parts` are named in their colours."""
    figures = "".join(map(_figure, thumbnails, captions))
    swatch = '<span style="display: inline-block; width: 0.9em; height: 0.9em; background: {}"></span> {}'
    keys = [swatch.format(color, escape(part)) for part, color in zip(parts, PART_COLORS, strict=False)]
    legend = f'<p style="font-size: 17px">{" &ensp; ".join(keys)}</p>' if keys else ""
    words = "<br>".join([f"<b>{escape(heading)}</b>", *([escape(note)] if note else [])])
    return f'{LOOK}<p role="status">{words}</p>{legend}<div class="woofkit-thumbnails">{figures}</div>'


def _figure(jpeg: bytes, caption: Caption) -> str:
    lines, line, alt = [f"<b>{escape(caption.title)}</b>"], "", caption.title
    if caption.right is not None:
        word, _, color, style = JUDGED[caption.right]
        alt += f"; the model says {caption.says}: {word}"
        line = f"border-bottom: 6px {style} {color}"
        lines += [escape(caption.says).replace(" %", "&nbsp;%"), f"<b>{caption.judgement}</b>"]
    return (
        f'<figure><div style="{line}">{img(jpeg, alt, "jpeg")}</div>'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )


def thumbnails_figure(images: Sequence[np.ndarray], captions: Sequence[Caption], heading: str) -> Figure:
    """The same images (H, W, 3) and captions for paper."""
    words = ["\n".join(filter(None, (caption.title, caption.says, caption.judgement))) for caption in captions]
    fig = sample_grid(images, words, ncols=min(COLUMNS, len(images)))
    fig.set_figheight(fig.get_figheight() * (1.15 if any(caption.says for caption in captions) else 1) + 0.5)
    for ax, caption in zip(fig.axes, captions, strict=False):
        if caption.right is not None:
            ax.title.set_color(JUDGED[caption.right][2])
    fig.suptitle(heading, fontweight="bold")
    fig.set_layout_engine("constrained")
    return fig
