"""Growing amounts of one's own training images: which, at how many steps, and what the probe makes of them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from woofkit import data
from woofkit.config import TrainConfig
from woofkit.own import labels
from woofkit.own.labels import amounts, curve_as_json, curve_from_json, fraction_config, held_steps, label_curve
from woofkit.own.pace import Pace, in_words


def test_amounts_are_halves_while_each_class_keeps_two():
    assert amounts(np.arange(160) % 10) == [20, 40, 80, 160]
    assert amounts(np.arange(50) % 10) == [25, 50]
    assert amounts(np.repeat([0, 1], [100, 3])) == [103]


@pytest.mark.parametrize(("images", "size"), [(600, 300), (600, 75), (37, 18), (20, 5)])
def test_fewer_images_take_as_many_steps(images, size):
    config = TrainConfig(epochs=5, batch_size=32)
    steps = -(-images // 32) * 5
    per_epoch = -(-size // 32)
    assert steps <= held_steps(config, images, size) * per_epoch < steps + per_epoch
    assert fraction_config(config, 0.5, 600) == replace(config, label_fraction=0.5, epochs=10)


def test_the_probe_is_measured_on_growing_amounts(tmp_path, monkeypatch):
    for number, name in enumerate(("dark", "light")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for index in range(16):
            rng = np.random.default_rng(100 * number + index)
            pixels = rng.integers(128 * number, 128 * number + 128, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{index}.png")
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    settings = {"dataset": "folder", "data_dir": str(tmp_path / "own"), "num_train": 0, "num_test": 0, "epochs": 2}
    settings |= {"model_name": "test_vit", "weights": "random", "precision": "fp32", "batch_size": 4, "lr": 1e-2}
    found = labels.probe_answers(TrainConfig(method="probe", **settings), [1e-2], lambda line: None)
    assert {size: answers.shape for size, answers in found.items()} == {5: (5, 6), 10: (5, 6), 20: (5, 6)}
    curve = label_curve("probe", found)
    assert [size for size, *_ in curve.measured] == [5, 10, 20]
    assert [each.size for each in curve.expected] == [40, 80]
    assert curve.measured[-1][1] == found[20].mean() > 0.5
    assert curve_from_json(curve_as_json(curve)) == curve


def test_two_amounts_are_no_curve():
    assert label_curve("probe", {size: np.ones((2, 9), bool) for size in (10, 20)}) is None


def test_the_time_left_follows_what_runs_have_taken():
    import pandas as pd

    costs = pd.DataFrame({"method": ["probe", "lora"], "step_seconds": [0.32, 3.2]})
    sizes, config = {"train": 64, "val": 10, "test": 50}, TrainConfig(epochs=5, batch_size=32)
    lora = replace(config, method="probe"), replace(config, method="full")
    assert Pace(sizes, None).seconds([lora[1]]) is None
    pace = Pace(sizes, costs.assign(method=["probe", "full"]))
    assert pace.seconds([lora[1]]) == pytest.approx(3 + 10 * 3.2 + 100 * 0.01)
    pace.note(lora[1], 72.0)  # twice as long
    assert pace.seconds([lora[1]] * 2) == pytest.approx(4 * 36)
    assert [in_words(seconds) for seconds in (40, 720, 9000)] == ["40 s", "12 min", "2.5 h"]
