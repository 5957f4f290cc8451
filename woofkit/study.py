"""Run the notebooks headlessly and strictly: checked first, and nothing half-done passes for finished.

papermill does the work; by itself it only warns of an unknown parameter and takes `sys.exit()` for success.
"""

import ast
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import papermill
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from woofkit.config import PROJECT_ROOT, ConfigError, StudyConfig
from woofkit.data import make_transform
from woofkit.files import hold, require_folder
from woofkit.models import build_for, data_config
from woofkit.profiles import load_profile
from woofkit.train import load_splits

NOTEBOOKS_DIR = PROJECT_ROOT / "notebooks"
NOTEBOOKS = ("00_quick_start", "01_data_exploration", "02_full_finetune", "03_lora_finetune", "04_attention_maps")
NOTEBOOKS += ("05_comparison",)
MAPS_NOTEBOOK = NOTEBOOKS[4]
KERNEL = "python3"
# Encrypted where pyzmq can: others on the machine could listen, and the kernel warns of that at every start.
CLIENT_CONFIG = Config({"KernelManager": {"transport_encryption": "auto" if zmq.has("curve") else "disabled"}})


class StudyError(RuntimeError):
    """A notebook could not be run to its end."""


def run_study(
    profile: str | Path = "demo",
    overrides: dict[str, Any] | None = None,
    notebooks: Iterable[str] | None = None,
    echo: bool = True,
) -> Path:
    """Execute the notebooks with a profile's parameters and return the study's folder, runs_dir/profile.

    `overrides` win over the profile; `notebooks` (default: all) run in the study's order. With `echo`
    the notebooks' lines appear on the console as they are printed. Executed copies go to notebooks/ in the
    study's folder. What an earlier study left there under the same names moves to previous/.
    Raises ConfigError before anything starts, StudyError when a notebook fails.
    """
    chosen = choose_notebooks(notebooks)
    parameters = load_profile(profile) | dict(overrides or {})
    study = StudyConfig.from_dict(parameters)
    for name in chosen:
        check_parameters(NOTEBOOKS_DIR / f"{name}.ipynb", parameters, study)
    check_kernel()
    require_folder("runs_dir", study.run_root)
    check_inputs(study, chosen)

    copies = study.run_root / "notebooks"
    copies.mkdir(parents=True, exist_ok=True)
    log = partial(print, flush=True) if echo else lambda line: None
    busy = f"another process ({{owner}}) runs notebooks of {study.run_root}: waiting for it"
    with hold(copies / ".lease", busy, partial(print, flush=True)):
        for left in copies.glob("*.running.ipynb"):  # of a process that was killed, as this one holds the lock
            left.unlink()
        _set_aside(chosen, study.run_root)
        for number, name in enumerate(chosen, start=1):
            log(f"[{number}/{len(chosen)}] {name}")
            started = time.monotonic()
            execute_notebook(NOTEBOOKS_DIR / f"{name}.ipynb", copies, parameters, echo=echo)
            minutes, seconds = divmod(round(time.monotonic() - started), 60)
            log(f"      done in {minutes}:{seconds:02d}\n")
    log(summary(study.run_root))
    return study.run_root


def choose_notebooks(names: Iterable[str] | None = None) -> list[str]:
    """Return the notebooks to run, in the study's order; None: all. Raises ConfigError for unknown names."""
    wanted = list(NOTEBOOKS if names is None else names)
    if unknown := [name for name in wanted if name not in NOTEBOOKS]:
        raise ConfigError(f"unknown notebook {unknown[0]!r}: allowed are {', '.join(NOTEBOOKS)}")
    if not wanted:
        raise ConfigError(f"no notebook to run: name at least one of {', '.join(NOTEBOOKS)}")
    return [name for name in NOTEBOOKS if name in wanted]


