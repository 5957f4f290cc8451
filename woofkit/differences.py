"""What makes two runs differ, besides their seed: named, so that no table takes different runs for seeds of one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from woofkit.config import LoRAConfig, TrainConfig

NOT_SETTINGS = ("method", "seed", "data_dir", "device", "lora")  # named elsewhere, or they say where and not what


def other_settings(run: Mapping[str, Any], named: Collection[str] = ()) -> str:
    """The settings of a run that are neither the defaults nor among `named`, as "rank 4; label_fraction 0.1".

    Args:
        run: the settings as `load_run` gives them, the adapter's as lora.*; what is missing is the default.
        named: names that are left out, the adapter's without "lora.".
    """
    usual = {field.name: field.default for field in fields(TrainConfig) if field.name not in NOT_SETTINGS}
    found = {name: run.get(name, value) for name, value in usual.items()}
    found["weights"] = Path(found["weights"]).name  # of a file, wherever it lies
    if run["method"] == "lora":
        rank = int(run.get("lora.rank", LoRAConfig.paper().rank))
        usual |= {"rank": LoRAConfig.paper().rank}
        adapter = {name: value for name, value in asdict(LoRAConfig.paper(rank)).items() if name != "rank"}
        usual |= {name: str(list(value)) if isinstance(value, tuple) else value for name, value in adapter.items()}
        found |= {"rank": rank} | {name: run.get(f"lora.{name}", usual[name]) for name in adapter}
    differ = [name for name in usual if name not in named and found[name] != usual[name]]
    return "; ".join(f"{name} {found[name]:g}" if isinstance(found[name], float) else f"{name} {found[name]}"
                     for name in differ)  # fmt: skip


def set_apart(others: Sequence[str]) -> list[list[str]]:
    """For each of some rows' `other_settings`, what not all of the rows share, a setting an item."""
    each = [other.split("; ") if other else [] for other in others]
    shared = set.intersection(*map(set, each)) if each else set()
    return [[words for words in row if words not in shared] for row in each]
