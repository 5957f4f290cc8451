"""Whether a method profits from test images that its backbone has seen in pretraining; photographs alone."""

import numpy as np
import pandas as pd

from woofkit.claims.effects import Effect, Key, Quantity
from woofkit.claims.evidence import average, common_seeds, runs_by_seed
from woofkit.claims.steps import TEXT
from woofkit.datasets.imagewoof import is_unseen
from woofkit.results import read_answers, read_predictions
from woofkit.stats.intervals import bootstrap_mean

SEEN = "images seen in pretraining minus the others"  # the setting of the effects


def leak_effects(frame: pd.DataFrame) -> dict[Key, Effect]:
    """How much better each method is on test images that its backbone has seen, and how much of LoRA's lead that makes.

    `frame` is that of `sweeps.results.collect`; the runs are those of grid TEXT, whose test has images of both kinds.
    """
    runs = runs_by_seed(frame, TEXT) if len(frame) else {}
    effects, weighted = {}, {}
    for method, by_seed in runs.items():
        correct, _ = read_answers(list(by_seed.values()))
        seen = np.array([not is_unseen(key) for key in read_predictions(next(iter(by_seed.values())))["key"]])
        if seen.all() or not seen.any():
            return {}
        # The mean over all images of what follows is the accuracy on those seen minus that on the others.
        weighted[method] = correct * np.where(seen, seen.size / seen.sum(), -seen.size / (~seen).sum())
        effects[Key(Quantity.GAIN, method, setting=SEEN)] = _effect(weighted[method], seen)
    if {"lora", "full"} <= runs.keys() and (seeds := common_seeds(runs["lora"], runs["full"])):
        lora, full = (weighted[name][[seed in seeds for seed in runs[name]]] for name in ("lora", "full"))
        effects[Key(Quantity.LEAD, "lora", "full", SEEN)] = _effect(lora - full, seen)
    return effects


def _effect(values: np.ndarray, seen: np.ndarray) -> Effect:
    """The mean of values (seeds, images); images vary among those seen and among the others."""
    if len(values) > 1:
        return average(values, seen)
    found = bootstrap_mean([values[0][seen], values[0][~seen]], 0.95, 2000)
    return Effect(found.value, found.low, found.high, (found.value,), f"1 seed, {seen.size:,} test images")
