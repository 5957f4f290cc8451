"""Check what a student writes about fair comparisons: shared images, McNemar's test, a label curve at equal steps."""

import math
from typing import Any

import numpy as np

from woofkit.data import WoofDataset
from woofkit.stats.intervals import mcnemar_test
from woofkit.widgets.exercises.answers import UNANSWERED, Failed, as_number, attempt, checker, shown, unanswered

PAIRS = ((6, 0), (15, 5), (5, 15), (30, 18), (4, 4))  # images that only one model gets right, and only the other
FRACTIONS = (1.0, 0.5, 0.1, 0.05)


# --- do two splits share images? ---


@checker
def check_shared_images(
    function: Any, train: WoofDataset, test: WoofDataset, question: tuple[WoofDataset, WoofDataset]
) -> str:
    """Try `function(one, other)` on splits whose overlap is known; then answer for the two in question."""
    pairs = [(train, train), (train, train.subset(range(7))), (train, test), (test, test)]
    due = [len(set(one.keys) & set(other.keys)) for one, other in pairs]
    trials = [attempt(function, *pair) for pair in pairs]
    if unanswered(function) or all(unanswered(trial) for trial in trials):
        return f"{UNANSWERED} (A function that prints the number has to return it, too.)"
    if failed := next((trial for trial in trials if isinstance(trial, Failed)), None):
        return f"Wrong: your function gives no result: {failed}."
    numbers = [as_number(trial) for trial in trials]
    if numbers == due:
        return f"Right. The two splits in question share {as_number(attempt(function, *question)):,.0f} images."
    if any(isinstance(trial, set | frozenset | list | tuple) for trial in trials):
        return "Wrong: return how many there are, len(...), and not the images themselves."
    listed = "; ".join(f"{shown(trial)} instead of {number}" for trial, number in zip(trials, due, strict=True))
    return f"Wrong. Train with itself, with 7 of itself, with test; test with itself: {listed}."


# --- McNemar's test by simulation ---


@checker
def check_mcnemar(simulate: Any) -> str:
    """Try `simulate(only_first, only_second, tosses)`, a p-value, against McNemar's exact test."""
    tosses = 10_000
    exact = [_exact(*pair) for pair in PAIRS]
    given = [attempt(simulate, *pair, tosses) for pair in PAIRS]
    if unanswered(simulate) or all(unanswered(each) for each in given):
        return UNANSWERED
    if failed := next((each for each in given if isinstance(each, Failed)), None):
        return f"Wrong: your function gives no result: {failed}."
    numbers = [as_number(each) for each in given]
    if not all(math.isfinite(number) for number in numbers):
        return f"Wrong: return one number from 0 to 1, not {shown(given[0])} ({type(given[0]).__name__})."
    if _near(numbers, exact, tosses):
        pairs = "; ".join(
            f"{one} against {other}: {number:.3f}, exactly {p:.3f}"
            for (one, other), number, p in zip(PAIRS, numbers, exact, strict=True)
        )
        return f"Right. {pairs}."
    for words, variant in _mcnemar_mistakes().items():
        if _near(numbers, variant, tosses):
            return f"Wrong: {words}."
    if max(numbers) > 1.0:
        return "Wrong: a p-value is a share of the tosses, from 0 to 1: neither a count nor per cent."
    (one, other), number, p = next(
        row for row in zip(PAIRS, numbers, exact, strict=True) if not _near([row[1]], [row[2]], tosses)
    )
    return f"Wrong: with {one} against {other} yours gives {number:.3f}, and the exact test {p:.3f}."


def _exact(one: int, other: int) -> float:
    first = np.repeat([True, False], [one, other])
    return mcnemar_test(first, ~first).p_value


def _near(numbers: list[float], due: list[float], tosses: int) -> bool:
    """Whether simulated numbers are within five standard errors of those that are due."""
    room = [5 * math.sqrt(max(p * (1 - p), 0) / tosses) + 1e-3 for p in due]
    return all(abs(number - p) <= each for number, p, each in zip(numbers, due, room, strict=True))


def _mcnemar_mistakes() -> dict[str, list[float]]:
    """What mistakes give for PAIRS, exactly."""
    from scipy.stats import binom

    heads = [(binom(one + other, 0.5), one, other) for one, other in PAIRS]
    return {
        "count tosses at least as uneven as yours, the equally uneven ones too (>=, not >)": [
            coin.cdf(min(one, other) - 1) + coin.sf(max(one, other)) for coin, one, other in heads
        ],
        "count both sides: a difference for the other model is as uneven": [
            min(coin.sf(max(one, other) - 1), 1.0) for coin, one, other in heads
        ],
        "count both sides: yours counts only tosses with more for the first model": [
            coin.sf(one - 1) for coin, one, _ in heads
        ],
        "this is the share of less uneven tosses: take 1 minus it": [1 - _exact(one, other) for _, one, other in heads],
        "this is the share of exactly equal tosses: count the more uneven ones too": [
            coin.pmf(one) + (coin.pmf(other) if one != other else 0) for coin, one, other in heads
        ],
    }


# --- a label curve at equal steps ---


@checker
def check_label_curve(epochs_at: Any, images: int = 600, batch_size: int = 32, epochs: int = 5) -> str:
    """Try `epochs_at(fraction, images, batch_size, epochs)`: as many steps at each share of the labels as at all."""
    given = [attempt(epochs_at, fraction, images, batch_size, epochs) for fraction in FRACTIONS]
    if unanswered(epochs_at) or all(unanswered(each) for each in given):
        return UNANSWERED
    if failed := next((each for each in given if isinstance(each, Failed)), None):
        return f"Wrong: your function gives no result: {failed}."
    numbers = [as_number(each) for each in given]
    per_epoch = [math.ceil(max(1, round(images * fraction)) / batch_size) for fraction in FRACTIONS]
    wanted = epochs * per_epoch[0]
    if not all(number.is_integer() and number >= 1 for number in numbers):
        return f"Wrong: epochs are whole numbers from 1 on, and yours are {shown(given, 80)}; round them."
    steps = [int(number) * each for number, each in zip(numbers, per_epoch, strict=True)]
    listed = ", ".join(f"{100 * f:.0f}%: {step}" for f, step in zip(FRACTIONS, steps, strict=True))
    if all(abs(step - wanted) <= each / 2 for step, each in zip(steps, per_epoch, strict=True)):
        return f"Right: steps at each share of the labels: {listed}. What differs now is the labels alone."
    if all(number == epochs for number in numbers):
        return (
            f"Not mended yet. Steps at each share of the labels: {listed}. Few labels are also trained less: "
            "which of the two makes a model worse?"
        )
    if numbers[-1] < epochs:
        return f"Wrong: fewer labels make shorter epochs, so more of them are needed. Steps now: {listed}."
    if numbers[-1] == round(epochs / FRACTIONS[-1]):
        return (
            f"Wrong, but nearly: an epoch has whole batches, so {round(images * FRACTIONS[-1])} images in batches of "
            f"{batch_size} make {per_epoch[-1]} (rounded up). Steps now: {listed}, and {wanted} are needed."
        )
    return f"Wrong: {wanted} steps are needed at each share, and yours are: {listed}."
