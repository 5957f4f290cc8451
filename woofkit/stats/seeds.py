"""How sure an accuracy or a difference is: over the test images, over the training seeds, and over both.

Another test set and another training seed each move an accuracy, and many images do not tell how much seeds do
(Bouthillier et al., https://arxiv.org/abs/2103.03098). scipy is imported where it is used, as in `intervals`.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from woofkit.stats.intervals import Interval, bootstrap_mean


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """Difference of two accuracies on the same images, first - second, with its stratified bootstrap interval.

    An image is drawn with both its answers, and within its breed: the numbers of each breed stay as they are.
    Percentiles, by the same random numbers at every call. The test that goes with it is `intervals.mcnemar_test`.

    Args:
        first, second: bool (N,), whether each model classified each image rightly, in the same order.
        labels: (N,), the images' true breeds.

    Raises:
        ValueError: the shapes differ, or a breed has fewer than two images.
    """
    (first, labels), (second, _) = _checked(first, labels), _checked(second, labels)
    differences = first - second
    return bootstrap_mean([differences[labels == label] for label in np.unique(labels)], confidence, resamples)


def holm(p_values: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Holm's adjusted p of several claims: reject those below alpha, and the chance of any false one is at most alpha.

    The k-th smallest of m is multiplied by m - k + 1, and no adjusted p is smaller than the one before it
    (Holm, Scandinavian Journal of Statistics 6, 1979).

    Raises:
        ValueError: a p is not within 0 to 1.
    """
    for claim, p_value in p_values.items():
        if not 0 <= p_value <= 1:
            raise ValueError(f"the p of {claim!r} is {p_value}: it must be within 0 to 1")
    adjusted, highest = {}, 0.0
    for rank, claim in enumerate(sorted(p_values, key=p_values.get)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[claim]))
        adjusted[claim] = highest
    return {claim: adjusted[claim] for claim in p_values}


class OverSeeds(NamedTuple):
    """`total_error` squared is the sum of the squares of the three errors before it; `p_value`: of a value of 0.

    The interval is Student's with `freedom` degrees of freedom, infinite where nothing varies.
    """

    value: float
    low: float
    high: float
    seed_error: float
    image_error: float
    mixed_error: float
    total_error: float
    freedom: float
    p_value: float


def crossed_mean(values: np.ndarray, labels: np.ndarray, confidence: float = 0.95) -> OverSeeds:
    """Mean over seeds and images; its standard errors from seeds, from images, from both; an interval that counts all.

    Crossed random effects, value = mean + seed + image + seed x image, estimated by mean squares (analysis of
    variance: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4):

        seed_error^2 = var(seed) / S,  image_error^2 = var(image) / N,  mixed_error^2 = var(seed x image) / (S N)

    each at least 0. The interval is Student's, with Satterthwaite's degrees of freedom: few seeds that differ make it
    wide. It is about a new seed on new images, on average. Few seeds may look alike by chance: where they differ much
    more than images make them, it holds in about 88 (two seeds), 91 (three) and 93% (five) of cases instead of 95%.

    Args:
        values: (S, N), one row per seed, one column per test image: answers, or their differences from a model
            without seeds.
        labels: (N,), true breeds, within which images vary, as in `paired_bootstrap`.

    Raises:
        ValueError: there are fewer than two seeds, the shapes differ, or a breed has fewer than two images.
    """
    values, labels = _checked(values, labels, seeds=True)
    return _over_seeds(values.mean(0), [values], labels, confidence)


def seed_and_image_variance(correct: np.ndarray, labels: np.ndarray | None = None) -> OverSeeds:
    """`crossed_mean` of correct, bool (S, N): the mean accuracy, kept within 0 to 1; without labels as of one breed."""
    correct = np.asarray(correct, dtype=bool)
    result = crossed_mean(correct, np.zeros(correct.shape[-1:]) if labels is None else labels)
    return result._replace(low=max(result.low, 0.0), high=min(result.high, 1.0))


def paired_over_seeds(first: np.ndarray, second: np.ndarray, labels: np.ndarray, confidence: float = 0.95) -> OverSeeds:
    """Difference of two methods' mean accuracies, first - second, with an interval that counts seeds and images.

    Images are paired and vary within breeds; seeds are not paired, and each method's add their own variance. Estimated
    as in `crossed_mean`, the images' part from each image's difference of means over seeds. (Resampling
    three seeds instead would make them look a third less variable than they are, and the interval too short.)

    Args:
        first: bool (S, N), one row per seed of the first method, one column per test image.
        second: bool (T, N), the second method's, on the same images in the same order.
        labels: (N,), the images' true breeds.

    Raises:
        ValueError: a method has fewer than two seeds, the images differ, or a breed has fewer than two of them.
    """
    first, labels = _checked(first, labels, seeds=True)
    second, _ = _checked(second, labels, seeds=True)
    result = _over_seeds(first.mean(0) - second.mean(0), [first, second], labels, confidence)
    return result._replace(low=max(result.low, -1.0), high=min(result.high, 1.0))


