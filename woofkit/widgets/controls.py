"""The controls that all explorers share: each has its name beside it and works with the keyboard."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from IPython.display import display
from ipywidgets import HTML, BoundedIntText, Button, Checkbox, Dropdown, HBox, IntSlider, SelectMultiple, VBox, Widget

from woofkit.plots.pages import HINT_CLASS, NAME_SLIDERS, PAGE_CLASS, STYLE, WORKING_CLASS
from woofkit.widgets.prompt import prompt

NARROW, WIDE = {"width": "auto"}, {"width": "auto", "flex": "1 0 220px"}
LABEL = {"description_width": "initial"}  # as wide as the words


def dropdown(name: str, words: Sequence[str] = (), values: Sequence | None = None, value: Any = None) -> Dropdown:
    """A choice among `values` (None: the words themselves), shown as `words`. It begins at `value`, or the first."""
    options = list(zip(words, words if values is None else values, strict=True))
    chosen = {} if value is None else {"value": value}
    return prompt(Dropdown)(description=name, options=options, **chosen, style=LABEL, layout=WIDE)


def several(name: str, rows: int) -> SelectMultiple:
    """A list of which none, one or more are chosen; it shows so many of its rows at a time."""
    return prompt(SelectMultiple)(
        description=name, rows=rows, style=LABEL, layout={"width": "auto", "flex": "1 0 420px"}
    )


def slider(name: str, highest: int, value: int) -> IntSlider:
    """A whole number from 1 to `highest`."""
    return prompt(IntSlider)(description=name, min=1, max=highest, value=value, style=LABEL, layout=WIDE)


def button(words: str) -> Button:
    """A button as wide as its words."""
    return prompt(Button)(description=words, layout=NARROW)


def checkbox(name: str, value: bool = False) -> Checkbox:
    """A choice of yes or no, as wide as its words."""
    return prompt(Checkbox)(description=name, value=value, indent=False, style=LABEL, layout=NARROW)


@contextmanager
def drawn_once(draw: Callable[..., None], controls: Sequence[Widget]) -> Iterator[None]:
    """Answer all changes made inside together: `draw`, which observes the controls, is called once, at the end."""
    for control in controls:
        control.unobserve(draw, "value")
    try:
        yield
    finally:
        for control in controls:
            control.observe(draw, "value")
    draw()


def shows_work(page: Widget) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate what draws a page: while it works for more than half a second, the page says so."""

    def decorate(draw: Callable[..., None]) -> Callable[..., None]:
        @wraps(draw)
        def told(*change: Any) -> None:
            page.add_class(WORKING_CLASS)
            try:
                draw(*change)
            finally:
                page.remove_class(WORKING_CLASS)

        return told

    return decorate


class Explorer(VBox):
    """Controls with a page, which say in words what they are where no kernel runs or the notebook is not trusted.

    JupyterLab has only an error to show for a widget whose kernel is gone. So the words are an output of their own,
    above the widget, which hides them as long as it is there.
    """

    def __init__(self, name: str, children: Sequence[Widget]):
        self.name = name  # at most 40 characters: ipywidgets cuts the words at 110
        super().__init__(children)

    def __repr__(self) -> str:
        return f"[Interactive part: {self.name}. It needs a running kernel: run this cell.]"

    def _ipython_display_(self) -> None:
        hint = f'<p class="{HINT_CLASS}">{self!r}</p>'
        display({"text/html": hint, "text/plain": repr(self)}, raw=True)
        display(self._repr_mimebundle_() | {"text/plain": self.name}, raw=True)


def in_lines(lines: Sequence[Sequence[Widget]], page: Widget, name: str) -> Explorer:
    """Lines of controls with what they change below them, in the explorers' look; `name` says what it is."""
    explorer = Explorer(name, [HTML(STYLE + NAME_SLIDERS), *(HBox(line) for line in lines), page])
    explorer.add_class(PAGE_CLASS)
    return explorer


class Pager:
    """Shows a list page by page: the page's number, and buttons that go round at both ends.

    `controls` are the widgets, `number` is the one to observe.
    """

    def __init__(self, size: int):
        self.size, self.count = size, 0
        self.number = prompt(BoundedIntText)(description="page", min=1, max=1, style=LABEL, layout={"width": "140px"})
        previous, following = button("◀ previous page"), button("next page ▶")
        previous.on_click(lambda _button: self._step(-1))
        following.on_click(lambda _button: self._step(1))
        self.controls = (previous, self.number, following)

    def restart(self, count: int) -> None:
        """Go to the first page of a list of `count` items."""
        self.count = count
        self.number.value, self.number.max = 1, max(1, math.ceil(count / self.size))
        for control in self.controls:
            control.disabled = self.number.max == 1

    @property
    def here(self) -> slice:
        """The places in the list that the page shows."""
        first = (self.number.value - 1) * self.size
        return slice(first, min(first + self.size, self.count))

    def position(self, noun: str) -> str:
        """Say where the page is in the list: "images 13 to 24 of 30", or "image 1 of 1"."""
        first, last = self.here.start + 1, self.here.stop
        if first == last:
            return f"{noun} {first:,} of {self.count:,}"
        return f"{noun}s {first:,} to {last:,} of {self.count:,}"

    def _step(self, by: int) -> None:
        self.number.value = (self.number.value - 1 + by) % self.number.max + 1
