"""A photograph of one's own: what each model says of it, and what it looks at."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ipywidgets import HTML, FileUpload, Text, VBox, Widget
from torch import Tensor, nn

from woofkit.config import ConfigError
from woofkit.data import Transform
from woofkit.plots.pages import photo_page, refusal
from woofkit.widgets.controls import LABEL, NARROW, WIDE, button, in_lines, shows_work
from woofkit.widgets.maps import Choice, ExplorerMaps
from woofkit.widgets.photos import decode_photo, own_photo_note, read_photo
from woofkit.widgets.prompt import prompt


def own_photo_explorer(
    models: Mapping[str, nn.Module], transform: Transform, class_names: Sequence[str], drawn: bool | None = None
) -> VBox:
    """Make the controls (upload a picture, or name its path) and, below, each model's answer and attention map.

    The map is the attention of CLS in the last block, the mean of its heads.

    Args:
        models: name -> model in eval mode.
        drawn: whether the models have seen only drawings, which the page then says; None: not known.

    Raises:
        ConfigError: no model, or one in training mode.
    """
    if not models:
        raise ConfigError("there is no model to ask")
    for name, model in models.items():
        if model.training:
            raise ConfigError(f"model {name!r} is in training mode: call eval() first")
    maps = ExplorerMaps(models, torch.empty(0), transform)
    note = own_photo_note(class_names, drawn)
    page = HTML(f"<p>No picture yet. {note}</p>")

    @shows_work(page)
    def show(name: str, photo: Tensor) -> None:
        maps.pictures.append(photo)
        place = len(maps.pictures) - 1
        answers = {model: maps.record(place, model).probabilities.numpy() for model in models}
        heatmaps = {model: maps.map(Choice(place, model)) for model in models}
        page.value = photo_page(maps.image(place), name, answers, class_names, heatmaps, [name, note])

    controls, message = photo_controls(transform, show)
    return in_lines([controls, (message,)], page, "a photograph of your own")


def photo_controls(transform: Transform, take: Callable[[str, Tensor], None]) -> tuple[tuple[Widget, ...], HTML]:
    """Make the controls that bring a picture (upload, path, load), and the line for what was wrong with it.

    `take(name, pixels)` gets each picture that can be read, uint8 (3, size, size).
    """
    upload = prompt(FileUpload)(
        description="upload a photo", accept="image/*,.heic,.heif", multiple=False, layout=NARROW
    )
    path = prompt(Text)(
        description="or its path", placeholder="~/dog.jpg", continuous_update=False, style=LABEL, layout=WIDE
    )
    add, message = button("load"), HTML()

    def tell(read: Callable[[], tuple[str, Tensor]]) -> None:
        try:
            name, photo = read()
        except ConfigError as error:
            message.value = refusal(str(error))
        else:
            message.value = ""
            take(name, photo)

    def uploaded(change: Any) -> None:
        for file in change.new:
            tell(lambda file=file: (file.name, decode_photo(file.name, bytes(file.content), transform)))
        if change.new:
            upload.value = ()  # so that the same file may be brought again

    def typed(_button: Any = None) -> None:
        tell(lambda: (Path(path.value.strip(" \"'")).name, read_photo(path.value, transform)))

    upload.observe(uploaded, "value")
    path.observe(lambda change: change.new and typed(), "value")  # at Enter, and when the field is left
    add.on_click(typed)
    return (upload, path, add), message