def mean_of_intervals(values: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> Interval:
    """The mean of a number that runs of several seeds have measured on the same images, each with its 95% interval.

    For numbers whose answers image by image are not at hand. The variance of the mean is that between the seeds, over
    their number, and that of the images, which all seeds share, from the mean width of the intervals; what both have in
    common is counted twice, so the interval is rather too wide. One seed keeps its own interval.
    """
    from scipy.stats import norm, t

    values, lows, highs = (np.asarray(each, dtype=float) for each in (values, lows, highs))
    value = float(values.mean())
    if len(values) == 1:
        return Interval(value, float(lows[0]), float(highs[0]), 1)
    between = values.var(ddof=1) / len(values)
    images = ((highs - lows).mean() / 2 / norm.ppf(0.975)) ** 2
    freedom = (len(values) - 1) * ((between + images) / between) ** 2 if between > 0 else math.inf  # Satterthwaite
    reach = float(t.ppf(0.975, freedom) * math.sqrt(between + images))
    return Interval(value, value - reach, value + reach, len(values))


def _over_seeds(images: np.ndarray, methods: Sequence[np.ndarray], labels: np.ndarray, confidence: float) -> OverSeeds:
    """The mean of `images` (N,), means over seeds or differences of them, with Student's interval.

    `methods` are the answers (S, N) of each method that it comes from; the seeds of each add their own variance.
    """
    from scipy.stats import t

    seeds, mixed, squares = 0.0, 0.0, []  # variances of the mean; mean squares with their degrees of freedom
    for answers in methods:
        count = len(answers)
        between = float(answers.mean(1).var(ddof=1)) / count  # seed + seed x image
        rest, freedom = _spread(answers - answers.mean(0), labels)  # what neither seed nor image explains
        own = rest / (count - 1) / count
        seeds, mixed = seeds + max(between - own, 0.0), mixed + own
        squares += [(between, count - 1), (own, (count - 1) * freedom)]
    squares.append(_spread(images, labels))  # image + seed x image
    parts = (seeds, max(squares[-1][0] - mixed, 0.0), mixed)
    value, total = float(images.mean()), sum(parts)
    errors = tuple(math.sqrt(part) for part in (*parts, total))
    if total == 0:  # every seed and every image of a breed alike
        return OverSeeds(value, value, value, *errors, math.inf, float(value == 0))
    freedom = total**2 / sum(square**2 / count for square, count in squares)  # Satterthwaite
    reach = float(t.ppf((1 + confidence) / 2, freedom)) * errors[-1]
    p_value = float(2 * t.sf(abs(value) / errors[-1], freedom))
    return OverSeeds(value, value - reach, value + reach, *errors, float(freedom), p_value)


def _spread(values: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """Variance of the mean of values (..., N) over images that vary within their breeds, and its degrees of freedom."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = values @ (codes[:, None] == np.arange(len(counts))) / counts  # (..., breeds)
    weights = (counts / (counts - 1))[codes] / labels.size**2
    return float((weights * (values - means[..., codes]) ** 2).sum()), labels.size - len(counts)


def _checked(correct: np.ndarray, labels: np.ndarray, seeds: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return answers as numbers, (N,) or (seeds, N), and labels (N,), if they fit each other."""
    correct, labels = np.asarray(correct, dtype=float), np.asarray(labels)
    if correct.ndim != 1 + seeds or correct.shape[-1:] != labels.shape:
        wanted = "(seeds, images)" if seeds else "(images,)"
        raise ValueError(f"answers {wanted} and one label per image are needed: got {correct.shape} and {labels.shape}")
    if seeds and len(correct) < 2:
        raise ValueError(f"the variance over seeds needs two seeds or more, got answers of shape {correct.shape}")
    breeds, counts = np.unique(labels, return_counts=True)
    if not labels.size or counts.min() < 2:
        raise ValueError(f"every breed needs two images or more: too few of {', '.join(map(str, breeds[counts < 2]))}")
    return correct, labels
