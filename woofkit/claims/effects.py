"""What the hypotheses are judged by: named effects, measured on finished runs or read from what is kept.

The names are those that hypotheses.py asks for. `first minus second` is a difference on the same test images.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from woofkit.claims.verdicts import COUNTED, Effect, Judgement
from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.results import read_answers, read_metrics
from woofkit.stats.intervals import mean_interval
from woofkit.stats.seeds import crossed_mean, paired_bootstrap, paired_over_seeds

HELD = ["weights_mb", "optimizer_mb", "gradients_mb", "activations_mb"]  # by a training step, of `measure_costs`


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
        source = f"{_seeds(len(ours), len(theirs))}, {len(labels):,} test images"
        effects[f"accuracy, {first} minus {second}{note}"] = difference(ours, theirs, labels, source)
    return effects


def cost_effects(costs: pd.DataFrame, runs: Mapping[str, Path]) -> dict[str, Effect]:
    """What full fine-tuning takes over what LoRA takes, from `costs.measure_costs` and two finished runs.

    Counts have no interval; memory is that of the tensors which a step holds. The interval of time is about the median
    of the rounds' ratios: of nine rounds from the second to the eighth, which holds it in 96 %; of seven or fewer from
    the first to the last.
    """
    from scipy.stats import binom  # takes a second

    by_method = costs.set_index("method")
    full, lora = by_method.loc["full"], by_method.loc["lora"]
    metrics = {method: read_metrics(runs[method]) for method in ("full", "lora")}
    exact = {
        "operations": (full["forward_gflops"] + full["backward_gflops"])
        / (lora["forward_gflops"] + lora["backward_gflops"]),
        "memory": full[HELD].sum() / lora[HELD].sum(),
        "file": metrics["full"]["checkpoint_bytes"] / metrics["lora"]["checkpoint_bytes"],
        "parameters": metrics["full"]["trainable_parameters"] / metrics["lora"]["trainable_parameters"],
    }
    effects = {f"{name}, full over lora": Effect(ratio, ratio, ratio, (), COUNTED) for name, ratio in exact.items()}
    rounds = np.sort(np.divide(full["round_seconds"], lora["round_seconds"]))
    first = max(int(binom.ppf(0.025, len(rounds), 0.5)) - 1, 0)  # an order statistic: nothing is assumed of the rounds
    ends = (float(rounds[first]), float(rounds[-1 - first]))
    time = Effect(float(np.median(rounds)), *ends, (), f"{len(rounds)} rounds", len(rounds) - 1)
    return effects | {"time, full over lora": time}


def sweep_effects(frame: pd.DataFrame) -> dict[str, Effect]:
    """The effects that take many runs, from the frame of `sweep_results.collect`; a grid that is missing has none.

    Grids by name: "seeds-paper-lr" and "seeds-best-lr" (methods), "labels" (label fractions), "epochs". A method that
    lacks some of a grid's seeds has not been measured there.

    Raises:
        ConfigError: a grid has two runs of one seed: something else differs too.
    """
    effects = {}
    for grid, note in (("seeds-paper-lr", ""), ("seeds-best-lr", ", best lr")):
        runs = runs_by_seed(frame, grid, ["method"])
        most = max(map(len, runs.values()), default=0)
        whole = {
            method: [*seeds.values()]
            for (method,), seeds in runs.items()
            if len(seeds) == most or method == "zero-shot"
        }
        if len(whole) > 1:
            effects |= accuracy_effects(whole, note)
    labels = runs_by_seed(frame, "labels", ["method", "label_fraction"])
    few = [("lora", 0.1), ("full", 0.1)]
    effects |= _contrast(labels, few, (1, -1), "accuracy, lora minus full, a tenth of the labels")
    effects |= _contrast(
        labels, [*few, ("lora", 1.0), ("full", 1.0)], (1, -1, -1, 1), "lead of lora, a tenth of the labels minus all"
    )
    epochs = runs_by_seed(frame, "epochs", ["method", "epochs"])
    for method in ("full", "lora"):
        effects |= _contrast(epochs, [(method, 20), (method, 5)], (1, -1), f"gain of 20 epochs over 5, {method}")
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


def _seeds(*counts: int) -> str:
    words = [f"{count:g}" for count in sorted(set(counts))]
    return f"{' and '.join(words)} seed" + "s" * (words != ["1"])


def _contrast(
    groups: Mapping[tuple, Mapping[int, Path]], keys: Sequence[tuple], weights: Sequence[int], name: str
) -> dict[str, Effect]:
    """The weighted sum of some groups' accuracies over the seeds that all of them have; {} where one has no run."""
    if not all(key in groups for key in keys) or not (seeds := common_seeds(*(groups[key] for key in keys))):
        return {}
    answers = [read_answers([groups[key][seed] for seed in seeds]) for key in keys]
    labels = answers[0][1]
    values = sum(weight * correct.astype(float) for weight, (correct, _) in zip(weights, answers, strict=True))
    source = f"{_seeds(len(seeds))}, {len(labels):,} test images"
    if len(seeds) == 1:
        found = mean_interval(values[0])
        return {name: Effect(found.value, found.low, found.high, (found.value,), source)}
    found = crossed_mean(values, labels)
    return {name: Effect(found.value, found.low, found.high, tuple(map(float, values.mean(1))), source, found.freedom)}


