"""The five notebooks from end to end: nbmake runs copies that carry the shrunk parameters of profile `test`.

nbmake cannot pass parameters, so papermill writes them into copies first. The copies share one runs folder
and train each model once; they run last to first, so that none leans on another having run before it.
"""

import subprocess
import sys
import time

import papermill
import pytest

from woofkit.config import StudyConfig
from woofkit.profiles import load_profile
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR, check_kernel, check_parameters

SECONDS_A_CELL = 240


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A folder with the notebooks' copies, and beside it runs/, where they write."""
    folder = tmp_path_factory.mktemp("study") / "notebooks"
    folder.mkdir()
    parameters = load_profile("test") | {"runs_dir": str(folder.parent / "runs")}
    study = StudyConfig.from_dict(parameters)
    for name in NOTEBOOKS:
        source = NOTEBOOKS_DIR / f"{name}.ipynb"
        check_parameters(source, parameters, study)
        options = {"kernel_name": "python3", "language": "python", "progress_bar": False}
        papermill.execute_notebook(source, folder / source.name, parameters, prepare_only=True, **options)
    return folder


def test_nbmake_runs_every_notebook(copies):
    check_kernel()
    (copies.parent / "pytest.ini").write_text("[pytest]\n")  # not the project's own settings
    command = [sys.executable, "-m", "pytest", "--nbmake", f"--nbmake-timeout={SECONDS_A_CELL}"]
    command += ["-c", "pytest.ini", "-p", "no:cacheprovider", "-v", "--durations=0"]
    started = time.monotonic()
    done = subprocess.run(
        [*command, *(f"notebooks/{name}.ipynb" for name in reversed(NOTEBOOKS))], cwd=copies.parent
    )
    print(f"five notebooks in {time.monotonic() - started:.0f} s")
    assert done.returncode == 0, "nbmake failed: see above"


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
