"""Effects measured on finished runs: accuracies on the same test images, and the costs of training."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from woofkit.claims.effects import BEST_LR, COUNTED, FEW_LABELS, FEW_MINUS_ALL, MORE_EPOCHS, POSE, Effect, Key, Quantity
from woofkit.claims.laws import ALL_LAYERS, HIGH_RANK, LOW_RANK, MLP, SMALL_BATCH
from woofkit.claims.steps import SPLIT, STEPS, TEXT
from woofkit.config import ConfigError
from woofkit.results import read_answers
from woofkit.stats.intervals import Interval, mean_interval
from woofkit.stats.seeds import OverSeeds, crossed_mean, paired_bootstrap, paired_over_seeds

HELD = ["weights_mb", "optimizer_mb", "gradients_mb", "activations_mb"]  # by a training step, of `measure_costs`
# A sweep's grids over methods -> setting of the key.
METHOD_GRIDS = {"seeds-paper-lr": "", "seeds-best-lr": BEST_LR, "labels-10": FEW_LABELS, "seeds-pose": POSE}
METHOD_GRIDS |= {TEXT: SPLIT, **STEPS}
METHOD_GRIDS |= {"seeds-more": BEST_LR, "seeds-all-layers": BEST_LR}
# Beside LoRA on attention at rank 12, a method of its own: grid -> its name there.
OTHER_LORA = {"seeds-all-layers": ALL_LAYERS}


class Group(NamedTuple):
    """Runs of a sweep's grid that differ in their seed alone: those of a method."""

    grid: str
    method: str


FEW, ALL = "labels-10", "seeds-best-lr"
NEAR = 0.02  # accuracies this far apart still pass for the same
# What an effect is the weighted sum of, and whether the last epoch's answers count or the selected one's.
CONTRASTS = {
    Key(Quantity.LEAD, "lora", "full", FEW_MINUS_ALL): (
        {Group(FEW, "lora"): 1, Group(FEW, "full"): -1, Group(ALL, "lora"): -1, Group(ALL, "full"): 1},
        False,
    ),
    **{
        Key(Quantity.GAIN, method, setting=MORE_EPOCHS): (
            {Group("epochs-20", method): 1, Group("seeds-best-lr", method): -1},
            True,
        )
        for method in ("full", "lora")
    },
    Key(Quantity.ACCURACY, MLP, "lora", BEST_LR): ({Group("seeds-mlp", "lora"): 1, Group(ALL, "lora"): -1}, False),
    Key(Quantity.ACCURACY, HIGH_RANK, LOW_RANK, BEST_LR): (
        {Group("rank-64", "lora"): 1, Group("rank-1", "lora"): -1},
        False,
    ),
    Key(Quantity.LEAD, "lora", "full", SMALL_BATCH): (
        {Group("batch-256", "lora"): 1, Group("batch-256", "full"): -1, Group(ALL, "lora"): -1, Group(ALL, "full"): 1},
        False,
    ),
    **{
        Key(Quantity.GAIN, method, setting=setting): ({Group(grid, method): 1, Group(TEXT, method): -1}, False)
        for grid, setting in STEPS.items()
        for method in ("full", "lora")
    },
}
# The ratio of two best learning rates: the grid and the method of each search.
RATES = {
    Key(Quantity.RATE, "lora", "full"): (Group("lr", "lora"), Group("lr", "full")),
    Key(Quantity.RATE, HIGH_RANK, LOW_RANK): (Group("lr-rank-64", "lora"), Group("lr-rank-1", "lora")),
}


def difference(first: np.ndarray, second: np.ndarray, labels: np.ndarray, images: str = "test images") -> Effect:
    """Mean of `first` minus that of `second`, bool (seeds, images) each, with an interval that counts what it can.

    Seeds and images with two seeds or more of each; the images alone with one of each, or where one of the two has no
    seed to vary. `by_seed` has each seed's difference from the other's mean over seeds. `images` says what they are.
    """
    if min(len(first), len(second)) > 1:
        found = paired_over_seeds(first, second, labels)
    elif max(len(first), len(second)) > 1:
        found = crossed_mean(first.astype(float) - second, labels)
    else:
        found = paired_bootstrap(first[0], second[0], labels)
    by_seed = first.mean(1) - second.mean() if len(first) > 1 else first.mean() - second.mean(1)
    return _effect(found, by_seed, {len(first), len(second)}, f"{len(labels):,} {images}")


def mean_difference(first: Sequence[float], second: Sequence[float]) -> Effect:
    """The difference of two means over seeds, with Welch's interval."""
    from scipy.stats import ttest_ind

    value, source = float(np.mean(first) - np.mean(second)), f"{len(first)} and {len(second)} seeds"
    if np.ptp(first) == np.ptp(second) == 0:  # every seed alike
        return Effect(value, value, value, (), source)
    found = ttest_ind(first, second, equal_var=False)
    low, high = map(float, found.confidence_interval())
    return Effect(value, low, high, (), source, float(found.df))


