"""How accuracy grows with the number of training images, and what more of them would bring.

The error of a model that has learned from n images falls as an inverse power law towards a floor,

    error(n) = c + a n^-b,  c >= 0, a >= 0

(Cortes et al. 1993, https://papers.nips.cc/paper/1993/hash/1aa48fc4880bb0c9b8a3bf979d3b917e-Abstract.html; Hestness et
al. 2017, https://arxiv.org/abs/1712.00409). A few sizes do not fix three numbers, so no single curve is believed: an
interval holds what any curve says that the measured errors do not contradict.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

POWERS = np.geomspace(0.05, 3.0, 60)  # the exponents b that are tried
LEAST_SIZES = 3
STEPS = 1000  # of the numbers between 0 and 1 that are asked whether they are contradicted


class Curve(NamedTuple):
    """Accuracies measured at `sizes` (k,), with the covariance (k, k) of their means over seeds and images.

    `freedom`: the degrees of freedom that are behind the covariance.
    """

    sizes: np.ndarray
    accuracies: np.ndarray
    covariance: np.ndarray
    freedom: float


class Extrapolation(NamedTuple):
    """The accuracy that is to be expected from `size` training images, with a 95% interval."""

    size: float
    value: float
    low: float
    high: float


def measured_curve(correct: Mapping[int, np.ndarray]) -> Curve:
    """What was measured: number of training images -> correct, bool (S, N), one row per training, one column per image.

    The test images are those of every size, so that their luck is shared; each size has trainings of its own.

        covariance = cov of the images' means over trainings / N + diagonal of var of the trainings' means / S

    Raises:
        ValueError: a size has fewer than two trainings, or the sizes were not tested on the same images.
    """
    sizes = sorted(correct)
    answers = [np.asarray(correct[size], dtype=float) for size in sizes]
    if any(len(each) < 2 for each in answers) or len({each.shape[1] for each in answers}) != 1:
        raise ValueError("a learning curve needs two trainings or more of each size, tested on the same images")
    images = np.atleast_2d(np.cov([each.mean(0) for each in answers])) / answers[0].shape[1]
    trainings = np.diag([each.mean(1).var(ddof=1) / len(each) for each in answers])
    # An accuracy of 1 on few images does not have an error of 0: one more image would have been wrong half the time.
    least = np.diag(np.full(len(sizes), (0.5 / answers[0].shape[1]) ** 2))
    freedom = sum(len(each) - 1 for each in answers)
    means = np.array([each.mean() for each in answers])
    return Curve(np.array(sizes, dtype=float), means, images + trainings + least, freedom)


def extrapolate(curve: Curve, size: float, confidence: float = 0.95) -> Extrapolation:
    """What `size` training images would bring, if the error follows an inverse power law.

    An error e is in the interval if some curve through it fits nearly as well as the best one,

        chi2(best curve with error(size) = e) - chi2(best curve) <= t^2,

    the profile likelihood, with Student's t in place of the normal law as few trainings tell how much trainings differ.
    Nothing is assumed of c and b, beside c >= 0 and POWERS.

    Raises:
        ValueError: fewer than LEAST_SIZES sizes.
    """
    value, low, high = _interval(curve, _error_misfit, size, confidence)
    return Extrapolation(size, 1 - value, 1 - high, 1 - low)


def expected_gain(curve: Curve, size: float, confidence: float = 0.95) -> Extrapolation:
    """How much more accurate `size` training images make than the most that were measured; never less than 0.

    Its interval is shorter than what two accuracies suggest: the same test images are behind both.

    Raises:
        ValueError: fewer than LEAST_SIZES sizes.
    """
    return Extrapolation(size, *_interval(curve, _gain_misfit, size, confidence))


def _interval(
    curve: Curve, misfit: Callable[[Curve, float, np.ndarray, float], np.ndarray], size: float, confidence: float
) -> tuple[float, float, float]:
    """The number between 0 and 1 with which a curve fits best, and the ends of those with which one fits nearly so."""
    from scipy.stats import t  # takes a second

    if len(curve.sizes) < LEAST_SIZES:
        raise ValueError(f"{len(curve.sizes)} sizes show no curve: {LEAST_SIZES} are the least")
    wanted = np.linspace(0, 1, STEPS + 1)
    misfits = np.min([misfit(curve, size, wanted, power) for power in POWERS], axis=0)
    inside = wanted[misfits - misfits.min() <= t.ppf((1 + confidence) / 2, curve.freedom) ** 2]
    return float(wanted[misfits.argmin()]), float(inside.min()), float(inside.max())


def _error_misfit(curve: Curve, size: float, errors: np.ndarray, power: float) -> np.ndarray:
    """The least chi2 of the curves with exponent b and these errors (m,) at `size`: (m,).

    They are e + a (n^-b - size^-b), with 0 <= a <= e size^b as c >= 0.
    """
    slope = (curve.sizes / size) ** -power - 1  # (k,), of a size^-b
    return _least_misfit(curve, (1 - curve.accuracies)[:, None] - errors, slope, errors)


def _gain_misfit(curve: Curve, size: float, gains: np.ndarray, power: float) -> np.ndarray:
    """The least chi2 of the curves with exponent b that fall by these gains (m,) from the last size to `size`: (m,).

    They are c + gain n^-b / (last^-b - size^-b), with c >= 0.
    """
    shape = (curve.sizes / curve.sizes[-1]) ** -power / (1 - (size / curve.sizes[-1]) ** -power)  # (k,)
    gap = (1 - curve.accuracies)[:, None] - shape[:, None] * gains
    return _least_misfit(curve, gap, np.ones(len(shape)), np.ones(len(gains)))


def _least_misfit(curve: Curve, gap: np.ndarray, slope: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The least chi2 of gap (k, m) - slope (k,) x with 0 <= x <= most (m,): (m,)."""
    weight = np.linalg.inv(curve.covariance)
    left = gap - slope[:, None] * np.clip((slope @ weight @ gap) / (slope @ weight @ slope), 0, most)
    return np.einsum("km,kl,lm->m", left, weight, left)
