"""What has been measured for one's own pictures so far: runs, costs, what is kept of the earlier task, label curves.

Whatever takes long is kept in a file beside the runs, and is measured once.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from woofkit.adapters import load_run_model
from woofkit.claims.effects import BEST_LR, Effect, Key, Quantity, effect_as_json
from woofkit.claims.evidence import cost_effects, difference
from woofkit.config import METHODS, PROJECT_ROOT, ConfigError, StudyConfig
from woofkit.data import make_transform
from woofkit.fast.runtime import Runtime, pick_device
from woofkit.files import describe_environment, write_json
from woofkit.measure.costs import measure_costs
from woofkit.measure.forgetting import hits_path, kept_hits
from woofkit.measure.source_tasks import IMAGENET_CLASSES, IMAGENETTE, LITTER_BREEDS, SourceTask, load_source_task
from woofkit.models import backbone, data_config, original_head
from woofkit.own.labels import LabelCurve, curve_as_json, curve_from_json
from woofkit.results import METHOD_NAMES, load_run, read_answers
from woofkit.sweeps.grid import Sweep
from woofkit.sweeps.results import collect, read_outcome

BEST, SEARCH = "seeds-best-lr", "lr"
ROUNDS = 6  # of timed steps: their median lies between the first and the last in 97% of cases
DRAWINGS = 600  # of the litter: enough for an interval of three points to either side
NOT_MEASURED = "What is forgotten is not measured yet."
KEEPS_ALL = ("zero-shot", "probe")  # whose backbone stays as it was


@dataclass(frozen=True)
class Facts:
    """What is known.

    frame: a row per finished run with its `grid`, as `sweeps.results.collect` has it. runs: method -> seed -> folder,
    at each method's best rate so far. costs: of a step, as `measure_costs` has them, or None. kept: method -> accuracy
    on the earlier task minus the untouched backbone's; `earlier` says in a sentence which task that is, or why none.
    """

    sweep: Sweep
    frame: pd.DataFrame
    runs: Mapping[str, Mapping[int, Path]]
    costs: pd.DataFrame | None
    kept: Mapping[str, Effect]
    earlier: str
    curves: tuple[LabelCurve, ...]
    effects: Mapping[Key, Effect]


def gather(sweep: Sweep, source_dir: str, log: Callable[[str], None] | None) -> Facts:
    """Read what is there, and measure what the finished models have kept of the earlier task.

    Without a `log` nothing is measured that would take a while.
    """
    frame = collect(sweep)
    zero_shot = read_outcome(sweep.root, "zero-shot")
    if zero_shot:
        row = {"grid": BEST, **load_run(sweep.root / zero_shot["run"])}
        frame = pd.concat([frame, pd.DataFrame([row])], ignore_index=True) if len(frame) else pd.DataFrame([row])
    runs, costs = best_runs(sweep, frame), read_costs(sweep)
    hits, labels, earlier = _hits(sweep, runs, source_dir, log)
    before = hits.pop("untouched", None)
    effects = own_accuracy_effects(runs) | own_kept_effects(hits, labels)
    trained = {method: next(iter(seeds.values())) for method, seeds in runs.items() if method != "zero-shot"}
    if costs is not None and len(trained) > 1:
        effects |= cost_effects(costs[costs["method"].isin(list(trained))])
    kept = {method: difference(own, before, labels, "images of it") for method, own in hits.items()}
    return Facts(sweep, frame, runs, costs, kept, earlier, read_curves(sweep), effects)


def best_runs(sweep: Sweep, frame: pd.DataFrame) -> dict[str, dict[int, Path]]:
    """Method -> seed -> run at the method's best rate; of a method whose search is under way there is none."""
    found: dict[str, dict[int, Path]] = {}
    rates = found_rates(sweep)
    for row in frame.itertuples():
        if row.method == "zero-shot" or row.lr == rates.get(row.method):
            found.setdefault(row.method, {})[int(row.seed)] = Path(row.run)
    return {method: dict(sorted(found[method].items())) for method in METHODS if method in found}


def found_rates(sweep: Sweep) -> dict[str, float]:
    """The best rate of every method whose search has ended."""
    rates = {}
    for search in sweep.searches:
        path = sweep.root / "best_lr" / f"{search}.json"
        if path.is_file():
            rates[search.rpartition("-")[0]] = json.loads(path.read_text(encoding="utf-8"))["lr"]
    return rates


def own_accuracy_effects(runs: Mapping[str, Mapping[int, Path]]) -> dict[Key, Effect]:
    """The difference of every pair of methods' accuracies, over the seeds that both have; zero-shot has one run."""
    effects = {}
    for first, second in combinations(runs, 2):
        shared = sorted(set(runs[first]) & set(runs[second]))
        pair = [[runs[method][seed] for seed in shared] for method in (first, second)]
        if "zero-shot" in (first, second):
            pair = [list(runs[method].values()) for method in (first, second)]
        if all(pair):
            (ours, labels), (theirs, _) = map(read_answers, pair)
            effects |= _both_ways(Key(Quantity.ACCURACY, first, second, BEST_LR), difference(ours, theirs, labels))
    return effects


