"""Refused before anything starts, or run to its end; nothing half-done passes for finished."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import read_yaml_file

from woofkit import profiles, study
from woofkit.__main__ import main, parse_parameters
from woofkit.config import PROJECT_ROOT, ConfigError, StudyConfig
from woofkit.profiles import available_profiles, load_profile, parse_override
from woofkit.study import StudyError, run_study

PARAMETERS = 'profile: str = "tiny"\nepochs: int = 5\nlr: float = 4e-4\nruns_dir: str = "runs"'
KERNEL = {"name": "python3", "display_name": "Python 3"}
SHOW = """import sys
print("types", type(epochs).__name__, type(lr).__name__, lr)
print("kernel", sys.executable)"""


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> None:
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook.cells = [first, *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(notebook, path)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A study of two notebooks, its profile `tiny.yaml`, and a runs_dir to look into."""
    folder, runs = tmp_path / "notebooks", tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(study, "NOTEBOOKS_DIR", folder)
    monkeypatch.setattr(study, "NOTEBOOKS", ("01_first", "05_last"))
    write_notebook(folder / "01_first.ipynb", SHOW)
    write_notebook(folder / "05_last.ipynb", "pass")
    (tmp_path / "tiny.yaml").write_text(f"epochs: 3\nlr: 3e-4\nruns_dir: {runs}\n")
    return tmp_path


def tiny_run(tiny: Path, **options) -> Path:
    return run_study(tiny / "tiny.yaml", **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- profiles and overrides ---


@pytest.mark.parametrize("name", available_profiles())
def test_a_profile_is_valid_and_reads_the_same_for_papermill(name, tmp_path):
    parameters = load_profile(name)
    given = {"data_dir": str(tmp_path)} if parameters.get("dataset") == "folder" else {}  # it is the user's
    assert StudyConfig.from_dict(parameters | given).profile == name
    plain = read_yaml_file(str(profiles.PROFILES_DIR / f"{name}.yaml"))  # what `papermill -f` reads
    assert plain == parameters
    assert {key: type(value) for key, value in plain.items()} == {k: type(v) for k, v in parameters.items()}


def test_the_demo_profile_is_what_the_notebooks_declare():
    assert StudyConfig.from_dict(load_profile("demo")) == StudyConfig()


def test_the_papers_profiles_hold_its_protocol():
    paper, code, clean = (StudyConfig.from_dict(load_profile(name)) for name in ("paper", "paper-code", "clean"))
    assert (paper.lr, code.lr, clean.lr) == (4e-4, 1e-4, 4e-4)
    assert (paper.preprocess, code.preprocess, clean.preprocess) == ("timm", "paper-code", "timm")
    assert (paper.scheme, code.scheme, clean.scheme) == ("paper", "paper", "clean")
    for config in (paper, code, clean):
        assert (config.dataset, config.num_train, config.num_test) == ("imagewoof", 0, 0)
        assert (config.epochs, config.batch_size, config.rank, config.schedule) == (5, 128, 12, "constant")


YAML_1_2 = {"4e-4": 4e-4, "1e3": 1000.0, "0.5": 0.5, "-1": -1, "010": 10, "false": False, "null": None}
YAML_1_2 |= {word: word for word in ("no", "1:30", "2026-01-31")}  # YAML 1.1 reads a bool, seconds and a date


@pytest.mark.parametrize(("text", "value"), YAML_1_2.items())
def test_numbers_and_booleans_are_read_as_yaml_1_2(text, value, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"lr: {text}\n")
    for read in (parse_override("lr", text), load_profile(tmp_path / "mine.yaml")["lr"]):
        assert read == value
        assert type(read) is type(value)


def test_a_text_parameter_takes_the_text_as_it_stands():
    expected = {"image_variant": "320", "data_dir": "", "weights": "a=b"}
    assert parse_parameters([["image_variant", "320"], ["data_dir="], ["weights", "a=b"]]) == expected


MALFORMED = [
    ([["use_amp", "false"]], "unknown parameter 'use_amp': allowed are profile, dataset"),
    ([["lr"]], "-p lr: give a name and a value"),
    ([["lr", "1", "2"]], "-p lr 1 2: give a name and a value"),
    ([["lr", "1e-4"], ["lr=1e-3"]], "parameter 'lr' is given twice"),
]


@pytest.mark.parametrize(("given", "message"), MALFORMED)
def test_a_malformed_override_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_parameters(given)


def test_an_unknown_profile_lists_the_known_ones():
    known = f"allowed are {', '.join(available_profiles())}, or the path of a .yaml file that exists"
    for name in ("demmo", "absent.yaml"):
        with pytest.raises(ConfigError, match=f"unknown profile '{name}': {known}"):
            load_profile(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1\n- 2\n", "must hold lines of the form 'name: value'"),
        ("1: 2\n", "must hold lines of the form 'name: value', not {1: 2}"),
        ("lr: [1", "mine.yaml is not a YAML file: line 1: expected ',' or ']'"),
        ("lr: -_", "mine.yaml is not a YAML file: invalid literal"),
        ("lr: 1\nlr: 2\n", 'mine.yaml is not a YAML file: line 2: found duplicate key "lr"'),
        ("profile: paper\n", "says profile: paper, but must carry its own name, mine"),
    ],
)
def test_a_broken_profile_file_is_refused(content, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_profile(tmp_path / "mine.yaml")


# --- refused before anything starts ---


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"use_amp": False}, "unknown parameter 'use_amp': allowed are profile"),
        ({"epochs": "false"}, "epochs must be of type int, not str"),
        ({"seed": 1}, "01_first.ipynb does not declare 'seed'; it declares profile, epochs, lr, runs_dir"),
    ],
)
def test_bad_parameters_are_refused_before_anything_starts(tiny, overrides, message):
    with pytest.raises(ConfigError, match=message):
        tiny_run(tiny, overrides=overrides)
    assert not (tiny / "runs").exists()


