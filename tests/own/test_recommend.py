"""The recommendation for one's own pictures: made of what has finished, said early, kept where notebook 05 looks."""

import numpy as np
import pytest
from PIL import Image

from woofkit.__main__ import main
from woofkit.claims.effects import OWN, Key, Quantity, kept_effects
from woofkit.files import write_json
from woofkit.own import recommend
from woofkit.own.recommend import describe_pictures, known_so_far
from woofkit.results import write_history, write_predictions
from woofkit.sweeps.grid import load_sweep
from woofkit.sweeps.results import outcome_path

ACCURACY = {"probe": 0.80, "lora": 0.95, "bitfit": 0.94, "full": 0.70}
LABELS = np.arange(400) % 2


@pytest.fixture
def pictures(tmp_path):
    root = tmp_path / "my pictures"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(10):
            tiles = np.random.default_rng(100 * number + index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(tiles).resize((32, 32)).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def sweep(pictures, tmp_path):
    parameters = {"data_dir": str(pictures), "model_name": "test_vit", "weights": "random", "batch_size": 2}
    return load_sweep("own", parameters | {"runs_dir": str(tmp_path / "runs"), "precision": "fp32"})


def plant(sweep, grid, *methods):
    """Leave finished runs that nobody trained: right on a share of 400 test images, the easiest first."""
    for job in sweep.jobs_of(grid):
        method, seed = job.config.method, job.config.seed
        if method in methods:
            run = sweep.root / f"{method}-{job.name}"
            run.mkdir(parents=True)
            right = np.arange(400) < 400 * ACCURACY[method] + seed
            write_json(run / "config.json", {"config": job.config.to_dict()})
            write_history(run, [{"epoch": 1, "val_accuracy": 0.9 - abs(np.log10(job.config.lr / 1e-3)) / 10}])
            write_predictions(run, tuple(map(str, range(400))), LABELS, np.eye(2)[np.where(right, LABELS, 1 - LABELS)])
            metrics = {"selected_epoch": 1, "test_accuracy": right.mean(), "trainable_parameters": 10 + len(method)}
            write_json(run / "metrics.json", metrics | {"checkpoint_bytes": 1000, "images_per_second": 5.0})
            path = outcome_path(sweep.root, job.name)
            path.parent.mkdir(exist_ok=True)
            write_json(path, {"run": run.name, "val_accuracy": 0.9 - abs(np.log10(job.config.lr / 1e-3)) / 10})


def test_the_pictures_are_described_with_what_they_can_show(sweep):
    text = describe_pictures(sweep)
    assert text.startswith("2 classes: 12 train (6 or more per class), 4 val (2 or more per class), 4 test (2 or more")
    assert "an accuracy of 90 % is known to about 29.4 points to either side" in text


def test_what_is_known_grows_from_the_cheapest_method_on(sweep):
    assert known_so_far(sweep) == "Nothing is known yet: no run has finished."
    plant(sweep, "lr", "probe")
    text = known_so_far(sweep)
    assert "# Which method for my pictures?" in text
    assert "| linear probe | 15 | 0.001 | 90.0 % | not yet |" in text
    assert "LoRA" not in text
    plant(sweep, "lr", "lora")
    plant(sweep, "seeds-best-lr", "probe", "lora")
    lines = []
    text = known_so_far(sweep, lines.append)
    assert "| LoRA | 14 | 0.001 | 90.0 % | 95.2 % (" in text
    assert "seeds: 3) |" in text
    assert "| the best accuracy, after a search for the learning rate | **LoRA**<br>linear probe is 15.0 (" in text
    assert "| accuracy from few labels | not measured |" in text
    assert lines == ["measuring what a training step of each method costs"]
    assert (sweep.root / "recommendation.md").read_text(encoding="utf-8") == text + "\n"
    kept = kept_effects("folder", sweep.root / "results")
    best = kept[Key(Quantity.ACCURACY, "lora", "probe", "best lr", OWN)]
    assert best.value == pytest.approx(0.15)
    assert Key(Quantity.MEMORY, "lora", "probe", "", OWN) in kept


def test_the_command_refuses_before_it_trains_and_tells_what_it_knows_when_it_is_stopped(
    pictures, tmp_path, monkeypatch, capsys
):
    given = ["-p", "data_dir", str(pictures), "-p", "runs_dir", str(tmp_path / "runs"), "-p", "weights", "random"]
    monkeypatch.setattr(recommend, "run_jobs", lambda sweep, cores: 1)
    assert main(["recommend", *given]) == 1
    said = capsys.readouterr().out
    assert "2 classes: 12 train" in said
    assert "Nothing is known yet" in said
    (pictures / "cat" / "0.png").write_bytes(b"")
    assert main(["recommend", *given]) == 2
    assert "1 of 20 images in" in capsys.readouterr().err
    assert main(["recommend"]) == 2
    assert "dataset 'folder' needs data_dir" in capsys.readouterr().err
