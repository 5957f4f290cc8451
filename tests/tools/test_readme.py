"""`make readme` changes the marked places and the pictures, all of them or none."""

import json
import re

import pandas as pd
import pytest

from tools import readme
from tools.readme import fill_places, find_places, main, write_readme
from woofkit.config import ConfigError
from woofkit.study import NOTEBOOKS

README = """# Study
<!-- results:demo -->
old table
<!-- /results:demo -->
![curves](figures/demo/02_learning_curves.png)
<!-- results:imagewoof -->
<!-- /results:imagewoof -->
<!-- results:paper -->
stays
<!-- /results:paper -->
"""


def write_kept(path, profile):
    names = ("profile", "method", "accuracy", "low", "high", "loss", "seconds", "images_per_second", "precision")
    names += ("trainable_parameters", "peak_memory_mb", "checkpoint_bytes", "num_test_images", "date", "machine")
    row = (profile, "lora", 0.8878, 0.8775, 0.8975, 0.34, 1500.4, 30.0, "bf16")
    row += (177418, None, 750000, 3929, "2026-11-24T10:00", "two cores")
    pd.DataFrame([row], columns=names).to_csv(path, index=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A README, a finished demo study with two figures, and kept results."""
    monkeypatch.setattr(readme, "FILES", tuple(tmp_path / name for name in ("README.md", "results.md", "speed.md")))
    monkeypatch.setattr(readme, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(readme, "RESULTS", tmp_path / "results")
    (tmp_path / "README.md").write_text(README)
    study = tmp_path / "runs" / "demo"
    for folder in ("notebooks", "figures"):
        (study / folder).mkdir(parents=True)
    for name in NOTEBOOKS:
        (study / "notebooks" / f"{name}.ipynb").write_text("{}")
    (study / "results.md").write_text("| method |\n|---|\n| LoRA |\n")
    for name in ("02_learning_curves", "03_other"):
        (study / "figures" / f"{name}.png").write_bytes(b"new")
    (tmp_path / "figures" / "demo").mkdir(parents=True)
    (tmp_path / "figures" / "demo" / "01_no_longer_shown.png").write_bytes(b"old")
    (tmp_path / "results").mkdir()
    write_kept(tmp_path / "results" / "imagewoof_paper.csv", "paper")
    return tmp_path


def test_a_study_of_different_parameters_is_none(project):
    place = project / "runs" / "demo" / "notebooks" / "03_lora_finetune.ipynb"
    place.write_text(json.dumps({"metadata": {"papermill": {"parameters": {"rank": 4, "lr": 4e-4, "runs_dir": "x"}}}}))
    before = (project / "README.md").read_text()
    message = "03_lora_finetune.ipynb of study 'demo' ran with rank = 4 and not 12 as 05_comparison.ipynb did"
    with pytest.raises(ConfigError, match=message):
        write_readme("demo", str(project / "runs"))
    assert (project / "README.md").read_text() == before


def test_a_finished_study_fills_its_place(project):
    lines = write_readme("demo", str(project / "runs"))
    text = (project / "README.md").read_text()
    assert "<!-- results:demo -->\n| method |\n|---|\n| LoRA |\n<!-- /results:demo -->\n![curves]" in text
    assert "<!-- results:paper -->\nstays\n<!-- /results:paper -->" in text
    assert "old table" not in text
    assert lines[-1] == "figures/demo: 02_learning_curves.png"
    assert [path.name for path in (project / "figures" / "demo").iterdir()] == ["02_learning_curves.png"]
    write_readme("demo", str(project / "runs"))
    assert (project / "README.md").read_text() == text
    assert sorted(path.name for path in project.iterdir()) == ["README.md", "figures", "results", "runs"]


def test_a_folder_of_pictures_fills_its_place_with_the_recommendation(project):
    (project / "runs" / "demo").rename(project / "runs" / "own")
    (project / "runs" / "own" / "recommendation.md").write_text("# Which?\n\n**LoRA.**\n\n## The methods\n\n| a |\n")
    (project / "README.md").write_text("<!-- results:own -->\n<!-- /results:own -->\n")
    write_readme("own", str(project / "runs"))
    filled = "<!-- results:own -->\n**LoRA.**\n\n### The methods\n\n| a |\n<!-- /results:own -->\n"
    assert (project / "README.md").read_text() == filled


def test_kept_results_of_several_files_become_one_table(project):
    write_kept(project / "results" / "imagewoof_clean.csv", "clean")
    write_kept(project / "results" / "other.csv", "other")
    write_readme("demo", str(project / "runs"))
    text = (project / "README.md").read_text()
    table = text[text.index("<!-- results:imagewoof -->") : text.index("<!-- /results:imagewoof -->")].splitlines()
    assert [line.split("|")[1].strip() for line in table if line.startswith("|")][2:] == ["clean", "paper"]
    assert "88.8% (87.8 to 89.8)" in table[3]
    assert "Measured 2026-11-24, two cores, bf16" in table[-1]


def test_every_file_that_exists_is_filled_in_one_call(project, capsys):
    place = "<!-- results:demo -->\n<!-- /results:demo -->\n![](../figures/demo/03_other.png)\n"
    (project / "results.md").write_text(place)
    assert main(["--runs-dir", str(project / "runs")]) == 0
    assert "| LoRA |" in (project / "README.md").read_text()
    assert "| LoRA |" in (project / "results.md").read_text()
    assert not (project / "speed.md").exists()
    figures = "figures/demo: 02_learning_curves.png, 03_other.png"
    assert capsys.readouterr().out.splitlines() == ["README.md: demo, imagewoof", "results.md: demo", figures]


def test_an_unfinished_study_names_the_command_and_changes_nothing(project, capsys):
    (project / "runs" / "demo" / "notebooks" / "05_comparison.ipynb").unlink()
    assert main(["--profile", "demo", "--runs-dir", str(project / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: there is no finished study of 'demo'")
    assert "05_comparison.ipynb is missing; run: make study PROFILE=demo" in said
    assert (project / "README.md").read_text() == README


def test_a_figure_the_study_lacks_is_named_and_nothing_changes(project):
    (project / "runs" / "demo" / "figures" / "02_learning_curves.png").unlink()
    message = "figures/demo/02_learning_curves.png is to be shown, but .* has: 03_other.png"
    with pytest.raises(ConfigError, match=message):
        write_readme("demo", str(project / "runs"))
    assert (project / "README.md").read_text() == README
    assert (project / "figures" / "demo" / "01_no_longer_shown.png").exists()


def test_a_study_without_a_place_is_told_the_places(project):
    (project / "runs" / "demo").rename(project / "runs" / "clean")
    with pytest.raises(ConfigError, match="no place for 'clean': they have demo, imagewoof, paper; mark one with"):
        write_readme("clean", str(project / "runs"))


@pytest.mark.parametrize("marks", ["a", "a b /b /a", "a /a a /a", "/a a", "a b /a /b"])
def test_places_that_are_open_nested_or_doubled_are_refused(marks):
    text = re.sub(r"(/?)(\w) ?", r"<!-- \1results:\2 -->", marks)
    with pytest.raises(ConfigError, match="x.md has the marks .*: open and close each place once"):
        find_places("x.md", text)


def test_only_the_named_place_changes():
    text = "x\n<!-- results:a -->\n<!-- /results:a -->\ny <!-- results:ab -->\n<!-- /results:ab -->"
    assert fill_places(text, {"a": "T"}).replace("\nT", "", 1) == text
