"""Models and settings small enough for a test."""

import os
import sys

import pytest

import helpers
from woofkit import data
from woofkit.config import TrainConfig

os.environ["TORCH_COMPILE_DISABLE"] = "1"  # before PyTorch's compiler is loaded: it would take one minute per model


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test's own folder for decoded images: none is found there, none is left in data/cache."""
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")


@pytest.fixture
def small_vit():
    """A Vision Transformer of two blocks, width 48, for 32 px images; the same weights each time."""
    return helpers.tiny_vit(num_heads=3)


@pytest.fixture
def images():
    return helpers.images(4, 3, 32, 32)


@pytest.fixture
def tiny_run(monkeypatch):
    """Settings of a run that trains timm's smallest Vision Transformer, from random weights, on 10 drawings."""
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    sizes = {"num_train": 10, "num_test": 10, "epochs": 1, "batch_size": 4}
    return TrainConfig(model_name="test_vit", weights="random", precision="fp32", **sizes)


@pytest.fixture(autouse=True)
def no_figure_left():
    """A figure that a test has left open is not there for the next one."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