def accuracy_effects(runs: Mapping[str, Sequence[Path]], setting: str = "") -> dict[Key, Effect]:
    """The difference of accuracies of every pair of methods; `runs` is method -> its runs, one per seed.

    The method "zero-shot" or, in its absence, "probe" is also called "untouched".
    """
    answers = {method: read_answers(folders) for method, folders in runs.items()}
    if untouched := next((method for method in ("zero-shot", "probe") if method in runs), ""):
        answers["untouched"] = answers[untouched]
    effects = {}
    for first, second in permutations(answers, 2):
        (ours, labels), (theirs, _) = answers[first], answers[second]
        effects[Key(Quantity.ACCURACY, first, second, setting)] = difference(ours, theirs, labels)
    return effects


def cost_effects(costs: pd.DataFrame) -> dict[Key, Effect]:
    """What each method takes over what another takes, from `costs.measure_costs`.

    Counts have no interval; memory is that of the tensors which a step holds. The interval of time is about the median
    of the rounds' ratios: of nine rounds from the second to the eighth, which holds it in 96%; of seven or fewer from
    the first to the last. Nothing depends on what the images show, so the effects are of any world.
    """
    by_method = costs.set_index("method")
    counted = {
        Quantity.OPERATIONS: ["forward_gflops", "backward_gflops"],
        Quantity.MEMORY: HELD,
        Quantity.FILE: ["file_mb"],
        Quantity.PARAMETERS: ["trainable_parameters"],
    }
    effects = {}
    for first, second in permutations(by_method.index, 2):
        ours, theirs = by_method.loc[first], by_method.loc[second]
        for quantity, columns in counted.items():
            ratio = float(ours[columns].sum() / theirs[columns].sum())
            effects[Key(quantity, first, second)] = Effect(ratio, ratio, ratio, (), COUNTED)
        rounds = np.divide(ours["round_seconds"], theirs["round_seconds"])
        effects[Key(Quantity.TIME, first, second)] = _median(rounds)
    return effects


def _median(rounds: np.ndarray) -> Effect:
    """The median of the rounds with an interval between two of them: nothing is assumed of how they are spread."""
    from scipy.stats import binom  # takes a second

    rounds = np.sort(rounds)
    first = max(int(binom.ppf(0.025, len(rounds), 0.5)) - 1, 0)
    ends = (float(rounds[first]), float(rounds[-1 - first]))
    return Effect(float(np.median(rounds)), *ends, (), f"{len(rounds)} rounds", len(rounds) - 1)


def sweep_effects(frame: pd.DataFrame) -> dict[Key, Effect]:
    """The effects that take many runs, from the frame of `sweeps.results.collect`; a grid that is missing has none.

    A method that lacks some of a grid's seeds has not been measured there.

    Raises:
        ConfigError: a grid has two runs of one seed: something else differs too.
    """
    if frame.empty:
        return {}
    effects = {}
    for setting in dict.fromkeys(METHOD_GRIDS.values()):
        runs = method_runs(frame, setting)
        if len(runs) > 1:
            effects |= accuracy_effects({method: list(seeds.values()) for method, seeds in runs.items()}, setting)
    grids = {group.grid for weights, _ in CONTRASTS.values() for group in weights} & set(frame["grid"])
    groups = {grid: runs_by_seed(frame, grid) for grid in grids}
    for key, (weights, last) in CONTRASTS.items():
        known = [groups.get(group.grid, {}).get(group.method, {}) for group in weights]
        if seeds := common_seeds(*known):
            effects[key] = _contrast([[runs[seed] for seed in seeds] for runs in known], weights.values(), last)
    return effects


def rate_effects(frame: pd.DataFrame) -> dict[Key, Effect]:
    """The ratios of best learning rates that a sweep's searches have found, with what `best_rate` knows of each."""
    effects = {}
    for key, searches in RATES.items():
        found = [best_rate(frame, search) for search in searches]
        if all(found):
            (best, low, high), (other, other_low, other_high) = found
            ends = low / other_high, high / other_low if other_low else inf
            effects[key] = Effect(best / other, *ends, (), "to half a step of the grids, and over seeds")
    return effects


