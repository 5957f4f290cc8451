"""The answer in one table: which methods nothing beats, need by need, of all methods that were measured."""

from typing import NamedTuple

from woofkit.claims.effects import BEST_LR, FEW_LABELS, POSE, Effect, Effects, Key, Quantity

CHEAPEST_FIRST = ("zero-shot", "probe", "norm", "bitfit", "lora", "last", "full")  # by what they train


class Need(NamedTuple):
    """What somebody may need, and the quantity, with its setting, by which methods are compared."""

    question: str
    quantity: Quantity
    setting: str = ""


class Advice(NamedTuple):
    """The methods that no other is shown to beat, the cheapest first, and who beats each of the others, by how much."""

    unbeaten: tuple[str, ...]
    beaten: dict[str, tuple[Key, Effect]]


NEEDS = (
    Need("the best accuracy, after a search for the learning rate", Quantity.ACCURACY, BEST_LR),
    Need("accuracy at the paper's learning rate, without a search", Quantity.ACCURACY),
    Need("accuracy from few labels", Quantity.ACCURACY, FEW_LABELS),
    Need("accuracy where frozen features fail", Quantity.ACCURACY, POSE),
    Need("a training that fits into little memory", Quantity.MEMORY),
    Need("short training steps", Quantity.TIME),
    Need("small files, one for each task", Quantity.FILE),
    Need("the earlier task must survive", Quantity.KEPT),
)


def advise(need: Need, effects: Effects, world: str) -> Advice:
    """Compare all methods that were measured; one is beaten if an interval shows another to be better.

    A ratio counts what is spent, so less is better; a difference counts what is gained.
    """
    pairs = {
        key: effect
        for key, effect in effects.items()
        if key[0] == need.quantity and key[3:] == (need.setting, world) and {*key[1:3]} <= set(CHEAPEST_FIRST)
    }
    beaten: dict[str, tuple[Key, Effect]] = {}
    for key, effect in pairs.items():
        spent = need.quantity.unit == "times"
        loser = key.first if spent else key.second
        if effect.low > (1.0 if spent else 0.0) and (loser not in beaten or effect.low > beaten[loser][1].low):
            beaten[loser] = key, effect
    compared = {method for key in pairs for method in key[1:3]}
    return Advice(tuple(method for method in CHEAPEST_FIRST if method in compared - beaten.keys()), beaten)
