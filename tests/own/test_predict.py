"""python -m woofkit predict: the answers of a run to any pictures, as a table and as maps."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from woofkit.__main__ import main
from woofkit.adapters import export_peft, load_run_model
from woofkit.config import METHODS, ConfigError, LoRAConfig
from woofkit.own import predict as module
from woofkit.own.predict import answer, find_pictures, header
from woofkit.results import read_predictions


def read(text):
    return list(csv.reader(text.splitlines()))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "zero-shot"])  # which has its own below
def test_predictions_of_the_runs_own_test_pictures_are_those_it_kept(run_of, pictures, tmp_path, method):
    run, output = run_of(method), tmp_path / "answers.csv"
    kept = read_predictions(run)
    assert main(["predict", str(run), *(str(pictures / key) for key in kept.key), "--output", str(output)]) == 0
    table = pd.read_csv(output)
    assert list(table) == ["path", "predicted", "probability", "cat, grey", "Zebra"]
    logits = np.exp(kept.filter(regex=r"^logit_").to_numpy())
    expected = logits / logits.sum(axis=1, keepdims=True)
    assert np.abs(table[["cat, grey", "Zebra"]].to_numpy() - expected).max() < 2e-6
    assert list(table.path) == [str(pictures / key) for key in kept.key]
    names = np.array(["cat, grey", "Zebra"])
    assert list(table.predicted) == list(names[kept.predicted])
    assert table.probability.to_numpy() == pytest.approx(expected.max(axis=1), abs=2e-6)


def test_a_table_goes_to_stdout(run_of, pictures, capsys):
    run = run_of("probe")
    capsys.readouterr()  # what the training said
    assert main(["predict", str(run), str(pictures)]) == 0
    printed = capsys.readouterr()
    assert len(read(printed.out)) == 1 + 16
    assert printed.err == ""  # no progress for so few


def test_zero_shot_predicts_and_is_exported_though_its_pictures_are_gone(run_of, pictures, tmp_path):
    """A head for ImageNet's classes and folders that are named like two of them."""
    root, weights = tmp_path / "moved", tmp_path / "imagenet.safetensors"
    shutil.copytree(pictures / "Zebra", root / "tench")
    shutil.copytree(pictures / "cat, grey", root / "goldfish")
    save_file(timm.create_model("test_vit", num_classes=1000).state_dict(), weights)
    run = run_of("zero-shot", data_dir=str(root), weights=str(weights))
    kept = read_predictions(run)
    shutil.rmtree(root)
    some = [str(pictures / key.replace("tench", "Zebra").replace("goldfish", "cat, grey")) for key in kept.key]
    assert main(["predict", str(run), *some, "--output", str(tmp_path / "answers.csv")]) == 0
    table = pd.read_csv(tmp_path / "answers.csv")
    assert list(table.predicted) == list(np.array(["goldfish", "tench"])[kept.predicted])
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    assert "- method: zero-shot" in (tmp_path / "out" / "README.md").read_text()


def test_the_preprocessing_of_the_run_is_applied(run_of, pictures, capsys):
    run = run_of("probe", preprocess="paper-code")
    kept = read_predictions(run)
    assert main(["predict", str(run), *(str(pictures / key) for key in kept.key)]) == 0
    logits = np.exp(kept.filter(regex=r"^logit_").to_numpy())
    table = np.array([row[3:] for row in read(capsys.readouterr().out)[1:]], dtype=float)
    assert np.abs(table - logits / logits.sum(axis=1, keepdims=True)).max() < 2e-6


