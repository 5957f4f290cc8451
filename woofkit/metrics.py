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


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes): a row a true class, a column a predicted one."""
    matrix = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix
