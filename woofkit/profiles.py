"""Profiles and overrides: the parameters of a study, read from YAML files and from the command line.

Scalars follow YAML 1.2, where `4e-4` is a number and `no` a word; to PyYAML, which reads YAML 1.1, they are
a word and a boolean.
"""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from woofkit.config import PROJECT_ROOT, ConfigError, StudyConfig, resolve_path

PROFILES_DIR = PROJECT_ROOT / "notebooks" / "profiles"


class _Yaml12Loader(yaml.SafeLoader):
    """Safe YAML with the four scalars of the 1.2 core schema, and no name given twice."""

    yaml_implicit_resolvers: dict = {}  # none of YAML 1.1's: octal 010, sexagesimal 1:30, yes/no, dates

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{name!r} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep=deep)


def _core_scalar(tag: str, pattern: str, first: str, convert: Callable[[str], Any]) -> None:
    # PyYAML looks resolvers up by a scalar's first character; "" is the empty scalar's.
    starts = [*first, ""] if re.fullmatch(pattern, "") else list(first)
    _Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), starts)
    _Yaml12Loader.add_constructor(f"tag:yaml.org,2002:{tag}", lambda _, node: convert(node.value))


_core_scalar("null", "~|null|Null|NULL|", "~nN", lambda text: None)
_core_scalar("bool", "true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true")
_core_scalar("int", "[-+]?[0-9]+", "-+0123456789", int)
_core_scalar("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789", float)


def available_profiles() -> list[str]:
    """Return the names of the profiles in notebooks/profiles, in alphabetical order."""
    return sorted(path.stem for path in PROFILES_DIR.glob("*.yaml"))


def load_profile(name_or_path: str | Path) -> dict[str, Any]:
    """Return the parameters a profile sets, by name; `profile` is always among them.

    `name_or_path` is a name from notebooks/profiles, or a YAML file's path relative to the project's root.
    Raises ConfigError for an unknown profile, a missing file, or a file that does not map names to values.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        path = resolve_path(text)
        if not path.is_file():
            raise ConfigError(f"there is no profile file {path}")
    else:
        if text not in available_profiles():
            known = ", ".join(available_profiles())
            raise ConfigError(f"unknown profile {text!r}: allowed are {known}, or the path of a .yaml file")
        path = PROFILES_DIR / f"{text}.yaml"
    parameters = _read_mapping(path)
    # A copied file that keeps the old name would silently write into the other profile's folder.
    if parameters.setdefault("profile", path.stem) != path.stem:
        raise ConfigError(
            f"{path.name} says profile: {parameters['profile']}, but must carry its own name, {path.stem}"
        )
    return parameters


def parse_override(name: str, text: str) -> Any:
    """Return the value of a parameter given as text on the command line.

    A text parameter takes the text as it stands (`image_variant 160` is "160"); others read a YAML scalar.
    Raises ConfigError for an unknown name.
    """
    types = {field.name: field.type for field in fields(StudyConfig)}
    if name not in types:
        raise ConfigError(f"unknown parameter {name!r}: allowed are {', '.join(types)}")
    if types[name] is str:
        return text
    try:
        return yaml.load(text, _Yaml12Loader)
    except yaml.YAMLError:
        return text  # StudyConfig refuses it by type, with the parameter's name


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Yaml12Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"{path} must hold lines of the form 'name: value', not {content!r}")
    return content
