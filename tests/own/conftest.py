"""Finished runs on a small folder of pictures, one for each method that the tests ask for."""

import io
import os
from contextlib import redirect_stdout

import numpy as np
import pytest
from PIL import Image

from woofkit import data
from woofkit.config import LoRAConfig, TrainConfig
from woofkit.progress import Monitor
from woofkit.train import run_training

os.environ["TORCH_COMPILE_DISABLE"] = "1"

SIZES = ((70, 50), (50, 70), (200, 190))  # wide, tall, larger than the model's input


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Two classes of eight pictures of noise in large tiles, one of which lies on its side."""
    root = tmp_path_factory.mktemp("own") / "my pictures"
    for number, name in enumerate(("cat, grey", "Zebra")):
        (root / name).mkdir(parents=True)
        for index in range(8):
            rng = np.random.default_rng(100 * number + index)
            tiles = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6 if index == 0 else 1
            tiles.resize(SIZES[index % 3], Image.Resampling.NEAREST).save(root / name / f"{index}.jpg", exif=exif)
    return root


@pytest.fixture(scope="session")
def run_of(pictures, tmp_path_factory):
    """A function that trains timm's smallest Vision Transformer by a method, once per session; it gives the folder."""
    root, runs = tmp_path_factory.mktemp("runs"), {}
    cache = tmp_path_factory.mktemp("cache")

    def run(method, **changes):
        name = (method, *sorted(changes.items()))
        if name not in runs:
            settings = {"dataset": "folder", "data_dir": str(pictures), "num_train": 0, "num_test": 0, "epochs": 1}
            settings |= {
                "model_name": "test_vit",
                "weights": "random",
                "precision": "fp32",
                "batch_size": 4,
                "lr": 1e-3,
            }
            lora = LoRAConfig.paper(rank=2) if method == "lora" else None
            config = TrainConfig(**settings | {"method": method, "lora": lora} | changes)
            # What training says is not what the test's command says.
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
                patch.setattr(data, "CACHE", cache)
                runs[name] = run_training(config, root, Monitor())
        return runs[name]

    return run
