"""Laws of the attention explorer: each control changes what it names, and the map shown is the one recorded."""

import math
import re
from html import unescape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from helpers import TRANSFORM, alts, control, hook_count, message, page, pictures, random_models, tiny_vit, words
from woofkit.attention import attention_rollout, cls_attention, record_attention, token_layout
from woofkit.config import ConfigError
from woofkit.data import Images
from woofkit.explain.maps import explain_images, to_even
from woofkit.plots.pages import strongest, verdict
from woofkit.widgets import explorer, maps
from woofkit.widgets.explorer import attention_explorer, explorer_figure
from woofkit.widgets.maps import Choice, ExplorerMaps
from woofkit.widgets.photos import read_photo

BREEDS = [f"breed {letter}" for letter in "abcdefghij"]
LABELS = np.array([3, 1, 4, 1])


@pytest.fixture
def models():
    return random_models("original", "full", "lora")


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


@pytest.fixture
def box(models, pixels):
    return attention_explorer(models, pixels, LABELS, TRANSFORM, BREEDS, index=1)


@pytest.fixture
def drawn(monkeypatch):
    """What was handed over to be drawn, the latest last: dicts of `map_page`'s arguments."""
    calls, draw = [], explorer.map_page

    def record(picture, title, view, says):
        calls.append({"picture": picture, "title": title, "says": says} | view._asdict())
        return draw(picture, title, view, says)

    monkeypatch.setattr(explorer, "map_page", record)
    return calls


def state(box):
    names = ("image", "model", "map", "block", "head", "class", "show the strongest")
    return {name: control(box, name).value for name in names}


# --- the maps ---


def test_the_map_of_a_block_and_head_is_the_recorded_attention_of_cls(models, pixels):
    explored = ExplorerMaps(models, pixels, TRANSFORM)
    with torch.no_grad(), record_attention(models["lora"]) as recorder:
        logits = models["lora"](TRANSFORM.normalize(pixels[2:3]))
    heads = cls_attention(recorder.maps, *token_layout(models["lora"]))[0]  # (3 blocks, 4 heads, 4, 4)
    for layer in range(3):
        for head in range(4):
            shown = explored.map(Choice(2, "lora", layer=layer, head=head + 1))
            torch.testing.assert_close(torch.from_numpy(shown), to_even(heads[layer, head]))
        shown = explored.map(Choice(2, "lora", layer=layer, head=0))
        torch.testing.assert_close(torch.from_numpy(shown), to_even(heads[layer].mean(0)))
    rollout = to_even(attention_rollout(recorder.maps, *token_layout(models["lora"])))[0]
    torch.testing.assert_close(torch.from_numpy(explored.map(Choice(2, "lora", kind="rollout"))), rollout)
    torch.testing.assert_close(explored.record(2, "lora").probabilities, logits[0].softmax(0))


def test_the_explorer_and_explain_images_make_the_same_maps(models, pixels):
    explored = ExplorerMaps(models, pixels, TRANSFORM)
    explained = explain_images(models["full"], Images(pixels, None, TRANSFORM))
    for image in range(len(pixels)):
        for kind, stack in explained.maps.items():
            shown = explored.map(Choice(image, "full", kind=kind, layer=2))
            np.testing.assert_allclose(shown, stack[image], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["attention", "rollout", "relevance"])
def test_a_difference_is_model_minus_original_exactly(models, pixels, kind):
    explored = ExplorerMaps(models, pixels, TRANSFORM)
    for asked in (maps.PREDICTED, 7):
        choice = Choice(0, "full", "original", kind, layer=1, head=2, asked=asked)
        both = explored.asked(choice)  # about what the trained model says, where no class is chosen
        full, original = (explored.map(Choice(0, name, "", kind, 1, 2, both)) for name in ("full", "original"))
        assert np.array_equal(explored.map(choice), full - original)
        assert not np.allclose(explored.map(choice), 0)