def best_rate(frame: pd.DataFrame, search: Group) -> tuple[float, float, float] | None:
    """The rate with the best mean validation accuracy, and an interval that holds the best one.

    A rate may be the best unless its mean over seeds is shown to lie below the highest, one-sided at 2.5%, by the
    variance that neither rate nor seed explains (on these validation images). The interval reaches half a step of the
    grid beyond the rates that may be the best, and from 0 or to infinity where a rate at the edge may be. None without
    two seeds, or if the highest mean is at the edge: a better rate may lie beyond.
    """
    from scipy.stats import t

    runs = frame[(frame["grid"] == search.grid) & (frame["method"] == search.method)] if len(frame) else frame
    if not len(runs):
        return None
    table = runs.pivot_table(index="lr", columns="seed", values="val_accuracy").dropna()  # the rates in rising order
    freedom = (len(table) - 1) * (table.shape[1] - 1)
    if freedom == 0:
        return None
    rates, accuracies = table.index.to_list(), table.to_numpy()
    means = accuracies.mean(1)
    rest = accuracies - means[:, None] - accuracies.mean(0) + accuracies.mean()
    error = np.sqrt(2 * (rest**2).sum() / freedom / accuracies.shape[1])  # of the difference of two means
    best = int(means.argmax())
    if best in (0, len(rates) - 1):
        return None
    possible = np.flatnonzero(means >= means[best] - t.ppf(0.975, freedom) * error)
    beyond = [0.0, *rates, inf]  # nothing is known beyond the grid
    low, high = beyond[possible[0]] * rates[possible[0]], beyond[possible[-1] + 2] * rates[possible[-1]]
    return rates[best], low**0.5, high**0.5


def matched_runs(frame: pd.DataFrame) -> tuple[list[Path], list[Path]] | None:
    """LoRA's runs at the best rate of its search, and those of full fine-tuning at the rate that comes nearest to it.

    By the mean validation accuracy, over the seeds that every rate of a method has. None without the searches, or if no
    rate of full fine-tuning comes within `NEAR` of LoRA.
    """
    means, runs = {}, {}
    for method in ("lora", "full"):
        own = frame[(frame["grid"] == "lr") & (frame["method"] == method)] if len(frame) else frame
        if not len(own):
            return None
        means[method] = own.pivot_table(index="lr", columns="seed", values="val_accuracy").dropna(axis=1).mean(axis=1)
        runs[method] = {lr: rows.sort_values("seed")["run"].map(Path).to_list() for lr, rows in own.groupby("lr")}
    best = means["lora"].max()
    gaps = (means["full"] - best).abs()
    if not gaps.min() <= NEAR:
        return None
    return runs["lora"][means["lora"].idxmax()], runs["full"][gaps.idxmin()]


def runs_by_seed(frame: pd.DataFrame, grid: str) -> dict[str, dict[int, Path]]:
    """Method -> seed -> the folder of the run, the seeds in rising order."""
    groups = {}
    for method, rows in frame[frame["grid"] == grid].sort_values("seed").groupby("method", sort=False):
        if rows["seed"].duplicated().any():
            raise ConfigError(
                f"grid {grid!r} has two runs of one seed for method {method}: let nothing else vary there"
            )
        groups[method] = dict(zip(rows["seed"], map(Path, rows["run"]), strict=True))
    return groups


def method_runs(frame: pd.DataFrame, setting: str) -> dict[str, dict[int, Path]]:
    """Method -> seed -> run, from all grids of METHOD_GRIDS with this setting; methods that lack seeds are left out."""
    runs = {}
    for grid in (grid for grid, its in METHOD_GRIDS.items() if its == setting):
        found = runs_by_seed(frame, grid)
        runs |= {OTHER_LORA.get(grid, method): seeds for method, seeds in found.items()}
    most = max(map(len, runs.values()), default=0)
    return {method: seeds for method, seeds in runs.items() if len(seeds) == most or method == "zero-shot"}


def common_seeds(*groups: Mapping[int, object]) -> list[int]:
    """The seeds that all groups have, in rising order."""
    return sorted(set.intersection(*map(set, groups)))


def _contrast(groups: Sequence[Sequence[Path]], weights: Iterable[int], last: bool) -> Effect:
    """The weighted sum of the accuracies of groups of runs, which have the same seeds in the same order."""
    answers = [read_answers(group, last) for group in groups]
    values = sum(weight * correct.astype(float) for weight, (correct, _) in zip(weights, answers, strict=True))
    return average(values, answers[0][1])


def average(values: np.ndarray, labels: np.ndarray) -> Effect:
    """The mean of values (seeds, images), with an interval over both, or over the images of a single seed."""
    found = crossed_mean(values, labels) if len(values) > 1 else mean_interval(values[0])
    return _effect(found, values.mean(1), {len(values)}, f"{len(labels):,} test images")


def _effect(found: Interval | OverSeeds, by_seed: np.ndarray, seeds: set[int], images: str) -> Effect:
    words = " and ".join(map(str, sorted(seeds))) + (" seed" if seeds == {1} else " seeds")
    source, freedom = f"{words}, {images}", getattr(found, "freedom", inf)
    return Effect(found.value, found.low, found.high, tuple(map(float, by_seed)), source, freedom)
