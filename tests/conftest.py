"""Models and settings small enough for a test."""

import gc
import os
import sys
from functools import lru_cache

import pytest

# What loads PyTorch is imported in the fixtures: the process that hands the tests out to others needs none of it.
from woofkit.config import TrainConfig

os.environ["TORCH_COMPILE_DISABLE"] = "1"  # before PyTorch's compiler is loaded: it would take one minute per model


def pytest_collection_finish():
    """What was imported stays: a training collects garbage, and would look through all of it each time, for 0.5 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test's own folder for decoded images: none is found there, none is left in data/cache."""
    from woofkit import data

    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")


@lru_cache(300)
def _drawing(*traits, **stream):
    from woofkit.sketch.drawing import draw_dog

    return draw_dog(*traits, **stream)


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    """Datasets get a copy of what was drawn for another test; tests/sketch holds `draw_dog` itself to its word."""
    from woofkit import sketch

    def copied(*traits, **stream):
        drawing = _drawing(*traits, **stream)
        return drawing._replace(image=drawing.image.copy(), mask=drawing.mask.copy())

    monkeypatch.setattr(sketch, "draw_dog", copied)


@pytest.fixture
def small_vit():
    """A Vision Transformer of two blocks, width 48, for 32 px images; the same weights each time."""
    import helpers

    return helpers.tiny_vit(num_heads=3)


@pytest.fixture
def images():
    import helpers

    return helpers.images(4, 3, 32, 32)


@pytest.fixture
def tiny_run(monkeypatch):
    """Settings of a run that trains timm's smallest Vision Transformer, from random weights, on 10 drawings."""
    from woofkit import data

    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    sizes = {"num_train": 10, "num_test": 10, "epochs": 1, "batch_size": 4}
    return TrainConfig(model_name="test_vit", weights="random", precision="fp32", **sizes)


@pytest.fixture(autouse=True)
def no_figure_left():
    """A figure that a test has left open is not there for the next one."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
