"""The attention explorer: every control works with the keyboard, and every picture has words beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ipywidgets import HTML, Label, Text, VBox
from matplotlib.figure import Figure
from torch import Tensor, nn

from woofkit.config import ConfigError, require_range
from woofkit.data import Images, Transform
from woofkit.explain.maps import KINDS, explain_images
from woofkit.plots.attention import explorer_grid
from woofkit.plots.pages import MapView, map_page, refusal, verdict
from woofkit.plots.style import MAP_NAMES, difference_name
from woofkit.widgets.controls import LABEL, WIDE, button, dropdown, in_lines, slider, undisturbed
from woofkit.widgets.maps import BEFORE, PREDICTED, Choice, ExplorerMaps
from woofkit.widgets.photos import read_photo


def attention_explorer(
    models: Mapping[str, nn.Module],
    pixels: Tensor,
    labels: Sequence[int] | None,
    transform: Transform,
    class_names: Sequence[str],
    start: int = 0,
) -> VBox:
    """Make the controls and the picture: which image, model, map, block and head, and how many patches.

    A picture's maps of one kind keep one scale whatever else is chosen, the 98th percentile over all models, blocks and
    heads; the differences from the original have another. A patch beyond the end has the last colour.

    Args:
        models: name -> model in eval mode; what one called "original" shows is subtracted from the others' maps.
        pixels: uint8 (N, 3, H, W), as `load_pixels` gives them.
        labels: positions in `class_names` (N,), or None where they are not known.
        start: the image shown first, numbered from 0 as in `pixels`.

    Raises:
        ConfigError: no model, no image, labels of another length, `start` out of range, or models that are not alike.
    """
    truth = _checked_labels(models, pixels, labels, class_names, "start", start)
    maps = ExplorerMaps(models, pixels, transform)
    shapes = {name: _shape(maps, start, name, class_names) for name in models}
    blocks, heads = next(iter(shapes.values()))[:2]
    if len(set(shapes.values())) > 1:
        listed = "; ".join(f"{name!r} has {shape}" for name, shape in shapes.items())
        raise ConfigError(f"models differ in (blocks, heads, grid height, grid width): {listed}")
    titles = [_title(index, label, class_names) for index, label in enumerate(truth)]
    pairs = [(name, "") for name in models] + [(name, BEFORE) for name in models if BEFORE in models and name != BEFORE]

    image = dropdown("image", titles, range(len(titles)), start)
    model = dropdown("model", [difference_name(*pair) for pair in pairs], pairs)
    kind = dropdown("map", [MAP_NAMES[kind] for kind in KINDS], KINDS)
    layer = slider("block", blocks, blocks)
    head = dropdown("head", ["mean", *map(str, range(1, heads + 1))], range(heads + 1))
    asked = dropdown("class", ["the prediction", *class_names], range(PREDICTED, len(class_names)))
    share = slider("show the strongest", 100, 100)
    path = Text(
        description="own photo (path)", placeholder="~/dog.jpg", continuous_update=False, style=LABEL, layout=WIDE
    )
    previous, following, add = (button(words) for words in ("◀ previous", "next ▶", "load"))
    page, message = HTML(), HTML()

    @undisturbed
    def draw(_change=None) -> None:
        now = Choice(image.value, *model.value, kind.value, layer.value - 1, head.value, asked.value)
        layer.disabled = head.disabled = now.kind != "attention"
        asked.disabled = now.kind != "relevance"
        says = {
            name: verdict(maps.record(now.image, name).probabilities, truth[now.image], class_names)
            for name in (now.model, now.against)
            if name
        }
        vmax = maps.scale(now.image, now.kind, bool(now.against))
        view = MapView(maps.map(now), _words(now, class_names[maps.asked(now)]), vmax, share.value)
        page.value = map_page(maps.image(now.image), titles[now.image], view, says)

    def step(by: int) -> None:
        image.value = (image.value + by) % len(titles)

    def load(_button=None) -> None:
        try:
            photo = read_photo(path.value, transform)
        except ConfigError as error:
            message.value = refusal(str(error))
            return
        message.value = ""
        place = next((n for n in range(len(pixels), len(titles)) if maps.pictures[n].equal(photo)), len(titles))
        if place == len(titles):
            maps.pictures.append(photo)
            truth.append(None)
            titles.append(f"own: {Path(path.value).name}")
            image.unobserve(draw, "value")  # new options choose the first image, which nobody asked for
            image.options, image.value = list(zip(titles, range(len(titles)), strict=True)), place
            image.observe(draw, "value")
            draw()
        image.value = place

    for control in (image, model, kind, layer, head, asked, share):
        control.observe(draw, "value")
    path.observe(lambda change: change.new and load(), "value")  # at Enter, and when the field is left
    add.on_click(load)
    previous.on_click(lambda _button: step(-1))
    following.on_click(lambda _button: step(1))
    draw()
    lines = [
        (previous, image, following, model),
        (kind, layer, head),
        (share, Label("% of the patches"), asked),
        (path, add),
        (message,),
    ]
    return in_lines(lines, page)


def explorer_figure(
    models: Mapping[str, nn.Module],
    pixels: Tensor,
    labels: Sequence[int] | None,
    transform: Transform,
    class_names: Sequence[str],
    index: int = 0,
) -> Figure:
    """Draw what the explorer shows of one image, for paper: a row a model, a column a kind of map.

    Attention is that of the last block, the mean of its heads. Arguments and errors as for `attention_explorer`.
    """
    label = _checked_labels(models, pixels, labels, class_names, "index", index)[index]
    picture = Images(pixels[index : index + 1], None, transform)
    explained = {name: explain_images(model, picture) for name, model in models.items()}
    for name, each in explained.items():
        _check_classes(name, each.logits.shape[1], class_names)
    maps = {kind: {name: each.maps[kind][0].numpy() for name, each in explained.items()} for kind in KINDS}
    says = {name: verdict(each.probabilities[0], label, class_names) for name, each in explained.items()}
    return explorer_grid(pixels[index].permute(1, 2, 0).cpu().numpy(), maps, says, _title(index, label, class_names))


def _checked_labels(models, pixels, labels, class_names, name: str, index: int) -> list[int | None]:
    """The labels as a list of their own, with None for the unknown ones."""
    if not models:
        raise ConfigError("there is no model to explore")
    if len(pixels) == 0:
        raise ConfigError("there is no image to explore")
    if labels is not None and len(labels) != len(pixels):
        raise ConfigError(f"{len(pixels)} images need as many labels, got {len(labels)}")
    require_range(name, index, 0, len(pixels) - 1)
    for label in () if labels is None else labels:
        require_range("label", int(label), 0, len(class_names) - 1)
    for model, network in models.items():
        if network.training:
            raise ConfigError(f"model {model!r} is in training mode: call eval() first")
    return [None] * len(pixels) if labels is None else [int(label) for label in labels]


def _shape(maps: ExplorerMaps, image: int, model: str, class_names: Sequence[str]) -> tuple[int, int, int, int]:
    record = maps.record(image, model)
    _check_classes(model, len(record.probabilities), class_names)
    blocks, heads_and_mean, *grid = record.attention.shape
    return blocks, heads_and_mean - 1, *grid


def _check_classes(model: str, known: int, class_names: Sequence[str]) -> None:
    if known != len(class_names):
        raise ConfigError(f"model {model!r} knows {known} classes, but {len(class_names)} are named")


def _title(index: int, label: int | None, class_names: Sequence[str]) -> str:
    return f"{index}" if label is None else f"{index} · {class_names[label]}"


def _words(choice: Choice, asked: str) -> str:
    """Which map it is."""
    which = {
        "attention": f", block {choice.layer + 1}, " + (f"head {choice.head}" if choice.head else "mean of the heads"),
        "rollout": " through all blocks",
        "relevance": f" for {asked}",
    }[choice.kind]
    return f"{MAP_NAMES[choice.kind]}{which}"
