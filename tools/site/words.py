"""The words of a notebook: Markdown to HTML, with formulas drawn, headings to jump to and links between the pages."""

import html
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from tools.site.formulas import to_mathml
from woofkit.config import ConfigError


@dataclass(frozen=True)
class Heading:
    """A heading of a page: its level (1: the title), the id to jump to, and its words as HTML."""

    level: int
    anchor: str
    words: str


class PageRenderer(IPythonRenderer):
    """Renders the Markdown of one page, cell after cell, and remembers its headings.

    `place` names what is being rendered, for messages; `notebooks` are the names whose links lead to pages.
    """

    def __init__(self, place: str = "", notebooks: Collection[str] = ()) -> None:
        super().__init__(escape=False)
        self.place = place
        self.notebooks = notebooks
        self.headings: list[Heading] = []

    def render(self, source: str) -> str:
        """Return Markdown as HTML. Raises ConfigError, naming place and formula, for one that cannot be drawn."""
        return MarkdownWithMath(renderer=self).render(source)

    def inline_math(self, body: str) -> str:
        return self._math(body)

    def block_math(self, body: str) -> str:
        return self._math(body, block=True)

    def latex_environment(self, name: str, body: str) -> str:
        return self._math(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        # The ids that JupyterLab gives, so that links to a section of a notebook hold here too.
        words = plain(text)
        base = anchor = words.replace(" ", "-")
        taken = {heading.anchor for heading in self.headings}
        number = 1
        while anchor in taken:
            number += 1
            anchor = f"{base}-{number}"
        self.headings.append(Heading(level, anchor, text))
        return f'<h{level} id="{html.escape(anchor)}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        parts = urlsplit(url)
        if parts.scheme or url.startswith("#"):
            return super().link(text, url, title)
        name = parts.path.removeprefix("./").removesuffix(".ipynb")
        if not parts.path.endswith(".ipynb") or name not in self.notebooks:
            return text  # a file of the project: the site does not hold it, so the words stay and lead nowhere
        return super().link(text, f"{name}.html" + (f"#{parts.fragment}" if parts.fragment else ""), title)

    def table(self, text: str) -> str:
        return f'<div class="wide" tabindex="0"><table>\n{text}</table></div>\n'

    def _math(self, formula: str, block: bool = False) -> str:
        try:
            return to_mathml(formula, block)
        except ValueError as error:
            raise ConfigError(f"{self.place}: the formula {formula.strip()!r} cannot be drawn: {error}") from error


def plain(words: str) -> str:
    """Return HTML without its tags and entities."""
    return html.unescape(re.sub(r"<[^>]+>", "", words)).strip()
