"""The two commands that keep what the claims are judged by: `woofkit evidence SWEEP` and `woofkit attention`."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import permutations
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from woofkit.adapters import load_run_model
from woofkit.claims.effects import (
    BEST_LR,
    CONFIRMATORY,
    MATCHED,
    Effect,
    Key,
    Quantity,
    attention_effects,
    effect_as_json,
    shifted_by,
)
from woofkit.claims.evidence import (
    average,
    difference,
    matched_runs,
    mean_difference,
    method_runs,
    rate_effects,
    runs_by_seed,
    sweep_effects,
)
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.leak import leak_effects
from woofkit.claims.verdicts import Judgement, judge_all
from woofkit.config import ConfigError, StudyConfig
from woofkit.data import Images, cached_pixels, make_transform
from woofkit.explain.maps import KINDS
from woofkit.explain.study import NUM_DOGS, NUM_SEEDS, measure_study
from woofkit.fast.runtime import Runtime, pick_device
from woofkit.files import RESULTS, describe_environment, require_folder, write_json
from woofkit.measure.forgetting import hits_path, kept_hits
from woofkit.measure.forgetting_study import Selection, study_forgetting
from woofkit.measure.shifts import drawn_hits, drawn_shifts, kept_shifted_hits, lost, shifted_hits
from woofkit.measure.source_tasks import NUM_DRAWINGS, load_source_task
from woofkit.measure.weight_updates import count_intruders
from woofkit.models import backbone, data_config, original_head
from woofkit.sweeps.grid import Sweep
from woofkit.sweeps.results import collect
from woofkit.train import load_splits

RATE_GRIDS = {"seeds-paper-lr": "", "seeds-best-lr": BEST_LR}  # grid -> setting of the key
ABOUT_MAPS = ("C5", "C6")  # the claims about attention
NUM_SHIFTED = 1_000  # test images, the last ones: a run names every form of each
FORGETTING_GRIDS = ("lr", "ranks", "rank-1", "rank-64", *RATE_GRIDS)


def study_evidence(
    sweep: Sweep, source_dir: str = "", folder: Path = RESULTS, log: Callable[[str], None] = print
) -> Path:
    """Compute every effect that the sweep's finished runs allow, forgetting included, and write them as JSON.

    Of a confirmatory sweep, test images and images of the earlier task that others were tested on are left out.
    Beside them goes a table of what the runs of FORGETTING_GRIDS have forgotten, forgetting_<dataset>_<sweep>.csv.

    Args:
        source_dir: folder with Imagenette for weights of ImageNet; "" downloads it.

    Raises:
        ConfigError: no run has finished, or as `load_source_task`.
    """
    require_folder("the folder for the effects", folder)
    frame = collect(sweep)
    if frame.empty:
        raise ConfigError(f"no run of sweep {sweep.name!r} has finished: python -m woofkit sweep {sweep.name}")
    effects = sweep_effects(frame, CONFIRMATORY.get(sweep.name, 0)) | rate_effects(frame) | leak_effects(frame)
    effects |= forgetting_effects(sweep, frame, source_dir, log) | shift_effects(sweep, frame, log)
    for key, effect in effects.items():
        log(f"{key}: {effect.value:.4f} ({effect.low:.4f} to {effect.high:.4f}), {effect.source}")
    shown = frame[frame["grid"].isin(FORGETTING_GRIDS)]
    if len(shown):
        selection = Selection(sweep.name, set(shown["run"]))
        study_forgetting(sweep.study, source_dir, folder=folder, log=log, selection=selection)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"evidence_{sweep.study.dataset}_{sweep.name}.json"
    size = sweep.study.image_size or data_config(backbone(sweep.study))["input_size"][-1]
    record = {"sweep": sweep.name, "image_size": size, "train_images": int(frame["num_train_images"].max())}
    record |= {"runs": int(frame["run"].nunique())}
    record |= {"environment": describe_environment(pick_device("auto"))}
    write_json(path, record | {"effects": [effect_as_json(key, effect) for key, effect in effects.items()]})
    return path


def forgetting_effects(
    sweep: Sweep, frame: pd.DataFrame, source_dir: str, log: Callable[[str], None]
) -> dict[Key, Effect]:
    """What each method keeps of the earlier task minus what another keeps, at the paper's and at the best rate."""
    study, runtime = sweep.study, Runtime.pick()
    head = original_head(study.model_name, study.weights)
    transform = make_transform(data_config(backbone(study)), study.preprocess)
    start = NUM_DRAWINGS if sweep.name in CONFIRMATORY else 0  # the first are those of `study_forgetting`
    task = load_source_task(head, transform, source_dir, start=start, log=log)

    def kept(run: Path) -> np.ndarray:
        log(f"what {run.name} has kept")
        path = hits_path(study.run_root, run.name, task, run)
        return kept_hits(path, lambda: load_run_model(run), task, runtime)["head"].to_numpy()

    effects = {}
    for setting in RATE_GRIDS.values():
        runs = method_runs(frame, setting) if len(frame) else {}
        hits = {method: np.stack([kept(run) for run in seeds.values()]) for method, seeds in runs.items()}
        for first, second in permutations(hits, 2):
            key = Key(Quantity.KEPT, first, second, setting)
            effects[key] = difference(hits[first], hits[second], task.labels, f"images of {task.name}")
    if matched := matched_runs(frame):
        lora, full = (np.stack([kept(run) for run in runs]) for runs in matched)
        effects[Key(Quantity.KEPT, "lora", "full", MATCHED)] = difference(
            lora, full, task.labels, f"images of {task.name}"
        )
    return effects


