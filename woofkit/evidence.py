"""What the hypotheses are judged by: named effects, measured on finished runs or read from what is kept.

The names are those that hypotheses.py asks for. `first minus second` is a difference on the same test images.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from woofkit.claims import Effect
from woofkit.results import read_metrics, read_predictions
from woofkit.uncertainty import crossed_mean, paired_bootstrap, paired_over_seeds


def read_answers(runs: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Which test images each run got right, bool (runs, images), and the images' labels (images,).

    Raises:
        ValueError: the runs were not tested on the same images.
    """
    predictions = [read_predictions(run) for run in runs]
    for run, frame in zip(runs, predictions, strict=True):
        if not frame["key"].equals(predictions[0]["key"]):
            raise ValueError(f"{run.name} and {runs[0].name} were tested on other images")
    correct = np.stack([(frame["predicted"] == frame["label"]).to_numpy() for frame in predictions])
    return correct, predictions[0]["label"].to_numpy()


def difference(first: np.ndarray, second: np.ndarray, labels: np.ndarray, source: str = "") -> Effect:
    """Mean of `first` minus that of `second`, bool (seeds, images) each, with an interval that counts what it can.

    Seeds and images with two seeds or more of each; the images alone with one of each, or where one of the two has no
    seed to vary. `by_seed` has each seed's difference from the other's mean over seeds.
    """
    if min(len(first), len(second)) > 1:
        found = paired_over_seeds(first, second, labels)
    elif max(len(first), len(second)) > 1:
        found = crossed_mean(first.astype(float) - second, labels)
    else:
        found = paired_bootstrap(first[0], second[0], labels)
    by_seed = first.mean(1) - second.mean() if len(first) > 1 else first.mean() - second.mean(1)
    freedom = getattr(found, "freedom", math.inf)
    return Effect(found.value, found.low, found.high, tuple(map(float, by_seed)), source, freedom)


def accuracy_effects(runs: Mapping[str, Sequence[Path]], note: str = "") -> dict[str, Effect]:
    """ "accuracy, FIRST minus SECOND" for every pair of methods; `runs` is method -> its runs, a seed each.

    The method "zero-shot" or, in its absence, "probe" is also called "untouched". `note` ends the names.
    """
    named = {**runs}
    if untouched := next((method for method in ("zero-shot", "probe") if method in runs), ""):
        named["untouched"] = runs[untouched]
    answers = {method: read_answers(folders) for method, folders in named.items()}
    effects = {}
    for first, second in permutations(answers, 2):
        (ours, labels), (theirs, _) = answers[first], answers[second]
        source = f"{max(len(ours), len(theirs))} seeds, {len(labels):,} test images"
        effects[f"accuracy, {first} minus {second}{note}"] = difference(ours, theirs, labels, source)
    return effects


def cost_effects(costs: pd.DataFrame, runs: Mapping[str, Path]) -> dict[str, Effect]:
    """What full fine-tuning takes over what LoRA takes, from `costs.measure_costs` and two finished runs.

    Counts have no interval. That of time spans the rounds' ratios, which with five rounds hold the median in 94 %.
    """
    by_method = costs.set_index("method")
    full, lora = by_method.loc["full"], by_method.loc["lora"]
    metrics = {method: read_metrics(runs[method]) for method in ("full", "lora")}
    exact = {
        "operations": (full["forward_gflops"] + full["backward_gflops"])
        / (lora["forward_gflops"] + lora["backward_gflops"]),
        "memory": full["peak_mb"] / lora["peak_mb"],
        "file": metrics["full"]["checkpoint_bytes"] / metrics["lora"]["checkpoint_bytes"],
        "parameters": metrics["full"]["trainable_parameters"] / metrics["lora"]["trainable_parameters"],
    }
    effects = {f"{name}, full over lora": Effect(ratio, ratio, ratio, (), "counted") for name, ratio in exact.items()}
    rounds = np.divide(full["round_seconds"], lora["round_seconds"])
    time = Effect(float(np.median(rounds)), float(min(rounds)), float(max(rounds)), (), f"{len(rounds)} rounds")
    return effects | {"time, full over lora": time}
