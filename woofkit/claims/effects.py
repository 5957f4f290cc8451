"""What an effect is: a typed key, a number with its interval; and the effects that data/results/ keeps.

Hypotheses ask by key and measurements deliver by key. The readable name of an effect is rendered from its key.
A condition holds for any world; what is measured is of one.
"""

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd

from woofkit.files import RESULTS

COUNTED = "counted"  # the source of an effect that is exact
WORLDS = {"sketchwoof": "drawings", "imagewoof": "photographs"}  # dataset -> world
OWN = "your images"  # the world of dataset "folder"
# Sweeps on seeds and test images that nothing was looked at before -> how many of their first test images earlier
# studies had been tested on: effects leave these out.
CONFIRMATORY = {"confirm": 1_000}


class Quantity(StrEnum):
    """What an effect is of: its name in files and tables, and the unit in which it is shown.

    "points" and "%" are fractions times 100, "times" is a ratio, "even shares" compares a map with an even one.
    """

    unit: str

    def __new__(cls, name: str, unit: str) -> Self:
        member = str.__new__(cls, name)
        member._value_, member.unit = name, unit
        return member

    ACCURACY = "accuracy", "points"
    LEAD = "lead", "points"  # a difference of accuracies in one setting minus that in another
    GAIN = "gain", "points"  # an accuracy in one setting minus that in another
    KEPT = "kept of the earlier task", "points"
    SHIFTED = "accuracy on shifted images, beside that on the usual ones", "points"
    INTRUDERS = "intruder dimensions", ""
    RATE = "best learning rate", "times"
    OPERATIONS = "operations", "times"
    MEMORY = "memory", "times"
    TIME = "time", "times"
    FILE = "file", "times"
    PARAMETERS = "parameters", "times"
    FACE = "density on the face", "even shares"
    LEGS = "density on legs", "even shares"
    NO_DOG = "share without dog", "%"
    DELETION = "area under deletion", ""
    INSERTION = "area under insertion", ""


# Settings of a key. "" stands for the settings of the study; for maps, the setting is the kind of map.
BEST_LR, POSE = "best lr", "the pose, best lr"
FEW_LABELS, FEW_MINUS_ALL = "a tenth of the labels, equal steps", "a tenth of the labels minus all, equal steps"
MATCHED = "full at the rate that matches LoRA's best accuracy"  # among the runs of the search
MORE_EPOCHS = "20 epochs over 5, last epochs"


def shifted_by(shift: str) -> str:
    """The setting of the effects of one shift of `measure.shifts`; "" is the mean of those that work on pixels."""
    return f"{shift}, {BEST_LR}" if shift else BEST_LR


class Key(NamedTuple):
    """Which effect: a quantity of `first`, compared with that of `second` if there is one, in a setting.

    `first` and `second` are methods, "untouched" or "original"; `second` may also be a map that knows nothing. `world`
    is one of WORLDS, or "" for any.
    """

    quantity: Quantity
    first: str
    second: str = ""
    setting: str = ""
    world: str = ""

    def __str__(self) -> str:
        """The readable name, such as "accuracy, full minus lora, best lr"."""
        sign = "over" if self.quantity.unit == "times" else "minus"
        pair = f"{self.first} {sign} {self.second}" if self.second else self.first
        return ", ".join(filter(None, (self.quantity, pair, self.setting, self.world)))


class Effect(NamedTuple):
    """A number with its 95% interval, what it is for each seed, and what it was measured on.

    `freedom`: the degrees of freedom of an interval that is Student's; few seeds have few. `confirmatory`: measured on
    seeds and images that nothing was looked at before.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...] = ()
    source: str = ""
    freedom: float = math.inf
    confirmatory: bool = False


Effects = Mapping[Key, Effect]


def world_of(dataset: str) -> str:
    """The world of a dataset."""
    return WORLDS.get(dataset, OWN)


def in_world(effects: Effects, dataset: str) -> dict[Key, Effect]:
    """The same effects as effects of a dataset's world."""
    return {key._replace(world=world_of(dataset)): effect for key, effect in effects.items()}


def effect_as_json(key: Key, effect: Effect) -> dict[str, Any]:
    """An effect under its key as strict JSON has it: no infinity. World and sweep are those of the file."""
    record = key._asdict() | effect._asdict() | {"freedom": None if math.isinf(effect.freedom) else effect.freedom}
    del record["world"], record["confirmatory"]
    return record


def effects_from_json(kept: Mapping[str, Any]) -> dict[Key, Effect]:
    """The effects in a file of `study_evidence`; each names the sweep in its source."""
    units = {"train_images": "training images", "image_size": "pixels"}
    known = [f"{kept[name]:,} {unit}" for name, unit in units.items() if kept.get(name)]
    sweep, effects = ", ".join([f"sweep {kept['sweep']}", *known]), {}
    for record in kept["effects"]:
        key = Key(Quantity(record["quantity"]), record["first"], record["second"], record["setting"])
        source, freedom = f"{record['source']} ({sweep})", record["freedom"]
        numbers = (record["value"], record["low"], record["high"], tuple(record["by_seed"]))
        freedom = math.inf if freedom is None else freedom
        searched = key.quantity is Quantity.RATE or key.setting == MATCHED  # on the seeds of the search
        confirmatory = kept["sweep"] in CONFIRMATORY and not searched
        effects[key] = Effect(*numbers, source, freedom, confirmatory)
    return effects


def attention_effects(table: pd.DataFrame) -> dict[Key, Effect]:
    """The effects in a table of `explain.study.summarize`: the quantities that claims are about, of all its maps."""
    effects = {}
    for row in table[table["quantity"].isin(list(Quantity))].itertuples():
        seeds = tuple(float(number) for number in str(row.by_seed).split())
        key = Key(Quantity(row.quantity), row.first, row.second, row.map)
        effects[key] = Effect(row.value, row.low, row.high, seeds, f"{row.dogs} dogs", row.freedom)
    return effects


def kept_effects(dataset: str, folder: Path = RESULTS) -> dict[Key, Effect]:
    """Every effect that is kept for a dataset's world: of its sweeps, and of what `woofkit attention` measured.

    Where several files have an effect, a confirmatory one counts before others, then the one over the most seeds, and
    of equally many the one measured last.
    """

    def weight(effect: Effect) -> tuple[bool, int]:
        return effect.confirmatory, len(effect.by_seed)

    found = []  # (date, effects)
    for path in sorted(folder.glob(f"evidence_{dataset}_*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        found.append((kept["environment"]["date"], effects_from_json(kept)))
    for path in sorted(folder.glob(f"attention_{dataset}_*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        table = pd.read_csv(path.with_suffix(".csv"), keep_default_na=False)
        found.append((record["environment"]["date"], attention_effects(table)))
    effects: dict[Key, Effect] = {}
    for _, measured in sorted(found, key=lambda dated: dated[0]):
        for key, effect in in_world(measured, dataset).items():
            if key not in effects or weight(effect) >= weight(effects[key]):
                effects[key] = effect
    return effects