def own_kept_effects(hits: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[Key, Effect]:
    """What each method keeps of the earlier task minus what another keeps."""
    effects = {}
    for first, second in combinations(hits, 2):
        if not {first, second} <= set(KEEPS_ALL):  # which keep all of it, both
            found = difference(hits[first], hits[second], labels, "images of it")
            effects |= _both_ways(Key(Quantity.KEPT, first, second), found)
    return effects


def _both_ways(key: Key, effect: Effect) -> dict[Key, Effect]:
    """A difference, and the same seen from the other side."""
    turned = effect._replace(
        value=-effect.value, low=-effect.high, high=-effect.low, by_seed=tuple(-each for each in effect.by_seed)
    )
    return {key: effect, key._replace(first=key.second, second=key.first): turned}


# --- the earlier task ---


def earlier_task(study: StudyConfig, source_dir: str) -> tuple[Callable[..., SourceTask] | None, str]:
    """What loads the task that the weights were pretrained for, given a log; or None, and a sentence that says why."""
    if study.weights == "random":
        return None, "Nothing can be forgotten: the weights were random."
    try:
        head = original_head(study.model_name, study.weights)
    except ConfigError:
        return None, "What is forgotten is not measured: the weights come without a head of their earlier task."
    here = PROJECT_ROOT / "data" / IMAGENETTE.folder
    if head.out_features == IMAGENET_CLASSES and not source_dir and not here.is_dir():
        command = "give `--source-dir FOLDER` with Imagenette's images"
        return None, f"What is forgotten of ImageNet is not measured: {command}."
    if head.out_features not in (IMAGENET_CLASSES, LITTER_BREEDS):
        return None, f"What is forgotten is not measured: nothing is known of the weights' {head.out_features} classes."
    transform = make_transform(data_config(backbone(study)), study.preprocess)
    return partial(load_source_task, head, transform, source_dir or str(here), DRAWINGS), ""


def _hits(
    sweep: Sweep, runs: Mapping[str, Mapping[int, Path]], source_dir: str, log: Callable[[str], None] | None
) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Method -> which images of the earlier task its models still get right, bool (seeds, N); labels; a sentence."""
    study, runtime = sweep.study, Runtime.pick()
    if not runs:
        return {}, np.array([]), ""
    load_task, why = earlier_task(study, source_dir)
    if load_task is None:
        return {}, np.array([]), why
    if set(runs) <= set(KEEPS_ALL):  # there is nothing to compare yet, and the first answer should not wait for it
        log = None
    if log is None and not any((sweep.root / "forgetting").glob("*.parquet")):
        return {}, np.array([]), NOT_MEASURED
    task = load_task(log=log)

    def measured(name: str, words: str, load: Callable[[], Any], run: Path | None = None) -> np.ndarray | None:
        path = hits_path(sweep.root, name, task, run)
        if not path.is_file():
            if log is None:
                return None
            log(f"measuring what {words} of their earlier task, on {len(task):,} images of it")
        return kept_hits(path, load, task, runtime)["head"].to_numpy()

    name = f"untouched-{Path(study.weights).stem}" + (f"-{study.image_size}" if study.image_size else "")
    untouched = measured(name, "the untouched weights know", lambda: backbone(study))
    if untouched is None:
        return {}, np.array([]), NOT_MEASURED
    untouched = untouched[None]
    hits = {"untouched": untouched}
    for method, seeds in runs.items():
        if method in KEEPS_ALL:
            hits[method] = untouched
        else:
            words = f"the weights still know after {METHOD_NAMES[method]}"
            own = [
                measured(run.name, f"{words}, seed {seed},", lambda run=run: load_run_model(run), run)
                for seed, run in seeds.items()
            ]
            if own := [each for each in own if each is not None]:
                hits[method] = np.stack(own)
    name = "the invented breeds that the bundled weights knew" if task.name == "litter" else "ImageNet (Imagenette)"
    earlier = (
        f"What is forgotten is measured on {len(task):,} images of {name}, with the weights' own head: untouched, they "
        f"get {100 * untouched.mean():.1f}% of them right."
    )
    return hits, task.labels, earlier


# --- what is kept in files ---


def measure_step_costs(sweep: Sweep, methods: list[str]) -> None:
    """Measure a training step of each method, once, and keep it."""
    configs = [sweep.study.train_config(method) for method in methods]
    costs = measure_costs(configs, ROUNDS)
    costs["round_seconds"] = costs["round_seconds"].map(list)
    write_json(sweep.root / "step_costs.json", json.loads(costs.to_json(orient="records")))


def read_costs(sweep: Sweep) -> pd.DataFrame | None:
    """The costs that `measure_step_costs` has kept; None, too, of an older version that did not measure the file."""
    path = sweep.root / "step_costs.json"
    costs = pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    return costs if costs is not None and "file_mb" in costs else None


def keep_curve(sweep: Sweep, curve: LabelCurve) -> None:
    """Keep a label curve in place of an earlier one of the method."""
    others = [each for each in read_curves(sweep) if each.method != curve.method]
    write_json(sweep.root / "label_curves.json", [curve_as_json(each) for each in (*others, curve)])


def read_curves(sweep: Sweep) -> tuple[LabelCurve, ...]:
    """The label curves that are kept."""
    path = sweep.root / "label_curves.json"
    return tuple(map(curve_from_json, json.loads(path.read_text(encoding="utf-8")))) if path.is_file() else ()


def keep_effects(facts: Facts) -> None:
    """Write the effects where notebook 05 looks."""
    sweep = facts.sweep
    record = {"sweep": sweep.name, "environment": describe_environment(pick_device("auto"))}
    folder = sweep.root / "results"
    folder.mkdir(exist_ok=True)
    effects = [effect_as_json(key, effect) for key, effect in facts.effects.items()]
    write_json(folder / f"evidence_{sweep.study.dataset}_{sweep.name}.json", record | {"effects": effects})
