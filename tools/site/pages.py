"""A page of the site for each executed notebook."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader, Template, pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from tools.site.figures import describe_figures, with_alt
from tools.site.static_widgets import widget_html
from tools.site.words import PageRenderer, plain
from woofkit.config import ConfigError

TEMPLATES = Path(__file__).with_name("templates")
WIDGETS = "application/vnd.jupyter.widget-state+json"
# Pygments' default: its colours keep a contrast of 4.5 to 1 on white, and no meaning hangs on them.
CODE_STYLE = "default"


@dataclass(frozen=True)
class Executed:
    """An executed notebook: its name, its cells, its title in plain words, and when and how long it ran."""

    name: str
    notebook: NotebookNode
    title: str
    finished: datetime | None
    seconds: float | None


def read_executed(path: Path) -> Executed:
    """Read a notebook that `python -m woofkit run` or papermill has executed.

    Raises ConfigError if it is no notebook, or has no title that can be read.
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
    finished = datetime.fromisoformat(run["end_time"]).astimezone() if run.get("end_time") else None  # it is in UTC
    words = plain(PageRenderer(f"{path.stem}, title").render(title[1]))
    return Executed(path.stem, notebook, words, finished, run.get("duration"))


def notebook_page(executed: Executed, others: Sequence[Executed], profile: str) -> str:
    """Return the page of a notebook as HTML; `others` are all notebooks of the site, in order, this one included.

    Raises ConfigError, naming notebook and cell, for a formula that cannot be drawn.
    """
    words = PageRenderer(notebooks=[other.name for other in others])
    notebook = _prepared(executed.notebook)
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})

    @pass_context
    def markdown(context: Context, source: str) -> str:
        cell = context["cell"]
        words.place, words.attachments = f"{executed.name}, cell {cell.metadata.number}", cell.get("attachments", {})
        return with_alt(words.render(source), "Picture")

    exporter = HTMLExporter(
        template_file="cells.html.j2",
        extra_template_basedirs=[str(TEMPLATES)],
        extra_template_paths=[str(TEMPLATES)],
        filters={
            "markdown2html": markdown,
            "with_alt": with_alt,
            "widget": lambda view, alt: with_alt(widget_html(view["model_id"], state), alt),
        },
    )
    cells, _resources = exporter.from_notebook_node(notebook)
    place = [other.name for other in others].index(executed.name)
    return template("page.html.j2").render(
        title=executed.title,
        cells=cells,
        headings=[heading for heading in words.headings if heading.level in (2, 3)],
        before=others[place - 1] if place else None,
        after=others[place + 1] if place + 1 < len(others) else None,
        executed=executed,
        profile=profile,
    )


@cache
def template(name: str) -> Template:
    """Return one of the site's own templates; all of them share one frame and one style."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["minutes"] = lambda seconds: "{}:{:02d}".format(*divmod(round(seconds), 60))
    environment.globals["code_style"] = HtmlFormatter(style=CODE_STYLE).get_style_defs(".highlight")
    return environment.get_template(name)


def _prepared(notebook: NotebookNode) -> NotebookNode:
    """A copy with its cells numbered and its figures described, for the template."""
    notebook = copy.deepcopy(notebook)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.metadata.number = number
    describe_figures(notebook)
    return notebook