def test_the_class_changes_relevance_and_nothing_else(models, pixels):
    explored = ExplorerMaps(models, pixels, TRANSFORM)
    predicted = explored.record(0, "lora").predicted
    other = (predicted + 1) % len(BREEDS)
    for kind, changes in (("attention", False), ("rollout", False), ("relevance", True)):
        first, second = (explored.map(Choice(0, "lora", kind=kind, asked=asked)) for asked in (predicted, other))
        assert np.array_equal(first, second) != changes
        assert np.array_equal(first, explored.map(Choice(0, "lora", kind=kind)))
    picture = Images(pixels[:1], None, TRANSFORM)
    expected = explain_images(models["lora"], picture, ("relevance",), torch.tensor([other])).maps["relevance"][0]
    np.testing.assert_array_equal(second, expected)


def test_the_scale_is_the_98th_percentile_of_all_that_can_be_chosen_for_a_picture(models, pixels):
    explored = ExplorerMaps(models, pixels, TRANSFORM)
    choices = [(layer, head) for layer in range(3) for head in range(5)]
    pool = [explored.map(Choice(0, name, layer=layer, head=head)) for name in models for layer, head in choices]
    assert explored.scale(0, "attention", False) == pytest.approx(np.percentile(pool, 98))
    pool = [
        explored.map(Choice(0, name, "original", layer=layer, head=head))
        for name in ("full", "lora")
        for layer, head in choices
    ]
    assert explored.scale(0, "attention", True) == pytest.approx(np.percentile(np.abs(pool), 98))
    pool = [explored.map(Choice(0, name, kind="relevance")) for name in models]
    assert explored.scale(0, "relevance", False) == pytest.approx(np.percentile(pool, 98))


def test_equal_models_have_a_scale_too(pixels):
    model = tiny_vit()
    explored = ExplorerMaps({"original": model, "lora": model}, pixels, TRANSFORM)
    assert explored.scale(0, "attention", True) == maps.SMALLEST_SCALE


def test_a_picture_is_recorded_once_per_model_and_few_stay_in_memory(models, pixels, monkeypatch):
    seen = []
    models["lora"].register_forward_hook(lambda *_: seen.append(1))
    monkeypatch.setattr(maps, "PICTURES", 2)
    explored = ExplorerMaps({"lora": models["lora"]}, pixels, TRANSFORM)
    for kind in ("attention", "rollout", "relevance"):
        explored.map(Choice(0, "lora", kind=kind))
    assert len(seen) == 1
    for image in (1, 0, 2, 0, 3):  # the latest two stay in memory: 0 is never recorded again, the others once
        explored.map(Choice(image, "lora"))
    assert len(seen) == 4
    assert explored.record.cache_info().currsize == 2


def test_hooks_and_parameters_are_as_they_were(models, pixels):
    models["full"].requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in models["lora"].named_parameters()}
    box = attention_explorer(models, pixels, LABELS, TRANSFORM, BREEDS)
    for kind in ("rollout", "relevance"):
        control(box, "map").value = kind
        control(box, "class").value = 5
        control(box, "model").value = ("lora", "original")
    for model in models.values():
        assert hook_count(model) == 0
        assert not model.training
    assert not any(parameter.requires_grad for parameter in models["full"].parameters())
    assert all(p.grad is None and p.equal(before[name]) for name, p in models["lora"].named_parameters())


# --- what is drawn ---


@pytest.mark.parametrize("percent", [1, 10, 33, 50, 99, 100])
def test_the_strongest_patches_are_shown_rounded_up(percent):
    heatmap = np.random.default_rng(0).normal(size=(3, 5))
    shown = strongest(heatmap, percent)
    assert shown.sum() == math.ceil(percent * 15 / 100)
    if not shown.all():
        assert np.abs(heatmap)[shown].min() >= np.abs(heatmap)[~shown].max()
    assert strongest(np.ones((3, 5)), percent).sum() == shown.sum()  # also of patches that are equally strong


