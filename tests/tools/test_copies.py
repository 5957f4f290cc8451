"""Copies of the notebooks: what is done in them stays there, and the study does not mind."""

import re

import nbformat
import pytest

from tools.copies import BEGIN, END, main, make_copies
from woofkit.config import PROJECT_ROOT, ConfigError, StudyConfig
from woofkit.profiles import load_profile
from woofkit.study import NOTEBOOKS_DIR, check_parameters

SOURCES = sorted(NOTEBOOKS_DIR.glob("*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def change(path, old, new):
    """Edit a cell, as somebody in class does, and save."""
    notebook = read(path)
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source]
    cell.source = cell.source.replace(old, new)
    cell.outputs = [nbformat.v4.new_output("stream", text="an answer")]
    nbformat.write(notebook, path)


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def test_a_working_copy_is_the_notebooks_and_takes_all_edits(tmp_path):
    before = {path: path.read_bytes() for path in SOURCES}
    assert make_copies("lab", tmp_path / "work") == []
    for source in SOURCES:
        copied = read(tmp_path / "work" / source.name)
        assert [cell.source for cell in copied.cells] == [cell.source for cell in read(source).cells]
        nbformat.validate(copied)
    for name in SOURCES[-3:]:
        change(tmp_path / "work" / name.name, "lr: float = 4e-4", "lr: float = 1e-3")
    assert {path: path.read_bytes() for path in SOURCES} == before
    parameters = load_profile("demo")
    for source in SOURCES:  # what `make study` refuses is an edited source
        check_parameters(source, parameters, StudyConfig.from_dict(parameters))
    assert make_copies("lab", tmp_path / "work") == []
    assert "1e-3" in (tmp_path / "work" / SOURCES[-1].name).read_text()  # the copy stays


def test_a_newer_source_is_told_and_the_copy_kept(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for source in SOURCES[:2]:
        (folder / source.name).write_bytes(source.read_bytes())
    make_copies("lab", tmp_path / "work", folder)
    change(tmp_path / "work" / SOURCES[0].name, "rank: int = 12", "rank: int = 3")
    change(folder / SOURCES[0].name, "rank: int = 12", "rank: int = 4")
    (tmp_path / "work" / SOURCES[1].name).write_text("{")
    changed, broken = make_copies("lab", tmp_path / "work", folder)
    assert changed.startswith(f"{SOURCES[0].name}: the source has changed since your copy was made; rename your copy")
    assert broken.startswith(f"{SOURCES[1].name}: your copy cannot be read")
    assert "rank: int = 3" in (tmp_path / "work" / SOURCES[0].name).read_text()
    (tmp_path / "work" / SOURCES[0].name).rename(tmp_path / "work" / "mine.ipynb")
    (tmp_path / "work" / SOURCES[1].name).unlink()
    assert make_copies("lab", tmp_path / "work", folder) == []
    assert "rank: int = 4" in (tmp_path / "work" / SOURCES[0].name).read_text()


def test_students_get_no_solution_and_teachers_all(tmp_path):
    make_copies("student", tmp_path / "student")
    make_copies("teacher", tmp_path / "teacher")
    for source in SOURCES:
        given, solved = (read(tmp_path / kind / source.name) for kind in ("student", "teacher"))
        assert not tagged(given, "solution")
        assert "BEGIN SOLUTION" not in str(given)
        assert len(tagged(given, "answer")) == len(tagged(given, "check")) == len(tagged(read(source), "answer"))
        for cell, (empty, solution) in zip(
            tagged(solved, "answer"),
            zip(tagged(given, "answer"), tagged(read(source), "solution"), strict=True),
            strict=True,
        ):
            code = re.search(r"```python\n(.+?)\n```", solution.source, flags=re.S)[1]
            assert cell.source == f"{empty.source}\n\n{BEGIN}\n{code}\n{END}"
            assert cell.metadata.nbgrader.solution
        ids = [cell.metadata.nbgrader.grade_id for cell in tagged(solved, "answer")]
        assert len(ids) == len(set(ids))


def test_a_projector_shows_parameters_and_answers_and_folds_all_other_code(tmp_path):
    make_copies("projector", tmp_path / "shown")
    for source in SOURCES:
        shown = read(tmp_path / "shown" / source.name)
        nbformat.validate(shown)
        for cell, before in zip(shown.cells, read(source).cells, strict=True):
            assert cell.source == before.source
            kept_open = cell.cell_type != "code" or {"parameters", "answer"} & set(cell.metadata.get("tags", []))
            as_it_was = before.metadata.get("jupyter", {}).get("source_hidden", False)
            assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == (as_it_was if kept_open else True)


def test_links_lead_to_the_projects_pages_from_every_copy(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for source in SOURCES:
        (tmp_path / "notebooks" / source.name).write_bytes(source.read_bytes())
    for kind, folder in {"lab": "work", "student": "work/student", "teacher": "work/teacher"}.items():
        make_copies(kind, tmp_path / folder, tmp_path / "notebooks")
        for source in SOURCES:
            text = "\n".join(cell.source for cell in read(tmp_path / folder / source.name).cells)
            for link in re.findall(r"\]\((\.\./[^)#]+)", text):
                path = (tmp_path / folder / link).resolve().relative_to(tmp_path)
                assert (PROJECT_ROOT / path).exists(), (folder, link)


def test_what_holds_the_sources_or_is_a_file_is_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match="cannot take copies: name a folder other than notebooks/"):
        make_copies("student", NOTEBOOKS_DIR)
    (tmp_path / "file").touch()
    assert main(["student", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["student", str(tmp_path / "class")]) == 0
    assert f"The notebooks are in {tmp_path / 'class'}/." in capsys.readouterr().out


def test_git_does_not_see_the_working_copy():
    ignored = (PROJECT_ROOT / ".gitignore").read_text().splitlines()
    assert "work" in [line.strip("/") for line in ignored]
