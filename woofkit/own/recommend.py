"""The study's question asked of one's own pictures: train nothing, a probe, BitFit, LoRA or everything?

The runs are those of sweeps/own.yaml: learning rates searched for each method on validation images, then three seeds of
each. What is known is said after every stop, so an interrupted search has not been for nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from woofkit.claims.effects import OWN, Effect, Key, effect_as_json, in_world
from woofkit.claims.evidence import cost_effects, rate_effects, runs_by_seed, sweep_effects
from woofkit.config import METHODS
from woofkit.data import load_dataset
from woofkit.fast.runtime import pick_device
from woofkit.files import describe_environment, require_folder, write_atomic, write_json
from woofkit.measure.costs import measure_costs
from woofkit.results import METHOD_NAMES, percent
from woofkit.sweeps.engine import Engine
from woofkit.sweeps.grid import Sweep, load_sweep
from woofkit.sweeps.results import collect, with_intervals
from woofkit.sweeps.run import job_table, run_jobs, summary
from woofkit.tables import markdown_table
from woofkit.tables.claims import decisions_markdown

BEST, SEARCH = "seeds-best-lr", "lr"
ROUNDS = 5  # of timed steps


def recommend(parameters: dict[str, Any], cores: int | None = None, log: Callable[[str], None] = print) -> int:
    """Train what is missing of sweeps/own.yaml, and say what is known; return 0, or Snakemake's status.

    Raises:
        ConfigError: the pictures or a parameter are refused, before anything is trained.
    """
    sweep = load_sweep("own", parameters)
    require_folder("runs_dir", sweep.root)
    log(describe_pictures(sweep))
    log(f"runs in {sweep.root}\n{summary(job_table(sweep))}")
    status = run_jobs(sweep, Engine(cores=cores))
    log("\n" + known_so_far(sweep, log))
    return status


def describe_pictures(sweep: Sweep) -> str:
    """How many images of how many classes there are in each split, and how sure an accuracy on them can be."""
    study = sweep.study
    source = {"data_dir": study.data_dir, "skip_unreadable": study.skip_unreadable}
    splits = {split: load_dataset(study.dataset, split=split, **source) for split in ("train", "val", "test")}
    counts = {split: np.bincount(each.labels) for split, each in splits.items()}
    sizes = ", ".join(
        f"{len(each):,} {split} ({counts[split].min()} or more per class)" for split, each in splits.items()
    )
    half = 100 * 1.96 * (0.9 * 0.1 / len(splits["test"])) ** 0.5
    return (
        f"{len(splits['train'].class_names)} classes: {sizes}. On so many test images, an accuracy of 90 % is known to "
        f"about {half:.1f} points to either side."
    )


def known_so_far(sweep: Sweep, log: Callable[[str], None] = print) -> str:
    """The accuracies and the recommendation from the runs that have finished, in markdown.

    It is also written to recommendation.md beside the runs, and its effects to results/, where notebook 05 looks.
    """
    frame = collect(sweep)
    if frame.empty:
        return "Nothing is known yet: no run has finished."
    tables = [f"# Which method for {Path(sweep.study.data_dir).name}?", accuracies_markdown(frame)]
    effects = own_effects(sweep, frame, log)
    if effects:
        tables += [decisions_markdown(in_world(effects, sweep.study.dataset), (OWN,))]
        record = {"sweep": sweep.name, "environment": describe_environment(pick_device("auto"))}
        folder = sweep.root / "results"
        folder.mkdir(exist_ok=True)
        path = folder / f"evidence_{sweep.study.dataset}_{sweep.name}.json"
        write_json(path, record | {"effects": [effect_as_json(key, effect) for key, effect in effects.items()]})
    text = "\n\n".join(tables)
    write_atomic(sweep.root / "recommendation.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return text


def accuracies_markdown(frame: pd.DataFrame) -> str:
    """One row per method, from those that train least: the best rate, validation accuracy, and test accuracy."""
    rows, best = [], frame[frame["grid"] == BEST]
    intervals = with_intervals(best) if len(best) else best
    for method in (method for method in METHODS if method in set(frame["method"])):
        search = frame[(frame["grid"] == SEARCH) & (frame["method"] == method)]
        by_rate = search.groupby("lr")["val_accuracy"].mean()
        own = intervals[intervals["method"] == method] if len(best) else best
        test = "not yet"
        if len(own):
            low, high = own[["low", "high"]].iloc[0]
            test = f"{percent(own['test_accuracy'].mean())} ({100 * low:.1f} to {100 * high:.1f}; seeds: {len(own)})"
        size = frame.loc[frame["method"] == method, "trainable_parameters"].iloc[0]
        row = (METHOD_NAMES[method], f"{size:,.0f}", f"{by_rate.idxmax():g}" if len(by_rate) else "-")
        rows.append((*row, percent(by_rate.max()) if len(by_rate) else "-", test))
    head = ("method", "trained parameters", "best rate so far", "validation accuracy", "test accuracy")
    return markdown_table(head, rows, "lrrrr")


def own_effects(sweep: Sweep, frame: pd.DataFrame, log: Callable[[str], None]) -> dict[Key, Effect]:
    """What can be compared: accuracies of the methods whose seeds are done, and the costs of a step of each."""
    effects = sweep_effects(frame) | rate_effects(frame)
    runs = {method: next(iter(seeds.values())) for method, seeds in runs_by_seed(frame, BEST).items()}
    if len(runs) > 1:
        log("measuring what a training step of each method costs")
        costs = measure_costs([sweep.study.train_config(method) for method in runs], ROUNDS)
        effects |= cost_effects(costs, runs)
    return effects
