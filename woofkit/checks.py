"""Checks of settings: every refusal is a `ConfigError` that names the setting, what was given and what is allowed."""

from dataclasses import fields
from pathlib import Path
from typing import Any

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class ConfigError(ValueError):
    """A setting is unknown, has the wrong type or lies out of range.

    A notebook shows its sentence alone: who has mistyped a parameter is not helped by the lines it passed through.
    """

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"{type(self).__name__}: {self}"]


def resolve_path(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one starts at the project's root, not at the notebook."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else PROJECT_ROOT / path


def require_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ConfigError(f"unknown {name} {value!r}: allowed are {', '.join(map(repr, allowed))}")


def require_range(name: str, value: float, low: float, high: float, *, above: bool = False) -> None:
    """Raise ConfigError unless low <= value <= high (low < value with `above`)."""
    inside = (low < value if above else low <= value) and value <= high
    if not inside:  # also catches nan
        sign = "above" if above else "from"
        raise ConfigError(f"{name} = {value!r} is out of range: allowed is {sign} {low:g} to {high:g}")


def check_types(config: Any) -> None:
    """Check each field of a dataclass against its annotation, strictly: no string for a number, no bool for an int.

    An int is welcome where a float is expected and becomes one.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type is float and type(value) is int:
            object.__setattr__(config, field.name, float(value))
        elif field.type in (int, float, str, bool) and type(value) is not field.type:
            kind = type(value).__name__
            raise ConfigError(f"{field.name} must be of type {field.type.__name__}, not {kind} ({value!r})")