def test_an_unknown_notebook_lists_the_known_ones(tiny):
    with pytest.raises(ConfigError, match="unknown notebook '07_cats': allowed are 01_first, 05_last"):
        tiny_run(tiny, notebooks=["07_cats"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (PARAMETERS + "\nseed: int = 3", "edited to seed = 3, while the study has 0"),
        (
            PARAMETERS.replace("4e-4", "1e-3") + "\nrank: int = 3",
            r"edited to rank = 3, while the study has 12; put the cell back \(git checkout notebooks/05_last.ipynb\)",
        ),
        (
            PARAMETERS + "\nseed: int = 3\nrank: int = 4",
            "edited to seed = 3, while the study has 0; rank = 4, while the study has 12; put the cell back",
        ),
        (PARAMETERS + "\nseed: int = 1 + 1", "may hold only 'name: type = literal'"),
        (PARAMETERS + "\nprint(1)", "may hold only 'name: type = literal'"),
        (PARAMETERS + "\nuse_amp: bool = True", "declares 'use_amp', which is no parameter of the study"),
    ],
)
def test_a_parameters_cell_the_study_does_not_know_of_is_refused(tiny, parameters, message):
    write_notebook(tiny / "notebooks" / "05_last.ipynb", parameters=parameters)
    with pytest.raises(ConfigError, match=message):
        tiny_run(tiny)
    assert not (tiny / "runs").exists()


def test_a_kernel_of_another_python_is_refused(tiny, monkeypatch):
    folder = tiny / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": ["/elsewhere/bin/python", "-m", "ipykernel_launcher"], "display_name": "x", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tiny / "jupyter"))
    with pytest.raises(StudyError, match="starts /elsewhere/bin/python, not .*ipykernel install --sys-prefix"):
        tiny_run(tiny)
    assert not (tiny / "runs").exists()


# --- run to the end, or not finished ---


