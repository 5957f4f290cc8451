"""The report's claims, judged by what was measured: each a set of conditions, fixed before the measurement.

A condition says that a number is above (or below) a limit by at least a smallest difference worth the name. Its
95 % interval decides: supported, contradicted, or undecided. A claim is as good as the worst of its conditions.
"""

from dataclasses import dataclass

import pandas as pd

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"

# Differences of less than a tenth of the even share are nothing that one would see in a map.
SMALLEST_DIFFERENCE = 0.1
# "Exclusively" would be 0; so little on patches without any dog may pass for it.
MOST_OUTSIDE = 0.05


@dataclass(frozen=True)
class Condition:
    """What must hold: `measure` of `model` (minus that of `against`) is above or below `limit`.

    `margin`: the condition is only supported by a value at least so far beyond the limit, and contradicted by an
    interval that ends short of it.
    """

    statement: str
    model: str
    against: str
    measure: str
    above: bool = True
    limit: float = 0.0
    margin: float = 0.0


CLAIMS = {
    "C5": (
        "LoRA attends to the face, full fine-tuning also to the legs",
        (
            Condition(
                "LoRA attends to the face more than full fine-tuning does",
                *("lora", "full", "density on the face"), margin=SMALLEST_DIFFERENCE,
            ),
            Condition(
                "full fine-tuning attends to the legs more than LoRA does",
                *("full", "lora", "density on legs"), margin=SMALLEST_DIFFERENCE,
            ),
            Condition(
                "LoRA attends to the face more than a map that only looks at the centre",
                *("lora", "centre", "density on the face"), margin=SMALLEST_DIFFERENCE,
            ),
        ),
    ),
    "C6": (
        "the models attend exclusively to the dog",
        tuple(
            Condition(
                f"{name} spends at most {MOST_OUTSIDE:.0%} on patches without any dog",
                *(model, "", "share without dog"), above=False, limit=MOST_OUTSIDE,
            )
            for model, name in (("full", "full fine-tuning"), ("lora", "LoRA"))
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A condition with what was measured for it, and the verdict."""

    condition: Condition
    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    verdict: str


def judge(condition: Condition, value: float, low: float, high: float, by_seed: tuple[float, ...] = ()) -> str:
    """Supported, contradicted or undecided, from a value and its 95 % interval.

    Supported: the whole interval is beyond the limit, the value beyond limit and margin, and so is every seed's value
    beyond the limit. Contradicted: the whole interval falls short of limit and margin.
    """
    sign = 1 if condition.above else -1
    value, *ends = (sign * (number - condition.limit) for number in (value, low, high))
    seeds = [sign * (number - condition.limit) for number in by_seed]
    if min(ends) > 0 and value >= condition.margin and all(number > 0 for number in seeds):
        return SUPPORTED
    return CONTRADICTED if max(ends) < condition.margin else UNDECIDED


def judge_attention(table: pd.DataFrame, kind: str = "attention") -> dict[str, tuple[str, list[Finding]]]:
    """Claim -> (verdict, findings), from a table of `attention_study`, for one kind of map.

    Raises ValueError if the table lacks a measure: photographs have no masks.
    """
    judged = {}
    for claim, (_, conditions) in CLAIMS.items():
        findings = [_find(table, condition, kind) for condition in conditions]
        judged[claim] = (worst([finding.verdict for finding in findings]), findings)
    return judged


def worst(verdicts: list[str]) -> str:
    """The verdict on a claim whose conditions must all hold."""
    return next(verdict for verdict in (CONTRADICTED, UNDECIDED, SUPPORTED) if verdict in verdicts)


def _find(table: pd.DataFrame, condition: Condition, kind: str) -> Finding:
    rows = table[
        (table["model"] == condition.model)
        & (table["against"].fillna("") == condition.against)
        & (table["map"] == kind)
        & (table["measure"] == condition.measure)
    ]
    if len(rows) != 1:
        raise ValueError(f"the table has {len(rows)} rows of {condition.measure!r} for {condition.model!r}, not one")
    row = rows.iloc[0]
    seeds = tuple(float(number) for number in str(row["by_seed"]).split())
    verdict = judge(condition, row["value"], row["low"], row["high"], seeds)
    return Finding(condition, float(row["value"]), float(row["low"]), float(row["high"]), seeds, verdict)
