"""The controls that all explorers share: each has its name beside it and works with the keyboard."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps

from ipywidgets import HTML, Button, Checkbox, Dropdown, HBox, IntSlider, VBox, Widget

from woofkit.plots.pages import PAGE_CLASS, STYLE

NARROW, WIDE = {"width": "auto"}, {"width": "auto", "flex": "1 0 220px"}
LABEL = {"description_width": "initial"}  # as wide as the words


def dropdown(name: str, words: Sequence[str], values: Sequence, value=None) -> Dropdown:
    """A choice among `values`, shown as `words`; the first is chosen unless `value` says another."""
    options = list(zip(words, values, strict=True))
    value = options[0][1] if value is None else value
    return Dropdown(description=name, options=options, value=value, style=LABEL, layout=WIDE)


def slider(name: str, highest: int, value: int, lowest: int = 1) -> IntSlider:
    """A whole number from `lowest` to `highest`."""
    return IntSlider(description=name, min=lowest, max=highest, value=value, style=LABEL, layout=WIDE)


def button(words: str) -> Button:
    """A button as wide as its words."""
    return Button(description=words, layout=NARROW)


def checkbox(name: str, value: bool = False) -> Checkbox:
    """A choice of yes or no, as wide as its words."""
    return Checkbox(description=name, value=value, indent=False, style=LABEL, layout=NARROW)


def undisturbed(draw: Callable[..., None]) -> Callable[..., None]:
    """`draw`, during which the garbage collector rests.

    A full collection walks through half a million objects of the imported libraries, for a third of a second or more.
    It can wait until the change is shown.
    """

    @wraps(draw)
    def drawn(*change) -> None:
        collects = gc.isenabled()
        gc.disable()
        try:
            draw(*change)
        finally:
            if collects:
                gc.enable()

    return drawn


@contextmanager
def drawn_once(draw: Callable, controls: Sequence[Widget]) -> Iterator[None]:
    """Answer all changes made inside together: `draw`, which observes the controls, is called once, at the end."""
    for control in controls:
        control.unobserve(draw, "value")
    try:
        yield
    finally:
        for control in controls:
            control.observe(draw, "value")
    draw()


def in_lines(lines: Sequence[Sequence[Widget]], page: Widget) -> VBox:
    """Lines of controls with what they change below them, in the explorers' look."""
    explorer = VBox([HTML(STYLE), *(HBox(line) for line in lines), page])
    explorer.add_class(PAGE_CLASS)
    return explorer