def declared_parameters(source: Path) -> dict[str, Any]:
    """Return the names and values in a notebook's parameters cell. Raises ConfigError without such a cell."""
    if not source.is_file():
        raise ConfigError(f"there is no notebook {source}")
    notebook = nbformat.read(source, as_version=4)
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ConfigError(f"{source.name} must have one cell tagged 'parameters', not {len(cells)}")
    try:
        lines = ast.parse(cells[0].source).body
        targets = [line.target if isinstance(line, ast.AnnAssign) else line.targets[0] for line in lines]
        return {target.id: ast.literal_eval(line.value) for target, line in zip(targets, lines, strict=True)}
    except (AttributeError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{source.name}: its parameters cell may hold only 'name: type = literal'") from error


def check_parameters(source: Path, parameters: dict[str, Any], study: StudyConfig) -> None:
    """Check that a notebook declares every parameter, and no value that the study would not know of.

    Raises ConfigError.
    """
    declared = declared_parameters(source)
    if undeclared := [name for name in parameters if name not in declared]:
        raise ConfigError(f"{source.name} does not declare {undeclared[0]!r}; it declares {', '.join(declared)}")
    settings = asdict(study)
    if unknown := [name for name in declared if name not in settings]:
        raise ConfigError(f"{source.name} declares {unknown[0]!r}, which is no parameter of the study")
    edited = [
        f"{name} = {value!r}, while the study has {settings[name]!r}"
        for name, value in declared.items()
        if name not in parameters and value != settings[name]
    ]
    if edited:
        raise ConfigError(
            f"{source.name}: its parameters cell was edited to {'; '.join(edited)}; put the cell back (git checkout "
            f"{source.parent.name}/{source.name}), and give values with -p NAME VALUE or in a profile"
        )


def check_inputs(study: StudyConfig, notebooks: Iterable[str] = NOTEBOOKS) -> None:
    """Build the model and find the images, which downloads what is to be downloaded, before a notebook starts.

    Raises ConfigError, as `build_for` and `load_splits` do, and for a model without attention maps if one of
    `notebooks` draws them.
    """
    from woofkit.explain.maps import require_maps

    model = build_for(study.train_config("lora"))
    size = make_transform(data_config(model), study.preprocess).size
    if MAPS_NOTEBOOK in notebooks:
        try:
            require_maps(model, size)
        except ConfigError as error:
            others = " ".join(name for name in notebooks if name != MAPS_NOTEBOOK)
            raise ConfigError(f"{MAPS_NOTEBOOK} cannot run: {error}. The others can: -n {others}") from error
    load_splits(study.train_config("full"), size)


def check_kernel() -> None:
    """Check that Jupyter's kernel "python3" is this very Python. Raises StudyError."""
    spec = KernelSpecManager().get_kernel_spec(KERNEL)
    command = spec.argv[0]
    # jupyter_client replaces a bare "python" by sys.executable.
    bare = ("python", "python3", f"python3.{sys.version_info.minor}")
    if command not in bare and command != sys.executable:
        raise StudyError(
            f"Jupyter's kernel {KERNEL!r} ({spec.resource_dir}) starts {command}, not {sys.executable};"
            f" put it right with: {sys.executable} -m ipykernel install --sys-prefix"
        )


def execute_notebook(source: Path, folder: Path, parameters: dict[str, Any], *, echo: bool = True) -> Path:
    """Execute a notebook into `folder` and return the finished copy, which has the source's name.

    A run that breaks off leaves NAME.failed.ipynb with what ran, and no copy under the finished name.
    Raises StudyError naming notebook, cell and error.
    """
    finished, running, failed = (folder / f"{source.stem}{end}.ipynb" for end in ("", ".running", ".failed"))
    finished.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    options = {"kernel_name": KERNEL, "language": "python", "config": CLIENT_CONFIG, "progress_bar": False}
    if echo:
        options |= {"stdout_file": sys.stdout, "stderr_file": sys.stderr}
    try:
        executed = papermill.execute_notebook(source, running, parameters, cwd=source.parent, **options)
        _require_every_cell(executed)
    except BaseException as error:
        if running.exists():
            os.replace(running, failed)
        if not isinstance(error, Exception):  # Ctrl-C
            raise
        raise StudyError(f"{source.stem} {_reason(error)}\nWhat ran is kept in {failed}") from error
    os.replace(running, finished)
    return finished


def summary(run_root: Path) -> str:
    """Return the study's results table, if it has one yet, and where its notebooks and figures are."""
    table = run_root / "results.md"
    lines = [table.read_text(encoding="utf-8").strip(), ""] if table.is_file() else []
    lines.append(f"Executed notebooks  {run_root / 'notebooks'}")
    if (run_root / "figures").is_dir():
        lines.append(f"Figures             {run_root / 'figures'}")
    return "\n".join(lines)


def _set_aside(names: list[str], run_root: Path) -> None:
    # What an earlier study left must not stand beside the new one's results as if it belonged to them.
    outdated = [run_root / "notebooks" / f"{name}.ipynb" for name in names]
    for name in names:
        outdated += (run_root / "figures").glob(f"{name[:2]}_*.png")
    if NOTEBOOKS[-1] in names:
        outdated += [run_root / name for name in ("results.md", "results.csv", "costs.csv", "verdicts.csv")]
    outdated.append(run_root / "site")  # a site of all of them
    for path in outdated:
        if path.exists():
            aside = run_root / "previous" / path.name
            aside.parent.mkdir(exist_ok=True)
            if path.is_dir():
                shutil.rmtree(aside, ignore_errors=True)  # a folder cannot replace one that is not empty
            os.replace(path, aside)


def _require_every_cell(executed: nbformat.NotebookNode) -> None:
    for number, cell in enumerate(executed.cells, start=1):
        due = cell.cell_type == "code" and cell.source.strip() and "skip-execution" not in cell.metadata.get("tags", [])
        if due and cell.execution_count is None:
            raise StudyError(f"ended early: cell {number} of {len(executed.cells)} never ran")


def _reason(error: Exception) -> str:
    if isinstance(error, PapermillExecutionError):
        place = f"cell {error.cell_index + 1} (In [{error.exec_count}])"
        return f"stopped at {place}: {error.ename}: {error.evalue}"
    if isinstance(error, DeadKernelError):
        return "stopped: its kernel died, most often for want of memory"
    return f"stopped: {type(error).__name__}: {error}" if not isinstance(error, StudyError) else str(error)


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def read_study_table(study: Path, profile: str) -> str:
    """Return a finished study's results table.

    Raises ConfigError, with the command to run, without one, or if its notebooks ran with different parameters.
    """
    copies = [study / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    table = study / "results.md"
    if missing := [path for path in [*copies, table] if not path.is_file()]:
        raise ConfigError(
            f"there is no finished study of {profile!r}: {missing[0]} is missing; run:"
            f" make study PROFILE={profile} (or python -m woofkit run --profile {profile})"
        )
    *earlier, last = copies
    for path in earlier:
        one, other = _parameters(path), _parameters(last)
        differ = [name for name in one | other if name != "runs_dir" and one.get(name) != other.get(name)]
        if differ:
            words = ", ".join(f"{name} = {one.get(name)!r} and not {other.get(name)!r}" for name in differ)
            raise ConfigError(
                f"{path.name} of study {profile!r} ran with {words} as {last.name} did: run all of them again "
                f"(make study PROFILE={profile}), or give what is different a name of its own (-p profile NAME)"
            )
    return table.read_text(encoding="utf-8").strip()


def _parameters(path: Path) -> dict[str, Any]:
    """All parameters with which papermill ran a notebook, the defaults too."""
    given = _read_json(path).get("metadata", {}).get("papermill", {}).get("parameters", {})
    return {field.name: field.default for field in fields(StudyConfig)} | given
