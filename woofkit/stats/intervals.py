"""How sure a measured accuracy or mean is. scipy is imported where it is used: its import takes most of a second."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A measured value, the ends of its interval, and the number of images that it rests on."""

    value: float
    low: float
    high: float
    count: int


def accuracy_interval(correct: np.ndarray, confidence: float = 0.95) -> Interval:
    """Accuracy with its Wilson score interval, which stays inside [0, 1] and holds near the ends too.

    Args:
        correct: bool (N,), whether each test image was classified rightly.

    Raises:
        ValueError: there is no image.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.size == 0:
        raise ValueError("accuracy of no images: pass at least one")
    return proportion_interval(float(correct.mean()), correct.size, confidence)


def proportion_interval(value: float, count: int, confidence: float = 0.95) -> Interval:
    """Wilson's interval about a share that need not be a whole number of images, as a mean over models is not.

    Args:
        value: the share, 0 to 1.
        count: the number of images on which it was measured.
    """
    from scipy.stats import binomtest

    interval = binomtest(round(value * count), count).proportion_ci(confidence, method="wilson")
    return Interval(value, float(interval.low), float(interval.high), count)


class PairedTest(NamedTuple):
    """What `mcnemar_test` gives."""

    difference: float
    only_first: int
    only_second: int
    p_value: float


def mcnemar_test(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Compare two models on the same images: McNemar's exact test on those that only one of them gets right.

    Args:
        first, second: bool (N,), whether each model classified each image rightly, in the same order.

    Returns:
        `difference` of the accuracies, first - second; the counts; p of a difference this large by chance.

    Raises:
        ValueError: the two do not hold the same number of images.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"a paired test needs the same images twice: got {first.shape} and {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant).pvalue if discordant else 1.0
    return PairedTest((only_first - only_second) / first.size, only_first, only_second, float(p_value))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes): one row per true class, one column per predicted class."""
    matrix = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def errors_within(matrix: np.ndarray, groups: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the share of a confusion matrix's errors that stay within a group, and that of aimless errors.

    Args:
        matrix: (C, C) counts, one row per true class.
        groups: classes that look alike; no class is in two of them.

    Returns:
        Two shares of 0 to 1 (NaN without errors): as counted, and as if every error fell on each other class alike.
    """
    errors = matrix - np.diag(np.diag(matrix))
    alike = np.zeros(matrix.shape, bool)
    for group in groups:
        alike[np.ix_(group, group)] = True
    np.fill_diagonal(alike, False)
    total = errors.sum()
    if total == 0:
        return float("nan"), float("nan")
    aimless = (errors.sum(1) * alike.sum(1) / (len(matrix) - 1)).sum()
    return float(errors[alike].sum() / total), float(aimless / total)


def mean_interval(values: np.ndarray, confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """A mean with its bootstrap interval (percentiles, the same random numbers at every call).

    For a paired comparison, pass the differences image by image.

    Args:
        values: (N,), one number per image; nan (not measurable there) is left out and not counted.

    Returns:
        The interval; its ends are nan for a single image.

    Raises:
        ValueError: no number is left.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if values.size == 0:
        raise ValueError("mean of nothing: pass at least one number that is not nan")
    if np.ptp(values) == 0:  # nothing to resample, and one image says nothing of others
        end = float("nan") if values.size == 1 else float(values[0])
        return Interval(float(values[0]), end, end, values.size)
    return bootstrap_mean([values], confidence, resamples)


def bootstrap_mean(groups: Sequence[np.ndarray], confidence: float, resamples: int) -> Interval:
    """The mean over all numbers of some groups, each (n,), with its bootstrap interval (percentiles).

    Each group is resampled by itself, so that its size stays; every call draws the same random numbers.
    """
    from scipy.stats import bootstrap

    count = sum(group.size for group in groups)

    def mean(*resampled: np.ndarray, axis: int) -> np.ndarray:
        return sum(group.sum(axis) for group in resampled) / count

    interval = bootstrap(
        groups, mean, confidence_level=confidence, n_resamples=resamples, method="percentile", rng=0, batch=500
    ).confidence_interval
    return Interval(
        float(sum(group.sum() for group in groups) / count), float(interval.low), float(interval.high), count
    )
