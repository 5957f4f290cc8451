"""The attention explorer: every control works with the keyboard, and every picture has words beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ipywidgets import HTML, Label, Play, VBox, jslink
from matplotlib.figure import Figure
from torch import Tensor, nn

from woofkit.config import ConfigError, require_range
from woofkit.data import Transform
from woofkit.explain.maps import KINDS
from woofkit.plots.attention import explorer_grid
from woofkit.plots.pages import MapView, map_page, verdict
from woofkit.plots.style import MAP_NAMES, difference_name
from woofkit.widgets.controls import button, drawn_once, dropdown, in_lines, shows_work, slider
from woofkit.widgets.maps import BEFORE, PREDICTED, Choice, ExplorerMaps
from woofkit.widgets.own_photo import photo_controls
from woofkit.widgets.photos import own_photo_note
from woofkit.widgets.prompt import prompt


def attention_explorer(
    models: Mapping[str, nn.Module],
    pixels: Tensor,
    labels: Sequence[int],
    transform: Transform,
    class_names: Sequence[str],
    index: int = 0,
) -> VBox:
    """Make the controls and the picture: which image, model, map, block and head, and how many patches.

    "play" walks through the blocks. A photograph of one's own may be uploaded, or named by its path.

    A picture's maps of one kind have one scale whatever else is chosen: the 98th percentile over all models, blocks and
    heads. The differences from the original have another. A patch beyond the end has the last colour.

    Args:
        models: name -> model in eval mode; what one called "original" shows is subtracted from the others' maps.
        pixels: uint8 (N, 3, H, W), as `load_pixels` gives them.
        labels: positions in `class_names` (N,).
        index: the image shown first, numbered from 0 as in `pixels`.

    Raises:
        ConfigError: no model, no image, labels of another length, `index` out of range, or models that are not alike.
    """
    maps = _checked_maps(models, pixels, labels, transform, class_names, index)
    truth, titles = list(labels), [_title(place, label, class_names) for place, label in enumerate(labels)]
    blocks, heads_and_mean, *_ = maps.record(index, next(iter(models))).attention.shape
    pairs = [(name, "") for name in models] + [(name, BEFORE) for name in models if BEFORE in models and name != BEFORE]

    image = dropdown("image", titles, range(len(titles)), index)
    model = dropdown("model", [difference_name(*pair) for pair in pairs], pairs)
    kind = dropdown("map", [MAP_NAMES[kind] for kind in KINDS], list(KINDS))
    layer = slider("block", blocks, blocks)
    head = dropdown("head", ["mean", *map(str, range(1, heads_and_mean))], range(heads_and_mean))
    asked = dropdown("class", ["the prediction", *class_names], range(PREDICTED, len(class_names)))
    share = slider("show the strongest", 100, 100)
    play = prompt(Play)(
        min=1, max=blocks, value=1, interval=900, description="play through the blocks", show_repeat=False
    )
    jslink((play, "value"), (layer, "value"))
    play.value = layer.value
    previous, following = button("◀ previous"), button("next ▶")
    page = HTML()

    @shows_work(page)
    def draw(_change: Any = None) -> None:
        now = Choice(image.value, *model.value, kind.value, layer.value - 1, head.value, asked.value)
        layer.disabled = head.disabled = play.disabled = now.kind != "attention"
        asked.disabled = now.kind != "relevance"
        says = {
            name: verdict(maps.record(now.image, name).probabilities, truth[now.image], class_names)
            for name in filter(None, (now.model, now.against))
        }
        vmax = maps.scale(now.image, now.kind, bool(now.against))
        view = MapView(maps.map(now), _words(now, class_names[maps.asked(now)]), vmax, share.value)
        note = f"<p>{own_photo_note(class_names)}</p>" if truth[now.image] is None else ""
        page.value = map_page(maps.image(now.image), titles[now.image], view, says) + note

    def step(by: int) -> None:
        image.value = (image.value + by) % len(titles)

    def take(name: str, photo: Tensor) -> None:
        place = next((n for n in range(len(pixels), len(titles)) if maps.pictures[n].equal(photo)), len(titles))
        if place == len(titles):
            maps.pictures.append(photo)
            truth.append(None)
            titles.append(f"own: {name}")
            with drawn_once(draw, [image]):  # new options choose the first image, which nobody asked for
                image.options, image.value = list(zip(titles, range(len(titles)), strict=True)), place
        image.value = place

    for control in (image, model, kind, layer, head, asked, share):
        control.observe(draw, "value")
    previous.on_click(lambda _button: step(-1))
    following.on_click(lambda _button: step(1))
    own, message = photo_controls(transform, take)
    draw()
    lines = [
        (previous, image, following, model),
        (kind, layer, play, head),
        (share, Label("% of the patches"), asked),
        own,
        (message,),
    ]
    return in_lines(lines, page, "attention explorer")


def explorer_figure(
    models: Mapping[str, nn.Module],
    pixels: Tensor,
    labels: Sequence[int],
    transform: Transform,
    class_names: Sequence[str],
    index: int = 0,
) -> Figure:
    """Draw what the explorer shows of one image as a still figure: one row per model, one column per kind of map.

    Attention is that of the last block, the mean of its heads. Arguments and errors as for `attention_explorer`.
    """
    maps = _checked_maps(models, pixels, labels, transform, class_names, index)
    heatmaps = {kind: {name: maps.map(Choice(index, name, kind=kind)) for name in models} for kind in KINDS}
    label = labels[index]
    says = {name: verdict(maps.record(index, name).probabilities, label, class_names) for name in models}
    return explorer_grid(maps.image(index), heatmaps, says, _title(index, label, class_names))


def _checked_maps(
    models: Mapping[str, nn.Module],
    pixels: Tensor,
    labels: Sequence[int],
    transform: Transform,
    class_names: Sequence[str],
    index: int,
) -> ExplorerMaps:
    """The maps of models that are alike, with those of one picture made."""
    if not models:
        raise ConfigError("there is no model to explore")
    if len(pixels) == 0:
        raise ConfigError("there is no image to explore")
    if len(labels) != len(pixels):
        raise ConfigError(f"{len(pixels)} images need as many labels, got {len(labels)}")
    require_range("index", index, 0, len(pixels) - 1)
    for label in labels:
        require_range("label", int(label), 0, len(class_names) - 1)
    maps, shapes = ExplorerMaps(models, pixels, transform), {}
    for name, model in models.items():
        if model.training:
            raise ConfigError(f"model {name!r} is in training mode: call eval() first")
        record = maps.record(index, name)
        if (known := len(record.probabilities)) != len(class_names):
            raise ConfigError(f"model {name!r} knows {known} classes, but {len(class_names)} are named")
        blocks, heads_and_mean, *grid = record.attention.shape
        shapes[name] = (blocks, heads_and_mean - 1, *grid)
    if len(set(shapes.values())) > 1:
        listed = "; ".join(f"{name!r} has {shape}" for name, shape in shapes.items())
        raise ConfigError(f"models differ in (blocks, heads, grid height, grid width): {listed}")
    return maps


def _title(index: int, label: int, class_names: Sequence[str]) -> str:
    return f"{index} · {class_names[label]}"


def _words(choice: Choice, asked: str) -> str:
    """Which map it is."""
    which = {
        "attention": f", block {choice.layer + 1}, " + (f"head {choice.head}" if choice.head else "mean of the heads"),
        "rollout": " through all blocks",
        "relevance": f" for {asked}",
    }[choice.kind]
    return f"{MAP_NAMES[choice.kind]}{which}"