def test_a_verdict_names_breed_probability_and_whether_it_is_right():
    probabilities = torch.tensor([0.1, 0.87, 0.03])
    assert verdict(probabilities, 1, BREEDS) == "breed b, 87% (right)"
    assert verdict(probabilities, 2, BREEDS) == "breed b, 87% (wrong)"
    assert verdict(probabilities, None, BREEDS) == "breed b, 87%"


def test_the_controls_choose_the_map_that_is_shown(models, pixels, drawn):
    box = attention_explorer(models, pixels, LABELS, TRANSFORM, BREEDS)
    explored = ExplorerMaps(models, pixels, TRANSFORM)
    assert np.array_equal(drawn[-1]["heatmap"], explored.map(Choice(0, "original", layer=2)))  # the last block
    control(box, "image").value = 3
    control(box, "model").value = ("lora", "original")
    control(box, "block").value = 2
    control(box, "head").value = 4
    assert np.array_equal(drawn[-1]["heatmap"], explored.map(Choice(3, "lora", "original", layer=1, head=4)))
    assert drawn[-1]["vmax"] == explored.scale(3, "attention", True)
    assert np.array_equal(drawn[-1]["picture"], pixels[3].permute(1, 2, 0))
    assert drawn[-1]["caption"] == "Attention of CLS, block 2, head 4"
    control(box, "map").value = "relevance"
    control(box, "class").value = 6
    expected = explored.map(Choice(3, "lora", "original", "relevance", asked=6))
    assert np.array_equal(drawn[-1]["heatmap"], expected)
    assert drawn[-1]["caption"] == "Class relevance for breed g"


def test_the_scale_stays_while_block_head_model_and_class_are_changed(box, drawn):
    for name, values in {"block": (1, 2), "head": (1, 3), "model": (("full", ""), ("lora", ""))}.items():
        for value in values:
            control(box, name).value = value
    assert len({call["vmax"] for call in drawn}) == 1
    control(box, "map").value = "relevance"
    first = len(drawn)
    for asked in (0, 5, 9):
        control(box, "class").value = asked
    assert len({call["vmax"] for call in drawn[first:]}) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("block", 1), ("head", 2), ("model", ("full", "")), ("map", "rollout"), ("show the strongest", 20)],
)
def test_each_control_changes_the_map_and_leaves_the_picture(box, name, value):
    picture, before = pictures(box)
    control(box, name).value = value
    assert pictures(box)[0] == picture
    assert pictures(box)[1] != before


def test_another_image_changes_the_picture_and_the_ends_meet(box):
    before = pictures(box)
    control(box, "next ▶").click()
    assert state(box)["image"] == 2
    assert pictures(box)[0] != before[0]
    for _ in range(2):
        control(box, "next ▶").click()
    assert state(box)["image"] == 0
    control(box, "◀ previous").click()
    assert state(box)["image"] == 3


def test_controls_that_do_not_apply_are_disabled(box):
    for kind, enabled in {"attention": {"block", "head"}, "rollout": set(), "relevance": {"class"}}.items():
        control(box, "map").value = kind
        assert {name for name in ("block", "head", "class") if not control(box, name).disabled} == enabled


def test_the_words_say_what_is_shown(models, pixels, box):
    probabilities = ExplorerMaps(models, pixels, TRANSFORM).record(1, "lora").probabilities
    control(box, "model").value = ("lora", "original")
    assert "1 · breed b" in words(box)
    assert "LoRA minus original" in words(box)
    assert f"LoRA says {verdict(probabilities, 1, BREEDS)}." in words(box)
    assert "Original says" in words(box)
    assert "All patches are shown." in words(box)
    control(box, "show the strongest").value = 50
    size = np.abs(ExplorerMaps(models, pixels, TRANSFORM).map(Choice(1, "lora", "original", layer=2)))
    held = np.sort(size.ravel())[-8:].sum() / size.sum()
    assert f"8 of 16 patches are shown, with {100 * held:.0f}% of the difference." in words(box)


