"""Models and settings small enough for a test."""

import os
import sys
from pathlib import Path

import papermill
import pytest
import timm
import torch

from woofkit import data
from woofkit.config import StudyConfig, TrainConfig, load_profile
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR, check_parameters

os.environ["TORCH_COMPILE_DISABLE"] = "1"  # before PyTorch's compiler is loaded: it would take a minute a model


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test's own folder for decoded images: none is found there, none is left in data/cache."""
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")


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


class StudyCopies:
    """A folder where the notebooks' copies run with the shrunk parameters of profile `test`, and share runs/."""

    def __init__(self, folder: Path):
        self.folder = folder

    def copy(self, name: str, notebooks=NOTEBOOKS, **changes) -> Path:
        """Write copies of the notebooks, without outputs, to a folder of that name; `changes` are parameters."""
        copies = self.folder / name
        copies.mkdir()
        parameters = load_profile("test") | {"runs_dir": str(self.folder / "runs")} | changes
        study = StudyConfig.from_dict(parameters)
        for notebook in notebooks:
            source = NOTEBOOKS_DIR / f"{notebook}.ipynb"
            check_parameters(source, parameters, study)
            options = {"kernel_name": "python3", "language": "python", "progress_bar": False}
            papermill.execute_notebook(source, copies / source.name, parameters, prepare_only=True, **options)
        return copies


@pytest.fixture(scope="session")
def test_study(tmp_path_factory):
    """One study for all tests that run notebooks: what one has trained, the others find."""
    return StudyCopies(tmp_path_factory.mktemp("study"))


@pytest.fixture(autouse=True)
def no_figure_left():
    """A figure that a test has left open is not there for the next one."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
