"""python -m woofkit export: files that give the run's answers without woofkit, whole or not there."""

import csv
import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from woofkit.__main__ import main
from woofkit.adapters import load_run_model
from woofkit.config import METHODS, ConfigError, TrainConfig
from woofkit.data import Transform
from woofkit.own import export
from woofkit.own.card import model_card
from woofkit.own.export import ONNX_PACKAGES, TOLERANCE, describe, export_run
from woofkit.own.finished import load_finished
from woofkit.own.scripts import script
from woofkit.results import read_metrics

# The packages of woofkit alone are kept away: the script has to find all else.
WITHOUT = """import runpy, sys
sys.modules["woofkit"] = None
_, picture, *scripts = sys.argv
for script in scripts:
    sys.argv = [script, picture]
    runpy.run_path(script)
"""
TRAINED = tuple(method for method in METHODS if method != "zero-shot")


@pytest.fixture
def no_onnx(monkeypatch):
    """As on a machine without the packages, whichever this one has."""
    monkeypatch.setattr(export, "find_spec", lambda name: None)


def answers(run, pictures, capsys):
    capsys.readouterr()
    assert main(["predict", str(run), *map(str, pictures)]) == 0
    return [row[1:3] for row in list(csv.reader(capsys.readouterr().out.splitlines()))[1:]]


def spoken(text):
    name, probability = text.rstrip("\n").rsplit(" ", 1)
    return name, float(probability)


def said(file, picture, capsys, monkeypatch):
    """What a script prints in this process, where it finds no woofkit."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "woofkit", None)
        patch.setattr(sys, "argv", [str(file), str(picture)])
        runpy.run_path(str(file))
    return spoken(capsys.readouterr().out)


@pytest.mark.parametrize("method", TRAINED)
def test_timm_alone_loads_the_exported_weights_and_gives_the_runs_logits(run_of, tmp_path, method, no_onnx):
    lines = []
    folder = export_run(run_of(method), tmp_path / "out", lines.append)
    missing = ", ".join(ONNX_PACKAGES)
    assert lines == [f'no model.onnx, as {missing} cannot be imported: pip install -e ".[onnx]"']
    files = {"model.safetensors", "preprocess.json", "run.json", "README.md", "use_me.py"}
    assert {path.name for path in folder.iterdir()} == files | ({"adapter"} if method == "lora" else set())
    model = timm.create_model("test_vit", num_classes=2).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    images = torch.randn(3, 3, *model.default_cfg["input_size"][1:], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (model(images) - load_run_model(run_of(method))(images)).abs().max() < 1e-5


def test_the_adapter_of_an_export_predicts_as_its_run(run_of, pictures, tmp_path, capsys, no_onnx):
    run, some = run_of("lora"), [pictures / "Zebra"]
    folder = export_run(run, tmp_path / "out")
    found, expected = (answers(each, some, capsys) for each in (folder / "adapter", run))
    for (name, probability), (own, own_probability) in zip(found, expected, strict=True):
        assert name == own
        assert float(probability) == pytest.approx(float(own_probability), abs=2e-6)
    settings = json.loads((folder / "run.json").read_text())["config"]
    assert settings["data_dir"] == ""
    assert settings["model_name"] == "test_vit"


def odd_pictures(folder):
    """A transparent one, one in the colours of print, and a long grey one."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "transparent.png")
    Image.fromarray(pixels, "CMYK").save(folder / "print.jpg")
    Image.fromarray(pixels[:, :, 0]).resize((300, 40)).save(folder / "grey.png")
    return [folder / name for name in ("transparent.png", "print.jpg", "grey.png")]


