"""How often the verdicts are wrong, and an interval misses, in simulated studies of which the truth is known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from woofkit.claims.effects import Effect
from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, Condition, Hypothesis, judge_all
from woofkit.stats.seeds import paired_over_seeds

SURE = 20.0  # standard errors beyond the threshold: no test misses that
# Where false verdicts are most frequent: of each hypothesis, one condition at its threshold and the others surely met,
# where "supported" hangs on one test; or all conditions at their thresholds, where "contradicted" has the most tries.
WORST = ((0.0, SURE), (0.0,))


class ErrorRates(NamedTuple):
    """Shares of the studies with at least one verdict of a kind, and with at least one of either."""

    supported: float
    contradicted: float
    either: float


def verdict_rates(
    hypotheses: Sequence[Hypothesis], distances: Sequence[float], studies: int, freedom: float = 8.0, seed: int = 0
) -> ErrorRates:
    """How often a study of all these hypotheses at once gives a verdict on any of them, and of which kind.

    Effects are drawn, not images: estimate = true + error, with an interval by Student's t of `freedom` degrees, as two
    methods of five seeds each have if seeds are all that varies. The conditions are independent of each other.

    Args:
        distances: how many standard errors the true effect lies beyond the threshold, for each condition of a
            hypothesis in turn (the last one counts for all that follow). With WORST, no verdict is true, or only just.
    """
    from scipy.special import stdtrit

    rng, reach, seen = np.random.default_rng(seed), float(stdtrit(freedom, 0.975)), []
    true = [
        (condition, distances[min(place, len(distances) - 1)])
        for each in hypotheses
        for place, condition in enumerate(each.conditions)
    ]
    for _ in range(studies):
        values = rng.normal([distance for _, distance in true])
        errors = np.sqrt(rng.chisquare(freedom, len(true)) / freedom)
        effects = {
            condition.key: _effect(condition, value, error * reach, freedom)
            for (condition, _), value, error in zip(true, values, errors, strict=True)
        }
        verdicts = {judged.verdict for judged in judge_all(hypotheses, effects)}
        seen.append((SUPPORTED in verdicts, CONTRADICTED in verdicts))
    supported, contradicted = np.array(seen).T
    return ErrorRates(float(supported.mean()), float(contradicted.mean()), float((supported | contradicted).mean()))


def _effect(condition: Condition, beyond: float, reach: float, freedom: float) -> Effect:
    """An effect measured to lie so far beyond a condition's threshold, which is short of it if that is negative."""
    value = condition.threshold + (beyond if condition.above else -beyond)
    return Effect(value, value - reach, value + reach, freedom=freedom)


def interval_coverage(num_seeds: int, num_images: int, studies: int, seed: int = 0) -> float:
    """How often the interval of two methods' difference of accuracies holds the true one, 0.02.

    Images differ in how hard they are for each method, seeds in how good the model is. The chances stay within 0 to 1,
    so the true difference is exact.
    """
    rng, labels, held = np.random.default_rng(seed), np.arange(num_images) % 10, 0
    for _ in range(studies):
        hard = rng.uniform(0.65, 0.85, num_images)
        apart = rng.uniform(-0.08, 0.12, num_images)  # 0.02 on average
        first, second = (
            rng.random((num_seeds, num_images)) < chance + rng.uniform(-0.02, 0.02, (num_seeds, 1))
            for chance in (hard + apart, hard)
        )
        found = paired_over_seeds(first, second, labels)
        held += found.low <= 0.02 <= found.high
    return held / studies
