"""Effects measured on finished runs: accuracies on the same test images, and the costs of training."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from math import inf
from pathlib import Path

import numpy as np
import pandas as pd

from woofkit.claims.effects import BEST_LR, COUNTED, FEW_LABELS, FEW_MINUS_ALL, MORE_EPOCHS, Effect, Key, Quantity
from woofkit.config import ConfigError
from woofkit.results import read_answers, read_metrics
from woofkit.stats.intervals import Interval, mean_interval
from woofkit.stats.seeds import OverSeeds, crossed_mean, paired_bootstrap, paired_over_seeds

HELD = ["weights_mb", "optimizer_mb", "gradients_mb", "activations_mb"]  # by a training step, of `measure_costs`
RATE_GRIDS = {"seeds-paper-lr": "", "seeds-best-lr": BEST_LR}  # a sweep's grids over methods -> setting of the key
VARIED = {"labels": "label_fraction", "epochs": "epochs"}  # its other grids -> what they vary beside the method
# The grid that an effect is measured on, and the mean accuracies that it is the weighted sum of.
CONTRASTS = {
    Key(Quantity.ACCURACY, "lora", "full", FEW_LABELS): ("labels", {("lora", 0.1): 1, ("full", 0.1): -1}),
    Key(Quantity.LEAD, "lora", "full", FEW_MINUS_ALL): (
        "labels",
        {("lora", 0.1): 1, ("full", 0.1): -1, ("lora", 1.0): -1, ("full", 1.0): 1},
    ),
    Key(Quantity.GAIN, "full", setting=MORE_EPOCHS): ("epochs", {("full", 20): 1, ("full", 5): -1}),
    Key(Quantity.GAIN, "lora", setting=MORE_EPOCHS): ("epochs", {("lora", 20): 1, ("lora", 5): -1}),
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


def cost_effects(costs: pd.DataFrame, runs: Mapping[str, Path]) -> dict[Key, Effect]:
    """What full fine-tuning takes over what LoRA takes, from `costs.measure_costs` and two finished runs.

    Counts have no interval; memory is that of the tensors which a step holds. The interval of time is about the median
    of the rounds' ratios: of nine rounds from the second to the eighth, which holds it in 96 %; of seven or fewer from
    the first to the last.
    """
    from scipy.stats import binom  # takes a second

    by_method = costs.set_index("method")
    full, lora = by_method.loc["full"], by_method.loc["lora"]
    metrics = {method: read_metrics(runs[method]) for method in ("full", "lora")}
    operations = ["forward_gflops", "backward_gflops"]
    ratios = {
        Quantity.OPERATIONS: full[operations].sum() / lora[operations].sum(),
        Quantity.MEMORY: full[HELD].sum() / lora[HELD].sum(),
        Quantity.FILE: metrics["full"]["checkpoint_bytes"] / metrics["lora"]["checkpoint_bytes"],
        Quantity.PARAMETERS: metrics["full"]["trainable_parameters"] / metrics["lora"]["trainable_parameters"],
    }
    effects = {quantity: Effect(ratio, ratio, ratio, (), COUNTED) for quantity, ratio in ratios.items()}
    rounds = np.sort(np.divide(full["round_seconds"], lora["round_seconds"]))
    first = max(int(binom.ppf(0.025, len(rounds), 0.5)) - 1, 0)  # an order statistic: nothing is assumed of the rounds
    ends = (float(rounds[first]), float(rounds[-1 - first]))
    effects[Quantity.TIME] = Effect(float(np.median(rounds)), *ends, (), f"{len(rounds)} rounds", len(rounds) - 1)
    return {Key(quantity, "full", "lora"): effect for quantity, effect in effects.items()}


def sweep_effects(frame: pd.DataFrame) -> dict[Key, Effect]:
    """The effects that take many runs, from the frame of `sweeps.results.collect`; a grid that is missing has none.

    A method that lacks some of a grid's seeds has not been measured there.

    Raises:
        ConfigError: a grid has two runs of one seed: something else differs too.
    """
    effects = {}
    for grid, setting in RATE_GRIDS.items():
        runs = runs_by_seed(frame, grid, ["method"])
        most = max(map(len, runs.values()), default=0)
        measured = {method: seeds for (method,), seeds in runs.items() if len(seeds) == most or method == "zero-shot"}
        whole = {method: list(seeds.values()) for method, seeds in measured.items()}
        if len(whole) > 1:
            effects |= accuracy_effects(whole, setting)
    for key, (grid, weights) in CONTRASTS.items():
        runs = runs_by_seed(frame, grid, ["method", VARIED[grid]])
        if all(group in runs for group in weights) and (seeds := common_seeds(*(runs[group] for group in weights))):
            effects[key] = _contrast([[runs[group][seed] for seed in seeds] for group in weights], weights.values())
    return effects


def runs_by_seed(frame: pd.DataFrame, grid: str, names: list[str]) -> dict[tuple, dict[int, Path]]:
    """Settings -> seed -> the folder of the run, the seeds in rising order."""
    groups = {}
    for key, rows in frame[frame["grid"] == grid].sort_values("seed").groupby(names, sort=False):
        if rows["seed"].duplicated().any():
            setting = ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=True))
            raise ConfigError(f"grid {grid!r} has two runs of one seed for {setting}: let nothing else vary there")
        groups[key] = dict(zip(rows["seed"], map(Path, rows["run"]), strict=True))
    return groups


def common_seeds(*groups: Mapping[int, object]) -> list[int]:
    """The seeds that all groups have, in rising order."""
    return sorted(set.intersection(*map(set, groups)))


def _contrast(groups: Sequence[Sequence[Path]], weights: Iterable[int]) -> Effect:
    """The weighted sum of the accuracies of groups of runs, which have the same seeds in the same order."""
    answers = [read_answers(group) for group in groups]
    labels = answers[0][1]
    values = sum(weight * correct.astype(float) for weight, (correct, _) in zip(weights, answers, strict=True))
    found = crossed_mean(values, labels) if len(values) > 1 else mean_interval(values[0])
    return _effect(found, values.mean(1), {len(values)}, f"{len(labels):,} test images")


def _effect(found: Interval | OverSeeds, by_seed: np.ndarray, seeds: set[int], images: str) -> Effect:
    words = " and ".join(map(str, sorted(seeds))) + (" seed" if seeds == {1} else " seeds")
    source, freedom = f"{words}, {images}", getattr(found, "freedom", inf)
    return Effect(found.value, found.low, found.high, tuple(map(float, by_seed)), source, freedom)
