"""How a claim is judged: by conditions fixed before the measurement, each on one effect with its 95 % interval.

A condition says that an effect is above (or below) a limit by a margin. A hypothesis holds if all its conditions do.
What is called supported also has to survive Holm's correction over all hypotheses.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from woofkit.claims.effects import COUNTED, Effect, Effects, Key
from woofkit.stats.seeds import holm

SUPPORTED, CONTRADICTED, UNDECIDED, UNMEASURED = "supported", "contradicted", "undecided", "not measured"
ALPHA = 0.05


@dataclass(frozen=True)
class Condition:
    """What must hold: the effect of that key lies above (or below) `limit`.

    It is supported only by a value at least `margin` beyond the limit, and contradicted by an interval that ends short
    of limit and margin.
    """

    statement: str
    key: Key
    above: bool = True
    limit: float = 0.0
    margin: float = 0.0


@dataclass(frozen=True)
class Hypothesis:
    """A claim of the paper (or a question that it leaves open), made testable.

    `paper` are its words, `statement` ours; `test` says how the effects are measured.
    """

    id: str
    claim: str
    paper: str
    statement: str
    conditions: tuple[Condition, ...]
    test: str


class Finding(NamedTuple):
    """A condition with the effect that was measured for it, if any, and its verdict."""

    condition: Condition
    effect: Effect | None
    verdict: str


class Judgement(NamedTuple):
    """A hypothesis, its findings, its verdict, and the p-value behind it (nan without a measurement)."""

    hypothesis: Hypothesis
    findings: tuple[Finding, ...]
    verdict: str
    p_value: float


def judge(condition: Condition, effect: Effect | None) -> str:
    """Supported, contradicted, undecided, or not measured.

    Supported: the whole interval is beyond the limit, the value beyond limit and margin, and so is every seed's value
    beyond the limit. Contradicted: the whole interval falls short of limit and margin.
    """
    if effect is None:
        return UNMEASURED
    value, *ends = (_beyond(condition, number) for number in effect[:3])
    if min(ends) > 0 and value >= condition.margin and all(_beyond(condition, seed) > 0 for seed in effect.by_seed):
        return SUPPORTED
    return CONTRADICTED if max(ends) < condition.margin else UNDECIDED


def p_value(condition: Condition, effect: Effect) -> float:
    """Two-sided p of an effect at the limit, by the Student's (or normal) distribution that has its 95 % interval.

    Of an interval that is not symmetric, the side towards the limit counts.

    What was counted has p = 0, or 1 on the limit. A measured effect whose interval has no width, because too few images
    differ, has p = 1: nothing is known of its error.
    """
    from scipy.stats import t

    distance = abs(effect.value - condition.limit)
    error = effect.value - effect.low if effect.value > condition.limit else effect.high - effect.value
    error = error or (effect.high - effect.low) / 2
    if error == 0:
        return 1.0 if effect.source != COUNTED else float(distance == 0)
    return float(2 * t.sf(distance / error * t.ppf(0.975, effect.freedom), effect.freedom))


def judge_all(hypotheses: Iterable[Hypothesis], effects: Effects) -> list[Judgement]:
    """Judge hypotheses by effects; an effect that is missing has not been measured.

    All conditions of a hypothesis must hold, so its p-value is the largest of theirs (an intersection-union test,
    Berger 1982, https://doi.org/10.1080/00401706.1982.10487790). Holm's correction is over the hypotheses measured.
    """
    judged = []
    for hypothesis in hypotheses:
        found = [(condition, effects.get(condition.key)) for condition in hypothesis.conditions]
        findings = tuple(Finding(condition, effect, judge(condition, effect)) for condition, effect in found)
        known = [p_value(condition, effect) for condition, effect in found if effect is not None]
        p = max(known) if len(known) == len(found) else float("nan")
        judged.append(Judgement(hypothesis, findings, worst(finding.verdict for finding in findings), p))
    adjusted = holm({each.hypothesis.id: each.p_value for each in judged if each.p_value == each.p_value})
    return [_corrected(each, adjusted.get(each.hypothesis.id, float("nan"))) for each in judged]


def worst(verdicts: Iterable[str]) -> str:
    """The verdict on a hypothesis whose conditions must all hold."""
    found = set(verdicts)
    return next(verdict for verdict in (CONTRADICTED, UNMEASURED, UNDECIDED, SUPPORTED) if verdict in found)


def _beyond(condition: Condition, number: float) -> float:
    return (number - condition.limit) * (1 if condition.above else -1)


def _corrected(judgement: Judgement, p: float) -> Judgement:
    lost = judgement.verdict == SUPPORTED and not p < ALPHA
    return judgement._replace(verdict=UNDECIDED if lost else judgement.verdict, p_value=p)
