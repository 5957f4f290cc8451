"""Laws of the dataset browser: every image is on one page, and what is called wrong is wrong."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import alts, control, median_seconds, page, pictures, walk, words
from woofkit import data
from woofkit.config import ConfigError
from woofkit.data import WoofDataset, load_dataset
from woofkit.datasets import imagewoof
from woofkit.widgets.browser import ALL, dataset_browser

BEAGLE = imagewoof.BREEDS.index("beagle")


@pytest.fixture
def splits(monkeypatch):
    monkeypatch.setattr(data, "SKETCH_SIZES", {"train": 30, "val": 10, "test": 40})
    return {split: load_dataset("sketchwoof", split=split, image_size=32) for split in data.SPLITS}


def frame(dataset, predicted, sure=2.0):
    """Predictions as `read_predictions` gives them: one logit is `sure`, the others are 0."""
    logits = np.zeros((len(dataset), 10))
    logits[np.arange(len(dataset)), predicted] = sure
    columns = {f"logit_{label}": logits[:, label] for label in range(10)}
    return pd.DataFrame({"key": dataset.keys, "label": dataset.labels, **columns, "predicted": predicted})


def some_wrong(dataset):
    """Every third answer is the next breed."""
    return np.where(np.arange(len(dataset)) % 3 == 0, (dataset.labels + 1) % 10, dataset.labels)


@pytest.fixture
def box(splits):
    box = dataset_browser(splits, {"test": frame(splits["test"], some_wrong(splits["test"]))})
    control(box, "split").value = "test"
    return box


def titles(box):
    """The numbers and names on the page, in order."""
    return [unescape(title) for title in re.findall("<figcaption><b>(.*?)</b>", page(box))]


def numbers(box):
    return [int(title.split(" · ")[0]) for title in titles(box)]


def all_pages(box):
    found = []
    for _ in range(control(box, "page").max):
        found += numbers(box)
        control(box, "next page ▶").click()
    return found


# --- which images ---


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_the_pages_cover_every_image_once_and_the_ends_meet(splits, seed):
    box = dataset_browser(splits, seed=seed)
    first = page(box)
    assert "train: images 1 to 12 of 30" in words(box)
    shown = all_pages(box)
    assert sorted(shown) == list(range(30))
    assert (shown == list(range(30))) == (seed is None)
    assert page(box) == first  # once around
    control(box, "◀ previous page").click()
    assert "train: images 25 to 30 of 30" in words(box)
    assert control(box, "page").value == 3


def test_a_breed_shows_its_images_and_no_others(splits, box):
    control(box, "breed").value = BEAGLE
    assert "test, beagle: images 1 to 4 of 4" in words(box)
    assert sorted(numbers(box)) == list(np.flatnonzero(splits["test"].labels == BEAGLE))
    assert all(title.endswith(" · beagle") for title in titles(box))


def test_the_wrong_ones_are_exactly_those(splits, box):
    control(box, "wrong predictions only").value = True
    assert sorted(all_pages(box)) == list(range(0, 40, 3))
    assert "✓ right" not in words(box)
    control(box, "breed").value = BEAGLE
    wrong = [i for i in range(0, 40, 3) if splits["test"].labels[i] == BEAGLE]
    assert sorted(numbers(box)) == wrong


def test_each_control_changes_what_it_names_and_nothing_else(box):
    def state():
        return {
            name: control(box, name).value
            for name in ("split", "breed", "wrong predictions only", "parts of the dog", "page")
        }

    control(box, "page").value = 2
    for name, value in {"parts of the dog": True, "page": 3}.items():
        before, shown = state(), page(box)
        control(box, name).value = value
        assert state() == before | {name: value}
        assert page(box) != shown
    for name, value in {"wrong predictions only": True, "breed": BEAGLE, "split": "train"}.items():
        control(box, "page").value = 2 if control(box, "page").max > 1 else 1
        before, shown = state(), page(box)
        control(box, name).value = value
        assert state() == before | {name: value, "page": 1}  # another selection begins with its first page
        assert page(box) != shown


def test_without_predictions_nothing_is_right_or_wrong(splits, box):
    control(box, "wrong predictions only").value = True
    control(box, "split").value = "val"
    assert control(box, "wrong predictions only").disabled
    assert "val: images 1 to 10 of 10" in words(box)
    assert not re.search("right|wrong", words(box))
    assert control(box, "next page ▶").disabled
    control(box, "split").value = "test"
    assert not control(box, "wrong predictions only").disabled
    assert "test, wrong predictions: images 1 to 12 of 14" in words(box)


def test_a_selection_without_images_is_a_sentence(splits):
    box = dataset_browser(splits, {"train": frame(splits["train"], splits["train"].labels)})
    control(box, "wrong predictions only").value = True
    assert "train, wrong predictions: there is no such image" in words(box)
    assert "right on 30 of 30 images: 100.0%" in words(box)
    assert titles(box) == []
    control(box, "breed").value = 0
    control(box, "wrong predictions only").value = False
    assert len(titles(box)) == 3


# --- what is said and shown ---


def test_a_caption_says_number_breed_answer_and_whether_it_is_right(splits, box):
    sure = round(100 * np.exp(2) / (np.exp(2) + 9))
    while 0 not in numbers(box):
        control(box, "next page ▶").click()
    assert f"0 · {imagewoof.BREEDS[0]} {imagewoof.BREEDS[1]}, {sure}% ✗ wrong" in words(box)
    assert f"0 · {imagewoof.BREEDS[0]}; the model says {imagewoof.BREEDS[1]}, {sure}%: wrong" in alts(box)
    assert len(alts(box)) == len(titles(box))
    assert "The model is right on 26 of 40 images: 65.0%" in words(box)


def test_right_and_wrong_differ_in_word_sign_colour_and_line(box):
    lines = {
        word: set(re.findall(rf"border-bottom: ([^\"]*)\"(?:(?!<figure).)*{word}</b>", page(box), flags=re.S))
        for word in ("✓ right", "✗ wrong")
    }
    assert lines == {"✓ right": {"6px solid #0072B2"}, "✗ wrong": {"6px double #D55E00"}}


def test_the_pictures_are_the_datasets_and_their_parts(splits):
    box = dataset_browser({"train": splits["train"]}, seed=None)
    shown = np.asarray(pictures(box)[0], dtype=float)
    assert np.abs(shown - np.asarray(splits["train"].image(0), dtype=float)).mean() < 12  # a JPEG of it
    control(box, "parts of the dog").value = True
    tinted = np.asarray(pictures(box)[0], dtype=float)
    background = splits["train"].mask(0) == 0
    assert np.ptp(tinted[background], axis=1).mean() < 20  # grey
    assert "body head ears legs tail" in words(box)


def test_an_image_is_drawn_when_it_is_first_shown_and_then_remembered(splits, monkeypatch):
    drawn, image = [], WoofDataset.image
    monkeypatch.setattr(WoofDataset, "image", lambda self, index: drawn.append(index) or image(self, index))
    box = dataset_browser({"train": splits["train"]})
    assert drawn == numbers(box)
    control(box, "next page ▶").click()
    control(box, "◀ previous page").click()
    assert len(drawn) == 24


@pytest.fixture
def photos(tmp_path):
    for number, size in enumerate(((60, 30), (20, 80))):
        Image.new("RGB", size, "teal").save(tmp_path / f"{number}.jpg")
    return WoofDataset("imagewoof", "test", "clean", ("0.jpg", "1.jpg", "gone.jpg"), np.array([0, 1, 2]), tmp_path)


def test_photographs_have_no_parts_and_keep_their_shape(photos):
    box = dataset_browser({"test": photos.subset([0, 1])}, seed=None)
    assert "parts of the dog" not in [getattr(child, "description", "") for child in walk(box)]
    assert [picture.size for picture in pictures(box)] == [(60, 30), (20, 80)]


def test_what_is_no_breed_is_a_class(photos):
    own = replace(photos, name="folder", class_names=("apple", "pear", "quince"))
    assert [words for words, _ in control(dataset_browser({"test": own}), "class").options] == [
        "all classes",
        "apple",
        "pear",
        "quince",
    ]


def test_a_file_that_is_gone_is_a_sentence(photos):
    box = dataset_browser({"test": photos})
    assert 'role="alert"' in page(box)
    assert "gone.jpg" in words(box)
    control(box, "breed").value = 1
    assert len(pictures(box)) == 1


def test_names_are_shown_as_they_are_not_as_html(splits):
    named = replace(splits["train"], class_names=tuple(f"<i>{n}</i>" for n in range(10)))
    box = dataset_browser({"<b>": named}, {"<b>": frame(named, named.labels)})
    assert not re.search("<i>|<b>:", page(box))
    assert "<b>: images 1 to 12" in unescape(page(box))


def test_poses_are_called_poses(monkeypatch):
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 12)
    box = dataset_browser({"val": load_dataset("sketchwoof", split="val", image_size=32, label="pose")})
    assert control(box, "pose").options[0] == ("all poses", ALL)


@pytest.mark.bench
def test_a_change_takes_no_longer_than_a_second(splits):
    box = dataset_browser(splits)
    assert median_seconds(control(box, "parts of the dog"), [True, False] * 3) < 1
    assert median_seconds(control(box, "page"), [2, 3, 1] * 2) < 1


# --- what is refused ---


def test_what_cannot_be_browsed_is_refused(splits, monkeypatch):
    def refused(match, splits=splits, predicted=None, **settings):
        with pytest.raises(ConfigError, match=match):
            dataset_browser(splits, predicted, **settings)

    monkeypatch.setattr(WoofDataset, "image", lambda *_: pytest.fail("drawn before it was refused"))
    test = splits["test"]
    other = replace(splits["val"], class_names=tuple("abcdefghij"))
    refused("there is no split to browse", splits={})
    refused("split 'val' has no image", splits={"val": splits["val"].subset([])})
    refused("split 'val' has other labels than the first: a, b", splits={"test": test, "val": other})
    said = frame(test, test.labels)
    refused("unknown split of predictions 'vall'", predicted={"vall": said})
    for others in (said[::-1], said[:-1], said.assign(label=0)):
        refused("of 'test' are of other images", predicted={"test": others})
    refused("of 'test' know 9 classes, not 10", predicted={"test": said.drop(columns="logit_9")})