def test_a_study_runs_to_its_end(tiny, capsys):
    root = tiny_run(tiny)
    assert root == tiny / "runs" / "tiny"
    assert names(root / "notebooks") == ["01_first.ipynb", "05_last.ipynb"]
    shown = capsys.readouterr().out
    assert shown.index("[1/2] 01_first") < shown.index("types int float 0.0003") < shown.index("[2/2] 05_last")
    assert f"kernel {sys.executable}\n" in shown
    assert f"Executed notebooks  {root / 'notebooks'}" in shown
    copy = nbformat.read(root / "notebooks" / "01_first.ipynb", as_version=4)
    injected = [cell for cell in copy.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert 'profile = "tiny"' in injected[0].source


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("raise ValueError('no dogs')", r"01_first stopped at cell 4 \(In \[4\]\): ValueError: no dogs"),
        ("import sys; sys.exit()", "01_first ended early: cell 5 of 5 never ran"),
        ("import os; os._exit(1)", "01_first stopped: its kernel died"),
    ],
)
def test_a_failed_notebook_leaves_no_finished_copy(tiny, cell, message):
    write_notebook(tiny / "notebooks" / "01_first.ipynb", "print('before')", cell, "print('after')")
    root = tiny / "runs" / "tiny"
    for name in ("notebooks/01_first.ipynb", "notebooks/05_last.ipynb", "figures/01_grid.png", "results.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("old")

    with pytest.raises(StudyError, match=message) as error:
        tiny_run(tiny, echo=False)
    assert names(root / "notebooks") == ["01_first.failed.ipynb"]
    assert str(root / "notebooks" / "01_first.failed.ipynb") in str(error.value)
    assert "before" in (root / "notebooks" / "01_first.failed.ipynb").read_text()
    assert names(root / "previous") == ["01_first.ipynb", "01_grid.png", "05_last.ipynb", "results.md"]
    assert not (root / "results.md").exists()


def test_one_notebook_leaves_the_others_copies_alone(tiny):
    root = tiny / "runs" / "tiny"
    (root / "notebooks").mkdir(parents=True)
    (root / "notebooks" / "01_first.ipynb").write_text("old")
    tiny_run(tiny, notebooks=["05_last"], echo=False)
    assert (root / "notebooks" / "01_first.ipynb").read_text() == "old"
    assert names(root / "notebooks") == ["01_first.ipynb", "05_last.ipynb"]


# --- the command line ---


def test_the_command_line_refuses_an_unknown_parameter_as_papermill_does_not():
    command = [sys.executable, "-m", "woofkit", "run", "-p", "use_amp", "false"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown parameter 'use_amp': allowed are profile, dataset")
    assert done.stdout == ""


def test_a_download_that_fails_is_a_message_and_not_a_traceback(monkeypatch, capsys, tmp_path):
    def out_of_reach(*args):
        raise ConnectionError("could not download the archive")

    monkeypatch.setattr("woofkit.datasets.imagewoof.fetch_archive", out_of_reach)
    given = ["-p", "weights", "random", "-p", f"runs_dir={tmp_path / 'runs'}"]
    assert main(["run", "--profile", "paper", *given]) == 1
    assert capsys.readouterr().err == "error: could not download the archive\n"
    assert not (tmp_path / "runs").exists()


def test_exit_codes_and_messages(tiny, capsys):
    write_notebook(tiny / "notebooks" / "01_first.ipynb", "1 / 0")
    assert main(["run", "--profile", str(tiny / "tiny.yaml")]) == 1
    assert "error: 01_first stopped at cell 3 (In [3]): ZeroDivisionError" in capsys.readouterr().err
    assert main(["run", "-p", "epochs", "false"]) == 2
    assert capsys.readouterr().err == "error: epochs must be of type int, not bool (False)\n"
    assert main(["run", "--profile", "cats"]) == 2
    assert main(["train", "--method", "full", "-p", "dataset=cats"]) == 2
    assert main(["runs", "--root", str(tiny / "absent")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--method", "magic"])
    assert "invalid choice: 'magic' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"model_name": "vit_nano"}, "unknown model 'vit_nano'"),
        ({"weights": "README.md"}, "weights file README.md: format '.md' is not one of"),
        ({"dataset": "imagewoof", "data_dir": "tests"}, "tests"),
    ],
)
def test_model_weights_and_images_are_found_before_a_notebook_starts(override, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run_study("test", override | {"runs_dir": str(tmp_path / "runs")})
    assert not (tmp_path / "runs").exists()


def test_a_model_without_maps_is_refused_for_the_notebook_that_draws_them():
    settings = StudyConfig(model_name="test_vit2", weights="random", num_train=10, num_val=10, num_test=20)
    with pytest.raises(
        ConfigError, match="04_attention_maps cannot run: .* no class token.*The others can: -n 00_quick"
    ):
        study.check_inputs(settings)
    study.check_inputs(settings, ["02_full_finetune", "05_comparison"])


def test_papermill_by_itself_is_refused_a_misspelt_name_and_understood_in_yaml_1_1(tmp_path):
    parameters = nbformat.read(study.NOTEBOOKS_DIR / f"{study.NOTEBOOKS[1]}.ipynb", 4).cells
    [cell] = [cell.source for cell in parameters if "parameters" in cell.metadata.get("tags", [])]
    take = "from woofkit.profiles import from_notebook\nprint(from_notebook(globals()).lr)"
    write_notebook(tmp_path / "own.ipynb", take, parameters=cell)
    (tmp_path / "own.yaml").write_text("lr: 1e-3\n")  # a text, to YAML 1.1

    def papermill(*given):
        command = [sys.executable, "-m", "papermill", "own.ipynb", "done.ipynb", "--cwd", str(PROJECT_ROOT)]
        command += ["-k", "python3", "--language", "python", *given]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    refused = papermill("-p", "learning_rate", "0.1")
    assert refused.returncode
    assert "unknown parameter 'learning_rate': allowed are" in refused.stderr
    assert papermill("-f", "own.yaml", "--log-output").stderr.count("0.001\n") == 1


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("target", ["study", "sweep"])
def test_make_hands_quoted_parameters_on(target):
    given = ["VENV_PY=printf '[%s]'", """PARAMS=data_dir="/my pictures" lr='1e-3'"""]
    command = ["make", "--old-file", ".venv/.installed", target, *given]
    said = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout
    assert said.endswith("[-p][data_dir=/my pictures][-p][lr=1e-3]")