def shift_effects(sweep: Sweep, frame: pd.DataFrame, log: Callable[[str], None]) -> dict[Key, Effect]:
    """What shifted images take from each method, alone and beside another; LoRA's intruder dimensions beside full's.

    Of the runs at each method's best learning rate, for each shift and for the mean of those that work on pixels;
    intruder dimensions are a mean over seeds.
    """
    groups = runs_by_seed(frame, "seeds-best-lr") if len(frame) else {}
    if len(groups) < 2:
        return {}
    study, runtime = sweep.study, Runtime.pick()
    base = backbone(study)
    transform = make_transform(data_config(base), study.preprocess)
    whole = load_splits(study.train_config("full"), transform.size)["test"]
    usual = replace(whole, keys=whole.keys[-NUM_SHIFTED:], labels=whole.labels[-NUM_SHIFTED:])
    datasets = {"": usual, **drawn_shifts(usual)}
    fingerprints = {name: dataset.fingerprint() for name, dataset in datasets.items()}

    @cache
    def images(name: str) -> Images:
        pixels = cached_pixels(datasets[name], transform, fingerprint=fingerprints[name], log=log)
        return Images(runtime.near(pixels), usual.labels, transform)

    def kept_hits_of(run: Path, name: str) -> pd.DataFrame:
        path = study.run_root / "shifts" / f"{run.name}-{fingerprints[name][:8]}.parquet"
        measure = drawn_hits if name else shifted_hits
        return kept_shifted_hits(path, partial(load_run_model, run), partial(images, name), runtime, measure)

    def lost_by_run(run: Path) -> dict[str, np.ndarray]:
        log(f"what shifted images take from {run.name}")
        drawn = {name: kept_hits_of(run, name)["drawn"] for name in datasets if name}
        return lost(kept_hits_of(run, "").assign(**drawn))

    lost_by, intruders = {}, {}
    for method, runs in groups.items():
        taken = [lost_by_run(run) for run in runs.values()]
        lost_by[method] = {shift: np.stack([each[shift] for each in taken]) for shift in taken[0]}
        if method in ("full", "lora"):
            intruders[method] = [count_intruders(base, load_run_model(run)) for run in runs.values()]
    effects = {}
    for first, by_shift in lost_by.items():
        for shift, ours in by_shift.items():
            key = Key(Quantity.SHIFTED, first, setting=shifted_by(shift))
            effects[key] = average(ours, usual.labels)
            for second in [method for method in lost_by if method != first]:
                effects[key._replace(second=second)] = difference(ours, lost_by[second][shift], usual.labels)
    if len(intruders) == 2 and min(map(len, intruders.values())) > 1:
        effects[Key(Quantity.INTRUDERS, "lora", "full", BEST_LR)] = mean_difference(*intruders.values())
    return effects


def study_attention(
    study: StudyConfig,
    num_dogs: int = NUM_DOGS,
    num_seeds: int = NUM_SEEDS,
    folder: Path = RESULTS,
    log: Callable[[str], None] = print,
) -> tuple[Path, Path]:
    """Measure where a study's models look and judge C5 and C6 by each kind of map; return the table and the verdicts.

    Raises:
        ConfigError: as `explain.study.measure_study`.
    """
    table, path, record = measure_study(study, num_dogs, num_seeds, folder, log)
    verdict_path = path.with_suffix(".json")
    write_json(verdict_path, record | {"verdicts": attention_verdicts(table)})
    return path, verdict_path


def attention_verdicts(table: pd.DataFrame) -> dict[str, Any]:
    """Claim -> its statement and, by kind of map, the verdict, its p or why there is none, and its conditions.

    {} without masks.
    """
    verdicts: dict[str, Any] = {}
    for kind in KINDS:
        for judgement in judge_attention(table, kind):
            if not all(finding.effect for finding in judgement.findings):  # photographs have no masks of parts
                continue
            conditions = [
                {"condition": condition.statement, **condition.key._asdict(), "verdict": verdict}
                | {name: getattr(effect, name) for name in ("value", "low", "high", "by_seed")}
                for condition, effect, verdict in judgement.findings
            ]
            claim = verdicts.setdefault(judgement.hypothesis.claim, {"statement": judgement.hypothesis.paper})
            p_value = None if isnan(judgement.p_value) else judgement.p_value
            judged = {"verdict": judgement.verdict, "p_value": p_value, "why": judgement.why}
            claim[kind] = judged | {"conditions": conditions}
    return verdicts


def judge_attention(table: pd.DataFrame, kind: str = "attention") -> list[Judgement]:
    """Judge what the paper says of attention, C5 and C6, by one kind of map; drawings only.

    Among all hypotheses, as notebook 05 judges them: what one page calls undecided, the other may not contradict.
    """
    asked = []
    for hypothesis in HYPOTHESES:
        conditions = hypothesis.conditions
        if hypothesis.claim in ABOUT_MAPS:
            conditions = tuple(replace(each, key=each.key._replace(setting=kind)) for each in conditions)
        asked.append(replace(hypothesis, conditions=conditions))
    judged = judge_all(asked, attention_effects(table))
    return [each for each in judged if each.hypothesis.claim in ABOUT_MAPS]
