"""Shifts of test images: each by hand, and what they take from a model counted image by image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import noise, tiny_vit
from woofkit import sketch
from woofkit.data import load_dataset
from woofkit.fast.runtime import Runtime
from woofkit.measure.shifts import (
    DRAWN_SHIFTS,
    SHIFTS,
    dark,
    drawn_hits,
    drawn_shifts,
    evening,
    grey,
    kept_shifted_hits,
    lost,
    occlusion,
    shifted_hits,
)


@pytest.fixture
def labelled():
    """Images of noise, labelled as the model names them as they are."""
    model, images = tiny_vit(), noise(24)
    with torch.no_grad():
        labels = model(images.transform.normalize(images.pixels)).argmax(1).numpy()
    return model, type(images)(images.pixels, labels, images.transform)


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_keeps_shape_and_format_changes_the_picture_and_always_in_the_same_way(name):
    pixels = noise(8).pixels
    before = pixels.clone()
    shifted = SHIFTS[name](pixels)
    assert (shifted.shape, shifted.dtype) == (pixels.shape, torch.uint8)
    assert not shifted.equal(pixels)
    assert shifted.equal(SHIFTS[name](pixels))
    assert pixels.equal(before)


def test_light_by_hand():
    pixels = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    assert dark(pixels).unique().tolist() == [33]
    assert evening(pixels)[0, :, 0, 0].tolist() == [100, 72, 50]
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert grey(red).unique().tolist() == [76]  # 0.299 of 255


def test_a_quarter_is_hidden_another_in_each_of_four_images():
    hidden = occlusion(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)) == 128
    assert hidden.float().mean((1, 2, 3)).tolist() == [0.25] * 4
    assert hidden[:, 0].sum(0).eq(1).all()  # each pixel once


def test_what_shifts_take_is_counted_image_by_image(labelled, monkeypatch):
    monkeypatch.setattr("woofkit.measure.shifts.CHUNK", 7)  # the last one is smaller
    hits = shifted_hits(*labelled, Runtime())
    assert list(hits) == ["none", *SHIFTS]
    assert hits["none"].all()
    assert len(hits) == 24
    assert 0 < (~hits[list(SHIFTS)]).to_numpy().mean() < 1
    taken = lost(hits)
    assert list(taken) == ["", *SHIFTS]
    np.testing.assert_allclose(taken[""], hits[list(SHIFTS)].to_numpy().mean(1) - 1)
    for name in SHIFTS:
        np.testing.assert_array_equal(taken[name], np.where(hits[name], 0, -1))
    more = lost(hits.assign(**{"unseen pose": False}))
    np.testing.assert_array_equal(more[""], taken[""])  # what is drawn anew is not among what was averaged ever
    assert (more["unseen pose"] == -1).all()


def test_a_kept_measurement_is_read_again(labelled, tmp_path):
    model, images = labelled
    first = kept_shifted_hits(tmp_path / "a" / "run.parquet", lambda: model, lambda: images, Runtime())
    again = kept_shifted_hits(
        tmp_path / "a" / "run.parquet", lambda: pytest.fail("loaded"), lambda: pytest.fail("drawn"), Runtime()
    )
    assert again.equals(first)


def test_a_drawn_shift_shows_the_same_dogs_with_the_same_labels_in_other_pictures(labelled):
    usual = load_dataset("sketchwoof", split="test", num=20, image_size=32)
    drawn = drawn_shifts(usual)
    assert list(drawn) == list(DRAWN_SHIFTS)
    for shifted in drawn.values():
        assert (shifted.keys, shifted.labels.tolist()) == (usual.keys, usual.labels.tolist())
        assert shifted.fingerprint() != usual.fingerprint()
        assert all((shifted.draw(i).image != usual.draw(i).image).any() for i in range(20))
    assert drawn["unseen pose"].draw(3).pose == sketch.UNSEEN_POSE
    assert np.array_equal(drawn["other place"].draw(3).mask, usual.draw(3).mask)
    assert len({shifted.fingerprint() for shifted in drawn.values()}) == 2  # each has a file of its own
    assert drawn_shifts(replace(usual, folder=Path("photographs"))) == {}
    model, images = labelled
    assert drawn_hits(model, images, Runtime())["drawn"].all()
