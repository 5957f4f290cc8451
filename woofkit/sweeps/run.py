"""A sweep at work: `python -m woofkit sweep` hands it to Snakemake, which starts each job in a process of its own.

The command writes the sweep's agenda, a JSON file with the settings of all runs. A job is
`python -m woofkit.sweeps.run TASK AGENDA NAME`: it takes its settings from there and leaves one small file, which
`woofkit.sweeps.results` reads. `run_training` finds a finished equal run, so a lost file costs only a look.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from woofkit.config import PROJECT_ROOT, SKETCH_SIZES, ConfigError, TrainConfig, parse_override, require_range
from woofkit.fast.cores import share_cores
from woofkit.files import hold, write_json
from woofkit.results import load_runs, read_history, read_metrics
from woofkit.sweeps.grid import SETTINGS, Sweep, load_sweep
from woofkit.sweeps.results import keep as keep_runs
from woofkit.sweeps.results import outcome_path, read_outcome

PROFILE = PROJECT_ROOT / "sweeps" / "profiles" / "default"
# Until a run of the method has finished: images per second in training, ViT-Tiny at 224 px, bf16 on two cores.
RATES = {"full": 70.0, "lora": 80.0, "bitfit": 85.0, "norm": 85.0, "last": 150.0, "probe": 190.0}
EVALUATION_RATE = 200.0  # images per second
START_SECONDS = 6.0  # Python, PyTorch, the model, the images
IMAGEWOOF_SIZES = {"clean": {"train": 8687, "val": 3767, "test": 500}, "paper": {"train": 9025, "val": 0, "test": 3929}}


def run_sweep(
    name: str, texts: dict[str, str], *, dry_run: bool = False, keep: bool = False, cores: int | None = None
) -> int:
    """Run a sweep, or what is left of it; return 0 (done), or Snakemake's status where a job failed.

    Raises:
        ConfigError: as `load_sweep`, or another sweep is at work in the same folder.
    """
    require_range("--cores", 1 if cores is None else cores, 1, 4096)
    sweep = load_sweep(name, {parameter: parse_override(parameter, text) for parameter, text in texts.items()})
    if keep:
        print(keep_runs(sweep))
        return 0
    jobs = job_table(sweep)
    if dry_run:
        print(jobs.to_string(index=False, float_format="{:.1f}".format), end="\n\n")
    print(f"{sweep.name}: runs in {sweep.root}", summary(jobs), sep="\n")
    if dry_run:
        return 0
    status = run_jobs(sweep, cores)
    left = job_table(sweep)
    words = "the same command goes on with what is left" if (left["state"] == "to do").any() else "every run is done"
    print(f"{sweep.name}: {words}", summary(left), sep="\n")
    return status


def run_jobs(sweep: Sweep, cores: int | None = None) -> int:
    """Let Snakemake do the jobs that are left, in this process; return its exit status."""
    from snakemake import cli  # takes a second

    busy = f"another sweep is at work in {sweep.root}: wait for it, or stop it"
    (sweep.root / "jobs").mkdir(parents=True, exist_ok=True)
    with hold(sweep.root / ".sweep.lock", busy):
        # Snakemake's own lock outlives a Snakemake that is killed. As we hold ours, nobody else is at work here.
        shutil.rmtree(sweep.root / ".snakemake" / "locks", ignore_errors=True)
        for job in sweep.jobs:
            if not read_outcome(sweep.root, job.name):  # the folder of its run is gone
                outcome_path(sweep.root, job.name).unlink(missing_ok=True)
        options = ["--snakefile", str(PROJECT_ROOT / "Snakefile"), "--directory", str(sweep.root)]
        options += ["--configfile", str(write_agenda(sweep)), "--workflow-profile", str(PROFILE)]
        options += ["--cores", str(cores or os.cpu_count())]
        if sweep.searches:  # other runs wait for them
            options += ["--prioritize", *(f"best_lr/{search}.json" for search in sweep.searches)]
        try:
            with chdir("."):  # Snakemake changes the folder
                cli.main(options)
        except SystemExit as end:  # always
            return end.code


def write_agenda(sweep: Sweep) -> Path:
    """Write what the Snakefile and the jobs know of the sweep into the folder of its runs; return the file."""
    path, runs = sweep.root / f"{sweep.name}.agenda.json", {}
    table = job_table(sweep).drop_duplicates("job").set_index("job")
    texts = table[[name for name in table if name in SETTINGS]]
    for job in sweep.jobs:
        words = ", ".join(f"{name} {text}" for name, text in texts.loc[job.name].items() if text)
        words = words.removeprefix("method ")
        runs[job.name] = {"settings": job.config.to_dict(), "search": job.search, "words": words}
    write_json(path, {"agenda": path.name, "runs": runs, "searches": sweep.searches})
    return path


# --- a job ---


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job, TASK AGENDA NAME; return 0 (done), 1 (failed) or 130 (interrupted)."""
    share_cores()  # before anything imports PyTorch
    task, agenda, name = sys.argv[1:] if arguments is None else arguments
    path = Path(agenda).resolve()
    try:
        {"train": train, "choose": choose}[task](path.parent, json.loads(path.read_text()), name)
    except (ConfigError, ConnectionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def train(root: Path, agenda: dict[str, Any], name: str) -> None:
    """Train a run, or find it trained, and write what came of it."""
    from woofkit.train import run_training

    config, search = TrainConfig(**agenda["runs"][name]["settings"]), agenda["runs"][name]["search"]
    if search:
        config = replace(config, lr=json.loads((root / "best_lr" / f"{search}.json").read_text())["lr"])
    try:
        # A job outlives a Snakemake that is killed. The next job of the same run waits, instead of writing beside it.
        run = run_training(config, root)
        outcome = {"run": run.name, "val_accuracy": val_accuracy(run)}
    except FloatingPointError as error:  # it would diverge again
        print(f"diverged: {error}", flush=True)
        outcome = {"diverged": str(error)}
    write_json(outcome_path(root, name), outcome)


def val_accuracy(run: Path) -> float | None:
    """The validation accuracy of a finished run at its selected epoch; None without a validation split."""
    metrics = read_metrics(run)
    if "selected_epoch" not in metrics:  # zero-shot
        return None
    accuracy = float(read_history(run).set_index("epoch").loc[metrics["selected_epoch"], "val_accuracy"])
    return None if math.isnan(accuracy) else accuracy


def choose(root: Path, agenda: dict[str, Any], search: str) -> None:
    """Write the learning rate with the best validation accuracy, and the accuracies it was chosen by.

    The accuracy of a learning rate is a mean over seeds; where one of them diverged it is 0. Among equals the smallest
    learning rate is the best.

    Raises:
        ConfigError: all learning rates have diverged.
    """
    runs = pd.DataFrame([{"lr": lr} | read_outcome(root, job) for lr, job in agenda["searches"][search]])
    accuracy = runs.reindex(columns=["lr", "val_accuracy"]).groupby("lr")["val_accuracy"].mean(skipna=False)
    if accuracy.isna().all():
        tried = ", ".join(f"{lr:g}" for lr in accuracy.index)
        raise ConfigError(f"every learning rate tried for {search} diverged ({tried}): add lower ones")
    accuracy = accuracy.fillna(0.0)
    best = accuracy.idxmax()
    edge = best in (accuracy.index[0], accuracy.index[-1])
    words = ", at the edge of its grid: a wider one may hold a better" if edge else ""
    print(f"best learning rate of {search}: {best:g}, val {accuracy[best]:.1%}{words}", flush=True)
    (root / "best_lr").mkdir(exist_ok=True)
    write_json(root / "best_lr" / f"{search}.json", {"lr": best, "val_accuracy": accuracy.to_dict()})


# --- what a sweep comes to ---


def job_table(sweep: Sweep) -> pd.DataFrame:
    """One row per grid and job: method, lr and what else varies, the state, the minutes that it takes, and the run."""
    rates, rows = measured_rates(sweep.root), []
    for grid in sweep.grids:
        for job in sweep.jobs_of(grid):
            settings = job.config.to_dict()
            settings |= settings.pop("lora") or {}
            settings["lr"] = "best" if job.search else f"{job.config.lr:g}"
            texts = {name: str(value) for name, value in settings.items()}
            outcome = read_outcome(sweep.root, job.name)
            state = "done" if "run" in outcome else "diverged" if outcome else "to do"
            minutes = 0.0 if outcome else expected_seconds(job.config, rates) / 60
            about = {"state": state, "minutes": minutes, "run": outcome.get("run", ""), "job": job.name}
            rows.append({"grid": grid, **texts, **about})
    table = pd.DataFrame(rows)
    varied = [name for name in SETTINGS if name in table and (name in ("method", "lr") or table[name].nunique() > 1)]
    return table[["grid", *varied, "state", "minutes", "run", "job"]].fillna("")


def summary(jobs: pd.DataFrame) -> str:
    """How many jobs of a `job_table` are to do, done or diverged, and the hours that are left: per grid and in all."""
    counts = jobs.assign(**{state: jobs["state"] == state for state in ("to do", "done", "diverged")})
    counts["hours"] = jobs["minutes"] / 60
    columns = ["to do", "done", "diverged", "hours"]
    by_grid = counts.groupby("grid", sort=False)[columns].sum()
    by_grid.loc["in all"] = counts.drop_duplicates("job")[columns].sum()  # a job of several grids is done once
    return by_grid.to_string(float_format="{:.2f}".format)


def measured_rates(root: Path) -> dict[str, float]:
    """Images per second in training, by method: the median of the finished runs below `root`, else RATES."""
    runs = load_runs(root).reindex(columns=["method", "images_per_second"]).dropna()
    return RATES | runs.groupby("method")["images_per_second"].median().to_dict()


def expected_seconds(config: TrainConfig, rates: dict[str, float]) -> float:
    """How long a run takes, from its settings: to start, to train and validate in each epoch, and to test."""
    sizes = SKETCH_SIZES if config.dataset == "sketchwoof" else IMAGEWOOF_SIZES[config.scheme]
    seconds = START_SECONDS + (config.num_test or sizes["test"]) / EVALUATION_RATE
    if config.method == "zero-shot":
        return seconds
    train = config.label_fraction * (config.num_train or sizes["train"])
    val = (config.num_val or sizes["val"]) if config.scheme == "clean" else 0
    return seconds + config.epochs * (train / rates[config.method] + val / EVALUATION_RATE)


if __name__ == "__main__":
    sys.exit(main())
