"""The answer in one table: which method for which need, each line decided by a measured effect and citing it."""

from typing import NamedTuple

from woofkit.claims.effects import BEST_LR, FEW_LABELS, Effect, Key, Quantity


class Need(NamedTuple):
    """What somebody may need, the effects that can decide, and the advice for each outcome.

    The first of the effects that was measured decides: `above`, `below` or `between`, by where its interval lies about
    no effect, which is 1 for a ratio and 0 for a difference.
    """

    question: str
    keys: tuple[Key, ...]
    above: str
    below: str
    between: str = "either: no difference was shown"


FULL, LORA = "full fine-tuning", "LoRA"
AHEAD, TRAINED = Key(Quantity.ACCURACY, "full", "lora"), Key(Quantity.ACCURACY, "full", "untouched")
NEEDS = (
    Need("One model, the best accuracy?", (AHEAD._replace(setting=BEST_LR),), FULL, LORA),
    Need("The paper's learning rate, no search?", (AHEAD,), FULL, LORA),
    Need(
        "Is the backbone good as it is?",
        (TRAINED._replace(setting=BEST_LR), TRAINED),
        "train it",
        "leave it alone: a new head or none does as well",
        "a linear probe first: it may be enough",
    ),
    Need("Few labels?", (Key(Quantity.ACCURACY, "lora", "full", FEW_LABELS),), LORA, FULL),
    Need("Little memory to train in?", (Key(Quantity.MEMORY, "full", "lora"),), LORA, FULL),
    Need("Little time to train?", (Key(Quantity.TIME, "full", "lora"),), LORA, FULL),
    Need("Many tasks to store?", (Key(Quantity.FILE, "full", "lora"),), LORA, FULL),
    Need("Must the old task survive?", (Key(Quantity.KEPT, "lora", "full"),), LORA, FULL),
)


def decide(need: Need, effect: Effect | None) -> str:
    """What the effect advises, or that it was not measured."""
    if effect is None:
        return "not measured"
    no_effect = 1.0 if need.keys[0].quantity.unit == "times" else 0.0
    if effect.low > no_effect:
        return need.above
    return need.below if effect.high < no_effect else need.between
