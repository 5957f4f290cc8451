"""The answer in one table: which method for which need, each line decided by a measured effect and citing it."""

from typing import NamedTuple

from woofkit.claims.verdicts import Effect


class Need(NamedTuple):
    """What somebody may need, the effect that decides, and what it says above `limit`, below it, and in between.

    Of several effects the first that was measured decides.
    """

    question: str
    effects: tuple[str, ...]
    above: str
    below: str
    between: str
    limit: float = 0.0
    scale: str = "points"  # "points" of accuracy, or "times"


FULL, LORA, EITHER = "full fine-tuning", "LoRA", "either: no difference was shown"
NEEDS = (
    Need("One model, the best accuracy?", ("accuracy, full minus lora, best lr",), FULL, LORA, EITHER),
    Need("The report's learning rate, no search?", ("accuracy, full minus lora",), FULL, LORA, EITHER),
    Need(
        "Is the backbone good as it is?",
        ("accuracy, full minus untouched, best lr", "accuracy, full minus untouched"),
        "train it",
        "leave it alone: a new head or none does as well",
        "a linear probe first: it may be enough",
    ),
    Need("Few labels?", ("accuracy, lora minus full, a tenth of the labels",), LORA, FULL, EITHER),
    Need("Little memory to train in?", ("memory, full over lora",), LORA, FULL, EITHER, 1.0, "times"),
    Need("Little time to train?", ("time, full over lora",), LORA, FULL, EITHER, 1.0, "times"),
    Need("Many tasks to store?", ("file, full over lora",), LORA, FULL, EITHER, 1.0, "times"),
    Need("Must the old task survive?", ("kept of the earlier task, lora minus full",), LORA, FULL, EITHER),
)


def decide(need: Need, effect: Effect | None) -> str:
    """What the effect advises, or that it was not measured."""
    if effect is None:
        return "not measured"
    if effect.low > need.limit:
        return need.above
    return need.below if effect.high < need.limit else need.between
