"""Sweeps: many training runs named by a file, as grids over the settings of a run.

    profile: rigor                          # the settings that all runs share; they land in runs/rigor/
    grids:
      search:                               # a product; or a list of products, one after the other
        - {method: full, lr: [1e-5, 1e-4]}
        - {method: lora, lr: [1e-4, 1e-3], rank: 12}
      best: {method: [full, lora], lr: best of search, seed: [0, 1, 2]}

An axis is any setting of `TrainConfig` or, for LoRA, of `LoRAConfig`, which starts from `LoRAConfig.paper(rank)`.
"best of GRID" is the learning rate with the best validation accuracy among that grid's runs of the same method.

A run is known by a hash of the settings that the file asks for, so a sweep is read without building or drawing
anything. woofkit/sweeps/run.py does the runs.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from woofkit.config import PROJECT_ROOT, ConfigError, LoRAConfig, StudyConfig, TrainConfig, resolve_path
from woofkit.profiles import load_profile, read_mapping

SWEEPS_DIR = PROJECT_ROOT / "sweeps"
ADAPTER_SETTINGS = tuple(field.name for field in fields(LoRAConfig))
SETTINGS = (*(field.name for field in fields(TrainConfig) if field.name != "lora"), *ADAPTER_SETTINGS)
LISTS = ("targets", "modules_to_save", "blocks")  # one value of these is a list itself


@dataclass(frozen=True)
class Job:
    """One run of a sweep, done once for all grids that ask for it.

    With `search`, a name in the sweep's searches, the lr of `config` only stands in for the best one.
    """

    name: str  # a hash of the settings that the file asks for
    config: TrainConfig
    grids: tuple[str, ...]
    search: str


@dataclass(frozen=True)
class Sweep:
    """The runs that a sweep file names, in its order.

    `searches` has, by name, the learning rates that are tried for a method, each with the name of the job that does.
    """

    name: str
    study: StudyConfig
    grids: tuple[str, ...]
    jobs: tuple[Job, ...]
    searches: dict[str, list[tuple[float, str]]]

    @property
    def root(self) -> Path:
        """The folder of the runs: that of the profile."""
        return self.study.run_root

    def jobs_of(self, grid: str) -> list[Job]:
        """The jobs that a grid asks for."""
        return [job for job in self.jobs if grid in job.grids]


class _Cell(NamedTuple):
    """A run as one grid asks for it; `best_of` is the grid whose best lr it takes, or ""."""

    grid: str
    config: TrainConfig
    best_of: str


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
    text, known = str(name_or_path), ", ".join(available_sweeps())
    path = resolve_path(text) if text.endswith((".yaml", ".yml")) else SWEEPS_DIR / f"{text}.yaml"
    if not path.is_file():
        raise ConfigError(f"unknown sweep {text!r}: allowed are {known}, or the path of a .yaml file that exists")
    content = read_mapping(path)
    if unknown := [key for key in content if key not in ("profile", "grids")]:
        raise ConfigError(f"{path.name}: unknown key {unknown[0]!r}: allowed are 'profile' and 'grids'")
    profile, grids = content.get("profile"), content.get("grids")
    if not isinstance(profile, str):
        raise ConfigError(f"{path.name} names no profile: give the one whose settings all runs share")
    if not isinstance(grids, dict) or not grids:
        raise ConfigError(f"{path.name} has no grids: name at least one, as in 'grids: {{ranks: {{method: lora}}}}'")
    study = StudyConfig.from_dict(load_profile(profile) | (overrides or {}))
    study = replace(study, lr=study.lr or StudyConfig.lr)  # 0 stands for what a search finds
    products = [(grid, product) for grid, given in grids.items() for product in _products(grid, given)]
    for name in overrides or {}:
        if all(name in product for _, product in products):
            raise ConfigError(f"parameter {name!r} would change nothing: every grid of {path.name} sets it")
    cells = [_cell(grid, settings, study) for grid, product in products for settings in _combinations(grid, product)]
    searches, jobs = {}, {}
    for cell in cells:
        search = ""
        if cell.best_of:
            search, tried = _search(cells, cell)
            searches[search] = tried
        name = settings_hash(cell.config.to_dict() | ({"lr": f"best of {search}"} if search else {}))
        before = jobs[name].grids if name in jobs else ()
        jobs[name] = Job(name, cell.config, tuple(dict.fromkeys([*before, cell.grid])), search)
    return Sweep(path.stem, study, tuple(grids), tuple(jobs.values()), searches)


def settings_hash(settings: Any) -> str:
    """Twelve hexadecimal digits that stand for JSON-ready settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _products(grid: Any, given: Any) -> list[dict[str, Any]]:
    """The products of a grid, one or a list in the file."""
    if not isinstance(grid, str) or not re.fullmatch(r"[\w-]+", grid):
        raise ConfigError(f"a grid's name has letters, digits, '-' and '_', not {grid!r}")
    if not given:
        raise ConfigError(f"grid {grid!r} is empty: give at least a method")
    products = given if isinstance(given, list) else [given]
    for product in products:
        if not isinstance(product, dict) or not product:
            raise ConfigError(f"grid {grid!r} must map settings to values, or list such maps, not {product!r}")
        if "method" not in product:
            raise ConfigError(f"grid {grid!r} names no method: as in 'method: lora' or 'method: [full, lora]'")
        if unknown := [name for name in product if name not in SETTINGS]:
            raise ConfigError(f"grid {grid!r}: unknown setting {unknown[0]!r}: allowed are {', '.join(SETTINGS)}")
    return products


