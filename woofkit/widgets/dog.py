"""Draw your own dog: change its traits and see what a model says, which has never met such a dog."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ipywidgets import HTML, Accordion, HBox, VBox
from PIL import Image
from torch import nn

from woofkit.config import ConfigError, require_choice
from woofkit.data import Transform
from woofkit.plots.pages import own_dog_page
from woofkit.sketch.breeds import BREEDS, breed_traits
from woofkit.sketch.drawing import Drawing, draw_dog
from woofkit.sketch.skeleton import POSES
from woofkit.sketch.traits import CHOICES, NAMES, NUMBERS, Traits, trait_distance
from woofkit.widgets.controls import button, drawn_once, dropdown, in_lines, slider, undisturbed

SEED = 50  # the stream of dogs that is in no split
# Of the numbers, those that make one breed look like another; the others wait under "more traits".
TELLING = ("body_size", "leg_length", "muzzle_length", "ear_length", "tail_length", "coat_length", "fringe", "ridge")

Models = nn.Module | Mapping[str, nn.Module]


def draw_your_own_dog(
    models: Models, transform: Transform, class_names: Sequence[str], start: str = "Samoyed", seed: int = SEED
) -> VBox:
    """Make the controls (breed, traits, pose, which dog) and the drawing with the models' answers.

    Another dog is another place, light, pose and nature; the traits stay as they are set, and the other way round.

    Args:
        models: name -> model in eval mode, on any device; or one model.
        class_names: what the models' outputs stand for.
        start: the breed drawn first.
        seed: the stream of dogs; the default is in no split, so that no model has met them.

    Raises:
        ConfigError: no model, one in training mode or with other classes, an unknown breed, a negative seed.
    """
    models = _checked(models, transform, class_names, start, seed)
    breed = dropdown("start from", BREEDS, BREEDS, start)
    traits = {name: _trait_control(name, breed_traits(start)) for name in NAMES}
    pose = dropdown("pose", ["as it comes", *POSES], ["", *POSES])
    reset, previous, another = (button(words) for words in ("back to the breed", "◀ the dog before", "another dog ▶"))
    more = Accordion([HBox([traits[name] for name in NUMBERS if name not in TELLING])], titles=["more traits"])
    more.selected_index, more.layout.width = None, "100%"
    shown, dog = HTML(), [0]  # which dog of the stream

    @undisturbed
    def draw(_change=None) -> None:
        now = Traits(**{name: _trait_value(name, control.value) for name, control in traits.items()})
        drawing = draw_dog(now, seed=seed, index=dog[0], size=transform.size, pose=pose.value or None)
        answers = {name: _probabilities(model, drawing, transform) for name, model in models.items()}
        shown.value = _page(drawing, now, breed.value, dog[0], answers, class_names)

    def to_breed(_change=None) -> None:
        with drawn_once(draw, list(traits.values())):
            for name, control in traits.items():
                control.value = _control_value(name, breed_traits(breed.value))

    def step(by: int) -> None:
        dog[0] += by
        previous.disabled = dog[0] == 0
        draw()

    for control in (pose, *traits.values()):
        control.observe(draw, "value")
    breed.observe(to_breed, "value")
    reset.on_click(to_breed)
    previous.on_click(lambda _button: step(-1))
    another.on_click(lambda _button: step(1))
    step(0)
    lines = [
        (breed, reset, previous, another),
        (*(traits[name] for name in CHOICES), pose),
        [traits[name] for name in TELLING],
        (more,),
    ]
    return in_lines(lines, shown)


def _checked(
    models: Models, transform: Transform, class_names: Sequence[str], breed: str, seed: int
) -> dict[str, nn.Module]:
    """The models by their names."""
    models = {"The model": models} if isinstance(models, nn.Module) else dict(models)
    if not models:
        raise ConfigError("there is no model to ask")
    require_choice("breed", breed, BREEDS)
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed {seed!r} is not allowed: a whole number of at least 0")
    empty = Drawing(np.zeros((transform.size, transform.size, 3), np.uint8), np.zeros(()), "")
    for name, model in models.items():
        if model.training:
            raise ConfigError(f"model {name!r} is in training mode: call eval() first")
        known = len(_probabilities(model, empty, transform))
        if known != len(class_names):
            raise ConfigError(f"model {name!r} knows {known} classes, but {len(class_names)} are named")
    return models


@torch.inference_mode()
def _probabilities(model: nn.Module, drawing: Drawing, transform: Transform) -> np.ndarray:
    """The model's softmax, float (C,)."""
    inputs = transform(Image.fromarray(drawing.image))[None].to(next(model.parameters()).device)
    return model(inputs)[0].float().softmax(dim=0).cpu().numpy()


def _trait_control(name: str, traits: Traits):
    value = _control_value(name, traits)
    if name in CHOICES:
        return dropdown(_words(name), CHOICES[name], CHOICES[name], value)
    control = slider(f"{_words(name)}, %", 100, value, lowest=0)
    control.layout.flex = "1 0 300px"  # three in a line
    return control


def _control_value(name: str, traits: Traits) -> str | int:
    value = getattr(traits, name)
    return value if name in CHOICES else round(100 * value)


def _trait_value(name: str, value: str | int) -> str | float:
    return value if name in CHOICES else value / 100


def _words(name: str) -> str:
    return name.replace("_", " ")


def _differences(traits: Traits, breed: Traits) -> list[str]:
    """What is not as the breed has it: ["ear shape drop, not pricked"]."""
    values = {name: (_control_value(name, traits), _control_value(name, breed)) for name in NAMES}
    unit = {name: "" if name in CHOICES else " %" for name in NAMES}
    return [
        f"{_words(name)} {now}{unit[name]}, not {was}{unit[name]}" for name, (now, was) in values.items() if now != was
    ]


def _page(
    drawing: Drawing, traits: Traits, breed: str, dog: int, answers: Mapping[str, np.ndarray], names: Sequence[str]
) -> str:
    changed = _differences(traits, breed_traits(breed))
    kind = f"{breed} with {'; '.join(changed)}" if changed else f"{breed}, as the breed is"
    distances = {name: trait_distance(traits, breed_traits(name)) for name in BREEDS}
    first, second = sorted(distances, key=distances.get)[:2]
    nearest = (
        f"Nearest breed by traits: {first} ({distances[first]:.2f}), then {second} ({distances[second]:.2f}). "
        "A distance of 0 is the same, 1 as different as can be."
    )
    alt = f"A drawn dog, {drawing.pose}: {kind}"
    lines = [f"Dog {dog}, {drawing.pose}: {kind}.", nearest]
    if drawing.pose == "portrait":
        lines.append("A portrait shows neither legs nor tail: another pose does.")
    return own_dog_page(drawing.image, alt, answers, names, distances, lines)
