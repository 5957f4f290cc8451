"""Effects that took long to measure, kept in data/results/ and read back for the verdicts."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from woofkit.attention_study import attention_effects
from woofkit.claims import Effect
from woofkit.config import PROJECT_ROOT

RESULTS = PROJECT_ROOT / "data" / "results"


def kept_effects(dataset: str, folder: Path = RESULTS) -> dict[str, Effect]:
    """Every effect that is kept for a dataset, by name: of sweeps, and of attention (the report's kind of map).

    Where several files have an effect, the last in the order of their names counts: "rigor" before "rigor-small".
    """
    effects: dict[str, Effect] = {}
    for path in sorted(folder.glob(f"attention_{dataset}_*.csv")):
        effects |= attention_effects(pd.read_csv(path, keep_default_na=False), "attention")
    for path in sorted(folder.glob(f"evidence_{dataset}_*.json")):  # ".json" comes after "-small.json"
        kept = json.loads(path.read_text(encoding="utf-8"))
        effects |= {name: _from_json(effect, kept["sweep"]) for name, effect in kept["effects"].items()}
    return effects


def effect_as_json(effect: Effect) -> dict[str, Any]:
    """An effect as strict JSON has it: no infinity."""
    return effect._asdict() | {"freedom": None if math.isinf(effect.freedom) else effect.freedom}


def _from_json(kept: dict[str, Any], sweep: str) -> Effect:
    freedom = math.inf if kept["freedom"] is None else kept["freedom"]
    own = {"freedom": freedom, "by_seed": tuple(kept["by_seed"]), "source": f"{kept['source']} (sweep {sweep})"}
    return Effect(**{**kept, **own})