def test_unreadable_pictures_are_all_named_and_the_others_written(run_of, pictures, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(pictures / "Zebra", mixed)
    (mixed / "a.png").write_bytes(b"")
    (mixed / "4.jpg").write_bytes(b"no picture")
    output = tmp_path / "answers.csv"
    assert main(["predict", str(run_of("probe")), str(mixed), "--output", str(output)]) == 1
    printed = capsys.readouterr().err
    assert all(f"{mixed / name} cannot be read: " in printed for name in ("a.png", "4.jpg"))
    assert "2 of 9 pictures cannot be read" in printed
    assert "Traceback" not in printed
    assert [row[0] for row in read(output.read_text())[1:]] == [str(mixed / f"{k}.jpg") for k in (0, 1, 2, 3, 5, 6, 7)]


def test_progress_goes_to_stderr(run_of, pictures, monkeypatch, capsys):
    monkeypatch.setattr(module, "MANY", 10)
    assert main(["predict", str(run_of("probe")), str(pictures)]) == 0
    printed = capsys.readouterr()
    assert "16/16" in printed.err
    assert len(read(printed.out)) == 17


def test_the_pictures_of_files_folders_and_globs(pictures, tmp_path, monkeypatch):
    shutil.copytree(pictures, tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    for name in ("p/Zebra/notes.txt", "p/Zebra/.hidden.jpg", "p/[1].jpg", "p/extra.dat"):
        shutil.copy("p/Zebra/1.jpg", name)
    assert len(find_pictures(["p"])) == 17  # hidden ones and what is no image are left out
    assert find_pictures(["p/**/1.jpg"]) == find_pictures(["p/cat, grey/1.jpg", "p/Zebra/1.jpg"][::-1])
    assert [path.name for path in find_pictures(["p/Zebra/*"])] == [f"{k}.jpg" for k in range(8)]
    assert len(find_pictures(["p/Zebra", "p/Zebra/1.jpg", "p/Z*"])) == 8
    assert [str(path) for path in find_pictures(["p/[1].jpg", "p/extra.dat"])] == ["p/[1].jpg", "p/extra.dat"]


def test_names_without_a_picture_are_refused(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ConfigError, match="empty' holds no picture: allowed are image files, folders with some, and gl"
    ):
        find_pictures([str(pictures), str(tmp_path / "empty")])
    with pytest.raises(ConfigError, match="none.jpg' stands for no picture"):
        find_pictures([str(tmp_path / "none.jpg")])


def test_a_row_holds_one_column_per_class_or_the_most_probable_ones():
    names, probabilities = ("a", "b", "c"), np.array([0.2, 0.5, 0.3])
    assert header(names) == ["path", "predicted", "probability", "a", "b", "c"]
    assert answer(probabilities, names) == ["b", "0.500000", "0.200000", "0.500000", "0.300000"]
    assert header(names, 2) == ["path", "predicted", "probability", "class_1", "p_1", "class_2", "p_2"]
    assert answer(probabilities, names, 2) == ["b", "0.500000", "b", "0.500000", "c", "0.300000"]


def test_maps_are_one_figure_per_row(run_of, pictures, tmp_path, capsys):
    folder = tmp_path / "maps"
    some = [str(pictures / "Zebra" / name) for name in ("0.jpg", "2.jpg")]
    assert main(["predict", str(run_of("lora")), *some, "--maps", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["0001-0.png", "0002-2.png"]
    with Image.open(folder / "0001-0.png") as figure:
        assert figure.width > 1.5 * figure.height  # the picture and two maps beside it
    assert main(["predict", str(run_of("lora")), *some, "--maps", str(folder)]) == 2
    assert "is there and not empty: allowed is a new or an empty folder" in capsys.readouterr().err


def test_a_peft_folder_predicts_as_its_run_with_settings_beside_it_or_given(run_of, pictures, tmp_path, capsys):
    run = run_of("lora")
    some = [str(pictures / "Zebra")]
    assert main(["predict", str(run), *some]) == 0
    expected = read(capsys.readouterr().out)
    adapter = tmp_path / "elsewhere"
    export_peft(load_run_model(run), LoRAConfig.paper(rank=2), adapter)
    assert main(["predict", str(adapter), *some]) == 2
    assert "an adapter without settings: allowed is config.json of its run or run.json" in capsys.readouterr().err

    def same(found):
        probabilities = [np.array([row[2:] for row in rows[1:]], dtype=float) for rows in (found, expected)]
        return found[0] == expected[0] and np.abs(probabilities[0] - probabilities[1]).max() < 2e-6

    parameters = {"dataset": "folder", "data_dir": pictures, "model_name": "test_vit", "weights": "random", "rank": 2}
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
    assert main(["predict", str(adapter), *some, *given]) == 0
    assert same(read(capsys.readouterr().out))
    shutil.copy(run / "config.json", adapter)
    assert main(["predict", str(adapter), *some]) == 0
    assert same(read(capsys.readouterr().out))
    assert main(["predict", str(run), *some, *given]) == 2
    assert "has settings of its own: --profile and -p are allowed for an adapter of PEFT" in capsys.readouterr().err


def refused(capsys, *arguments):
    assert main(["predict", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_what_cannot_be_done_is_refused_before_anything_is_read(run_of, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "read_picture", None)
    run = run_of("probe")
    capsys.readouterr()  # what training has said
    assert "top = 3 is out of range: allowed is from 1 to 2" in refused(capsys, run, pictures, "--top", 3)
    assert "top = 0 is out of range" in refused(capsys, run, pictures, "--top", 0)
    assert "allowed is a file in a folder that exists" in refused(
        capsys, run, pictures, "--output", tmp_path / "x/y.csv"
    )
    assert f"there is no folder {tmp_path / 'none'}" in refused(capsys, tmp_path / "none", pictures)
    assert "is not a run, as it has no config.json" in refused(capsys, pictures, pictures)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "metrics.json").unlink()
    assert "unfinished is not finished" in refused(capsys, unfinished, pictures)
    (unfinished / "config.json").write_text("{")
    (unfinished / "metrics.json").write_text(json.dumps({"test_accuracy": 1}))
    assert "config.json is damaged" in refused(capsys, unfinished, pictures)
    monkeypatch.setattr("woofkit.explain.maps.record_attention", raising)
    assert "no attention maps of this model" in refused(capsys, run, pictures, "--maps", tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def raising(model):
    raise TypeError("it has none")


def test_an_interrupted_table_leaves_nothing(run_of, pictures, tmp_path, monkeypatch):
    seen = []

    def read_or_stop(path):
        seen.append(path)
        if len(seen) > 5:
            raise KeyboardInterrupt
        return Image.new("RGB", (40, 40))

    monkeypatch.setattr(module, "read_picture", read_or_stop)
    monkeypatch.setattr(module, "BATCH", 2)
    assert main(["predict", str(run_of("probe")), str(pictures), "--output", str(tmp_path / "answers.csv")]) == 130
    assert list(tmp_path.iterdir()) == []
