"""`python -m woofkit attention`: where trained models look, measured on many dogs, and what that says of the claims.

A model's measurements are kept under the study's folder as they are made, so a command that broke off goes on with
the next model. The table of means, paired differences and their intervals goes to data/results/, with the verdicts.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from woofkit.attention_evidence import SHUFFLED_DOGS, Dogs, load_dogs, measure_model
from woofkit.claims import CLAIMS, judge_attention
from woofkit.config import NUM_BREEDS, PROJECT_ROOT, StudyConfig, TrainConfig, require_range
from woofkit.data import make_transform, stratified_subset
from woofkit.environment import describe_environment
from woofkit.faithfulness import STEPS
from woofkit.methods import untouched_method
from woofkit.metrics import mean_interval
from woofkit.models import data_config
from woofkit.results import write_atomic, write_json, write_table
from woofkit.speed import pick_device
from woofkit.train import load_run_model, load_splits, run_training
from woofkit.views import BASELINES, KINDS, look

NUM_DOGS, NUM_SEEDS = 200, 3
COLUMNS = ("model", "against", "map", "measure", "value", "low", "high", "dogs", "by_seed")
RESULTS = PROJECT_ROOT / "data" / "results"


def study_attention(
    study: StudyConfig,
    num_dogs: int = NUM_DOGS,
    num_seeds: int = NUM_SEEDS,
    folder: Path = RESULTS,
    report: Callable[[str], None] = print,
) -> tuple[Path, Path]:
    """Train what is missing, measure the original, full fine-tuning and LoRA; write and return the table and verdicts.

    Deletion, insertion and the sanity check are measured on the first seed's models. The dogs are a stratified subset
    of the test split, the same for every model.

    Raises:
        ConfigError: settings out of range, or as `run_training`.
    """
    require_range("seeds", num_seeds, 1, 100)
    configs = _configs(study, num_seeds)
    untouched = next(iter(configs))
    test_size = len(load_splits(configs[untouched], image_size=224)["test"])
    require_range("dogs", num_dogs, NUM_BREEDS, test_size)
    runs = {key: run_training(config, study.run_root, report=report) for key, config in configs.items()}
    device = pick_device("auto")
    original = load_run_model(runs[untouched]).to(device)
    transform = make_transform(data_config(original), study.preprocess)
    test = load_splits(configs[untouched], transform.size)["test"]
    dogs = load_dogs(test.subset(stratified_subset(test.labels, num_dogs, seed=0)), transform)
    view, frames = None, {}
    for (model, seed), run in runs.items():
        path = study.run_root / "attention" / f"{run.name}-{_digest(dogs, runs[untouched])}.parquet"
        if path.is_file():
            report(f"{model}, seed {seed}: found measured in {path.name}")
        else:
            report(f"{model}, seed {seed}: {num_dogs} dogs")
            view = view or look(original, dogs.pixels, transform)
            frame = measure_model(
                load_run_model(run).to(device), original, view, dogs, faithful=seed == study.seed, report=report
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, lambda temporary, frame=frame: frame.to_parquet(temporary, index=False))
        frames[model, seed] = pd.read_parquet(path)
    table = summarize(frames)
    folder.mkdir(parents=True, exist_ok=True)
    table_path, verdict_path = (folder / f"attention_{study.dataset}.{end}" for end in ("csv", "json"))
    write_table(table.round(5), table_path)
    write_json(verdict_path, _record(study, table, num_dogs, num_seeds, drawn=dogs.masks is not None))
    return table_path, verdict_path


def summarize(frames: Mapping[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """Means with bootstrap intervals over dogs: a row a model, map and measure, and the paired differences.

    `frames` are (model, seed) -> what `measure_model` gave. Over seeds, each dog's values are averaged first, so the
    interval says how far other dogs could move the mean; `by_seed` has each seed's mean. `against` names what is
    subtracted, dog by dog: another model's value, or the same model's on a map that knows nothing.
    """
    wide = {key: frame.pivot(index="dog", columns=["map", "measure"], values="value") for key, frame in frames.items()}
    models = list(dict.fromkeys(model for model, _ in frames))
    seeds = {model: [seed for other, seed in frames if other == model] for model in models}
    rows = []
    for model in models:
        each = [wide[model, seed] for seed in seeds[model]]
        rows += _rows(model, "", each)
        for baseline in BASELINES:
            rows += _rows(model, baseline, [_beyond_baseline(values, baseline) for values in each])
    for model, against in (("lora", "full"), ("full", "lora"), ("full", "original"), ("lora", "original")):
        if model in seeds and against in seeds:
            partner = {seed: (against, seed if seed in seeds[against] else seeds[against][0]) for seed in seeds[model]}
            rows += _rows(model, against, [wide[model, seed] - wide[partner[seed]] for seed in seeds[model]])
    return pd.DataFrame(rows, columns=COLUMNS)


def _beyond_baseline(values: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """What each kind of map has beyond one that knows nothing, for every measure that both have."""
    known = values[baseline]
    beyond = {(kind, measure): values[kind, measure] - known[measure]
              for kind in KINDS if kind in values for measure in values[kind] if measure in known}  # fmt: skip
    return pd.DataFrame(beyond)


def _rows(model: str, against: str, each: list[pd.DataFrame]) -> Iterator[tuple]:
    """A row for each column of the seeds' frames (dogs, (map, measure)); a column may be missing for some seeds."""
    together = pd.concat(each, keys=range(len(each)))
    for kind, measure in together.columns:
        values = together[kind, measure].unstack(level=0)  # dogs by seeds
        by_seed = values.mean().dropna()
        if by_seed.empty or (against and kind in BASELINES):  # a baseline is the same map for every model
            continue
        interval = mean_interval(values.mean(axis=1).to_numpy())
        means = " ".join(f"{mean:.4g}" for mean in by_seed)
        yield model, against, kind, measure, interval.value, interval.low, interval.high, interval.count, means


def _configs(study: StudyConfig, num_seeds: int) -> dict[tuple[str, int], TrainConfig]:
    """(model, seed) -> the settings of its run; the original needs one, since only its head depends on the seed."""
    untouched = study.train_config(untouched_method(study.train_config("full")))
    configs = {("original", study.seed): untouched}
    for seed in range(study.seed, study.seed + num_seeds):
        for method in ("full", "lora"):
            configs[method, seed] = replace(study.train_config(method), seed=seed)
    return configs


def _digest(dogs: Dogs, original: Path) -> str:
    """What a measurement depends on beside its run."""
    settings = [dogs.dataset.fingerprint(), original.name, STEPS, SHUFFLED_DOGS]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]


def _record(study: StudyConfig, table: pd.DataFrame, num_dogs: int, num_seeds: int, drawn: bool) -> dict[str, Any]:
    """The settings, the machine and, for drawings, the verdicts on the claims for each kind of map."""
    verdicts = {}
    for kind in KINDS if drawn else ():
        for claim, (verdict, findings) in judge_attention(table, kind).items():
            verdicts.setdefault(claim, {"statement": CLAIMS[claim][0]})[kind] = {
                "verdict": verdict,
                "conditions": [{**asdict(finding), "condition": finding.condition.statement} for finding in findings],
            }
    names = ("profile", "dataset", "scheme", "model_name", "epochs", "lr", "rank")
    settings = {name: getattr(study, name) for name in names} | {"dogs": num_dogs, "seeds": num_seeds}
    environment = describe_environment(pick_device("auto"))
    kept = {name: environment[name] for name in ("date", "machine", "torch", "commit")}
    return {"settings": settings, "environment": kept, "verdicts": verdicts}
