"""`python -m woofkit evidence SWEEP`: what a sweep's finished runs say, kept for the verdicts of notebook 05."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from woofkit.adapters import load_run_model
from woofkit.claims.effects import (
    RESULTS,
    attention_effects,
    common_seeds,
    difference,
    effect_as_json,
    runs_by_seed,
    sweep_effects,
)
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.verdicts import Effect, Judgement, judge_all
from woofkit.config import ConfigError
from woofkit.data import make_transform
from woofkit.fast.runtime import Runtime, pick_device
from woofkit.files import describe_environment, write_json
from woofkit.measure.forgetting import hits_path, kept_hits
from woofkit.measure.forgetting_study import Selection, study_forgetting
from woofkit.measure.source_tasks import load_source_task
from woofkit.models import build_model, data_config, original_head
from woofkit.sweeps.grid import Sweep
from woofkit.sweeps.results import collect

FORGETTING_GRIDS = ("lr", "ranks", "seeds-paper-lr", "seeds-best-lr")


def study_evidence(
    sweep: Sweep, source_dir: str = "", folder: Path = RESULTS, log: Callable[[str], None] = print
) -> Path:
    """Compute every effect that the sweep's finished runs allow, forgetting included, and write them as JSON.

    Beside them goes a table of what the runs of FORGETTING_GRIDS have forgotten, forgetting_<dataset>_<sweep>.csv.

    Args:
        source_dir: folder with Imagenette for weights of ImageNet; "" downloads it.

    Raises:
        ConfigError: no run has finished, or as `load_source_task`.
    """
    frame = collect(sweep)
    if frame.empty:
        raise ConfigError(f"no run of sweep {sweep.name!r} has finished: python -m woofkit sweep {sweep.name}")
    effects = sweep_effects(frame) | forgetting_effects(sweep, frame, source_dir, log)
    for name, effect in effects.items():
        log(f"{name}: {effect.value:.4f} ({effect.low:.4f} to {effect.high:.4f}), {effect.source}")
    shown = frame[frame["grid"].isin(FORGETTING_GRIDS)]
    if len(shown):
        selection = Selection(sweep.name, set(shown["run"]))
        study_forgetting(sweep.study, source_dir, folder=folder, log=log, selection=selection)
    environment = describe_environment(pick_device("auto"))
    kept = {name: environment[name] for name in ("date", "machine", "torch", "commit")}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"evidence_{sweep.study.dataset}_{sweep.name}.json"
    written = {name: effect_as_json(effect) for name, effect in effects.items()}
    runs = int(frame["run"].nunique())
    write_json(path, {"sweep": sweep.name, "runs": runs, "environment": kept, "effects": written})
    return path


def forgetting_effects(
    sweep: Sweep, frame: pd.DataFrame, source_dir: str, log: Callable[[str], None]
) -> dict[str, Effect]:
    """What LoRA keeps of the earlier task minus what full fine-tuning keeps, at the report's and at the best lr."""
    study, runtime = sweep.study, Runtime.pick()
    head = original_head(study.model_name, study.weights)
    transform = make_transform(data_config(build_model(study.model_name, weights=study.weights)), study.preprocess)
    task = load_source_task(head, transform, source_dir, log=log)
    effects = {}
    for grid, note in (("seeds-paper-lr", ""), ("seeds-best-lr", ", best lr")):
        groups = runs_by_seed(frame, grid, ["method"])
        runs = {method: groups.get((method,), {}) for method in ("lora", "full")}
        hits = {method: [] for method in runs}
        for seed in common_seeds(*runs.values()):
            for method, by_seed in runs.items():
                run = by_seed[seed]
                log(f"{grid}: what {run.name} has kept")
                path = hits_path(study.run_root, run.name, task, run)
                measured = kept_hits(path, lambda run=run: load_run_model(run), task, runtime)
                hits[method].append(measured["head"].to_numpy())
        if count := len(hits["lora"]):
            source = f"{count} seed{'s' * (count > 1)}, {len(task.labels):,} images of {task.name}"
            found = difference(np.stack(hits["lora"]), np.stack(hits["full"]), task.labels, source)
            effects[f"kept of the earlier task, lora minus full{note}"] = found
    return effects


def judge_attention(table: pd.DataFrame, kind: str = "attention") -> list[Judgement]:
    """Judge what the report says of attention, C5 and C6, by one kind of map; drawings only."""
    about_parts = [hypothesis for hypothesis in HYPOTHESES if hypothesis.claim in ("C5", "C6")]
    return judge_all(about_parts, attention_effects(table, kind))
