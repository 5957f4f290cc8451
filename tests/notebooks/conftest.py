"""Copies of the notebooks that a test can run."""

from pathlib import Path

import papermill
import pytest

from woofkit.config import StudyConfig
from woofkit.profiles import load_profile
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR, check_parameters


class StudyCopies:
    """A folder where the notebooks' copies run with the shrunk parameters of profile `test`, and share runs/."""

    def __init__(self, folder: Path):
        self.folder = folder

    def copy(self, name: str, notebooks=NOTEBOOKS, **changes) -> Path:
        """Write copies of the notebooks, without outputs, to a folder of that name; `changes` are parameters."""
        copies = self.folder / name
        copies.mkdir()
        parameters = load_profile("test") | {"runs_dir": str(self.folder / "runs")} | changes
        study = StudyConfig.from_dict(parameters)
        for notebook in notebooks:
            source = NOTEBOOKS_DIR / f"{notebook}.ipynb"
            check_parameters(source, parameters, study)
            options = {"kernel_name": "python3", "language": "python", "progress_bar": False}
            papermill.execute_notebook(source, copies / source.name, parameters, prepare_only=True, **options)
        return copies


@pytest.fixture(scope="session")
def test_study(tmp_path_factory):
    """One study for all tests that run notebooks: what one has trained, the others find."""
    return StudyCopies(tmp_path_factory.mktemp("study"))