@pytest.mark.parametrize("preprocess", ["timm", "paper-code"])
def test_use_me_gives_the_answer_of_predict(run_of, pictures, tmp_path, capsys, monkeypatch, no_onnx, preprocess):
    run = run_of("full", preprocess=preprocess)
    folder = export_run(run, tmp_path / "out")
    some = [pictures / "Zebra" / "0.jpg", *odd_pictures(tmp_path)]
    for picture, (name, probability) in zip(some, answers(run, some, capsys), strict=True):
        found, sure = said(folder / "use_me.py", picture, capsys, monkeypatch)
        assert (found, sure) == (name, pytest.approx(float(probability), abs=6e-5))  # it is written with four decimals
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(SystemExit, match="more than 8 bits per channel have to be converted to 8 bits first"):
        said(folder / "use_me.py", tmp_path / "deep.png", capsys, monkeypatch)


@pytest.mark.long
def test_use_me_runs_by_itself_for_every_method(run_of, pictures, tmp_path, capsys, no_onnx):
    """One interpreter that finds no woofkit, and none of its settings, runs the scripts one after the other."""
    picture = pictures / "Zebra" / "0.jpg"
    scripts = [str(export_run(run_of(method), tmp_path / method) / "use_me.py") for method in TRAINED]
    command = [sys.executable, "-I", "-c", WITHOUT, str(picture), *scripts]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for method, line in zip(TRAINED, done.stdout.splitlines(), strict=True):
        [(name, probability)] = answers(run_of(method), [picture], capsys)
        assert spoken(line) == (name, pytest.approx(float(probability), abs=6e-5)), method


@pytest.mark.parametrize("name", ["use_me.py", "use_onnx.py"])
@pytest.mark.parametrize("resize", [None, 248])
@pytest.mark.parametrize("greyscale", [False, True])
def test_the_scripts_are_short_and_valid(name, resize, greyscale):
    transform = Transform(224, resize, Image.Resampling.BICUBIC, greyscale, (0.5,) * 3, (0.5,) * 3)
    text = script(name, transform)
    compile(text, name, "exec")
    assert len(text.splitlines()) < 40
    assert "woofkit" not in text
    assert "{" not in text.replace('f"{probabilities[best]:.4f}"', "").replace('{"images"', "")
    assert ('convert("L")' in text, "crop" in text) == (greyscale, resize is not None)


def test_preprocess_json_describes_the_transform(run_of, tmp_path, no_onnx):
    run = run_of("full")
    folder, transform = export_run(run, tmp_path / "out"), load_finished(run).transform
    about = json.loads((folder / "preprocess.json").read_text())
    assert about.pop("class_names") == ["cat, grey", "Zebra"]
    assert (about.pop("model"), about.pop("crop")) == ("test_vit", "center")
    about["interpolation"] = Image.Resampling[about["interpolation"].upper()]
    assert Transform(**{name: tuple(v) if isinstance(v, list) else v for name, v in about.items()}) == transform
    squeezed = describe(load_finished(run_of("full", preprocess="paper-code")))
    assert (squeezed["resize"], squeezed["crop"], squeezed["greyscale"]) == (None, None, True)


