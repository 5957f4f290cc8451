"""`python -m woofkit forgetting`: what every finished run of a study has forgotten, beside what it has learned.

Each run is measured once and kept under the study's folder; the table goes to data/results/.
"""

from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd
from torch import nn

from woofkit.adapters import load_run_model, read_adapter, swap_adapter
from woofkit.config import PROJECT_ROOT, ConfigError, StudyConfig
from woofkit.data import make_transform
from woofkit.fast.runtime import pick_device
from woofkit.files import describe_environment, write_table
from woofkit.measure.forgetting import forgetting_rows, hits_path, kept_hits
from woofkit.measure.source_tasks import NUM_DRAWINGS, load_source_task
from woofkit.models import build_model, data_config, original_head
from woofkit.progress import progress_bar
from woofkit.results import load_run, load_runs, other_settings
from woofkit.storage.weights import hash_tensors

RESULTS = PROJECT_ROOT / "data" / "results"
SETTINGS = ("method", "lr", "lora.rank", "lora.targets", "lora.blocks", "label_fraction", "epochs", "seed")
NAMED = tuple(name.removeprefix("lora.") for name in SETTINGS)  # the rest is in `other`

LEARNED = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "num_test_images")
UNTOUCHED, SWITCHED_OFF = "untouched", "lora, switched off"


def study_forgetting(
    study: StudyConfig,
    source_dir: str = "",
    num_drawings: int = NUM_DRAWINGS,
    folder: Path = RESULTS,
    log: Callable[[str], None] = print,
    only: Collection[str] | None = None,
    name: str = "",
) -> Path:
    """Measure the untouched backbone and every finished run of the study on what the backbone was pretrained for.

    Two rows are no runs: "untouched", and "lora, switched off", a LoRA model whose adapter has been taken off again.

    Args:
        source_dir: folder with Imagenette for weights of ImageNet; "" downloads it.
        num_drawings: of the invented breeds, for the bundled weights.
        only: folders of the runs to measure; None is all of them.
        name: of the table, instead of the profile's.

    Raises:
        ConfigError: no finished run of the study's model and weights, or as `load_source_task`.
    """
    runs = load_runs(study.run_root)
    if not runs.empty:
        runs = runs[(runs["model_name"] == study.model_name) & (runs["weights"] == study.weights)]
        runs = runs[runs["label"] == "breed"]
        runs = runs if only is None else runs[runs["run"].isin(only)]
    if runs.empty:
        raise ConfigError(f"no finished run with weights {study.weights!r} in {study.run_root}: train some first")
    device = pick_device("auto")
    head = original_head(study.model_name, study.weights)
    backbone = build_model(study.model_name, weights=study.weights).to(device)
    transform = make_transform(data_config(backbone), study.preprocess)
    task = load_source_task(head.out_features, transform, source_dir, num_drawings, log)
    log(f"{len(runs)} runs on {len(task.labels):,} images of {task.name}")

    def measure(name: str, model: Callable[[], nn.Module], run: Path | None = None) -> pd.DataFrame:
        path = hits_path(study.run_root, name, task, run)
        return kept_hits(path, lambda: model().to(device), head, task, transform)

    before = measure(f"{UNTOUCHED}-{hash_tensors(backbone.state_dict())[:8]}", lambda: backbone)
    rows = [{"method": UNTOUCHED, **forgetting_rows(before, before)}]
    bar = progress_bar(len(runs), "forgetting", "runs", log)
    for run in runs.to_dict("records"):
        path = Path(run["run"])
        hits = measure(path.name, lambda path=path: load_run_model(path), path)
        row = {name.removeprefix("lora."): run.get(name) for name in (*SETTINGS, *LEARNED)}
        row["lr"] = None if run["method"] == "zero-shot" else row["lr"]  # nothing was trained
        row["other"] = other_settings(load_run(path), NAMED)
        rows.append({**row, **forgetting_rows(hits, before)})
        bar.update()
    if (lora := runs[runs["method"] == "lora"]["run"]).size:
        run = Path(lora.iloc[0])
        hits = measure(f"off-{run.name}", lambda: _switched_off(study, run), run)
        rows.append({"method": SWITCHED_OFF, **forgetting_rows(hits, before)})
    environment = describe_environment(device)
    table = pd.DataFrame(rows).assign(
        source=task.name, num_source_images=len(task.labels), date=environment["date"], machine=environment["machine"]
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"forgetting_{study.dataset}_{name or study.profile}.csv"
    write_table(table.round(5), path)
    return path


def forgetting_by_setting(dataset: str, folder: Path = RESULTS) -> pd.DataFrame:
    """Kept runs whose learning rate alone or, for LoRA, whose rank alone differs, for `plots.forgetting_lines`.

    Of every table kept for the dataset, the one with the most learning rates: the rows with all labels and most runs'
    epochs and layers, with `line` ("lr" or "rank") and `untouched`, the backbone's accuracy before. Empty without one.
    """
    tables = [pd.read_csv(path) for path in sorted(folder.glob(f"forgetting_{dataset}_*.csv"))]
    if not tables:
        return pd.DataFrame()
    table = max(tables, key=lambda each: each["lr"].nunique())
    before = table["head"].iloc[0]
    runs = table[table["test_accuracy"].notna() & (table["label_fraction"] == 1)]
    runs = runs[(runs["epochs"] == runs["epochs"].mode()[0]) & runs["method"].isin(("full", "lora", "probe", "bitfit"))]
    usual = {name: runs[name].dropna().mode() for name in ("rank", "targets")}
    lora = runs["method"] == "lora"
    rank_is, targets_are = (~lora | runs[name].isin(usual[name][:1]) for name in ("rank", "targets"))
    by_lr = runs[rank_is & targets_are].assign(line="lr")
    ranks = runs[lora & targets_are]
    ranks = ranks[ranks["lr"] == ranks.loc[~ranks["rank"].isin(usual["rank"][:1]), "lr"].max()].assign(line="rank")
    parts = [rows for rows, name in ((by_lr, "lr"), (ranks, "rank")) if rows[name].nunique() > 1]
    return pd.concat(parts).assign(untouched=before) if parts else pd.DataFrame()


def _switched_off(study: StudyConfig, run: Path) -> nn.Module:
    """The backbone, after LoRA's adapter has been put on and taken off."""
    model = build_model(study.model_name, weights=study.weights)
    swap_adapter(model, read_adapter(model, run / "adapter.safetensors"))
    return swap_adapter(model, None)
