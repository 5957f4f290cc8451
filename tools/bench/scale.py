"""`python -m tools.bench.scale`: what many runs cost beside their training, kept in data/results/scale.json.

What is measured: reading folders of finished runs into one table, and what a job of a sweep spends, whatever the number
of its cells: its own process up to the point where training would start, and, on Slurm, the two Snakemakes that stand
between. The runs are made up; one is trained, so that its job finds it finished.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from woofkit.config import PROJECT_ROOT, TrainConfig
from woofkit.files import RESULTS, describe_environment, write_json
from woofkit.sweeps.grid import load_sweep
from woofkit.sweeps.results import outcome_path
from woofkit.sweeps.run import train, write_agenda
from woofkit.tables import markdown_table

RUNS, CELLS = (100, 1_000, 10_000), (10, 200, 2_000)
SETTINGS = (
    "{model_name: test_vit, weights: random, precision: fp32, num_train: 10, num_val: 10, num_test: 20, epochs: 1"
)
GATHER = """
import json, sys, time
from pathlib import Path
from woofkit.results import load_runs
import psutil
def megabytes():
    return psutil.Process().memory_info().rss / 1e6
before, wall, cpu = megabytes(), time.perf_counter(), time.process_time()
frame = load_runs(Path(sys.argv[1]))
found = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "rows": len(frame)}
found |= {"more_megabytes": megabytes() - before, "frame_megabytes": frame.memory_usage(deep=True).sum() / 1e6}
print(json.dumps(found))
"""


def main() -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        gathered = [row for number in RUNS for row in measure_gathering(Path(folder) / f"runs-{number}", number)]
        jobs = [measure_job(Path(folder) / f"cells-{number}", number) for number in CELLS]
    environment = describe_environment(torch.device("cpu"))
    write_json(RESULTS / "scale.json", {"environment": environment, "gathering": gathered, "jobs": jobs})
    print(scale_markdown(RESULTS / "scale.json"))


def measure_gathering(root: Path, number: int) -> list[dict[str, Any]]:
    """Seconds and memory to read so many runs: for the first time, and again with the index of the first."""
    for index in range(number):
        run = root / f"lora-r12-s{index}-{index:08x}"
        run.mkdir(parents=True)
        config = TrainConfig(method="full", seed=index).to_dict()
        (run / "config.json").write_text(json.dumps({"config": config, "identity": {"data": ["0" * 64] * 4}}, indent=2))
        (run / "history.csv").write_text("epoch,train_loss,val_accuracy\n1,1.0,0.5\n2,0.9,0.6\n")
        metrics = {name: 0.5 + index for name in METRICS} | {"selected_epoch": 2, "machine": "one", "commit": "0" * 40}
        (run / "metrics.json").write_text(json.dumps(metrics, indent=2))
    rows = []
    for again in (False, True):
        done = subprocess.run([sys.executable, "-c", GATHER, root], capture_output=True, text=True, check=True)
        rows.append({"runs": number, "again": again, **json.loads(done.stdout)})
    return rows


METRICS = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_loss", "trainable_parameters")
METRICS += ("train_seconds", "images_per_second", "peak_memory_mb", "train_accuracy", "checkpoint_bytes")


def measure_job(folder: Path, cells: int) -> dict[str, Any]:
    """CPU seconds of one job that finds its run finished, of a sweep with so many cells; and of Snakemake around it."""
    folder.mkdir()
    (folder / "tiny.yaml").write_text(f"{SETTINGS}, batch_size: 4, runs_dir: {folder / 'runs'}}}")
    (folder / "sweep.yaml").write_text(
        f"profile: {folder / 'tiny.yaml'}\ngrids: {{a: {{method: probe, seed: {list(range(cells))}}}}}\n"
    )
    start = time.process_time()
    sweep = load_sweep(folder / "sweep.yaml")
    outcome_path(sweep.root, "").parent.mkdir(parents=True)
    agenda, name = write_agenda(sweep), sweep.jobs[0].name
    planned = time.process_time() - start
    train(sweep.root, json.loads(agenda.read_text()), name)
    job = [sys.executable, "-m", "woofkit.sweeps.run", "train", str(agenda), name]
    around = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT_ROOT / "Snakefile"), "--directory"]
    around += [str(sweep.root), "--target-jobs", f"train:run={name}", "--allowed-rules", "train", "--cores", "1"]
    around += ["--force", "--nolock", "--ignore-incomplete", "--quiet", "all", "--configfiles", str(agenda)]
    own, both = cpu_seconds(job), cpu_seconds(around)
    return {
        "cells": cells,
        "agenda_megabytes": agenda.stat().st_size / 1e6,
        "plan_seconds": planned,
        "job_seconds": own,
        "snakemake_seconds": max(both - own, 0.0),
    }


def cpu_seconds(command: list[str], times: int = 2) -> float:
    """The fewest CPU seconds of several runs of a command, with all processes that it starts."""
    spent = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def scale_markdown(path: Path) -> str:
    """The two tables of docs/clusters.md."""
    record = json.loads(path.read_text(encoding="utf-8"))
    gathered = [
        [
            f"{row['runs']:,}{', again' if row['again'] else ''}",
            f"{row['wall_seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['more_megabytes']:.0f}",
            f"{row['frame_megabytes']:.1f}",
        ]
        for row in record["gathering"]
    ]
    jobs = [
        [
            f"{row['cells']:,}",
            f"{row['plan_seconds']:.1f}",
            f"{row['agenda_megabytes']:.2f}",
            f"{row['job_seconds']:.1f}",
            f"{row['snakemake_seconds']:.1f}",
        ]
        for row in record["jobs"]
    ]
    environment = record["environment"]
    return "\n\n".join(
        [
            markdown_table(["runs", "seconds", "CPU s", "more memory, MB", "table, MB"], gathered),
            markdown_table(["cells", "plan once, CPU s", "agenda, MB", "job, CPU s", "a Snakemake, CPU s"], jobs),
            f"Measured {environment['date'][:10]}, {environment['machine']}, a local disk, beside other work.",
        ]
    )


def hours_markdown(at_once: int = 50) -> str:
    """The table of docs/clusters.md on what runs take, from the runs that are kept in data/results/."""
    rows = []
    for name, what in (("rigor-small", "600 drawings"), ("imagewoof", "8,687 photographs")):
        runs = pd.read_csv(RESULTS / f"sweep_{name}.csv")
        runs = runs[(runs["epochs"] == 5) & (runs["label_fraction"] == 1)]
        runs = runs[runs["num_train_images"] == runs["num_train_images"].max()]
        for (method, machine), group in runs.groupby(["method", "machine"]):
            rows.append((f"{method}, {what}", machine, group["train_seconds"].median()))
    gpu = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))
    for method in ("full", "lora"):
        seconds = gpu["protocol"][method]["train_seconds"]
        rows.append((f"{method}, 9,025 photographs", gpu["environment"]["machine"], seconds))
    cells = [
        [
            what,
            machine,
            f"{seconds:,.0f}",
            *(f"{number * seconds / 3600 / at_once:,.1f}" for number in (1_000, 100_000)),
        ]
        for what, machine, seconds in rows
    ]
    head = ["a run of five epochs", "machine", "training, s", "1,000 runs, h", "100,000 runs, h"]
    return markdown_table(head, cells, "llrrr")


if __name__ == "__main__":
    main()
