"""Sweeps: many training runs named by a file, as grids over the settings of a run.

    profile: rigor                          # the settings that all runs share; they land in runs/rigor/
    grids:
      search:                               # a product; or a list of products, one after the other
        - {method: full, lr: [1e-5, 1e-4]}
        - {method: lora, lr: [1e-4, 1e-3], rank: 12}
      best: {method: [full, lora], lr: best of search, seed: [0, 1, 2]}

An axis is any setting of `TrainConfig` or, for LoRA, of `LoRAConfig`, which starts from `LoRAConfig.paper(rank)`.
"best of GRID" is the learning rate with the best validation accuracy among that grid's runs of the same method.
What is done with the runs stands in woofkit/sweep_plan.py.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from woofkit.config import (
    PROJECT_ROOT,
    ConfigError,
    LoRAConfig,
    StudyConfig,
    TrainConfig,
    load_profile,
    read_mapping,
    resolve_path,
)

SWEEPS_DIR = PROJECT_ROOT / "sweeps"
ADAPTER_SETTINGS = tuple(field.name for field in fields(LoRAConfig))
SETTINGS = (*(field.name for field in fields(TrainConfig) if field.name != "lora"), *ADAPTER_SETTINGS)
LISTS = ("targets", "modules_to_save", "blocks")  # one value of these is a list itself


@dataclass(frozen=True)
class Cell:
    """A run that a grid asks for. With `best_of`, a grid's name, the lr of `config` only stands in for the best."""

    grid: str
    config: TrainConfig
    best_of: str = ""


@dataclass(frozen=True)
class Sweep:
    """The runs that a sweep file names, in its order; equal ones in two grids are still two cells."""

    name: str
    study: StudyConfig
    cells: tuple[Cell, ...]

    @property
    def root(self) -> Path:
        """The folder of the runs: that of the profile."""
        return self.study.run_root

    @property
    def grids(self) -> tuple[str, ...]:
        """The names of the grids, in the file's order."""
        return tuple(dict.fromkeys(cell.grid for cell in self.cells))

    def candidates(self, grid: str, method: str) -> tuple[TrainConfig, ...]:
        """The runs among which "best of `grid`" is chosen for `method`."""
        return tuple(cell.config for cell in self.cells if (cell.grid, cell.config.method) == (grid, method))


def available_sweeps() -> list[str]:
    """The names of the sweeps in sweeps/, in alphabetical order."""
    return sorted(path.stem for path in SWEEPS_DIR.glob("*.yaml"))