# What an effect is counted in, by the first word of its name; costs are "times".
UNITS = {
    "accuracy": "points",
    "lead": "points",
    "gain": "points",
    "kept": "points",
    "share": "%",
    "density": "even shares",
}


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
            rows.append(
                {
                    "hypothesis": judgement.hypothesis.id,
                    "claim": judgement.hypothesis.claim or judgement.hypothesis.id,
                    "statement": condition.statement,
                    "verdict": finding.verdict,
                    "value": value,
                    "low": low,
                    "high": high,
                    "limit": condition.limit,
                    "above": condition.above,
                    "margin": condition.margin,
                    "unit": effect_unit(condition.effect),
                    "p_value": judgement.p_value,
                    "of_the_claim": judgement.verdict,
                    "source": effect.source if effect else "",
                }
            )
    return pd.DataFrame(rows)


RESULTS = PROJECT_ROOT / "data" / "results"


def kept_effects(dataset: str, folder: Path = RESULTS) -> dict[str, Effect]:
    """Every effect that is kept for a dataset, by name: of sweeps, and of attention (the report's kind of map).

    Where several files have an effect, the last in the order of their names counts: "rigor" before "rigor-small".
    """
    effects: dict[str, Effect] = {}
    for path in sorted(folder.glob(f"attention_{dataset}_*.csv")):
        effects |= attention_effects(pd.read_csv(path, keep_default_na=False), "attention")
    for path in sorted(folder.glob(f"evidence_{dataset}_*.json")):  # ".json" comes after "-small.json"
        kept = json.loads(path.read_text(encoding="utf-8"))
        effects |= {name: _from_json(effect, kept["sweep"]) for name, effect in kept["effects"].items()}
    return effects


def effect_as_json(effect: Effect) -> dict[str, Any]:
    """An effect as strict JSON has it: no infinity."""
    return effect._asdict() | {"freedom": None if math.isinf(effect.freedom) else effect.freedom}


def _from_json(kept: dict[str, Any], sweep: str) -> Effect:
    freedom = math.inf if kept["freedom"] is None else kept["freedom"]
    own = {"freedom": freedom, "by_seed": tuple(kept["by_seed"]), "source": f"{kept['source']} (sweep {sweep})"}
    return Effect(**{**kept, **own})


def attention_effects(table: pd.DataFrame, kind: str) -> dict[str, Effect]:
    """The effects of one kind of map in a table of `summarize`: "MEASURE, MODEL" and "MEASURE, MODEL minus OTHER"."""
    effects = {}
    for row in table[table["map"] == kind].fillna({"against": ""}).itertuples():
        name = f"{row.measure}, {row.model}" + (f" minus {row.against}" if row.against else "")
        seeds = tuple(float(number) for number in str(row.by_seed).split())
        effects[name] = Effect(row.value, row.low, row.high, seeds, f"{row.dogs} dogs", row.freedom)
    return effects
