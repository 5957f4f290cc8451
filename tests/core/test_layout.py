"""How the project is laid out: imports run one way, a file is one concept, notebooks keep their form."""

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest

from woofkit.config import PROJECT_ROOT, StudyConfig
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR, declared_parameters

PACKAGE = PROJECT_ROOT / "woofkit"
MODULES = sorted(PACKAGE.rglob("*.py"))
PLOTTING = ("matplotlib.pyplot",)


def relative_name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imported_modules(path: Path) -> set[str]:
    """Return the dotted names a module imports, inside functions too; `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name: write it in full"
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


# --- the package ---


def test_rooms_import_one_way():
    """The layers contract of pyproject.toml, which draws the house's floors."""
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=relative_name)
def test_a_file_is_one_concept_and_only_plots_draws(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 450, f"{lines} lines: more than one concept?"
    drawing = [name for name in imported_modules(path) if name.startswith(PLOTTING)]
    assert not drawing or path.parent.name == "plots", f"only plots may import {drawing}"


def test_the_house_has_no_more_rooms_than_its_plan():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(rooms - {"__init__"}) <= 27, sorted(rooms)


def test_every_imported_package_is_declared_and_pinned():
    pinned = dict(re.findall(r"^([\w.-]+)==(.+)$", (PROJECT_ROOT / "requirements.txt").read_text(), flags=re.M))
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    dependencies = {re.split("[<>=]", name)[0] for name in project["dependencies"]}
    assert dependencies <= set(pinned)
    extras = {re.split("[<>=]", name)[0] for names in project["optional-dependencies"].values() for name in names}
    declared = {name.lower() for name in dependencies | extras}
    homes = packages_distributions()
    for path in MODULES:
        for package in {name.split(".")[0] for name in imported_modules(path)} & homes.keys() - {"woofkit"}:
            names = {name.lower() for name in homes[package]}
            assert names & declared, f"{relative_name(path)} imports {package}: declare it in pyproject.toml"


# --- the notebooks ---


@pytest.fixture(params=NOTEBOOKS)
def notebook(request):
    return nbformat.read(NOTEBOOKS_DIR / f"{request.param}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cell(notebook):
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


def test_there_are_these_notebooks_and_no_others():
    assert sorted(path.stem for path in NOTEBOOKS_DIR.glob("*.ipynb")) == sorted(NOTEBOOKS)


def test_a_source_notebook_is_valid_and_holds_no_outputs(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert not cell.outputs
        assert cell.execution_count is None
    assert "widgets" not in notebook.metadata
    assert not any(cell.get("attachments") for cell in notebook.cells)


def test_the_title_is_a_question(notebook):
    first = notebook.cells[0]
    title = first.source.splitlines()[0]
    assert first.cell_type == "markdown"
    assert re.fullmatch(r"# .+\?", title), f"not a question: {title!r}"


def test_the_parameters_cell_is_the_same_everywhere():
    sources = {parameters_cell(nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", 4)).source for name in NOTEBOOKS}
    assert len(sources) == 1


def test_the_parameters_are_the_studys_with_the_demos_values(notebook):
    source = parameters_cell(notebook).source
    declared = declared_parameters(NOTEBOOKS_DIR / f"{NOTEBOOKS[0]}.ipynb")
    study = StudyConfig()
    assert list(declared) == [field.name for field in fields(StudyConfig)]
    types = {field.name: type(field.default).__name__ for field in fields(StudyConfig)}
    for line, (name, value) in zip(source.splitlines(), declared.items(), strict=True):
        assert value == getattr(study, name)
        assert type(value) is type(getattr(study, name)), f"{name} must be written as {types[name]}"
        assert re.fullmatch(rf"{name}: {types[name]} = .+  # .+", line), f"type or comment missing: {line}"


def test_the_first_code_cell_is_the_parameters_and_the_second_takes_them(notebook):
    first, second = code_cells(notebook)[:2]
    assert first is parameters_cell(notebook)
    assert "from_notebook(globals())" in second.source


def test_words_come_before_code(notebook):
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", f"no words before: {cell.source.splitlines()[0]}"


def test_a_paragraph_has_at_most_80_words(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for paragraph in re.split(r"\n\s*\n|\n(?=[-|])", cell.source):
                assert len(paragraph.split()) <= 80, paragraph


def test_code_cells_are_short_and_define_no_class(notebook):
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        parameters = "parameters" in cell.metadata.get("tags", [])  # a table rather than code
        assert len(lines) <= 20 or parameters, f"{len(lines)} lines: {lines[0]}"
        tree = ast.parse("\n".join(line for line in lines if not line.lstrip().startswith(("%", "!"))))
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree)), f"a class: {lines[0]}"


def imported_by(module: str) -> list[str]:
    """What a fresh Python has imported after `import MODULE`."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("module", "most"), [("woofkit.train", 36), ("woofkit.sweeps.results", 9), ("woofkit.results", 4)]
)
def test_importing_takes_little_along(module, most):
    """What takes long to import, beside torch and timm, is imported where it is used; and so are most rooms."""
    found = imported_by(module)
    own = [
        name
        for name in found
        if name.startswith("woofkit") and (PROJECT_ROOT / (name.replace(".", "/") + ".py")).is_file()
    ]
    assert len(own) <= most, own
    slow = {"scipy.stats", "matplotlib.pyplot", "peft", "papermill", "IPython", "snakemake", "ipywidgets"}
    assert not slow & set(found)
