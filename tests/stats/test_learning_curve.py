"""Learning curves: what is extrapolated is known as well as it is said to be, on curves that are made up."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from woofkit.stats.learning_curve import Curve, expected_gain, extrapolate, measured_curve

SIZES = (40, 80, 160, 320)
LAWS = {
    "steep": lambda n: 0.05 + 1.5 * n**-0.6,
    "no floor": lambda n: 2.0 * n**-0.5,
    "slow": lambda n: 0.8 * n**-0.2,
    "flat": lambda n: 0.08 + 0 * n,
    "near the ceiling": lambda n: 0.005 + 8 * n**-1.2,
}


def trained(law, sizes, shape, seed_spread, rng):
    """Right answers (S, N) at each size: images differ in how hard they are, and trainings in how good they are."""
    trainings, images = shape
    hardness, usual = rng.normal(0, 2, images), np.random.default_rng(0).normal(0, 2, 2000)
    found = {}
    for size in sizes:
        level = brentq(lambda x, size=size: expit(x + usual).mean() - 1 + law(size), -20, 25)
        found[size] = rng.random(shape) < expit(level + hardness + rng.normal(0, seed_spread, (trainings, 1)))
    return found


@pytest.mark.parametrize(("name", "law"), LAWS.items())
@pytest.mark.parametrize(("shape", "seed_spread", "sizes"), [((5, 200), 0.2, SIZES), ((3, 300), 0.5, SIZES[1:])])
def test_the_interval_holds_what_more_images_bring_at_least_as_often_as_it_says(name, law, shape, seed_spread, sizes):
    rng, rounds, last = np.random.default_rng(1), 40, sizes[-1]
    hits = np.zeros(3)
    for _ in range(rounds):
        curve = measured_curve(trained(law, sizes, shape, seed_spread, rng))
        truth = (1 - law(2 * last), 1 - law(4 * last), law(last) - law(2 * last))
        found = (extrapolate(curve, 2 * last), extrapolate(curve, 4 * last), expected_gain(curve, 2 * last))
        hits += [each.low - 0.002 <= true <= each.high + 0.002 for true, each in zip(truth, found, strict=True)]
    assert (hits / rounds > 0.95 - 2 * (0.05 * 0.95 / rounds) ** 0.5).all(), (name, hits / rounds)


@pytest.mark.parametrize("law", [LAWS["steep"], LAWS["no floor"]])
def test_without_noise_the_law_itself_is_found(law):
    sizes = np.array([40.0, 80, 160, 320, 640])
    curve = Curve(sizes, 1 - law(sizes), np.diag(np.full(5, 1e-8)), 1e6)
    found, gain = extrapolate(curve, 1280), expected_gain(curve, 1280)
    assert found.value == pytest.approx(1 - law(1280), abs=0.003)
    assert gain.value == pytest.approx(law(640) - law(1280), abs=0.003)
    assert found.high - found.low < 0.01


def test_a_gain_is_never_less_than_nothing_and_is_known_better_than_two_accuracies():
    curve = measured_curve(trained(LAWS["flat"], SIZES, (5, 100), 0.1, np.random.default_rng(3)))
    gain, more = expected_gain(curve, 640), extrapolate(curve, 640)
    assert gain.low == 0
    assert gain.high - gain.low < more.high - more.low


def test_few_right_answers_do_not_pass_for_certainty():
    curve = measured_curve({size: np.ones((3, 20), bool) for size in SIZES})
    assert extrapolate(curve, 640).low < 1


def test_what_is_no_curve_is_refused():
    with pytest.raises(ValueError, match="2 sizes show no curve: 3 are the least"):
        extrapolate(measured_curve({size: np.eye(4, dtype=bool) for size in (10, 20)}), 40)
    with pytest.raises(ValueError, match="two trainings or more of each size, tested on the same images"):
        measured_curve({10: np.ones((1, 5), bool), 20: np.ones((2, 5), bool)})
    with pytest.raises(ValueError, match="two trainings or more of each size, tested on the same images"):
        measured_curve({10: np.ones((2, 4), bool), 20: np.ones((2, 5), bool)})
