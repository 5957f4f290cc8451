"""Models and settings small enough for a test."""

import pytest
import timm
import torch

from woofkit import data
from woofkit.config import TrainConfig


@pytest.fixture
def small_vit():
    """A Vision Transformer of two blocks, width 48, for 32 px images; the same weights each time."""
    torch.manual_seed(0)
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return timm.create_model("vit_tiny_patch16_224", **settings).eval()


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tiny_run(monkeypatch):
    """Settings of a run that trains timm's smallest Vision Transformer, from random weights, on 10 drawings."""
    monkeypatch.setitem(data.SKETCH_SIZES, "val", 10)
    sizes = {"num_train": 10, "num_test": 10, "epochs": 1, "batch_size": 4}
    return TrainConfig(model_name="test_vit", weights="random", precision="fp32", **sizes)
