"""How small a difference can be shown: by a test set (the power of McNemar's test), and by several seeds on it."""

import numpy as np


def mcnemar_power(num_images: int, difference: float, discordant: float = 0.1, alpha: float = 0.05) -> float:
    """The chance that McNemar's exact test shows a true difference of accuracies at level `alpha`.

    Exact: summed over the number of discordant images, binomial (num_images, discordant), of the chance that the
    split among them, binomial with share (discordant + difference) / (2 discordant), is in the test's rejection region.

    Args:
        difference: of the two accuracies, -discordant to discordant.
        discordant: share of the images that exactly one of the two models classifies rightly.

    Raises:
        ValueError: an argument is out of its range.
    """
    from scipy.stats import binom

    _check_design(num_images, discordant, alpha)
    if abs(difference) > discordant:
        raise ValueError(f"a difference of {difference} needs at least as large a discordant share, got {discordant}")
    counts = np.arange(num_images + 1)
    bound = binom.ppf(alpha / 2, counts, 0.5)
    bound -= binom.cdf(bound, counts, 0.5) > alpha / 2  # the largest split that is rejected; -1 where none is
    share = (discordant + difference) / (2 * discordant)
    rejected = binom.cdf(bound, counts, share) + binom.sf(counts - bound - 1, counts, share)
    return float((binom.pmf(counts, num_images, discordant) * rejected).sum())


def detectable_difference(num_images: int, discordant: float = 0.1, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true difference of accuracies that McNemar's exact test shows with this power (`mcnemar_power`).

    Raises:
        ValueError: an argument is out of its range, or so few images show no difference with this power.
    """
    from scipy.optimize import brentq

    _check_design(num_images, discordant, alpha)
    if not alpha < power < 1:
        raise ValueError(f"power = {power} is not allowed: above alpha = {alpha} and below 1")
    if mcnemar_power(num_images, discordant, discordant, alpha) < power:
        raise ValueError(
            f"{num_images} images, {discordant:.0%} of them discordant, show no difference with power {power}"
        )
    return float(brentq(lambda d: mcnemar_power(num_images, d, discordant, alpha) - power, 0, discordant))


def decidable_difference(
    num_seeds: int,
    num_images: int,
    seed_spread: float,
    *,
    margin: float = 0.0,
    discordant: float = 0.1,
    power: float = 0.8,
    alpha: float = 0.025,
) -> float:
    """The smallest true difference of two methods that several seeds show to lie beyond `margin`, with this power.

    The error of the difference has a part from the seeds of both methods and one from the images,

        error^2 = 2 seed_spread^2 / S + discordant / N,

    and Student's t with Satterthwaite's degrees of freedom, as in `seeds.paired_over_seeds`; one-sided at `alpha`.

    Args:
        seed_spread: standard deviation of a method's accuracy over seeds, beyond what the images make.

    Raises:
        ValueError: an argument is out of its range.
    """
    from scipy.stats import t

    _check_design(num_images, discordant, alpha)
    if num_seeds < 2 or seed_spread < 0 or not alpha < power < 1:
        raise ValueError(
            "seeds tell a difference from 2 on, with a spread of at least 0 and a power above alpha and below 1: got "
            f"{num_seeds}, {seed_spread} and {power}"
        )
    seeds, images = 2 * seed_spread**2 / num_seeds, discordant / num_images
    freedom = (seeds + images) ** 2 / (seeds**2 / (2 * (num_seeds - 1)) + images**2 / num_images)
    return margin + float(t.ppf(1 - alpha, freedom) + t.ppf(power, freedom)) * (seeds + images) ** 0.5


def _check_design(num_images: int, discordant: float, alpha: float) -> None:
    if num_images < 1 or not 0 < discordant <= 1 or not 0 < alpha < 1:
        raise ValueError(
            "a paired test needs an image, a discordant share above 0 and up to 1, and alpha within 0 to 1: "
            f"got {num_images}, {discordant} and {alpha}"
        )
