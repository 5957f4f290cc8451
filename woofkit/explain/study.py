"""Where the models of a study look, measured on many dogs: means, paired differences and their intervals.

The measurements of each model are kept under the study's folder as they are made, so a command that broke off goes on
with the next model. What they say of the paper's claims is judged in `claims.study`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from woofkit.adapters import load_run_model
from woofkit.config import NUM_BREEDS, StudyConfig, TrainConfig, require_range
from woofkit.data import make_transform, stratified_subset
from woofkit.explain.maps import BASELINES, KINDS, explain_images, require_maps
from woofkit.explain.per_model import Dogs, load_dogs, measure_model
from woofkit.fast.runtime import Runtime
from woofkit.files import RESULTS, describe_environment, write_atomic, write_table
from woofkit.models import build_for, data_config, untouched_method
from woofkit.progress import ProgressLines
from woofkit.stats.intervals import mean_interval
from woofkit.stats.seeds import crossed_mean
from woofkit.train import load_splits, run_training

NUM_DOGS, NUM_SEEDS = 200, 3
VERSION = 2  # raised whenever what is measured changes, so that nothing kept before is taken for it
COLUMNS = ("first", "second", "map", "quantity", "value", "low", "high", "freedom", "dogs", "by_seed")


def measure_study(
    study: StudyConfig,
    num_dogs: int = NUM_DOGS,
    num_seeds: int = NUM_SEEDS,
    folder: Path = RESULTS,
    log: Callable[[str], None] = print,
) -> tuple[pd.DataFrame, Path, dict[str, Any]]:
    """Train what is missing, measure the original, full fine-tuning and LoRA, and write the table to `folder`.

    Returns the table of `summarize`, its file, and what it was measured with: the settings and the environment.

    Deletion, insertion and the sanity check are measured on the first seed's models. The dogs are a stratified subset
    of the test split, the same for every model.

    Raises:
        ConfigError: settings out of range, or as `run_training`.
    """
    require_range("seeds", num_seeds, 1, 100)
    configs = _configs(study, num_seeds)
    untouched = next(iter(configs))
    model = build_for(configs[untouched])
    transform = make_transform(data_config(model), study.preprocess)
    require_maps(model, transform.size)
    test = load_splits(configs[untouched], transform.size)["test"]
    require_range("dogs", num_dogs, NUM_BREEDS, len(test))
    runs = {key: run_training(config, study.run_root, ProgressLines(log)) for key, config in configs.items()}
    runtime = Runtime.pick(precision=study.precision)
    original = load_run_model(runs[untouched]).to(runtime.device)
    dogs = load_dogs(test.subset(stratified_subset(test.labels, num_dogs, seed=0)), transform)
    before, frames = None, {}
    for (model, seed), run in runs.items():
        faithful = seed == study.seed
        digest = _digest(dogs, run, runs[untouched], faithful, runtime.precision)
        kept = study.run_root / "attention" / f"{run.name}-{digest}.parquet"
        if kept.is_file():
            log(f"{model}, seed {seed}: found measured in {kept.name}")
        else:
            log(f"{model}, seed {seed}: {num_dogs} dogs")
            before = before or explain_images(original, dogs)
            measured = load_run_model(run).to(runtime.device)
            frame = measure_model(measured, original, before, dogs, runtime if faithful else None, log)
            frame.attrs = describe_environment(runtime.device)  # kept in the file
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, lambda temporary, frame=frame: frame.to_parquet(temporary, index=False))
        frames[model, seed] = pd.read_parquet(kept)
    table = summarize(frames)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kept_name(study)}.csv"
    write_table(table.round(5), path)
    settings = asdict(study) | {"weights": Path(study.weights).name}  # where files lie concerns nobody
    del settings["runs_dir"], settings["data_dir"]
    settings |= {"dogs": num_dogs, "seeds": num_seeds, "runs": [run.name for run in runs.values()]}
    environment = max((frame.attrs for frame in frames.values()), key=lambda attrs: attrs["date"])
    return table, path, {"settings": settings, "environment": environment}


def kept_name(study: StudyConfig) -> str:
    """The name, without its ending, under which a study's table and verdicts are kept."""
    return f"attention_{study.dataset}_{study.profile}"


def summarize(frames: Mapping[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """Means with intervals over dogs and seeds: one row per model, map and quantity, and the paired differences.

    `frames` are (model, seed) -> what `measure_model` gave; `by_seed` has the mean of each seed. `first` is the model
    and `second` what is subtracted, dog by dog: another model, or the same model's map that knows nothing; "" without.
    Areas also come "beyond the centre map's" and "beyond the random map's", which takes out how sure the model is.
    """
    wide = {
        key: _with_gains(frame.pivot(index="dog", columns=["map", "measure"], values="value"))
        for key, frame in frames.items()
    }
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


def _with_gains(values: pd.DataFrame) -> pd.DataFrame:
    """Add what the areas of each kind of map have beyond those of the maps that know nothing."""
    for baseline in BASELINES:
        for (kind, measure), gain in _beyond_baseline(values, baseline).items():
            if measure.startswith("area under"):
                values[kind, f"{measure}, beyond the {baseline} map's"] = gain
    return values


def _beyond_baseline(values: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """What each kind of map has beyond one that knows nothing, for every measure that both have."""
    known = values[baseline]
    beyond = {
        (kind, measure): values[kind, measure] - known[measure]
        for kind in KINDS
        if kind in values
        for measure in values[kind]
        if measure in known
    }
    return pd.DataFrame(beyond)


def _rows(model: str, against: str, each: list[pd.DataFrame]) -> Iterator[tuple]:
    """A row for each column of the seeds' frames (dogs, (map, measure)); a column may be missing for some seeds."""
    columns = dict.fromkeys(column for frame in each for column in frame)
    for kind, measure in columns:
        if against and kind in BASELINES:  # a baseline is the same map for every model
            continue
        seeds = [frame[kind, measure].to_numpy() for frame in each if (kind, measure) in frame]
        values = np.array([seed for seed in seeds if not np.isnan(seed).all()])  # (seeds, dogs)
        if values.size == 0:
            continue
        known = values[:, ~np.isnan(values).any(axis=0)]
        if known.size == 0:  # a part too small on every dog
            continue
        several = min(known.shape) > 1
        found = crossed_mean(known, np.zeros(known.shape[1])) if several else mean_interval(known.mean(axis=0))
        freedom = found.freedom if several else float("inf")
        means = " ".join(f"{mean:.4g}" for mean in np.nanmean(values, axis=1))
        yield model, against, kind, measure, found.value, found.low, found.high, freedom, known.shape[1], means


def _configs(study: StudyConfig, num_seeds: int) -> dict[tuple[str, int], TrainConfig]:
    """(model, seed) -> the settings of its run; the original needs one, since only its head depends on the seed."""
    untouched = study.train_config(untouched_method(study.train_config("full")))
    configs = {("original", study.seed): untouched}
    for seed in range(study.seed, study.seed + num_seeds):
        for method in ("full", "lora"):
            configs[method, seed] = replace(study.train_config(method), seed=seed)
    return configs


def _digest(dogs: Dogs, run: Path, original: Path, faithful: bool, precision: str) -> str:
    """What a measurement depends on: the dogs and their masks, both models' weights, and what is measured how."""
    digest = hashlib.sha256(json.dumps([dogs.dataset.fingerprint(), VERSION, faithful, precision]).encode())
    if dogs.masks is not None:
        digest.update(dogs.masks.numpy().tobytes())
    for folder in (run, original):
        for path in sorted(folder.glob("*.safetensors")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
