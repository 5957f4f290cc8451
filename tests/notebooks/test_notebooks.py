"""The notebooks from end to end: nbmake runs copies that carry the shrunk parameters of profile `test`.

nbmake cannot pass parameters, so papermill writes them into copies first. The copies share one runs folder and train
each model once. Two run at once, and late ones before early ones, so that none leans on another having run before.
"""

import os
import shutil
import subprocess
import sys
import time

import nbformat
import pytest

from tools.site.building import write_site
from woofkit.study import NOTEBOOKS, check_kernel

SECONDS_A_CELL = 240


@pytest.fixture(scope="module")
def copies(test_study):
    """A folder with the notebooks' copies, and beside it runs/, where they write."""
    return test_study.copy("notebooks")


def test_nbmake_runs_every_notebook(copies):
    check_kernel()
    (copies.parent / "pytest.ini").write_text("[pytest]\n")  # not the project's own settings
    command = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", f"--nbmake-timeout={SECONDS_A_CELL}"]
    command += ["-c", "pytest.ini", "-p", "no:cacheprovider", "-v", "--durations=0"]
    halves = [NOTEBOOKS[place] for place in (4, 2, 0, 3, 5, 1)]  # of equal length, each with the longest first
    command += ["-n", "2", "--dist", "worksteal", *(f"notebooks/{name}.ipynb" for name in halves)]
    started = time.monotonic()
    # Two at once with a thread each: a model that both want is trained by one of them, and the other waits.
    done = subprocess.run(command, cwd=copies.parent, env=os.environ | {"OMP_NUM_THREADS": "1"})
    print(f"{len(NOTEBOOKS)} notebooks in {time.monotonic() - started:.0f} s")
    assert done.returncode == 0, "nbmake failed: see above"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_nothing_is_said_on_stderr_and_widgets_keep_their_state(copies, name):
    notebook = nbformat.read(copies / f"{name}.ipynb", as_version=4)
    assert notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


def test_they_wrote_the_studys_results(copies):
    root = copies.parent / "runs" / "test"
    assert "|" in (root / "results.md").read_text()
    assert (root / "results.csv").is_file()
    drawn = {path.name[:2] for path in (root / "figures").glob("*.png")}
    assert drawn == {name[:2] for name in NOTEBOOKS}
    finished = [path.parent.name for path in root.glob("*/metrics.json")]
    methods = [name.split("-")[0] for name in finished]
    assert len(methods) == len(set(methods)), f"a model was trained twice: {finished}"
    assert {"full", "lora"} <= set(methods)


def test_they_make_a_site(copies):
    root = copies.parent / "runs" / "test"
    shutil.copytree(copies, root / "notebooks")
    contents = write_site("test", str(root.parent))
    assert {path.stem for path in contents.parent.glob("*.html")} == {"index", "glossary", "bets", *NOTEBOOKS}
