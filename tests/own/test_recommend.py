"""The recommendation for one's own pictures: an answer early, of what has finished, kept where notebook 05 looks."""

import json
import re
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest
from PIL import Image

from helpers import lacking
from woofkit.__main__ import main
from woofkit.claims.effects import OWN, Key, Quantity, kept_effects
from woofkit.config import ConfigError, StudyConfig
from woofkit.files import write_json
from woofkit.measure.source_tasks import load_source_task
from woofkit.own import facts
from woofkit.own import recommend as module
from woofkit.own.recommend import begin, describe_pictures, read_recommendation, recommend
from woofkit.profiles import load_profile
from woofkit.results import write_history, write_predictions
from woofkit.sweeps.grid import load_sweep
from woofkit.sweeps.results import outcome_path, read_outcome

ACCURACY = {"probe": 0.80, "lora": 0.95, "bitfit": 0.95, "full": 0.70}
LABELS = np.arange(400) % 2
HELD = dict.fromkeys(("weights_mb", "optimizer_mb", "gradients_mb", "activations_mb"), 10.0)
HELD |= dict.fromkeys(("forward_gflops", "backward_gflops", "trainable_parameters", "file_mb"), 1.0)


@pytest.fixture
def pictures(tmp_path):
    root = tmp_path / "my pictures"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(14):
            tiles = np.random.default_rng(100 * number + index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(tiles).resize((32, 32)).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def parameters(pictures, tmp_path):
    given = {"data_dir": str(pictures), "model_name": "test_vit", "weights": "random", "batch_size": 2}
    return given | {"runs_dir": str(tmp_path / "runs"), "precision": "fp32"}


def plant(root, config, name):
    """Leave a finished run that nobody trained: right on a share of 400 test images, the easiest first."""
    run = root / f"{config.method}-{name}"
    run.mkdir(parents=True, exist_ok=True)
    right = np.arange(400) < 400 * ACCURACY[config.method] * config.label_fraction**0.1 + config.seed
    val = 0.9 - abs(np.log10(config.lr / 1e-3)) / 10
    write_json(run / "config.json", {"config": config.to_dict()})
    write_history(run, [{"epoch": 1, "val_accuracy": val}])
    write_predictions(run, tuple(map(str, range(400))), LABELS, np.eye(2)[np.where(right, LABELS, 1 - LABELS)])
    metrics = {"selected_epoch": 1, "test_accuracy": right.mean(), "trainable_parameters": 10 + len(config.method)}
    metrics |= {"num_test_images": 400, "num_val_images": 100, "train_seconds": 130.0}
    write_json(run / "metrics.json", metrics | {"checkpoint_bytes": 1000, "images_per_second": 5.0})
    write_json(outcome_path(root, name), {"run": run.name, "val_accuracy": val})


@pytest.fixture
def trained(monkeypatch):
    """The methods in the order in which they are trained, by nobody; at `stops["at"]` of them, the user stops."""
    order = []

    stops = {}

    def train_job(root, config, name, monitor):
        if len(order) == stops.get("at"):
            stops.clear()
            raise KeyboardInterrupt
        order.append(config.method)
        plant(root, config, name)

    costs = [
        {"method": method, **HELD, "step_seconds": seconds, "round_seconds": [seconds] * 6}
        for method, seconds in (("probe", 0.5), ("lora", 2.0), ("full", 3.0), ("bitfit", 1.5))
    ]
    monkeypatch.setattr(module, "train_job", train_job)
    monkeypatch.setattr("woofkit.sweeps.run.train_job", train_job)  # where a grid is widened
    monkeypatch.setattr(
        module, "measure_step_costs", lambda sweep, _: write_json(sweep.root / "step_costs.json", costs)
    )
    monkeypatch.setattr(module, "probe_answers", lambda *_: {})
    return order, stops


def test_the_pictures_are_described_with_what_they_can_show(parameters):
    text = describe_pictures(load_sweep("own", parameters))
    assert text.startswith("2 classes: 16 train (8 or more per class), 6 val (3 or more per class), 6 test (3 or more")
    assert "an accuracy of 90% is known to about 24.0 points to either side" in text
    assert text.endswith("Each training has 40 steps, which is few: try `-p epochs 7`.")
    enough = load_sweep("own", parameters | {"epochs": 7})
    assert describe_pictures(enough) == text.partition(" Each training")[0]
    large = load_sweep("own", parameters | {"epochs": 20, "batch_size": 16})
    assert describe_pictures(large).endswith("20 steps, which is few: `-p batch_size 6` makes 50.")


def test_the_probe_answers_before_anything_else_is_trained_and_the_answer_grows(parameters, trained):
    order, _ = trained
    lines, answers = [], []

    def log(line):
        lines.append(line)
        if line.startswith("\n# Which method for my pictures?"):
            answers.append((len(set(order)), line))

    assert recommend(parameters, log=log) == 0
    methods, first = answers[0]
    assert methods == 1
    assert "**Only one way has been measured: linear probe, with 80.2% (" in first
    assert first.endswith("## What more labels would bring\n\nNot measured yet.\n")
    assert "| linear probe | 15 | 0.001 | 90.0% (82.6 to 94.5) | 80.2% (" in first
    assert "| LoRA | not yet | not yet | not yet | not yet |" in first
    assert len(answers) == 7  # after the probe, its curve, three searches, all seeds, fewer labels
    assert list(dict.fromkeys(order)) == ["probe", "lora", "full", "bitfit"]
    assert any("runs left, about" in line for line in lines)
    last = answers[-1][1]
    assert not lacking(
        last,
        "**Take BitFit, if accuracy is what counts: 95.2% (",
        "beat it. LoRA (95.2%) may be as good or better, which these test images cannot tell; it trains more.",
        "| LoRA | 14 | 0.001 | 90.0% (82.6 to 94.5) | 95.2% (",
        ", 3 seeds | 2.2 min | 40.0 MB | 1 kB | not measured |",
        "Nothing can be forgotten: the weights were random.",
        "Zero-shot (training nothing) is left out",
        "| training images | LoRA, measured | expected |",
        "Each method was trained for 5 epochs.",
    )
    assert re.search(r"The linear probe is 15\.0 points \(.*\) behind (LoRA|BitFit)\.", last)
    assert len(lacking(last, "Lora", "paper", "runs left")) == 3


def test_few_images_are_trained_on_as_a_whole(parameters, pictures, trained):
    order, _ = trained
    for name in ("cat", "dog"):
        for index in range(9, 14):
            (pictures / name / f"{index}.png").unlink()
    lines = []
    assert recommend(parameters, log=lines.append) == 0
    assert order.count("lora") == 6  # three rates and three seeds
    assert "Not known: it takes 8 training images of each class or more." in lines[-2]
    assert not lacking(lines[-2], "| full fine-tuning | ", ", 3 seeds | ")


def test_effects_and_rates_are_kept_where_the_notebooks_look(parameters, trained):
    assert recommend(parameters, log=lambda line: None) == 0
    study = StudyConfig.from_dict(load_profile("own") | parameters)
    kept = kept_effects("folder", study.run_root / "results")
    best = kept[Key(Quantity.ACCURACY, "lora", "probe", "best lr", OWN)]
    assert best.value == pytest.approx(0.15)
    assert Key(Quantity.MEMORY, "lora", "probe", "", OWN) in kept
    assert study.lr == 0
    assert {method: study.train_config(method).lr for method in ACCURACY} == {
        "probe": 1e-3,
        "lora": 1e-3,
        "bitfit": 1e-3,
        "full": 1e-3,  # at the edge of its grid, which was widened
    }
    assert read_recommendation(study).startswith("# Which method for my pictures?")
    other = StudyConfig.from_dict(load_profile("own") | parameters | {"batch_size": 4})
    with pytest.raises(ConfigError, match="lr = 0 takes the rate that a search has found, and there is none for meth"):
        other.train_config("lora")
    assert "python -m woofkit recommend -p data_dir" in read_recommendation(other)
    assert "-p data_dir FOLDER" in read_recommendation(StudyConfig())


def test_whoever_stops_it_hears_what_is_known_and_it_goes_on_there(parameters, trained):
    order, stops = trained
    stops["at"] = 11
    lines = []
    assert recommend(parameters, log=lines.append) == 130
    assert lines[-1].startswith("stopped. This is what is known; the same command goes on.\n\n# Which method for")
    before = list(order)
    assert recommend(parameters, log=lines.append) == 0
    assert order[: len(before)] == before
    assert order.count("probe") == 15  # nine of the grid, three beyond its edge, three at the best rate: none twice


def test_other_pictures_are_another_question(parameters, pictures):
    sweep = load_sweep("own", parameters)
    begin(sweep)
    job = sweep.jobs[0]
    plant(sweep.root, job.config, job.name)
    begin(sweep)
    assert read_outcome(sweep.root, job.name)
    (pictures / "cat" / "0.png").write_bytes((pictures / "cat" / "1.png").read_bytes())
    begin(sweep)
    assert not read_outcome(sweep.root, job.name)
    assert (sweep.root / f"probe-{job.name}" / "metrics.json").is_file()  # the run is looked up again, and not lost


def test_the_command_refuses_before_it_trains(pictures, tmp_path, capsys):
    given = ["-p", "data_dir", str(pictures), "-p", "runs_dir", str(tmp_path / "runs"), "-p", "weights", "random"]
    (pictures / "cat" / "0.png").write_bytes(b"")
    assert main(["recommend", *given]) == 2
    assert "1 of 28 images in" in capsys.readouterr().err
    assert main(["recommend"]) == 2
    assert "dataset 'folder' needs data_dir" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_study_whose_rates_are_searched_begins_with_the_search(parameters, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "recommend", lambda parameters, log: asked.append(parameters) or 130)
    given = [word for pair in parameters.items() for word in ("-p", *map(str, pair))]
    assert main(["run", "--profile", "own", *given]) == 130  # stopped: no notebook starts
    assert asked[0]["data_dir"] == parameters["data_dir"]
    assert not {"lr", "seed"} & set(asked[0])


@pytest.mark.long
def test_a_whole_recommendation_is_trained(parameters, pictures, tmp_path):
    for name in ("cat", "dog"):
        for index in range(14, 20):
            (pictures / name / f"{index}.png").write_bytes(_noise(tmp_path, name, index))
    lines = []
    assert recommend(parameters | {"epochs": 1}, log=lines.append) == 0
    text = next(line for line in reversed(lines) if line.startswith("\n# Which method"))
    assert "not yet" not in text
    assert (tmp_path / "runs" / "own" / "figures" / "label_curves.png").is_file()
    curves = json.loads((tmp_path / "runs" / "own" / "label_curves.json").read_text())
    assert [curve["method"] for curve in curves] == ["probe", "lora", "full"]


def _noise(folder, name, index):
    path = folder / "noise.png"
    rng = np.random.default_rng(index + 1000 * len(name) + ord(name[0]))
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return path.read_bytes()


def test_what_is_forgotten_is_measured_with_lines_of_progress(tmp_path, monkeypatch):
    """The earlier task is asked for as its loader wants to be asked, with the log."""
    loader = create_autospec(load_source_task, side_effect=LookupError("asked"))
    monkeypatch.setattr(facts, "load_source_task", loader)
    sweep, lines = SimpleNamespace(study=StudyConfig(), root=tmp_path), []
    with pytest.raises(LookupError, match="asked"):
        facts._hits(sweep, {"full": {0: tmp_path}}, "", lines.append)
    assert loader.call_args.kwargs == {"log": lines.append}
