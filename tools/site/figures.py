"""The figures of an executed notebook: what stands for them where they cannot be seen, and the one on the contents."""

import base64
import html
import io
import re

from nbformat import NotebookNode
from PIL import Image

PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
THUMBNAIL = 960  # pixels: twice the width of a card, for sharp screens


def describe_figures(notebook: NotebookNode) -> None:
    """Give every output with a picture its alternative text, `output.metadata.alt`.

    It is the one the output came with, or else the heading of its section: "Figure: How many of each?".
    """
    heading, number = "", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = _last_heading(cell.source)
            heading, number = (found, 0) if found else (heading, number)
        for output in cell.get("outputs", []):
            metadata = output.setdefault("metadata", NotebookNode())
            given = [metadata.get(mime, {}).get("alt") for mime in PICTURES] + [metadata.get("alt")]
            number += any(mime in output.get("data", {}) for mime in PICTURES)
            which = f"Figure {number}" if number > 1 else "Figure"
            metadata["alt"] = next(filter(None, given), f"{which}: {heading}" if heading else which)


def with_alt(markup: str, alt: str) -> str:
    """Return HTML in which every <img> without an alternative text has `alt`."""
    return re.sub(r"<img\b(?![^>]*\balt\s*=)", lambda _: f'<img alt="{html.escape(alt)}"', markup)


def first_picture(notebook: NotebookNode) -> bytes | None:
    """Return the first PNG among a notebook's outputs, or None."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output.data["image/png"])
    return None


def thumbnail(picture: bytes) -> str:
    """Return a picture at the size of a card, as a data: URI."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((THUMBNAIL, 2 * THUMBNAIL))
    memory = io.BytesIO()
    image.save(memory, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()


def _last_heading(source: str) -> str:
    words = re.sub(r"```.*?```", "", source, flags=re.S)
    headings = re.findall(r"^#{1,6}\s+(.+)$", words, flags=re.M)
    return re.sub(r"[*`$]", "", headings[-1]).strip() if headings else ""
