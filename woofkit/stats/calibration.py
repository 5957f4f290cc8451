"""Whether a model's confidence can be believed: calibration error and reliability.

Confidence is the largest probability of `softmax(logits)`, one number per image; bins of equal width hold it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd


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

    (Guo et al., https://arxiv.org/abs/1706.04599). An ECE is never below 0, so few images make a perfect model look
    miscalibrated (Roelofs et al., https://arxiv.org/abs/2012.08668): compare with `by_chance`, from labels drawn by
    the model's own confidences (Broecker and Smith, 2007, https://doi.org/10.1175/WAF993.1). Resampling adds the same
    upward bias once more, and so the interval is the "basic" one, 2 ECE - quantiles of the resampled, cut at 0; it
    begins at 0 where chance alone may explain the ECE (`p_value` above 1 - confidence). For a model that is too sure it
    holds in about 92% of cases with 500 images, and in 95% with 2,000.

    Args:
        logits: (N, C); labels: int (N,).
        bins: how many, 1 or more.

    Raises:
        ValueError: the shapes do not fit, there is no image, or a label is none of the C classes.
    """
    sure, right = _confidences(logits, labels)
    count = sure.size
    in_bin = (_bin_numbers(sure, bins)[:, None] == np.arange(bins)).astype(float)  # (N, bins)

    def error(gaps: np.ndarray) -> np.ndarray:  # of right - sure, (..., N)
        return np.abs(gaps @ in_bin).sum(-1) / count

    value = float(error(right - sure))
    rng = np.random.default_rng(0)
    resampled, calibrated = [], []
    for start in range(0, resamples, 250):  # in pieces, to save memory
        draws = (min(250, resamples - start), count)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=draws[0])
        resampled.append(error(weights * (right - sure)))
        calibrated.append(error((rng.random(draws) < sure) - sure))
    resampled, calibrated = np.concatenate(resampled), np.concatenate(calibrated)
    high, low = 2 * value - np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    p_value = (1 + (calibrated >= value).sum()) / (1 + resamples)
    low = 0.0 if p_value > 1 - confidence else max(float(low), 0.0)
    return CalibrationError(value, low, max(float(high), 0.0), count, float(calibrated.mean()), float(p_value))


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """One row per bin of confidence: its ends, the images' mean confidence, their accuracy, and their count.

    All numbers are fractions from 0 to 1 but the count; an empty bin has nan. A calibrated model's accuracy is its
    confidence. The sum of count |accuracy - confidence| over all images is the ECE of as many bins.
    Arguments and errors as for `expected_calibration_error`.
    """
    sure, right = _confidences(logits, labels)
    numbers, edges = _bin_numbers(sure, bins), np.linspace(0, 1, bins + 1)
    counts = np.bincount(numbers, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(numbers, weights, bins) / counts for weights in (sure, right)]
    columns = {"low": edges[:-1], "high": edges[1:], "confidence": means[0], "accuracy": means[1], "count": counts}
    return pd.DataFrame(columns)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """softmax(logits) over the classes, (N, C), in float64."""
    from scipy.special import softmax

    return softmax(np.asarray(logits, dtype=np.float64), axis=1)


def _confidences(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and whether the prediction is right, both float (N,), of logits (N, C) and labels (N,) that fit."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise ValueError(f"logits (N, C) and labels (N,) are needed: got shapes {logits.shape} and {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels {labels.min()} to {labels.max()} do not fit {logits.shape[1]} classes")
    return probabilities(logits).max(1), (logits.argmax(1) == labels).astype(float)


def _bin_numbers(sure: np.ndarray, bins: int) -> np.ndarray:
    """The bin [low, high) of each confidence, 0 to bins - 1; the last one holds certainty, 1, too."""
    if bins < 1:
        raise ValueError(f"bins = {bins} is not allowed: 1 or more")
    return np.digitize(sure, np.linspace(0, 1, bins + 1)[1:-1])