def load_sweep(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Sweep:
    """Read a sweep: a name from sweeps/, or a YAML file's path relative to the project's root.

    Args:
        overrides: parameters that win over those of the sweep's profile; what a grid sets, it sets.

    Raises:
        ConfigError: an unknown sweep, profile, grid or setting; a value of the wrong type or out of range; an empty
            grid; a "best of" with nothing to choose from, or under scheme "paper"; an override without effect.
    """
    path = _find(str(name_or_path))
    content = read_mapping(path)
    for key in content:
        if key not in ("profile", "grids"):
            raise ConfigError(f"{path.name}: unknown key {key!r}: allowed are 'profile' and 'grids'")
    if not isinstance(content.get("profile"), str):
        raise ConfigError(f"{path.name} names no profile: give the one whose settings all runs share")
    study = StudyConfig.from_dict(load_profile(content["profile"]) | (overrides or {}))
    products = _products(path.name, content.get("grids"))
    for name in overrides or {}:
        if all(name in settings for _, settings in products):
            raise ConfigError(f"parameter {name!r} would change nothing: every grid of {path.name} sets it")
    cells = [cell for grid, settings in products for cell in _expand(grid, settings, study)]
    sweep = Sweep(path.stem, study, tuple(dict.fromkeys(cells)))
    for cell in sweep.cells:
        _check_best(sweep, cell)
    return sweep


def _find(text: str) -> Path:
    if text.endswith((".yaml", ".yml")):
        path = resolve_path(text)
        if not path.is_file():
            raise ConfigError(f"there is no sweep file {path}")
        return path
    if text not in available_sweeps():
        raise ConfigError(
            f"unknown sweep {text!r}: allowed are {', '.join(available_sweeps())}, or the path of a .yaml file"
        )
    return SWEEPS_DIR / f"{text}.yaml"


def _products(file: str, grids: Any) -> list[tuple[str, dict[str, Any]]]:
    """The products of a file's grids, each with its grid's name."""
    if not isinstance(grids, dict) or not grids:
        raise ConfigError(f"{file} has no grids: name at least one, as in 'grids: {{ranks: {{method: lora, ...}}}}'")
    found = []
    for grid, products in grids.items():
        if not isinstance(grid, str) or not re.fullmatch(r"[\w-]+", grid):
            raise ConfigError(f"{file}: a grid's name has letters, digits, '-' and '_', not {grid!r}")
        if not products:
            raise ConfigError(f"grid {grid!r} is empty: give at least a method")
        for settings in products if isinstance(products, list) else [products]:
            if not isinstance(settings, dict) or not settings:
                raise ConfigError(f"grid {grid!r} must map settings to values, or list such maps, not {settings!r}")
            found.append((grid, settings))
    return found


def _expand(grid: str, settings: dict[str, Any], study: StudyConfig) -> Iterator[Cell]:
    """The cells of one product."""
    if "method" not in settings:
        raise ConfigError(f"grid {grid!r} names no method: as in 'method: lora' or 'method: [full, lora]'")
    for name in settings:
        if name not in SETTINGS:
            raise ConfigError(f"grid {grid!r}: unknown setting {name!r}: allowed are {', '.join(SETTINGS)}")
    axes = {name: _values(grid, name, value) for name, value in settings.items()}
    for values in itertools.product(*axes.values()):
        try:
            yield _cell(grid, dict(zip(axes, values, strict=True)), study)
        except ConfigError as error:
            raise ConfigError(f"grid {grid!r}: {error}") from error


def _values(grid: str, name: str, value: Any) -> list:
    """The values on an axis; a value by itself is an axis of one."""
    several = isinstance(value, list)
    if name in LISTS:  # [attn.qkv, attn.proj] is one value, [[attn.qkv], [attn.proj]] are two
        several = several and (not value or any(isinstance(item, list) or item is None for item in value))
    values = value if several else [value]
    if not values:
        raise ConfigError(f"grid {grid!r}: {name} is an empty list: give at least one value")
    return values


def _cell(grid: str, settings: dict[str, Any], study: StudyConfig) -> Cell:
    method, lr, best_of = settings["method"], settings.get("lr"), ""
    if isinstance(lr, str):
        named = re.fullmatch(r"best of ([\w-]+)", lr)
        if not named:
            raise ConfigError(f"lr {lr!r} is not allowed: a number, or 'best of GRID' with the name of a grid")
        best_of = named[1]
        settings = {name: value for name, value in settings.items() if name != "lr"}
    config = study.train_config(method)
    adapter = {name: value for name, value in settings.items() if name in ADAPTER_SETTINGS}
    if adapter and method != "lora":
        raise ConfigError(f"{next(iter(adapter))} is a setting of LoRA, and method {method!r} has no adapter")
    changes = {name: value for name, value in settings.items() if name not in adapter}
    if method == "lora":
        rank = adapter.pop("rank", study.rank)
        if type(rank) is not int:
            raise ConfigError(f"rank must be of type int, not {type(rank).__name__} ({rank!r})")
        changes["lora"] = replace(LoRAConfig.paper(rank), **adapter)
    return Cell(grid, replace(config, **changes), best_of)


def _check_best(sweep: Sweep, cell: Cell) -> None:
    """Raise ConfigError unless `cell`'s best learning rate can be chosen, and chosen fairly."""
    if not cell.best_of:
        return
    where, method = f"grid {cell.grid!r}: lr 'best of {cell.best_of}'", cell.config.method
    if cell.best_of not in sweep.grids:
        raise ConfigError(f"{where} names no grid of this sweep: there are {', '.join(sweep.grids)}")
    if any(other.best_of for other in sweep.cells if other.grid == cell.best_of):
        raise ConfigError(f"{where} chooses from a grid that itself takes a best lr: name one with numbers")
    candidates = sweep.candidates(cell.best_of, method)
    if not candidates:
        raise ConfigError(f"{where}: that grid has no run of method {method!r}")
    if method == "zero-shot":
        raise ConfigError(f"{where}: method 'zero-shot' trains nothing and has no learning rate")
    if "paper" in {config.scheme for config in (cell.config, *candidates)}:
        raise ConfigError(
            f"{where}: scheme 'paper' has no validation split, and nothing is ever chosen on a test: use 'clean'"
        )
    if len({replace(config, lr=1.0, seed=0) for config in candidates}) > 1:
        raise ConfigError(f"{where}: its runs of method {method!r} may differ only in lr and seed")
