"""How a claim is judged: by conditions fixed before the measurement, each on one effect with its 95% interval.

A condition sets a threshold: a limit and a margin beyond it that would matter. It is supported if the effect is
significantly beyond the threshold, contradicted if it is significantly short of it, and undecided in between: both
verdicts carry the same burden. A hypothesis holds if all its conditions do, and is contradicted if one of them is. Each
of the two families of tests over all hypotheses is corrected (Holm), so that a false verdict of either kind, on any
hypothesis, has a chance of at most 2.5%, and of both together at most 5%. A hypothesis that has not been measured keeps
its place in both families: a verdict on a part of the measurements stays when the rest arrives.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from woofkit.claims.effects import COUNTED, Effect, Effects, Key
from woofkit.stats.seeds import holm

SUPPORTED, CONTRADICTED, UNDECIDED, UNMEASURED = "supported", "contradicted", "undecided", "not measured"
ALPHA = 0.025  # of each family; a condition's own test then agrees with its 95% interval


@dataclass(frozen=True)
class Condition:
    """What must hold: the effect of that key lies above (or below) `limit`, by at least `margin`."""

    statement: str
    key: Key
    above: bool = True
    limit: float = 0.0
    margin: float = 0.0

    @property
    def threshold(self) -> float:
        """Limit and margin: what both verdicts are tested against."""
        return self.limit + (self.margin if self.above else -self.margin)


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


class PValues(NamedTuple):
    """One-sided p of the two tests: that an effect is beyond a threshold, and that it is short of it."""

    beyond: float
    short: float


class Finding(NamedTuple):
    """A condition with the effect that was measured for it, if any, and its verdict by its own interval."""

    condition: Condition
    effect: Effect | None
    verdict: str


class Judgement(NamedTuple):
    """A hypothesis, its findings and its verdict; the corrected p of that verdict, nan of any other; and why."""

    hypothesis: Hypothesis
    findings: tuple[Finding, ...]
    verdict: str
    p_value: float
    why: str

    @property
    def confirmatory(self) -> bool:
        """Whether all its effects come from data that nothing was looked at before."""
        return all(finding.effect is not None and finding.effect.confirmatory for finding in self.findings)

    @property
    def kind(self) -> str:
        """What the verdict rests on, in a word; "" of what was not measured."""
        if self.verdict == UNMEASURED:
            return ""
        fresh = sum(finding.effect is not None and finding.effect.confirmatory for finding in self.findings)
        if 0 < fresh < len(self.findings):
            return f"partly confirmatory ({fresh} of {len(self.findings)} conditions)"
        return "confirmatory" if fresh else "exploratory"


def p_values(condition: Condition, effect: Effect) -> PValues:
    """The two one-sided tests at the threshold, by the Student's (or normal) distribution of the 95% interval.

    Of an interval that is not symmetric, the side towards the threshold counts. What was counted is certain. A measured
    effect whose interval has no width, because too few images differ, proves nothing: of its error nothing is known.
    """
    from scipy.special import stdtr, stdtrit  # the distribution itself: thirty times as fast as scipy.stats'

    sign = 1 if condition.above else -1
    distance = sign * (effect.value - condition.threshold)
    if effect.source == COUNTED:
        return PValues(float(distance < 0), float(distance >= 0))
    towards_low = effect.value > condition.threshold
    error = effect.value - effect.low if towards_low else effect.high - effect.value
    error = error or (effect.high - effect.low) / 2
    if error == 0:
        return PValues(1.0, 1.0)
    statistic = distance / error * stdtrit(effect.freedom, 0.975)
    return PValues(float(stdtr(effect.freedom, -statistic)), float(stdtr(effect.freedom, statistic)))


def judge(condition: Condition, effect: Effect | None) -> str:
    """A condition's verdict by itself: its 95% interval lies beyond the threshold, short of it, or holds it."""
    return _by_itself(p_values(condition, effect) if effect else None)


def _by_itself(test: PValues | None) -> str:
    if test is None:
        return UNMEASURED
    return SUPPORTED if test.beyond < ALPHA else CONTRADICTED if test.short < ALPHA else UNDECIDED


def judge_all(hypotheses: Iterable[Hypothesis], effects: Effects, world: str = "") -> list[Judgement]:
    """Judge hypotheses by the effects of one world; one that lacks an effect has not been measured, and has p = 1.

    The p of "supported" is the largest of the conditions' (an intersection-union test, Berger 1982,
    https://doi.org/10.1080/00401706.1982.10487790), that of "contradicted" the smallest times their number
    (Bonferroni). Holm's correction is over all these hypotheses, of each family by itself.
    """
    found, beyond, short = {}, {}, {}
    for hypothesis in hypotheses:
        measured = [effects.get(condition.key._replace(world=world)) for condition in hypothesis.conditions]
        pairs = list(zip(hypothesis.conditions, measured, strict=True))
        tests = [p_values(*pair) if all(pair) else None for pair in pairs]
        found[hypothesis.id] = (
            hypothesis,
            tuple(Finding(*pair, _by_itself(test)) for pair, test in zip(pairs, tests, strict=True)),
        )
        tests = tests if all(tests) else [PValues(1.0, 1.0)]
        beyond[hypothesis.id] = max(test.beyond for test in tests)
        short[hypothesis.id] = min(1.0, len(tests) * min(test.short for test in tests))
    families = {SUPPORTED: holm(beyond), CONTRADICTED: holm(short)}
    return [_judgement(*found[name], families) for name in found]


def _judgement(
    hypothesis: Hypothesis, findings: tuple[Finding, ...], families: dict[str, dict[str, float]]
) -> Judgement:
    if missing := sum(finding.effect is None for finding in findings):
        why = f"{missing} of {len(findings)} conditions not measured" if missing < len(findings) else ""
        return Judgement(hypothesis, findings, UNMEASURED, float("nan"), why)
    for verdict, family in families.items():
        if family[hypothesis.id] < ALPHA:
            return Judgement(hypothesis, findings, verdict, family[hypothesis.id], "")
    verdicts = {finding.verdict for finding in findings}
    if verdicts == {SUPPORTED} or CONTRADICTED in verdicts:
        word = "it holds" if CONTRADICTED not in verdicts else "one condition fails"
        count = len(families[SUPPORTED])
        why = f"judged alone, {word}; as one of {count} hypotheses, that is not certain enough"
    else:
        unsure = sum(finding.verdict == UNDECIDED for finding in findings)
        why = f"the interval of {unsure} of {len(findings)} conditions contains the threshold"
    return Judgement(hypothesis, findings, UNDECIDED, float("nan"), why)