def test_each_picture_has_words_for_those_who_cannot_see_it(box):
    picture, heatmap = alts(box)
    assert picture == "Picture 1 · breed b"
    assert heatmap.startswith("Original: Attention of CLS, block 3, mean of the heads, over the picture 1 · breed b.")


def test_differences_exist_only_with_the_original(models, pixels):
    box = attention_explorer(models, pixels, LABELS, TRANSFORM, BREEDS)
    names = [name for name, _ in control(box, "model").options]
    assert names == ["Original", "Full fine-tuning", "LoRA", "Full fine-tuning minus original", "LoRA minus original"]
    del models["original"]
    box = attention_explorer(models, pixels, LABELS, TRANSFORM, BREEDS)
    assert [name for name, _ in control(box, "model").options] == ["Full fine-tuning", "LoRA"]


def test_drawing_leaves_no_figure_open(box):
    control(box, "block").value = 1
    assert plt.get_fignums() == []


def test_names_are_shown_as_they_are_not_as_html(models, pixels):
    box = attention_explorer(models, pixels, LABELS, TRANSFORM, ["<b>bold</b>"] * 10)
    assert "<b>bold</b>" not in page(box)
    assert "<b>bold</b>" in unescape(page(box))


# --- own photos ---


def photo(folder, name="dog.png", mode="RGB", size=(60, 40)):
    values = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    path = folder / name
    Image.fromarray(values).convert(mode).save(path)
    return path


def test_an_own_photo_is_added_and_shown(box, tmp_path, drawn):
    path = photo(tmp_path)
    before = state(box)
    control(box, "or its path").value = str(path)
    assert state(box) == before | {"image": 4}
    assert control(box, "image").options[-1] == ("own: dog.png", 4)
    with Image.open(path) as image:
        assert np.array_equal(drawn[-1]["picture"], TRANSFORM.geometry(image))
    assert len(drawn) == 1
    assert not re.search("right|wrong", words(box))
    control(box, "◀ previous").click()
    control(box, "load").click()  # the same photo again: shown, not added
    assert state(box)["image"] == 4
    assert len(control(box, "image").options) == 5


def test_adding_a_photo_leaves_the_labels_given_alone(models, pixels, tmp_path):
    labels = [3, 1, 4, 1]
    box = attention_explorer(models, pixels, labels, TRANSFORM, BREEDS)
    control(box, "or its path").value = str(photo(tmp_path))
    assert labels == [3, 1, 4, 1]
    assert len(pixels) == 4


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("nothing.png", None, r"There is no file .*nothing\.png: allowed is the path of a picture"),
        ("words.png", b"no image at all", r"words\.png cannot be read \(it is no JPEG, .*: allowed is the path"),
        ("half.png", "half", r"half\.png cannot be read \(.*truncated.*: allowed is the path"),
        ("nul\0.png", None, "There is no file"),
        (
            "stripe.png",
            "stripe",
            r"stripe\.png cannot be read \(60 x 2 pixels: allowed is one side 20 times as long as the other",
        ),
    ],
)
def test_a_bad_path_is_answered_by_a_sentence_and_nothing_changes(box, tmp_path, name, content, sentence):
    path = f"{tmp_path}/{name}"
    if content == "half":
        whole = photo(tmp_path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])
    elif content == "stripe":
        photo(tmp_path, name, size=(60, 2))
    elif content:
        Path(path).write_bytes(content)
    before, shown = state(box), page(box)
    control(box, "or its path").value = path
    assert re.search(sentence, message(box))
    assert (state(box), page(box)) == (before, shown)
    assert len(control(box, "image").options) == 4
    control(box, "or its path").value = str(photo(tmp_path))
    assert message(box) == ""


