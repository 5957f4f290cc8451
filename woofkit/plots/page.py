"""What widgets show: words and pictures as one piece of HTML, in the look of the figures."""

import base64
import io
from html import escape

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

PAGE_CLASS = "woofkit-explorer"
STYLE = f"""<style>
.{PAGE_CLASS} {{ --jp-widgets-font-size: 16px; --jp-widgets-inline-height: 34px; max-width: 1150px; }}
.{PAGE_CLASS} .widget-hbox {{ flex-flow: row wrap; gap: 4px 16px; margin: 3px 0; overflow: visible; }}
.{PAGE_CLASS} .widget-hbox > * {{ flex-shrink: 0; margin: 0; max-width: 100%; }}
.{PAGE_CLASS} p, .{PAGE_CLASS} figcaption {{ font-size: 20px; line-height: 1.35; margin: 6px 0; }}
.{PAGE_CLASS} figure {{ margin: 0; }}
.{PAGE_CLASS} img {{ width: 100%; display: block; }}
</style>"""
DPI = 100  # of what is drawn for a page: a figure's inches times 100 are its pixels


def new_figure(width: int, height: int) -> Figure:
    """A figure of so many pixels that pyplot knows nothing of, so that none stays open."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")


def figure_png(fig: Figure) -> bytes:
    """A figure as PNG, made fast."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return encoded(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def encoded(image: Image.Image) -> bytes:
    """An image as PNG: a larger file, made in a third of the time."""
    memory = io.BytesIO()
    image.save(memory, format="png", compress_level=1)
    return memory.getvalue()


def img(data: bytes, alt: str, kind: str = "png") -> str:
    """A PNG, or a "jpeg", as an HTML element, with the words for those who cannot see it."""
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def refusal(words: str) -> str:
    """A sentence that says what was wrong, as HTML; screen readers read it out at once."""
    return f'<p role="alert" style="color: var(--jp-error-color1, #B00020)">{escape(words)}</p>'
