"""Laws of "draw your own dog": the dog drawn is the one asked for, and the answer is the model's own."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import TRANSFORM, alts, control, median_seconds, page, pictures, random_models, tiny_vit, walk, words
from woofkit import data
from woofkit.config import ConfigError
from woofkit.datasets.imagewoof import BREEDS
from woofkit.plots.pages import verdict
from woofkit.plots.style import method_name
from woofkit.sketch.breeds import breed_traits
from woofkit.sketch.drawing import draw_dog
from woofkit.sketch.skeleton import POSES
from woofkit.sketch.traits import CHOICES, NAMES, NUMBERS, trait_distance
from woofkit.widgets import own_dog
from woofkit.widgets.own_dog import draw_your_own_dog

SAMOYED = breed_traits("Samoyed")


@pytest.fixture
def models():
    return random_models("full", "lora")


@pytest.fixture
def box(models):
    return draw_your_own_dog(models, TRANSFORM, BREEDS)


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: (traits, index, pose), the latest last."""
    calls, draw = [], own_dog.draw_dog

    def record(traits, *, seed, index, size, pose):
        calls.append((traits, index, pose))
        return draw(traits, seed=seed, index=index, size=size, pose=pose)

    monkeypatch.setattr(own_dog, "draw_dog", record)
    return calls


def trait(box, name):
    return control(box, name.replace("_", " "))


def picture(box):
    [image] = pictures(box)
    return np.asarray(image)


def answer(model, traits, index=0, pose="standing"):
    image = draw_dog(traits, seed=own_dog.SEED, index=index, size=32, pose=pose).image
    with torch.no_grad():
        return model(TRANSFORM(Image.fromarray(image))[None]).softmax(1)[0].numpy()


# --- the dog ---


def test_the_dog_drawn_is_the_one_asked_for(box, drawn):
    assert np.array_equal(picture(box), draw_dog(SAMOYED, seed=50, index=0, size=32, pose="standing").image)
    trait(box, "ear_shape").value = "drop"
    trait(box, "beard").value = 0.35
    control(box, "pose").value = "sitting"
    wanted = replace(SAMOYED, ear_shape="drop", beard=0.35)
    assert drawn[-1] == (wanted, 0, "sitting")
    assert np.array_equal(picture(box), draw_dog(wanted, seed=50, index=0, size=32, pose="sitting").image)


def test_every_trait_has_a_control_that_changes_it_and_nothing_else(box, drawn):
    expected = SAMOYED
    for name in NAMES:
        value = next(word for word in CHOICES[name] if word != getattr(SAMOYED, name)) if name in CHOICES else 0.31
        trait(box, name).value = value
        expected = replace(expected, **{name: value})
        assert drawn[-1] == (expected, 0, "standing")
    assert len(drawn) == len(NAMES)


def test_traits_that_tell_most_are_at_hand_and_the_others_one_step_away(box):
    [more] = [child for child in walk(box) if type(child).__name__ == "Accordion"]
    assert more.selected_index is None
    hidden = {child.description for child in walk(more) if hasattr(child, "description")}
    assert hidden == {name.replace("_", " ") for name in NUMBERS if name not in own_dog.TELLING}
    assert len(own_dog.TELLING) == 8


@pytest.mark.parametrize("breed", BREEDS)
def test_a_breeds_controls_stand_for_its_traits_exactly(models, drawn, breed):
    draw_your_own_dog(models, TRANSFORM, BREEDS, breed)
    assert drawn == [(breed_traits(breed), 0, "standing")]


def test_going_back_to_the_breed_redraws_once(box, drawn):
    for name in NUMBERS:
        trait(box, name).value = 1 - trait(box, name).value
    trait(box, "pattern").value = "saddle"
    control(box, "pose").value = "lying"
    drawn.clear()
    control(box, "back to the breed").click()
    assert drawn == [(SAMOYED, 0, "lying")]
    trait(box, "ridge").value = 0.5  # and the controls still answer
    assert drawn[1:] == [(replace(SAMOYED, ridge=0.5), 0, "lying")]


def test_another_breed_takes_all_its_traits_and_redraws_once(box, drawn):
    trait(box, "ear_shape").value = "drop"
    drawn.clear()
    control(box, "start from").value = "dingo"
    assert drawn == [(breed_traits("dingo"), 0, "standing")]
    assert trait(box, "ear_shape").value == "pricked"


def test_another_dog_has_the_same_traits_and_the_way_back_is_open(box, drawn):
    first = picture(box)
    assert control(box, "◀ the dog before").disabled
    trait(box, "tail_tip").value = 0.8
    control(box, "another dog ▶").click()
    control(box, "another dog ▶").click()
    assert drawn[-1] == (replace(SAMOYED, tail_tip=0.8), 2, "standing")
    for _ in range(2):
        control(box, "◀ the dog before").click()
    assert control(box, "◀ the dog before").disabled
    trait(box, "tail_tip").value = 0
    assert np.array_equal(picture(box), first)


def test_nobody_has_met_these_dogs():
    assert own_dog.SEED not in {data._SKETCH_SEED[split] for split in ("val", "test")}
    assert data._SKETCH_SEED["train"] > own_dog.SEED


# --- the answers ---


