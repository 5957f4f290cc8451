"""Taking turns, and what the rounds amount to: medians, and ratios within a round."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

Measured = TypeVar("Measured")


def alternate(
    performs: Mapping[str, Callable[[], Measured]],
    rounds: int,
    report: Callable[[str, int, Measured], None] = lambda key, number, measured: None,
) -> dict[str, list[Measured]]:
    """Let all take turns for a warm-up round and `rounds` more; each list starts with the warm-up's result.

    Every other round goes backwards, so that nobody always follows the same neighbour. `report` gets the name, the
    round (0 is the warm-up) and the result of every turn.
    """
    measured: dict[str, list[Measured]] = {key: [] for key in performs}
    for number in range(rounds + 1):
        order = list(performs) if number % 2 == 0 else list(performs)[::-1]
        for key in order:
            measured[key].append(performs[key]())
            report(key, number, measured[key][-1])
    return measured


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def summarize(turns: Sequence[tuple[float, int]]) -> dict[str, Any]:
    """A contestant's turns, (seconds, images) each and the warm-up first, as images/s over the rounds that count."""
    seconds, images = [turn[0] for turn in turns], [turn[1] for turn in turns]
    speeds = [n / s for s, n in zip(seconds[1:], images[1:], strict=True)]
    return {
        "warmup_seconds": seconds[0],
        "seconds": seconds[1:],
        "images": images[-1],
        "images_per_second": speeds,
        **spread(speeds),
    }


def compare(fast: Sequence[float], slow: Sequence[float]) -> dict[str, Any]:
    """fast / slow, round by round: what slows down a round slows down both, and cancels."""
    ratios = [a / b for a, b in zip(fast, slow, strict=True)]
    return {"ratios": ratios, **spread(ratios)}