def _combinations(grid: str, product: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of each run of a product."""
    axes = [_values(grid, name, value) for name, value in product.items()]
    return (dict(zip(product, values, strict=True)) for values in itertools.product(*axes))


def _values(grid: str, name: str, value: Any) -> list:
    """The values on an axis; a value by itself is an axis of one."""
    several = isinstance(value, list)
    if name in LISTS:  # [attn.qkv, attn.proj] is one value, [[attn.qkv], [attn.proj]] are two
        several = several and (not value or any(isinstance(item, list) or item is None for item in value))
    values = value if several else [value]
    if not values:
        raise ConfigError(f"grid {grid!r}: {name} is an empty list: give at least one value")
    return values


def _cell(grid: str, settings: dict[str, Any], study: StudyConfig) -> _Cell:
    """The run with these settings; the rest is the study's."""
    method, best_of = settings["method"], ""
    if isinstance(lr := settings.get("lr"), str):
        named = re.fullmatch(r"best of ([\w-]+)", lr)
        if not named:
            raise ConfigError(f"lr {lr!r} is not allowed: a number, or 'best of GRID' with the name of a grid")
        best_of = named[1]
    adapter = {name: value for name, value in settings.items() if name in ADAPTER_SETTINGS}
    own = {name: value for name, value in settings.items() if name not in adapter and not (best_of and name == "lr")}
    try:
        if adapter and method != "lora":
            raise ConfigError(f"{next(iter(adapter))} is a setting of LoRA, and method {method!r} has no adapter")
        if method == "lora":
            rank = adapter.pop("rank", study.rank)
            if type(rank) is not int:
                raise ConfigError(f"rank must be of type int, not {type(rank).__name__} ({rank!r})")
            own["lora"] = replace(LoRAConfig.paper(rank), **adapter)
        return _Cell(grid, replace(study.train_config(method), **own), best_of)
    except ConfigError as error:
        raise ConfigError(f"grid {grid!r}: {error}") from error


def _search(cells: Sequence[_Cell], cell: _Cell) -> tuple[str, list[tuple[float, str]]]:
    """The name of the search for `cell`'s best learning rate, and what it tries: learning rates and their jobs.

    Raises ConfigError unless the best one can be chosen, and chosen fairly.
    """
    where, method = f"grid {cell.grid!r}: lr 'best of {cell.best_of}'", cell.config.method
    grids = dict.fromkeys(other.grid for other in cells)
    if cell.best_of not in grids:
        raise ConfigError(f"{where} names no grid of this sweep: there are {', '.join(grids)}")
    grid = [other for other in cells if other.grid == cell.best_of]
    if any(other.best_of for other in grid):
        raise ConfigError(f"{where} chooses from a grid that itself takes a best lr: name one with numbers")
    candidates = [other.config for other in grid if other.config.method == method]
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
    tried = list(dict.fromkeys((config.lr, settings_hash(config.to_dict())) for config in candidates))
    return f"{method}-{settings_hash(sorted(tried))}", tried
