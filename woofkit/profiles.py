"""Where the settings of a study come from: profiles, overrides on the command line, the parameters of a notebook.

Profiles are StudyConfigs in YAML 1.2 files: `4e-4` is a number and `no` a word.
"""

import ast
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from woofkit.config import PROJECT_ROOT, ConfigError, StudyConfig, resolve_path
from woofkit.faults import explain_in_notebook

PROFILES_DIR = PROJECT_ROOT / "notebooks" / "profiles"


def from_notebook(namespace: dict[str, Any]) -> StudyConfig:
    """Take the parameters from a notebook's `globals()`, where papermill has put them.

    papermill only warns of a name that the notebook does not know, and reads YAML 1.1, in which 1e-3 is a text.
    From here on, the notebook says in one sentence what the machine does to it. Prints in one line what differs
    from the profile.

    Raises:
        ConfigError: a parameter is missing, unknown or refused.
    """
    if shell := namespace.get("get_ipython"):
        explain_in_notebook(shell())
    require_project()
    usual = {field.name: field.default for field in fields(StudyConfig)}
    if missing := [name for name in usual if name not in namespace]:
        raise ConfigError(f"the parameters cell lacks {', '.join(missing)}")
    given = {name: namespace[name] for name in [*usual, *_injected(namespace.get("In", ()))]}
    for name, value in given.items():
        if isinstance(value, str) and type(usual.get(name)) in (int, float):
            given[name] = parse_override(name, value)
    study = StudyConfig(**given)
    print(differences(study))
    return study


def require_project() -> None:
    """Raise ConfigError if the package was installed without the project's folder, which holds all it works on."""
    if not PROFILES_DIR.is_dir():
        raise ConfigError(
            f"woofkit works from its project's folder, and {PROJECT_ROOT} is none: install it there with pip install "
            "-e . (docs/install.md)"
        )


def _injected(cells: Sequence[str]) -> list[str]:
    """The names that papermill has set in a cell of its own, which begins with this comment."""
    own = [cell for cell in cells if cell.startswith("# Parameters\n")]
    lines = [line for cell in own for line in ast.parse(cell).body if isinstance(line, ast.Assign)]
    return [line.targets[0].id for line in lines if isinstance(line.targets[0], ast.Name)]


def differences(study: StudyConfig) -> str:
    """Say in which settings a study differs from its profile's file, or from `demo` if it has none."""
    known = study.profile if study.profile in available_profiles() else "demo"
    usual = StudyConfig(**load_profile(known) | {"data_dir": study.data_dir, "runs_dir": study.runs_dir})
    differ = [
        f"{field.name} {_written(getattr(study, field.name))} ({_written(getattr(usual, field.name))})"
        for field in fields(study)
        if field.name != "profile" and getattr(study, field.name) != getattr(usual, field.name)
    ]
    if known != study.profile:
        name = f"Profile {study.profile!r}, a study of your own"
        return f"{name}; it differs from {known!r} by: {', '.join(differ)}." if differ else f"{name}, as {known!r}."
    return f"Profile {known!r}, but: {', '.join(differ)}." if differ else f"Settings: those of profile {known!r}."


def _written(value: Any) -> str:
    """A setting in few words; of a path only the last part, as the rest says where somebody's files are."""
    return repr(Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value)


def available_profiles() -> list[str]:
    """Return the names of the profiles in notebooks/profiles, in alphabetical order."""
    return sorted(path.stem for path in PROFILES_DIR.glob("*.yaml"))


def load_profile(name_or_path: str | Path) -> dict[str, Any]:
    """Return the parameters a profile sets, by name; `profile` is always among them.

    `name_or_path` is a name from notebooks/profiles, or a YAML file's path relative to the project's root.
    Raises ConfigError for an unknown profile, a missing file, or a file that does not map names to values.
    """
    text = str(name_or_path)
    path = resolve_path(text) if text.endswith((".yaml", ".yml")) else PROFILES_DIR / f"{text}.yaml"
    if not path.is_file():
        known = ", ".join(available_profiles())
        raise ConfigError(f"unknown profile {text!r}: allowed are {known}, or the path of a .yaml file that exists")
    parameters = read_mapping(path)
    # A copied file that keeps the old name would silently write into the other profile's folder.
    if parameters.setdefault("profile", path.stem) != path.stem:
        own = parameters["profile"]
        raise ConfigError(f"{path.name} says profile: {own}, but must carry its own name, {path.stem}")
    return parameters


def parse_override(name: str, text: str) -> Any:
    """Return the value of a parameter given as text on the command line.

    A text parameter takes the text as it stands (`image_variant 160` is "160"); others read a YAML scalar.
    Raises ConfigError for an unknown name.
    """
    types = {field.name: type(field.default) for field in fields(StudyConfig)}
    if name not in types:
        raise ConfigError(f"unknown parameter {name!r}: allowed are {', '.join(types)}")
    if types[name] is str:
        return text
    try:
        return _read_yaml(text)
    except ValueError:
        return text  # StudyConfig refuses it by type, with the parameter's name


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 file that maps names to values; an empty file maps none.

    Raises ConfigError, with the file's name, for anything else and for a name given twice.
    """
    try:
        content = _read_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"{path} must hold lines of the form 'name: value', not {content!r}")
    return content


def _read_yaml(text: str) -> Any:
    """Read a YAML 1.2 document. Raises ValueError that says what is wrong in which line."""
    from ruamel.yaml import YAML, YAMLError  # only here: it takes 0.1 s to import

    reader = YAML(typ="safe", pure=True)
    kinds = reader.constructor.yaml_constructors
    # ruamel.yaml knows the dates of YAML 1.1 still; in 1.2 they are words.
    reader.constructor.yaml_constructors = kinds | {"tag:yaml.org,2002:timestamp": kinds["tag:yaml.org,2002:str"]}
    try:
        return reader.load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        words = f"line {mark.line + 1}: {error.problem}" if mark else str(error)
        raise ValueError(" ".join(words.split())) from error