def test_the_answers_are_the_models_own(models, box):
    trait(box, "coat_color").value = "black"
    for name, model in models.items():
        probabilities = answer(model, replace(SAMOYED, coat_color="black"))
        text = words(box)
        assert f"{method_name(name)} says {verdict(probabilities, None, BREEDS)}" in text
        for label in np.argsort(-probabilities)[:3]:
            distance = trait_distance(replace(SAMOYED, coat_color="black"), breed_traits(BREEDS[label]))
            assert f"{BREEDS[label]} {100 * probabilities[label]:.0f}% distance {distance:.2f}" in text


def test_the_bars_are_as_long_as_the_probabilities(models):
    box = draw_your_own_dog({"lora": models["lora"]}, TRANSFORM, BREEDS)
    top = np.sort(answer(models["lora"], SAMOYED))[::-1][:3]
    widths = [float(width) for width in re.findall(r"width: ([\d.]+)%; height", page(box))]
    np.testing.assert_allclose(widths, 100 * top, atol=0.006)


def test_the_words_say_what_was_changed_and_which_breed_is_near(box):
    assert "Samoyed, with the traits of its breed." in words(box)
    assert "Nearest breed by traits: Samoyed (0.00)" in words(box)
    trait(box, "ear_shape").value = "drop"
    trait(box, "leg_length").value = 0.8
    assert "Samoyed with leg length 80%, not 50%; ear shape drop, not pricked." in words(box)
    distance = trait_distance(SAMOYED, replace(SAMOYED, ear_shape="drop", leg_length=0.8))
    assert f"Nearest breed by traits: Samoyed ({distance:.2f})" in words(box)
    control(box, "pose").value = "portrait"
    assert "A portrait shows neither legs nor tail" in words(box)
    assert alts(box)[0].startswith("A drawn dog, portrait: Samoyed with leg length 80%")


def test_it_opens_on_a_standing_dog_with_the_change_asked_for(models, drawn):
    box = draw_your_own_dog(models, TRANSFORM, BREEDS, "Samoyed", {"coat_color": "golden"})
    assert drawn == [(SAMOYED, 0, "standing"), (replace(SAMOYED, coat_color="golden"), 0, "standing")]
    assert trait(box, "coat_color").value == "golden"
    assert "Dog 0, standing: Samoyed with coat color golden, not white." in words(box)


def test_the_answer_before_the_change_stands_below_in_grey(models, box, drawn):
    assert "before the change" not in words(box)
    trait(box, "coat_color").value = "black"
    trait(box, "ear_shape").value = "drop"
    assert len(drawn) == 2  # the dog as the breed has it is not drawn again
    now = replace(SAMOYED, coat_color="black", ear_shape="drop")
    widths = iter(re.findall(r"width: ([\d.]+)%; height: (\d+)%; background: (#\w+)", page(box)))
    for name, model in models.items():
        before, after = answer(model, SAMOYED), answer(model, now)
        assert f"before the change (grey): {verdict(before, None, BREEDS)}" in words(box)
        for label in np.argsort(-after)[:3]:
            bars = [next(widths), next(widths)]
            np.testing.assert_allclose(
                [float(bar[0]) for bar in bars], [100 * after[label], 100 * before[label]], atol=0.006
            )
            assert bars[1][2] == "#888" != bars[0][2]
        assert method_name(name) in words(box)
    control(box, "another dog ▶").click()
    assert f"before the change (grey): {verdict(answer(models['lora'], SAMOYED, 1), None, BREEDS)}" in words(box)
    control(box, "back to the breed").click()
    assert "before the change" not in words(box)


def test_classes_that_are_no_breeds_have_no_distance():
    box = draw_your_own_dog({"lora": tiny_vit(num_classes=5)}, TRANSFORM, POSES)
    assert not re.search(r"distance \d", words(box).split("Nearest")[0])


def test_models_are_left_as_they_are(models, box):
    control(box, "another dog ▶").click()
    assert not any(model.training for model in models.values())
    assert all(parameter.grad is None for model in models.values() for parameter in model.parameters())


def test_names_are_shown_as_they_are_not_as_html():
    box = draw_your_own_dog({"<i>mine</i>": tiny_vit()}, TRANSFORM, [f"<b>{n}</b>" for n in range(10)])
    assert not re.search(r"<i>|<b>\d", page(box))
    assert "<i>mine</i> says <b>" in unescape(page(box))


@pytest.mark.bench
def test_a_change_takes_no_longer_than_a_second(box):
    assert median_seconds(trait(box, "coat_length"), [turn / 10 for turn in range(9)]) < 1


def test_what_cannot_be_asked_is_refused(models, drawn):
    def refused(match, models=models, breeds=BREEDS, start="Samoyed", change=None):
        with pytest.raises(ConfigError, match=match):
            draw_your_own_dog(models, TRANSFORM, breeds, start, change)

    refused("there is no model to ask", {})
    refused("model 'lora' is in training mode: call eval", models | {"lora": tiny_vit().train()})
    refused("model 'full' knows 10 classes, but 9 are named", breeds=BREEDS[:9])
    refused("unknown breed 'poodle'", start="poodle")
    refused("unknown trait 'wings': allowed are", change={"wings": "two"})
    assert drawn == []
