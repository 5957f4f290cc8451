"""The answer in one table: which methods nothing beats, need by need, of all methods that were measured."""

from typing import NamedTuple

from woofkit.claims.effects import BEST_LR, FEW_LABELS, POSE, Effect, Effects, Key, Quantity
from woofkit.claims.laws import ALL_LAYERS
from woofkit.claims.verdicts import ALPHA, Condition, p_values
from woofkit.stats.seeds import holm

# By what they train; LoRA on all layers has as many parameters as LoRA on attention.
CHEAPEST_FIRST = ("zero-shot", "probe", "norm", "bitfit", "lora", ALL_LAYERS, "last", "full")


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
    Need("accuracy on the dog's pose, which the backbone was not taught", Quantity.ACCURACY, POSE),
    Need("a training that fits into little memory", Quantity.MEMORY),
    Need("short training steps", Quantity.TIME),
    Need("small files, one for each task", Quantity.FILE),
    Need("the earlier task must survive", Quantity.KEPT),
)


def advise(need: Need, effects: Effects, world: str) -> Advice:
    """Compare all methods that were measured; one is beaten if another is shown to be better.

    A ratio counts what is spent, so less is better; a difference counts what is gained. Every pair is compared, so each
    need has a family of tests of its own, corrected (Holm): a method that is as good as all others is called beaten in
    at most 5%.
    """
    pairs = {
        key: effect
        for key, effect in effects.items()
        if key[0] == need.quantity and key[3:] == (need.setting, world) and {*key[1:3]} <= set(CHEAPEST_FIRST)
    }
    spent = need.quantity.unit == "times"
    limit = 1.0 if spent else 0.0
    larger: dict[frozenset[str], tuple[float, Key]] = {}  # of each pair, the surer direction
    for key, effect in pairs.items():
        p = p_values(Condition("", key, limit=limit), effect).beyond if effect.value != limit else 1.0
        pair = frozenset(key[1:3])
        if pair not in larger or p < larger[pair][0]:
            larger[pair] = p, key
    corrected = holm({pair: p for pair, (p, _) in larger.items()})
    beaten: dict[str, tuple[Key, Effect]] = {}
    for pair in sorted(corrected, key=lambda pair: (corrected[pair], -pairs[larger[pair][1]].low)):
        key = larger[pair][1]
        if corrected[pair] < ALPHA:
            beaten.setdefault(key.first if spent else key.second, (key, pairs[key]))
    compared = {method for key in pairs for method in key[1:3]}
    return Advice(tuple(method for method in CHEAPEST_FIRST if method in compared - beaten.keys()), beaten)
