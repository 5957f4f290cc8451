"""What the hypotheses are judged by: named effects, measured on finished runs or read from what is kept.

The names are those that hypotheses.py asks for. `first minus second` is a difference on the same test images.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from woofkit.claims import Effect, Judgement
from woofkit.metrics import mean_interval
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
        source = f"{_seeds(max(len(ours), len(theirs)))}, {len(labels):,} test images"
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


def sweep_effects(frame: pd.DataFrame) -> dict[str, Effect]:
    """The effects that take many runs, from the frame of `sweep_results.collect`; a grid that is missing has none.

    Grids by name: "seeds-paper-lr" and "seeds-best-lr" (methods), "labels" (label fractions), "epochs".
    """
    effects = {}
    for grid, note in (("seeds-paper-lr", ""), ("seeds-best-lr", ", best lr")):
        runs = _by_seed(frame[frame["grid"] == grid], ["method"])
        if len(runs) > 1:
            effects |= accuracy_effects({method: folders for (method,), folders in runs.items()}, note)
    labels = _by_seed(frame[frame["grid"] == "labels"], ["method", "label_fraction"])
    wanted = [("lora", 0.1), ("full", 0.1), ("lora", 1.0), ("full", 1.0)]
    if all(key in labels for key in wanted):
        found = _contrast([labels[key] for key in wanted], (1, -1, -1, 1))
        effects["lead of lora, a tenth of the labels minus all"] = found
    epochs = _by_seed(frame[frame["grid"] == "epochs"], ["method", "epochs"])
    for method in ("full", "lora"):
        if (method, 20) in epochs and (method, 5) in epochs:
            effects[f"gain of 20 epochs over 5, {method}"] = _contrast([epochs[method, 20], epochs[method, 5]], (1, -1))
    return effects


def _by_seed(frame: pd.DataFrame, names: list[str]) -> dict[tuple, list[Path]]:
    """Settings -> the folders of their runs in the order of their seeds."""
    groups = frame.sort_values("seed").groupby(names, sort=False)
    return {key: [Path(run) for run in rows["run"]] for key, rows in groups}


def _seeds(count: int) -> str:
    return f"{count} seed" + "s" * (count > 1)


def _contrast(groups: Sequence[Sequence[Path]], weights: Sequence[int]) -> Effect:
    """The weighted sum of the groups' accuracies; a seed of one group goes with the same place in the others."""
    seeds = min(map(len, groups))
    answers = [read_answers(folders[:seeds]) for folders in groups]
    labels = answers[0][1]
    values = sum(weight * correct.astype(float) for weight, (correct, _) in zip(weights, answers, strict=True))
    source = f"{_seeds(seeds)}, {len(labels):,} test images"
    if seeds == 1:
        found = mean_interval(values[0])
        return Effect(found.value, found.low, found.high, (found.value,), source)
    found = crossed_mean(values, labels)
    return Effect(found.value, found.low, found.high, tuple(map(float, values.mean(1))), source, found.freedom)


# What an effect is counted in, by the first word of its name; costs are "times".
UNITS = {"accuracy": "points", "lead": "points", "gain": "points", "kept": "points", "share": "%",
         "density": "even shares"}  # fmt: skip


def effect_unit(name: str) -> str:
    """ "points" or "%" (of a fraction, times 100), "times", "even shares", or "" for an area."""
    return "times" if name.endswith("over lora") else UNITS.get(name.replace(",", "").split()[0], "")


def verdict_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """A row a condition, for `plots.verdict_table` and for reading; conditions not measured have no numbers."""
    rows = []
    for judgement in judgements:
        for finding in judgement.findings:
            condition, effect = finding.condition, finding.effect
            value, low, high = effect[:3] if effect else (float("nan"),) * 3
            rows.append({
                "hypothesis": judgement.hypothesis.id, "claim": judgement.hypothesis.claim or judgement.hypothesis.id,
                "statement": condition.statement, "verdict": finding.verdict,
                "value": value, "low": low, "high": high, "limit": condition.limit, "above": condition.above,
                "margin": condition.margin, "unit": effect_unit(condition.effect), "p_value": judgement.p_value,
                "of_the_claim": judgement.verdict,
                "source": effect.source if effect else "",
            })  # fmt: skip
    return pd.DataFrame(rows)
