"""Draw your own dog: change its traits and see what a model says, which has never seen such a dog."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ipywidgets import HTML, Accordion, FloatSlider, HBox, VBox, Widget
from PIL import Image
from torch import nn

from woofkit.config import ConfigError, require_choice
from woofkit.data import Transform
from woofkit.plots.pages import own_dog_page
from woofkit.sketch.breeds import BREEDS, breed_traits
from woofkit.sketch.drawing import Drawing, draw_dog
from woofkit.sketch.skeleton import POSES
from woofkit.sketch.traits import CHOICES, NAMES, NUMBERS, Traits, trait_distance
from woofkit.widgets.controls import LABEL, WIDE, button, drawn_once, dropdown, in_lines, shows_work
from woofkit.widgets.prompt import own_models, prompt

STANDING = "standing"  # shows legs and tail, which a portrait does not
SEED = 50  # the stream of dogs that is in no split: no model has seen them
# Of the numbers, those that make one breed look like another; the others wait under "more traits".
TELLING = ("body_size", "leg_length", "muzzle_length", "ear_length", "tail_length", "coat_length", "fringe", "ridge")


def draw_your_own_dog(
    models: Mapping[str, nn.Module],
    transform: Transform,
    class_names: Sequence[str],
    start: str = "Samoyed",
    change: Mapping[str, str | float] | None = None,
) -> VBox:
    """Make the controls (breed, traits, pose, which dog) and the drawing with the models' answers.

    Another dog is another place, light, pose and nature; the traits stay as they are set, and the other way round.
    What a model said of the same dog as its breed has it stands below its answer, in grey.

    Args:
        models: name -> model in eval mode, on any device.
        class_names: what the models' outputs stand for.
        start: the breed drawn first, standing.
        change: traits that are not as the breed has them, by name, to begin with.

    Raises:
        ConfigError: no model, one in training mode or with other classes, an unknown breed or trait.
    """
    require_choice("breed", start, BREEDS)
    first = {name: getattr(breed_traits(start), name) for name in NAMES}
    for name in change or {}:
        require_choice("trait", name, NAMES)
    first |= change or {}
    _check_models(models, transform, class_names)
    models = own_models(models)
    breed = dropdown("start from", BREEDS, value=start)
    traits = {name: _trait_control(name, first[name]) for name in NAMES}
    pose = dropdown("pose", ["any", *POSES], ["", *POSES], STANDING)
    reset, previous, another = (button(words) for words in ("back to the breed", "◀ the dog before", "another dog ▶"))
    more = prompt(Accordion)([HBox([traits[name] for name in NUMBERS if name not in TELLING])], titles=["more traits"])
    more.selected_index, more.layout.width = None, "100%"
    shown, index = HTML(), 0  # which dog of the stream
    unchanged: dict[tuple, dict[str, np.ndarray]] = {}  # the answers on dogs as their breed has them

    def ask(now: Traits) -> tuple[Drawing, dict[str, np.ndarray]]:
        drawing = draw_dog(now, seed=SEED, index=index, size=transform.size, pose=pose.value or None)
        return drawing, {name: _probabilities(model, drawing.image, transform) for name, model in models.items()}

    @shows_work(shown)
    def draw(_change: Any = None) -> None:
        now, as_bred = Traits(**{name: control.value for name, control in traits.items()}), breed_traits(breed.value)
        same_dog = (breed.value, index, pose.value)
        if now != as_bred and same_dog not in unchanged:
            unchanged[same_dog] = ask(as_bred)[1]
        drawing, said = ask(now)
        if now == as_bred:
            unchanged[same_dog] = said
        before = {} if now == as_bred else unchanged[same_dog]
        answers = {name: (each, before.get(name)) for name, each in said.items()}
        distances = {name: trait_distance(now, breed_traits(name)) for name in BREEDS}
        changed = "; ".join(_differences(now, breed_traits(breed.value)))
        kind = f"{drawing.pose}: {breed.value}" + (f" with {changed}" if changed else ", with the traits of its breed")
        lines = [f"Dog {index}, {kind}.", _nearest(distances)]
        if drawing.pose == "portrait":
            lines.append("A portrait shows neither legs nor tail. Choose another pose to see them.")
        shown.value = own_dog_page(drawing.image, f"A drawn dog, {kind}", answers, class_names, distances, lines)

    def to_breed(_change: Any = None) -> None:
        with drawn_once(draw, list(traits.values())):
            for name, control in traits.items():
                control.value = getattr(breed_traits(breed.value), name)

    def step(by: int) -> None:
        nonlocal index
        index += by
        previous.disabled = index == 0
        draw()

    for control in (pose, *traits.values()):
        control.observe(draw, "value")
    breed.observe(to_breed, "value")
    reset.on_click(to_breed)
    previous.on_click(lambda _button: step(-1))
    another.on_click(lambda _button: step(1))
    step(0)
    words, numbers = ([traits[name] for name in names] for names in (CHOICES, TELLING))
    lines = [(breed, reset, previous, another), (*words, pose), numbers, (more,)]
    return in_lines(lines, shown, "draw your own dog")


def _check_models(models: Mapping[str, nn.Module], transform: Transform, class_names: Sequence[str]) -> None:
    if not models:
        raise ConfigError("there is no model to ask")
    for name, model in models.items():
        if model.training:
            raise ConfigError(f"model {name!r} is in training mode: call eval() first")
        known = len(_probabilities(model, np.zeros((transform.size, transform.size, 3), np.uint8), transform))
        if known != len(class_names):
            raise ConfigError(f"model {name!r} knows {known} classes, but {len(class_names)} are named")


@torch.inference_mode()
def _probabilities(model: nn.Module, image: np.ndarray, transform: Transform) -> np.ndarray:
    """What a model says of an image, uint8 (H, W, 3): its softmax, float (C,)."""
    inputs = transform(Image.fromarray(image))[None].to(next(model.parameters()).device)
    return model(inputs)[0].float().softmax(dim=0).cpu().numpy()


def _trait_control(name: str, value: str | float) -> Widget:
    if name in CHOICES:
        return dropdown(_words(name), CHOICES[name], value=value)
    look = {"readout_format": ".0%", "style": LABEL, "layout": WIDE | {"flex": "1 0 300px"}}  # three in a line
    return prompt(FloatSlider)(description=_words(name), min=0, max=1, step=0.01, value=value, **look)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _differences(traits: Traits, breed: Traits) -> list[str]:
    """What is not as the breed has it: ["ear shape drop, not pricked", "leg length 80%, not 50%"]."""
    pairs = {name: (_written(getattr(traits, name)), _written(getattr(breed, name))) for name in NAMES}
    return [f"{_words(name)} {now}, not {was}" for name, (now, was) in pairs.items() if now != was]


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{100 * value:.0f}%"


def _nearest(distances: Mapping[str, float]) -> str:
    first, second = sorted(distances, key=distances.get)[:2]
    return (
        f"Nearest breed by traits: {first} ({distances[first]:.2f}), then {second} ({distances[second]:.2f}). "
        "At distance 0 all traits are equal, at 1 all are as different as possible."
    )
