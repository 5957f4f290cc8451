"""`python -m woofkit forgetting`: what every finished run of a study has forgotten, beside what it has learned.

Each run is measured once and kept under the study's folder; the table goes to data/results/.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from torch import nn

from woofkit.adapters import load_run_model, read_adapter, swap_adapter
from woofkit.config import ConfigError, StudyConfig
from woofkit.data import make_transform
from woofkit.fast.runtime import Runtime
from woofkit.files import RESULTS, describe_environment, write_table
from woofkit.measure.forgetting import forgetting_rows, hits_path, kept_hits
from woofkit.measure.source_tasks import NUM_DRAWINGS, load_source_task
from woofkit.models import backbone, data_config, original_head
from woofkit.progress import progress_bar
from woofkit.results import load_run, load_runs, other_settings
from woofkit.storage.weights import hash_tensors

SETTINGS = ("method", "lr", "lora.rank", "lora.targets", "lora.blocks", "label_fraction", "epochs", "seed")
NAMED = tuple(name.removeprefix("lora.") for name in SETTINGS)  # the rest is in `other`
LEARNED = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "num_test_images")
UNTOUCHED, SWITCHED_OFF = "untouched", "lora, switched off"


class Selection(NamedTuple):
    """Some of a study's runs: a name for their table, and the runs' folders."""

    name: str
    runs: Collection[str]


def study_forgetting(
    study: StudyConfig,
    source_dir: str = "",
    num_drawings: int = NUM_DRAWINGS,
    folder: Path = RESULTS,
    log: Callable[[str], None] = print,
    selection: Selection | None = None,
) -> Path:
    """Measure the untouched backbone and every finished run of the study on what the backbone was pretrained for.

    Two rows are no runs: "untouched", and "lora, switched off", a LoRA model whose adapter has been taken off again.

    Args:
        source_dir: folder with Imagenette for weights of ImageNet; "" downloads it.
        num_drawings: of the invented breeds, for the bundled weights.
        selection: the runs to measure; None is all of them, in a table named after the profile.

    Raises:
        ConfigError: no finished run of the study's model and weights, or as `load_source_task`.
    """
    runs = _finished_runs(study, selection)
    runtime = Runtime.pick()
    untouched = backbone(study)
    transform = make_transform(data_config(untouched), study.preprocess)
    head = original_head(study.model_name, study.weights)
    task = load_source_task(head, transform, source_dir, num_drawings, log=log)
    log(f"{len(runs)} runs on {len(task):,} images of {task.name}")

    def measure(name: str, load: Callable[[], nn.Module], run: Path | None = None) -> pd.DataFrame:
        return kept_hits(hits_path(study.run_root, name, task, run), load, task, runtime)

    before = measure(f"{UNTOUCHED}-{hash_tensors(untouched.state_dict())[:8]}", lambda: untouched)
    rows = [{"method": UNTOUCHED, **forgetting_rows(before, before)}]
    with progress_bar(len(runs), "forgetting", "runs", log) as bar:
        for settings in runs.to_dict("records"):
            run = Path(settings["run"])
            hits = measure(run.name, lambda run=run: load_run_model(run), run)
            rows.append({**_settings_row(settings), **forgetting_rows(hits, before)})
            bar.update()
    if adapted := [Path(run) for run in runs.loc[runs["method"] == "lora", "run"]]:
        hits = measure(f"off-{adapted[0].name}", lambda: _switched_off(study, adapted[0]), adapted[0])
        rows.append({"method": SWITCHED_OFF, **forgetting_rows(hits, before)})
    environment = describe_environment(runtime.device)
    table = pd.DataFrame(rows).assign(
        source=task.name, num_source_images=len(task), date=environment["date"], machine=environment["machine"]
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"forgetting_{study.dataset}_{selection.name if selection else study.profile}.csv"
    write_table(table.round(5), path)
    return path


def kept_forgetting(dataset: str, folder: Path = RESULTS) -> pd.DataFrame:
    """The kept table of a dataset's runs that rests on the most training seeds; empty if nothing is kept.

    Of equal ones that with the most test images of the new task, then that with the most learning rates.
    """

    def weight(table: pd.DataFrame) -> tuple[float, ...]:
        known = table.reindex(columns=["seed", "num_test_images", "lr"])
        return known["seed"].nunique(), known["num_test_images"].fillna(0).max(), known["lr"].nunique()

    tables = [pd.read_csv(path) for path in sorted(folder.glob(f"forgetting_{dataset}_*.csv"))]
    return max(tables, key=weight).assign(dataset=dataset) if tables else pd.DataFrame()


def repeated_settings(table: pd.DataFrame) -> pd.DataFrame:
    """A kept table without the settings that have less than half of the seeds of the method's most repeated one.

    What is left can be compared; a search over learning rates, with its few seeds, is for `forgetting_by_setting`.
    """
    if table.empty:
        return table
    same = [name for name in (*NAMED, "other") if name in table and name != "seed"]
    seeds = table.groupby(same, dropna=False)["method"].transform("size")
    return table[seeds >= seeds.groupby(table["method"]).transform("max") / 2]


def forgetting_by_setting(dataset: str, folder: Path = RESULTS) -> pd.DataFrame:
    """Kept runs that differ in the learning rate alone or, for LoRA, in the rank, for `plots.forgetting_lines`.

    They are of `kept_forgetting`: its rows with all labels and with most runs' epochs and layers. Each rank is taken at
    the rate at which most of its runs were trained, among equals at one that other ranks have. `line` is "lr" or
    "rank", `untouched` the backbone's accuracy before. Empty without a table.
    """
    table = kept_forgetting(dataset, folder)
    if table.empty:
        return table
    before = table["head"].iloc[0]
    runs = table[table["test_accuracy"].notna() & (table["label_fraction"] == 1)]
    runs = runs[(runs["epochs"] == runs["epochs"].mode()[0]) & runs["method"].isin(("full", "lora", "probe", "bitfit"))]
    usual = {name: runs[name].dropna().mode() for name in ("rank", "targets")}
    lora = runs["method"] == "lora"
    rank_is, targets_are = (~lora | runs[name].isin(usual[name][:1]) for name in ("rank", "targets"))
    by_lr = runs[rank_is & targets_are].assign(line="lr")
    ranks = runs[lora & targets_are]
    shared = set(ranks.loc[~rank_is, "lr"])
    counts = {rank: own["lr"].value_counts() for rank, own in ranks.groupby("rank")}
    rates = {rank: max(own.index, key=lambda lr: (own[lr], lr in shared)) for rank, own in counts.items()}
    ranks = ranks[ranks["lr"] == ranks["rank"].map(rates)].assign(line="rank")
    parts = [rows for rows, name in ((by_lr, "lr"), (ranks, "rank")) if rows[name].nunique() > 1]
    return pd.concat(parts).assign(untouched=before) if parts else pd.DataFrame()


def _finished_runs(study: StudyConfig, selection: Selection | None) -> pd.DataFrame:
    """The study's finished runs that learned breeds from its weights, as `load_runs` has them; at least one."""
    runs = load_runs(study.run_root)
    if not runs.empty:
        own = (runs["model_name"] == study.model_name) & (runs["weights"] == study.weights)
        chosen = runs["run"].isin(selection.runs if selection else runs["run"])
        runs = runs[own & chosen & (runs["label"] == "breed")]
    if runs.empty:
        raise ConfigError(f"no finished run with weights {study.weights!r} in {study.run_root}: train some first")
    return runs


def _settings_row(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's row says of its settings and of what it has learned."""
    row = {name.removeprefix("lora."): run.get(name) for name in (*SETTINGS, *LEARNED)}
    if run["method"] == "zero-shot":  # nothing was trained
        row["lr"] = None
    return row | {"other": other_settings(load_run(Path(run["run"])), NAMED)}


def _switched_off(study: StudyConfig, run: Path) -> nn.Module:
    """The backbone, after LoRA's adapter has been put on and taken off."""
    model = backbone(study)
    swap_adapter(model, read_adapter(model, run / "adapter.safetensors"))
    return swap_adapter(model, None)
