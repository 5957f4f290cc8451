"""Whether a model's confidence can be believed: calibration error, reliability, one temperature, proper scores.

Confidence is the largest probability, of `softmax(logits)`, a number an image. Thin over torchmetrics and scipy,
whose imports take seconds and so wait for their use.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

BELOW_ONE = 1 - 2.0**-24  # float32's largest number below 1: torchmetrics gives exactly 1 a bin of its own
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 0.01, 100.0


class CalibrationError(NamedTuple):
    """`by_chance`: the mean ECE of a perfectly calibrated model as confident as this one; `p_value`: of one like it."""

    value: float
    low: float
    high: float
    count: int
    by_chance: float
    p_value: float


def expected_calibration_error(
    logits: np.ndarray, labels: np.ndarray, bins: int = 15, confidence: float = 0.95, resamples: int = 2000
) -> CalibrationError:
    """Expected calibration error (ECE) with its bootstrap interval over images, and what chance alone would give.

        ECE = sum over bins of (images in it / all images) |accuracy - mean confidence|

    with bins of equal width (Guo et al., https://arxiv.org/abs/1706.04599). An ECE is never below 0, so few images
    make a perfect model look miscalibrated (Roelofs et al., https://arxiv.org/abs/2012.08668): compare with
    `by_chance`, from labels drawn by the model's own confidences (Broecker and Smith, 2007,
    https://doi.org/10.1175/WAF993.1). Resampling adds the same upward bias once more, and so the interval is the
    "basic" one, 2 ECE - quantiles of the resampled, cut at 0; it begins at 0 where chance alone may explain the ECE
    (`p_value` above 1 - confidence).

    Args:
        logits: (N, C); labels: int (N,).
        bins: how many, 1 or more.

    Raises:
        ValueError: the shapes do not fit, there is no image, or a label is none of the C classes.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = _checked(logits, labels)
    sure, right = _confidences(logits, labels)
    member = _bin_numbers(sure, bins)[:, None] == np.arange(bins)  # (N, bins)
    shares = torch.from_numpy(np.minimum(probabilities(logits), BELOW_ONE))
    value = float(multiclass_calibration_error(shares, torch.tensor(labels), shares.shape[1], n_bins=bins))
    rng = np.random.default_rng(0)
    resampled, calibrated = [], []
    for start in range(0, resamples, 250):
        draws = (min(250, resamples - start), sure.size)
        weights = rng.multinomial(sure.size, np.full(sure.size, 1 / sure.size), size=draws[0]).astype(float)
        resampled.append(np.abs(weights @ (member * (right - sure)[:, None])).sum(1) / sure.size)
        calibrated.append(np.abs(((rng.random(draws) < sure) - sure) @ member.astype(float)).sum(1) / sure.size)
    resampled, calibrated = np.concatenate(resampled), np.concatenate(calibrated)
    high, low = 2 * value - np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    p_value = (1 + (calibrated >= value).sum()) / (1 + resamples)
    low = 0.0 if p_value > 1 - confidence else max(float(low), 0.0)
    return CalibrationError(value, low, max(float(high), 0.0), sure.size, float(calibrated.mean()), float(p_value))


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """A row a bin of confidence [low, high): the images' mean confidence, their accuracy, and their count.

    All numbers are fractions from 0 to 1 but the count; an empty bin has nan. A calibrated model's accuracy is its
    confidence. Sum of count |accuracy - confidence| over all images is the ECE of as many bins.

    Args:
        logits: (N, C); labels: int (N,).

    Raises:
        ValueError: the shapes do not fit, there is no image, or a label is none of the C classes.
    """
    sure, right = _confidences(*_checked(logits, labels))
    numbers, edges = _bin_numbers(sure, bins), np.linspace(0, 1, bins + 1)
    counts = np.bincount(numbers, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(numbers, weights, bins) / counts for weights in (sure, right)]
    columns = {"low": edges[:-1], "high": edges[1:], "confidence": means[0], "accuracy": means[1], "count": counts}
    return pd.DataFrame(columns)


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T that makes softmax(logits / T) likeliest: above 1 the model is too sure of itself, below 1 too modest.

    Fit it on validation images, then divide test logits by it: no prediction changes, only its confidence (Guo et
    al., https://arxiv.org/abs/1706.04599). What calibration error is left is more than one number's worth.

    Args:
        logits: (N, C); labels: int (N,).

    Raises:
        ValueError: the shapes do not fit, or no temperature between 0.01 and 100 is best, as where no image is wrong.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = _checked(logits, labels)
    ends = np.log([SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE])

    def loss(log: float) -> float:
        return negative_log_likelihood(logits / np.exp(log), labels)

    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    if min(map(loss, ends)) <= best.fun + 1e-9:
        right = int((logits.argmax(1) == labels).sum())
        raise ValueError(
            f"no temperature from {SMALLEST_TEMPERATURE} to {LARGEST_TEMPERATURE:g} is best: "
            f"{right} of {labels.size} images are classified rightly, and the likelihood rises up to the end"
        )
    return float(np.exp(best.x))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(true class), in nats: 0 for certainty in the truth, log C for a guess.

    Args:
        logits: (N, C); labels: int (N,).

    Raises:
        ValueError: the shapes do not fit, there is no image, or a label is none of the C classes.
    """
    from scipy.special import log_softmax

    logits, labels = _checked(logits, labels)
    return float(-log_softmax(logits, axis=1)[np.arange(labels.size), labels].mean())


def brier_score(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of the sum over classes of (p - [class is true])^2: 0 is perfect, 2 certain and wrong.

    Brier (1950), https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, in its form for many classes.

    Args:
        logits: (N, C); labels: int (N,).

    Raises:
        ValueError: the shapes do not fit, there is no image, or a label is none of the C classes.
    """
    logits, labels = _checked(logits, labels)
    return float(((probabilities(logits) - np.eye(logits.shape[1])[labels]) ** 2).sum(1).mean())


def probabilities(logits: np.ndarray) -> np.ndarray:
    """softmax(logits) over the classes, (N, C), in float64."""
    from scipy.special import softmax

    return softmax(np.asarray(logits, dtype=np.float64), axis=1)


def _confidences(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and whether it is right, both float (N,); confidences as torchmetrics bins them, in float32."""
    sure = np.minimum(probabilities(logits).max(1), BELOW_ONE).astype(np.float32).astype(np.float64)
    return sure, (logits.argmax(1) == labels).astype(float)


def _bin_numbers(sure: np.ndarray, bins: int) -> np.ndarray:
    """The bin [low, high) of each confidence below 1, 0 to bins - 1."""
    if bins < 1:
        raise ValueError(f"bins = {bins} is not allowed: 1 or more")
    return np.digitize(sure, np.linspace(0, 1, bins + 1, dtype=np.float32)) - 1


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise ValueError(f"logits (N, C) and labels (N,) are needed: got shapes {logits.shape} and {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels {labels.min()} to {labels.max()} do not fit {logits.shape[1]} classes")
    return logits, labels
