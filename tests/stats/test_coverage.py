"""Every interval that a text shows holds the true value about as often as it says, in simulated studies."""

from functools import partial

import numpy as np
import pytest

from woofkit.claims.evidence import _median, difference, mean_difference
from woofkit.stats.calibration import expected_calibration_error
from woofkit.stats.intervals import accuracy_interval, mean_interval, proportion_interval
from woofkit.stats.seeds import crossed_mean, mean_of_intervals, paired_bootstrap, seed_and_image_variance

STUDIES = 300
BREEDS = np.repeat(np.arange(10), 50)


def right(rng, seeds, ability, seed_sd=0.15, hard=None):
    """Answers (seeds, 500), bool: images differ in how hard they are, seeds in how able the model is."""
    hard = rng.normal(0, 1.5, BREEDS.size) if hard is None else hard
    return rng.random((seeds, BREEDS.size)) < _chance(ability + seed_sd * rng.normal(size=(seeds, 1)) - hard)


def _chance(logit):
    return 1 / (1 + np.exp(-logit))


def _accuracy(ability, seed_sd=0.15):
    """The accuracy that `right` has on average, by quadrature over images and seeds together."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights * _chance(ability + np.hypot(1.5, seed_sd) * nodes)).sum() / weights.sum())


def share_of_images(rng):
    return accuracy_interval(rng.random(500) < 0.9), 0.9


def share_near_one(rng):
    return proportion_interval(rng.binomial(40, 0.97) / 40, 40), 0.97


def mean_over_dogs(rng):
    return mean_interval(rng.gamma(2, 0.5, 100)), 1.0


def paired_images(rng):
    hard = rng.normal(0, 1.5, BREEDS.size)
    first, second = (right(rng, 1, ability, 0, hard)[0] for ability in (3.0, 2.5))
    return paired_bootstrap(first, second, BREEDS, resamples=500), _accuracy(3.0, 0) - _accuracy(2.5, 0)


def methods(rng, seeds, others):
    hard = rng.normal(0, 1.5, BREEDS.size)
    answers = right(rng, seeds, 3.0, 0.15, hard), right(rng, others, 2.5, 0.15, hard)
    return difference(*answers, BREEDS), _accuracy(3.0) - _accuracy(2.5)


def against_an_untrained_model(rng):
    hard = rng.normal(0, 1.5, BREEDS.size)
    answers = right(rng, 5, 3.0, 0.15, hard), right(rng, 1, 1.0, 0, hard)
    return difference(*answers, BREEDS), _accuracy(3.0) - _accuracy(1.0, 0)


def growth_of_a_lead(rng):
    """Four groups of runs, as for labels and batch sizes."""
    hard = rng.normal(0, 1.5, BREEDS.size)
    few, full_few, many, full_many = (right(rng, 5, ability, 0.15, hard) for ability in (2.0, 1.0, 3.0, 3.0))
    values = few.astype(float) - full_few - many + full_many
    return crossed_mean(values, BREEDS), _accuracy(2.0) - _accuracy(1.0)


def accuracy_over_seeds(rng, seeds, labels=BREEDS):
    """The mean accuracy of a method, as sweeps keep it, with seeds that differ by more than chance."""
    return seed_and_image_variance(right(rng, seeds, 3.0, 0.3), labels), _accuracy(3.0, 0.3)


def maps_over_dogs_and_seeds(rng):
    dogs, seeds = rng.normal(0, 0.5, BREEDS.size), rng.normal(0, 0.05, (5, 1))
    return crossed_mean(1.2 + dogs + seeds + rng.normal(0, 0.2, (5, BREEDS.size)), BREEDS), 1.2


def means_over_seeds(rng):
    return mean_difference(rng.normal(3, 1.0, 5), rng.normal(1, 0.5, 5)), 2.0


def changes_of_several_runs(rng):
    """Each run's mean over the same images with its own interval, as in the table of what is forgotten."""
    images, seeds = rng.normal(0, 0.4, 500), rng.normal(0, 0.02, (3, 1))
    runs = -0.3 + images + seeds + rng.normal(0, 0.2, (3, 500))
    reach = 1.96 * runs.std(1, ddof=1) / 500**0.5
    return mean_of_intervals(runs.mean(1), runs.mean(1) - reach, runs.mean(1) + reach), -0.3


def rounds_of_a_bench(rng, rounds):
    return _median(rng.lognormal(0.2, 0.1, rounds)), float(np.exp(0.2))


def calibration(rng):
    """Of logits that are twice too sure."""
    return expected_calibration_error(*_too_sure(rng, 500), resamples=300), TRUE_ERROR


def _too_sure(rng, count):
    logits = 3 * rng.normal(size=(count, 10))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return 2 * logits, (shares.cumsum(1) > rng.random((count, 1))).argmax(1)


TRUE_ERROR = expected_calibration_error(*_too_sure(np.random.default_rng(0), 200_000), resamples=2).value
INTERVALS = {
    "an accuracy": share_of_images,
    "a share near one of few images": share_near_one,
    "a mean over dogs": mean_over_dogs,
    "two models on the same images": paired_images,
    "two methods, five seeds": partial(methods, seeds=5, others=5),
    "two methods, three seeds": partial(methods, seeds=3, others=3),
    "a method against a model without seeds": against_an_untrained_model,
    "the growth of a lead": growth_of_a_lead,
    "an accuracy, five seeds": partial(accuracy_over_seeds, seeds=5),
    "an accuracy, three seeds": partial(accuracy_over_seeds, seeds=3),
    "an accuracy, five seeds, breeds unknown": partial(accuracy_over_seeds, seeds=5, labels=None),
    "maps over dogs and seeds": maps_over_dogs_and_seeds,
    "means over seeds": means_over_seeds,
    "changes of several runs": changes_of_several_runs,
    "nine rounds of a bench": partial(rounds_of_a_bench, rounds=9),
    "seven rounds of a bench": partial(rounds_of_a_bench, rounds=7),
    "a calibration error": calibration,
}
# By their docstrings.
PROMISED = {"two methods, three seeds": 0.91, "an accuracy, three seeds": 0.91, "a calibration error": 0.92}


@pytest.mark.parametrize("name", INTERVALS)
def test_an_interval_holds_the_true_value(name):
    rng = np.random.default_rng(20)
    found = [INTERVALS[name](rng) for _ in range(STUDIES)]
    held = np.mean([interval.low <= truth <= interval.high for interval, truth in found])
    promised = PROMISED.get(name, 0.95)
    assert held >= promised - 3 * (promised * (1 - promised) / STUDIES) ** 0.5, f"{held:.3f}"
    assert held < 1, "an interval that always holds is too wide"
