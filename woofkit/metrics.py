"""How sure a measured accuracy is: thin over scipy."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest


class Proportion(NamedTuple):
    value: float
    low: float
    high: float
    count: int


def accuracy_interval(correct: np.ndarray, confidence: float = 0.95) -> Proportion:
    """Accuracy with its Wilson score interval, which stays inside [0, 1] and holds near the ends too.

    Args:
        correct: bool (N,), whether each test image was classified rightly.

    Raises:
        ValueError: there is no image.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.size == 0:
        raise ValueError("accuracy of no images: pass at least one")
    interval = binomtest(int(correct.sum()), correct.size).proportion_ci(confidence, method="wilson")
    return Proportion(float(correct.mean()), float(interval.low), float(interval.high), correct.size)


class PairedTest(NamedTuple):
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
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"a paired test needs the same images twice: got {first.shape} and {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant).pvalue if discordant else 1.0
    return PairedTest((only_first - only_second) / first.size, only_first, only_second, float(p_value))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes): a row a true class, a column a predicted one."""
    matrix = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix
