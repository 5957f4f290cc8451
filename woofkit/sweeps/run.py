"""`python -m woofkit sweep`: check a sweep, print what it comes to, and hand it to Snakemake."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from woofkit.config import PROJECT_ROOT, parse_override, require_range, resolve_path
from woofkit.sweeps.grid import Sweep, available_sweeps, load_sweep
from woofkit.sweeps.plan import Job, hold_folder, plan
from woofkit.sweeps.results import keep as keep_runs
from woofkit.sweeps.time import effort, expected_seconds, measured_rates


def run_sweep(
    name: str, texts: dict[str, str], *, dry_run: bool = False, keep: bool = False, cores: int | None = None
) -> int:
    """Run a sweep, or what is left of it; return 0 (done), or Snakemake's status where a job failed.

    Raises:
        ConfigError: as `load_sweep` and `plan`, or another sweep is at work in the same folder.
    """
    cores = torch.get_num_threads() if cores is None else cores
    require_range("--cores", cores, 1, 4096)
    sweep = load_sweep(name, {parameter: parse_override(parameter, text) for parameter, text in texts.items()})
    if keep:
        print(keep_runs(sweep))
        return 0
    jobs = plan(sweep)
    if dry_run:
        print(job_table(sweep, jobs))
    print(summary(sweep, jobs))
    if dry_run:
        return 0
    hold_folder(sweep.root).release()  # refuses here, in plain words; the Snakefile holds it
    file = name if name in available_sweeps() else str(resolve_path(name))
    status = run_snakemake(file, sweep.root, list(texts.items()), cores, searches_left(jobs))
    print(what_is_left(sweep, plan(sweep)))
    return status


def what_is_left(sweep: Sweep, jobs: Sequence[Job]) -> str:
    """In a sentence or two, what the same command would go on with, and what it would not try again."""
    left = sum(not job.done and not job.diverged for job in jobs)
    diverged = [job.run.name for job in jobs if job.diverged]
    words = f"{left} runs are left: the same command goes on with them" if left else f"{sweep.name}: every run is done"
    if diverged:
        words += f"; diverged, and left out from now on: {', '.join(diverged)}"
    return words


def searches_left(jobs: Sequence[Job]) -> list[str]:
    """The files of the best learning rates that are still to be chosen: what other runs wait for goes first."""
    return sorted({f"best_lr/{job.search.name}.json" for job in jobs if job.search and not job.search.finished})


def run_snakemake(sweep: str, root: Path, texts: list[tuple[str, str]], cores: int, first: Sequence[str] = ()) -> int:
    """Run Snakemake in this process, on the files in `first` (and what they need) before others; return its status."""
    from snakemake import cli  # takes a second

    before = os.getcwd()
    places = ["--snakefile", str(PROJECT_ROOT / "Snakefile"), "--directory", str(root), "--cores", str(cores)]
    settings = ["--config", f"sweep={sweep}", f"parameters={json.dumps(texts)}"]
    rules = ["--rerun-triggers", "mtime", "--ignore-incomplete", "--nolock", "--keep-going", "--quiet", "all"]
    if first:
        rules += ["--prioritize", *first]
    try:
        cli.main([*places, *settings, *rules])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        os.chdir(before)
    return 0


def job_table(sweep: Sweep, jobs: list[Job]) -> str:
    """A line a job, grid by grid: its settings where they differ within the sweep, what it takes, where it is."""
    rates = measured_rates(sweep.root)
    rows = []
    for grid in sweep.grids:
        for job in jobs:
            if grid in job.grids:
                rows.append({"grid": grid, **_settings(job), **_state(job, grid, rates)})
    frame = pd.DataFrame(rows)
    always = ("grid", "method", "lr", "state", "minutes", "run")
    shown = [name for name in frame if name in always or len(set(frame[name]) - {""}) > 1]
    return frame[shown].to_string(index=False)


def summary(sweep: Sweep, jobs: list[Job]) -> str:
    """How many jobs are done and to be done in each grid and in all, and the hours that they will take."""
    rates = measured_rates(sweep.root)
    lines = [f"\n{sweep.name}: runs in {sweep.root}"]
    width = max(len(grid) for grid in (*sweep.grids, "in all"))
    for name in (*sweep.grids, "in all"):
        mine = [job for job in jobs if name in (*job.grids, "in all")]
        left = [job for job in mine if not job.done and not job.diverged]
        hours, done = sum(_seconds(job, rates) for job in left) / 3600, sum(job.done for job in mine)
        lines.append(f"  {name:<{width}}  {len(left):4} to do  {done:4} done  {hours:6.2f} h")
    if len(sweep.grids) > 1:
        lines.append("  (a run that stands in several grids is done once)")
    return "\n".join(lines)


def _settings(job: Job) -> dict:
    config, adapter = job.config, job.config.lora
    row = {"method": config.method, "lr": f"{config.lr:g}" if job.run else "best"}
    row["rank"] = str(adapter.rank) if adapter else ""
    row["targets"] = " ".join(adapter.targets) if adapter else ""
    row["blocks"] = str(adapter.blocks or "all") if adapter else ""
    return row | {name: getattr(config, name) for name in ("seed", "label_fraction", "epochs", "num_train", "label")}


def _state(job: Job, grid: str, rates: dict[str, float]) -> dict:
    state = "done" if job.done else "diverged" if job.diverged else "to do"
    if grid != job.grids[0]:
        state += f", as in {job.grids[0]}"
    elif job.run is None:
        state += ", after its search"
    minutes = "" if job.done or job.diverged or grid != job.grids[0] else f"{_seconds(job, rates) / 60:.1f}"
    return {"state": state, "minutes": minutes, "run": job.run.name if job.run else ""}


def _seconds(job: Job, rates: dict[str, float]) -> float:
    return expected_seconds(job.config.method, effort(job.config), rates)
