"""Executed notebooks: what stands on their pages, cell after cell."""

import base64
import html
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.site.pages import Part
from woofkit.config import ConfigError
from woofkit.plots.pages import HINT_CLASS

WIDGET = "application/vnd.jupyter.widget-view+json"
NOTE = '<p class="note">Open the notebook in JupyterLab to use the controls.</p>'
GIVEN = '<p class="note">Parameters of this run:</p>'
# What a terminal does not show: codes of colours, and a line that the next one overwrote.
HIDDEN = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|^[^\n]*\r(?=[^\n])", re.MULTILINE)
# JupyterLab draws an environment without dollar signs, too. What is code, or has dollar signs, is left alone.
ENVIRONMENT = re.compile(r"(`+).*?\1|\$\$.*?\$\$|(?P<bare>\\begin\{(\w+\*?)\}.*?\\end\{\3\})", re.S)


@dataclass(frozen=True)
class Executed:
    """An executed notebook; `finished` and `minutes` are "" if nothing says when it ran, and for how long."""

    name: str
    title: str  # Markdown
    cells: list[NotebookNode]
    finished: str  # "2026-11-24 at 10:00"
    minutes: str  # "1:12"


def read_executed(path: Path) -> Executed:
    """Read a notebook that `python -m woofkit run` or papermill has executed.

    Raises ConfigError if it is no notebook, or has no title.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises whatever the broken place of the file leads to
        raise ConfigError(f"{path} is no notebook ({type(error).__name__}); run {path.stem} again") from error
    first = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    title = re.match(r"#\s+(.+)", first.lstrip())
    if not title:
        raise ConfigError(f"{path} has no title: its first words must be a heading, '# ...'")
    run = notebook.metadata.get("papermill", {})
    end, seconds = run.get("end_time"), round(run.get("duration") or 0)
    finished = f"{datetime.fromisoformat(end).astimezone():%Y-%m-%d at %H:%M}" if end else ""  # it is in UTC
    minutes = f"{seconds // 60}:{seconds % 60:02d}" if seconds else ""
    return Executed(path.stem, title[1], notebook.cells, finished, minutes)


def notebook_parts(executed: Executed) -> list[Part]:
    """Return what stands on a notebook's page, in order."""
    parts = []
    for number, cell in enumerate(executed.cells, start=1):
        place = f"{executed.name}, cell {number}"
        if cell.cell_type == "markdown":
            parts.append(Part("markdown", _words(cell), place))
        elif cell.cell_type == "code":
            kept = {"parameters", "injected-parameters"}.intersection(cell.metadata.get("tags", []))
            if "injected-parameters" in kept:
                parts.append(Part("html", GIVEN, place))
            if cell.source.strip():
                parts.append(Part("code", cell.source, place, "code kept" if kept else "code"))
            parts += [Part(*_output(output), place) for output in cell.outputs]
    return parts


def _words(cell: NotebookNode) -> str:
    source = ENVIRONMENT.sub(lambda found: f"$${found['bare']}$$" if found["bare"] else found[0], cell.source)
    for name, versions in cell.get("attachments", {}).items():
        for kind, data in versions.items():
            source = source.replace(f"attachment:{name}", f"data:{kind};base64,{''.join(data.split())}")
    return source


def _output(output: NotebookNode) -> tuple[str, str]:
    """Kind and text of the part that shows an output, in the richest form that a page can hold."""
    if output.output_type == "stream":
        return "html", _preformatted(output.text, "stderr" if output.name == "stderr" else "printed")
    if output.output_type == "error":
        return "html", _preformatted("\n".join(output.traceback), "stderr")
    data = output.data
    if WIDGET in data:
        progress = "%|" in data.get("text/plain", "")  # a bar of tqdm has no controls, and has nothing left to show
        return "html", "" if progress else NOTE
    if HINT_CLASS in data.get("text/html", ""):
        return "html", ""  # it says where a widget's controls are, as NOTE does
    if "text/html" in data:
        return "html", f'<div class="wide html" tabindex="0">{data["text/html"]}</div>'
    for kind in ("text/markdown", "text/latex"):
        if kind in data:
            return "markdown", data[kind]
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if kind in data:
            alt = output.metadata.get(kind, {}).get("alt") or output.metadata.get("alt") or ""
            text = base64.b64encode(data[kind].encode()).decode() if kind == "image/svg+xml" else data[kind]
            source = f"data:{kind};base64,{''.join(text.split())}"
            return "html", f'<img class="figure" alt="{html.escape(alt)}" src="{source}">'
    return "html", _preformatted(data.get("text/plain", ""), "printed")


def _preformatted(text: str, style: str) -> str:
    return f'<pre class="{style}">{html.escape(HIDDEN.sub("", text))}</pre>'
