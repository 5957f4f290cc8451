"""What is known of LoRA from language models and larger vision models, as conditions on this study's effects.

Each law was written down on 27 November 2026: after the sweep `rigor-small`, before `confirm`. It agrees if all its
conditions are supported, disagrees if one is contradicted, and stays open otherwise; nothing is corrected, as these are
not the study's own claims.
"""

from typing import NamedTuple

from woofkit.claims.effects import BEST_LR, MATCHED, Effects, Key, Quantity
from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, UNMEASURED, Condition, Finding, judge

POINT = 0.01  # of accuracy
SMALL_BATCH = "batches of 256 minus 32, equal epochs"  # a setting
MLP, ALL_LAYERS, LOW_RANK, HIGH_RANK = "lora on MLPs", "lora on all", "r1", "r64"  # beside "lora"


class Law(NamedTuple):
    """A known effect in one sentence, where it is from, what it lets us expect here, and what we do otherwise."""

    statement: str
    source: str
    url: str
    conditions: tuple[Condition, ...]
    here: str = ""


def _accuracy(first: str, second: str) -> Key:
    return Key(Quantity.ACCURACY, first, second, BEST_LR)


def _alike(statement: str, key: Key, by: float = POINT) -> tuple[Condition, ...]:
    """The two conditions of an equivalence: the effect lies within `by` of none."""
    return Condition(statement, key, limit=-by), Condition(statement, key, above=False, limit=by)


REGRET = ("LoRA Without Regret, 2025", "https://thinkingmachines.ai/blog/lora/")
RATE = Key(Quantity.RATE, "lora", "full")
LAWS = (
    Law(
        "LoRA's best learning rate is about ten times that of full fine-tuning",
        *REGRET,
        (
            Condition("the ratio of the best rates", RATE, limit=3),
            Condition("the ratio of the best rates", RATE, above=False, limit=33),
        ),
    ),
    Law(
        "the best learning rate of LoRA hardly depends on its rank",
        *REGRET,
        (
            Condition(
                "the best rate at rank 64 over that at rank 1",
                RATE._replace(first=HIGH_RANK, second=LOW_RANK),
                limit=1 / 5,
            ),
            Condition(
                "the best rate at rank 64 over that at rank 1",
                RATE._replace(first=HIGH_RANK, second=LOW_RANK),
                above=False,
                limit=5,
            ),
        ),
    ),
    Law(
        "adapters on the MLPs do better than adapters on attention, at equally many parameters",
        *REGRET,
        (Condition("MLPs minus attention", _accuracy(MLP, "lora")),),
    ),
    Law(
        "adapters on all layers do better than adapters on attention alone, at equally many parameters",
        *REGRET,
        (Condition("all layers minus attention", _accuracy(ALL_LAYERS, "lora")),),
    ),
    Law(
        "while the data are few, the rank hardly matters",
        *REGRET,
        _alike("rank 64 minus rank 1", _accuracy(HIGH_RANK, LOW_RANK)),
    ),
    Law(
        "large batches cost LoRA more than full fine-tuning",
        *REGRET,
        (Condition("LoRA's lead, large minus small", Key(Quantity.LEAD, "lora", "full", SMALL_BATCH), above=False),),
        here="both batch sizes have equally many epochs, so the large one 45 steps in place of 355",
    ),
    Law(
        "tuned well, parameter-efficient methods are alike: BitFit and LoRA",
        "Mai et al., 2024",
        "https://arxiv.org/abs/2409.16434",
        _alike("BitFit minus LoRA", _accuracy("bitfit", "lora")),
    ),
    Law(
        "LoRA forgets less, also at the same accuracy on the new task",
        "Biderman et al., 2024",
        "https://arxiv.org/abs/2405.09673",
        (Condition("LoRA minus full fine-tuning", Key(Quantity.KEPT, "lora", "full", MATCHED)),),
        here="full fine-tuning at the rate whose validation accuracy is nearest to LoRA's best",
    ),
    Law(
        "low-rank updates bring intruder dimensions, full fine-tuning does not",
        "Shuttleworth et al., 2024",
        "https://arxiv.org/abs/2410.21228",
        (Condition("LoRA minus full fine-tuning", Key(Quantity.INTRUDERS, "lora", "full", BEST_LR)),),
    ),
    Law(
        "what is adapted in few parameters loses less where the images shift",
        "Bafghi et al., 2024",
        "https://arxiv.org/abs/2404.17245",
        (Condition("LoRA minus full fine-tuning", Key(Quantity.SHIFTED, "lora", "full", BEST_LR)),),
    ),
)


def judge_law(law: Law, effects: Effects, world: str) -> tuple[str, tuple[Finding, ...]]:
    """Whether a law holds here: supported, contradicted, undecided or not measured; and its findings."""
    found = [(each, effects.get(each.key._replace(world=world))) for each in law.conditions]
    findings = tuple(Finding(*pair, judge(*pair)) for pair in found)
    verdicts = {finding.verdict for finding in findings}
    return next(word for word in (CONTRADICTED, UNMEASURED, UNDECIDED, SUPPORTED) if word in verdicts), findings