def test_the_card_says_what_the_model_is_and_how_good(run_of, tmp_path, no_onnx):
    run = run_of("lora")
    card = (export_run(run, tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    metrics = read_metrics(run)
    for words in (
        "# test_vit: 2 classes, LoRA",
        f"**{100 * metrics['test_accuracy']:.1f}%** (95% interval ",
        "on 4 test images",
        "They are few: of a single class this says little",
        "images: 8 training, 4 validation, 4 test",
        "rank 2, alpha 2",
        "cat, grey; Zebra.",
        f"Trained on {metrics['date'][:10]}",
        f"timm {timm.__version__}",
        "python use_me.py picture.jpg",
        "Do not use it",
        "`adapter/`",
    ):
        assert words in card
    assert "use_onnx" not in card
    assert "drawing" not in card
    seen = metrics | {"unseen_accuracy": 0.5, "unseen_accuracy_low": 0.4, "unseen_accuracy_high": 0.6}
    card = model_card(load_finished(run), seen | {"num_unseen_images": 1}, [])
    assert "On the 1 of them that ImageNet's training images do not hold: **50.0%** (95% interval 40.0%" in card


def test_the_card_says_plainly_what_has_met_only_drawings(run_of):
    finished, metrics = load_finished(run_of("full")), read_metrics(run_of("full"))

    def card(**changes):
        return model_card(replace(finished, config=TrainConfig(**changes)), metrics, ["use_me.py"])

    assert "It has seen only drawings: cartoons" in card(dataset="sketchwoof")
    assert "It has seen only drawings: cartoons" in card(dataset="sketchwoof", weights="random")
    assert "Its training showed it only drawings" in card(dataset="sketchwoof", weights="timm")
    assert "Its initial weights had seen only drawings" in card(dataset="imagewoof")
    assert "drawings" not in card(dataset="imagewoof", weights="timm")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_breaks_off_leaves_nothing(run_of, tmp_path, monkeypatch, error, no_onnx):
    def broken(*_):
        raise error

    monkeypatch.setattr(export, "model_card", broken)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(error):
            export_run(run_of("lora"), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_other_logits_are_refused(run_of, tmp_path, monkeypatch, capsys, no_onnx):
    monkeypatch.setattr(export, "_logits", lambda model, images: model(images) + 2 * TOLERANCE)
    assert main(["export", str(run_of("full")), str(tmp_path / "out")]) == 1
    assert "model.safetensors gives logits that are 0.0002 from those of the run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused_before_anything_is_written(run_of, pictures, tmp_path, capsys):
    run = run_of("full")

    def refused(run, folder="out"):
        assert main(["export", str(run), str(tmp_path / folder)]) == 2
        return capsys.readouterr().err

    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "metrics.json").unlink()
    assert "unfinished is not finished" in refused(unfinished)
    assert "is there and not empty: allowed is a new or an empty folder" in refused(run, "unfinished")
    assert "is not a run, as it has no config.json" in refused(pictures)
    assert "there is no folder" in refused(tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


def test_a_model_of_other_weights_than_timms_is_refused(run_of, tmp_path):
    finished = load_finished(run_of("full"))
    finished.model.extra = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="the weights do not fit timm's 'test_vit'"):
        export.write_weights(finished, tmp_path / "model.safetensors")


@pytest.mark.parametrize("method", TRAINED)
def test_onnx_gives_the_same_logits_for_any_batch_and_its_script_the_same_answer(
    run_of, pictures, tmp_path, capsys, monkeypatch, method
):
    for package in ONNX_PACKAGES:
        pytest.importorskip(package, reason=f'no {package}: pip install -e ".[onnx]"')
    import onnxruntime

    run = run_of(method)
    folder = export_run(run, tmp_path / "out")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    [entry] = session.get_inputs()
    assert isinstance(entry.shape[0], str)  # any number of images
    for count in (1, 2, 7):
        images = torch.randn(count, *entry.shape[1:], generator=torch.Generator().manual_seed(count))
        [logits] = session.run(None, {"images": images.numpy()})
        with torch.inference_mode():
            expected = load_run_model(run)(images)
        assert np.abs(logits - expected.numpy()).max() < TOLERANCE
    some = [pictures / "Zebra" / "0.jpg", *odd_pictures(tmp_path)]
    for picture, (name, probability) in zip(some, answers(run, some, capsys), strict=True):
        found, sure = said(folder / "use_onnx.py", picture, capsys, monkeypatch)
        assert (found, sure) == (name, pytest.approx(float(probability), abs=1.5e-4))
    assert "use_onnx.py picture.jpg" in (folder / "README.md").read_text()


def test_an_onnx_model_with_other_logits_is_refused(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    monkeypatch.setattr(export, "write_onnx", lambda model, example, file: file.write_bytes(b"onnx"))
    monkeypatch.setattr(export, "run_onnx", lambda file, images: torch.zeros(len(images), 2))
    with pytest.raises(FloatingPointError, match="model.onnx gives logits that are .* nothing was exported"):
        export_run(run_of("full"), tmp_path / "out")
    assert not list(tmp_path.iterdir())