def test_a_folder_and_an_empty_path_are_refused_too(box, tmp_path):
    control(box, "load").click()
    assert "There is no path: allowed is" in message(box)
    control(box, "or its path").value = str(tmp_path)
    assert f"There is no file {tmp_path}" in message(box)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_a_photo_of_any_kind_becomes_a_picture(tmp_path, mode):
    path = photo(tmp_path, f"dog.{'tiff' if mode == 'CMYK' else 'png'}", mode if mode != "I;16" else "L")
    if mode == "I;16":
        Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27).save(path)
    pixels = read_photo(str(path), TRANSFORM)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.uint8)
    assert pixels.float().std() > 20  # neither black nor white


def test_a_transparent_photo_lies_on_white_and_a_turned_one_is_set_upright(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_photo(str(tmp_path / "clear.png"), TRANSFORM) == 255).all()
    values = np.zeros((40, 40, 3), np.uint8)
    values[:20] = 255  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: what was above is on the right
    Image.fromarray(values).save(tmp_path / "turned.png", exif=exif)
    turned = read_photo(str(tmp_path / "turned.png"), TRANSFORM).float()
    assert turned[:, :, 20:].mean() > 250
    assert turned[:, :, :12].mean() < 5


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photo(tmp_path)
    assert read_photo("~/dog.png", TRANSFORM).shape == (3, 32, 32)
    with pytest.raises(ConfigError, match="nobody-of-that-name"):
        read_photo("~nobody-of-that-name/dog.png", TRANSFORM)


# --- the figure, and what both refuse ---


def test_the_figure_shows_every_model_and_kind_of_map_with_what_is_said(models, pixels):
    fig = explorer_figure(models, pixels, LABELS, TRANSFORM, BREEDS, index=2)
    texts = [text.get_text() for text in fig.findobj(Text)]
    for text in (
        "2 · breed e",
        "Original",
        "Full fine-tuning",
        "LoRA",
        "Attention of CLS",
        "Rollout",
        "Class relevance",
    ):
        assert text in texts
    picture = Images(pixels[2:3], None, TRANSFORM)
    explained = {name: explain_images(model, picture) for name, model in models.items()}
    for each in explained.values():
        assert verdict(each.probabilities[0], 4, BREEDS) in texts
    axes = np.array(fig.axes[:16]).reshape(4, 4)
    for column, kind in enumerate(("attention", "rollout", "relevance"), start=1):
        shown = [ax.images[-1] for ax in axes[:3, column]]
        for image, each in zip(shown, explained.values(), strict=True):
            np.testing.assert_allclose(image.get_array(), each.maps[kind][0], rtol=1e-5)
        assert len({image.norm.vmax for image in shown}) == 1
    plt.close(fig)


@pytest.mark.parametrize("make", [attention_explorer, explorer_figure])
def test_what_cannot_be_explored_is_refused(make, models, pixels):
    def refused(match, models=models, pixels=pixels, labels=LABELS, breeds=BREEDS, index=0):
        with pytest.raises(ConfigError, match=match):
            make(models, pixels, labels, TRANSFORM, breeds, index)

    refused("there is no model to explore", models={})
    refused("there is no image to explore", pixels=pixels[:0], labels=[])
    refused("4 images need as many labels, got 3", labels=[1, 2, 3])
    refused("label = 10 is out of range: allowed is from 0 to 9", labels=[1, 2, 3, 10])
    refused("index = 4 is out of range: allowed is from 0 to 3", index=4)
    refused("index = -1 is out of range: allowed is from 0 to 3", index=-1)
    refused("model 'original' knows 10 classes, but 9 are named", breeds=BREEDS[:9])
    refused("model 'lora' is in training mode", models=models | {"lora": tiny_vit().train()})


def test_models_of_several_shapes_are_refused(models, pixels):
    models["lora"] = tiny_vit(depth=2)
    match = (
        r"models differ in \(blocks, heads, grid height, grid width\): 'original' has \(3, 4, 4, 4\);.*\(2, 4, 4, 4\)"
    )
    with pytest.raises(ConfigError, match=match):
        attention_explorer(models, pixels, LABELS, TRANSFORM, BREEDS)
