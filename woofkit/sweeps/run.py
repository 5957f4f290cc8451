"""A sweep at work: `python -m woofkit sweep` hands it to Snakemake, which starts each job in a process of its own.

The command writes the sweep's agenda, a JSON file with the settings of all runs. A job is
`python -m woofkit.sweeps.run TASK AGENDA NAME`: it takes its settings from there and leaves one small file, which
`woofkit.sweeps.results` reads. `run_training` finds a finished equal run, so a lost file costs only a look.
"""

import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from woofkit.config import PROJECT_ROOT, SKETCH_SIZES, ConfigError, TrainConfig
from woofkit.fast.cores import share_cores
from woofkit.faults import as_exit_status
from woofkit.files import hold, write_json
from woofkit.profiles import parse_override
from woofkit.progress import Monitor
from woofkit.results import load_runs, percent, read_history, read_metrics
from woofkit.sweeps.engine import Engine
from woofkit.sweeps.grid import SETTINGS, Sweep, load_sweep, settings_hash
from woofkit.sweeps.results import IMAGEWOOF_SIZES, outcome_path, read_outcome
from woofkit.sweeps.results import keep as keep_runs

# Until a run of the method has finished: images per second in training, ViT-Tiny at 224 px, bf16 on two cores.
RATES = {"full": 70.0, "lora": 80.0, "bitfit": 85.0, "norm": 85.0, "last": 150.0, "probe": 190.0}
EVALUATION_RATE = 200.0  # images per second
MOST_WIDENINGS = 3  # of a search whose best rate lies at the edge of its grid
HIGHEST_RATE = 10.0
HERE = Engine()
START_SECONDS = 6.0  # Python, PyTorch, the model, the images
# What a cluster is asked for, beyond what is expected: its machines may be slower than the one that was measured, and
# the first run draws or decodes all images.
PATIENCE, START_MINUTES = 3.0, 10


def run_sweep(
    name: str, texts: dict[str, str], *, dry_run: bool = False, keep: bool = False, engine: Engine = HERE
) -> int:
    """Run a sweep, or what is left of it; return 0 (done), or Snakemake's status where a job failed.

    Raises:
        ConfigError: as `load_sweep` and `Engine.options`, or another sweep is at work in the same folder.
    """
    engine.options()
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
    status = run_jobs(sweep, engine)
    left = job_table(sweep)
    words = "the same command goes on with what is left" if (left["state"] == "to do").any() else "every run is done"
    print(f"{sweep.name}: {words}", summary(left), sep="\n")
    return status


def run_jobs(sweep: Sweep, engine: Engine) -> int:
    """Let Snakemake do the jobs that are left, in this process; return its exit status."""
    from snakemake import cli  # takes a second

    given = engine.options()
    busy = f"another sweep (process {{owner}}) is at work in {sweep.root}: wait for it, or stop it"
    (sweep.root / "jobs").mkdir(parents=True, exist_ok=True)
    with hold(sweep.root / ".sweep.lease", busy, wait=False):
        # Snakemake's own lock outlives a Snakemake that is killed. As we hold ours, nobody else is at work here.
        shutil.rmtree(sweep.root / ".snakemake" / "locks", ignore_errors=True)
        for job in sweep.jobs:
            if not read_outcome(sweep.root, job.name):  # the folder of its run is gone
                outcome_path(sweep.root, job.name).unlink(missing_ok=True)
        options = ["--snakefile", str(PROJECT_ROOT / "Snakefile"), "--directory", str(sweep.root)]
        options += ["--configfile", str(write_agenda(sweep, engine.command)), *given]
        if sweep.searches:  # other runs wait for them
            options += ["--prioritize", *(f"best_lr/{search}.json" for search in sweep.searches)]
        try:
            with chdir("."):  # Snakemake changes the folder
                cli.main(options)
        except SystemExit as end:  # always
            return end.code


def write_agenda(sweep: Sweep, launcher: str = "") -> Path:
    """Write what the Snakefile and the jobs know of the sweep into the folder of its runs; return the file.

    `minutes` are what a cluster is asked for: PATIENCE times what a run is expected to take, and START_MINUTES.
    """
    path, runs = sweep.root / f"{sweep.name}.agenda.json", {}
    rates = measured_rates(sweep.root)
    table = job_table(sweep, rates).drop_duplicates("job").set_index("job")
    texts = table[[name for name in table if name in SETTINGS]]
    for job in sweep.jobs:
        words = ", ".join(f"{name} {text}" for name, text in texts.loc[job.name].items() if text)
        words = words.removeprefix("method ")
        minutes = START_MINUTES + math.ceil(PATIENCE * expected_seconds(job.config, rates) / 60)
        about = {"search": job.search, "words": words, "minutes": minutes}
        runs[job.name] = {"settings": job.config.to_dict(), **about}
    write_json(path, {"agenda": str(path.resolve()), "launcher": launcher, "runs": runs, "searches": sweep.searches})
    return path


# --- a job ---


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job, TASK AGENDA NAME; return 0 (done), 1 (failed) or 128 + N (ended by signal N)."""
    share_cores()  # before anything imports PyTorch
    task, agenda, name = sys.argv[1:] if arguments is None else arguments
    path = Path(agenda).resolve()
    say = partial(print, file=sys.stderr, flush=True)

    def do() -> int:
        try:
            {"train": train, "choose": choose}[task](path.parent, json.loads(path.read_text()), name)
        except ConfigError as error:
            say(f"error: {error}")
            return 1
        return 0

    return as_exit_status(do, say)


def train(root: Path, agenda: dict[str, Any], name: str, monitor: Monitor | None = None) -> None:
    """Train a run, or find it trained, and write what came of it."""
    config, search = TrainConfig(**agenda["runs"][name]["settings"]), agenda["runs"][name]["search"]
    if search:
        config = replace(config, lr=json.loads((root / "best_lr" / f"{search}.json").read_text())["lr"])
    train_job(root, config, name, monitor)


def train_job(root: Path, config: TrainConfig, name: str, monitor: Monitor | None = None) -> None:
    """Train the run of a job, or find it trained, and write what came of it under the job's name."""
    from woofkit.train import run_training

    try:
        # A job outlives a Snakemake that is killed. The next job of the same run waits, instead of writing beside it.
        run = run_training(config, root, *([monitor] if monitor else []))
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


def choose(
    root: Path,
    agenda: dict[str, Any],
    search: str,
    train_one: Callable[[TrainConfig, str], None] | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Write the learning rate with the best validation accuracy, and the accuracies it was chosen by.

    The accuracy of a learning rate is a mean over seeds; where one of them diverged it is 0. Among equals the smallest
    learning rate is the best. A best rate at an end of the grid may have a better one beyond: the grid is widened and
    the same seeds are trained there, up to MOST_WIDENINGS times, by `train_one` or else `train_job`.

    Raises:
        ConfigError: all learning rates have diverged.
    """
    train_one = train_one or partial(train_job, root)
    tried, widened = [tuple(pair) for pair in agenda["searches"][search]], []
    for further in range(MOST_WIDENINGS + 1):
        runs = pd.DataFrame([{"lr": lr} | _outcome(root, job) for lr, job in tried])
        accuracy = runs.reindex(columns=["lr", "val_accuracy"]).groupby("lr")["val_accuracy"].mean(skipna=False)
        if accuracy.isna().all():
            rates = ", ".join(f"{lr:g}" for lr in accuracy.index)
            raise ConfigError(f"every learning rate tried for {search} diverged ({rates}): add lower ones")
        accuracy = accuracy.fillna(0.0)
        best = float(accuracy.idxmax())
        wider = next_rate([float(lr) for lr in accuracy.index], best)
        if not wider or further == MOST_WIDENINGS:
            break
        log(f"{search}: {best:g} is at the edge of its grid, so {wider:g} is tried, too")
        for lr, job in tuple(tried):
            if lr == agenda["searches"][search][0][0]:  # of each seed once
                config = replace(TrainConfig(**agenda["runs"][job]["settings"]), lr=wider)
                name = settings_hash(config.to_dict())
                if not read_outcome(root, name):
                    train_one(config, name)
                tried.append((wider, name))
                widened.append(name)
    words = ", at the edge of its grid: a wider one may hold a better" if wider else ""
    log(f"best learning rate of {search}: {best:g}, validation accuracy {percent(accuracy[best])}{words}")
    (root / "best_lr").mkdir(exist_ok=True)
    chosen = {"lr": best, "val_accuracy": accuracy.to_dict(), "widened": widened, "at_an_edge": bool(wider)}
    write_json(root / "best_lr" / f"{search}.json", chosen)


def _outcome(root: Path, job: str) -> dict[str, Any]:
    if outcome := read_outcome(root, job):
        return outcome
    raise ConfigError(f"nothing is known yet of job {job}, which this one waits for: try again")  # a slow file system


def next_rate(rates: Sequence[float], best: float) -> float | None:
    """The rate to try beyond the best of a grid, a step as wide as its last; None if it lies within, or is alone.

    Steps of about three end on 1 or 3 times a power of ten, as grids do.
    """
    rates = sorted(rates)
    if len(rates) < 2 or best not in (rates[0], rates[-1]):
        return None
    beside = rates[1] if best == rates[0] else rates[-2]
    wider = best * best / beside
    rounded = float(f"{10 ** (round(2 * math.log10(wider)) / 2):.1g}")
    if 0.8 < rounded / wider < 1.25 and rounded not in rates:
        wider = rounded
    return float(f"{min(wider, HIGHEST_RATE):.3g}") if best < HIGHEST_RATE else None


# --- what a sweep comes to ---


def job_table(sweep: Sweep, rates: dict[str, float] | None = None) -> pd.DataFrame:
    """One row per grid and job: method, lr and what else varies, the state, the minutes that it takes, and the run."""
    rates, rows = rates or measured_rates(sweep.root), []
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
    if config.dataset == "folder":
        sizes = _folder_sizes(config.data_dir, config.skip_unreadable)
    seconds = START_SECONDS + (config.num_test or sizes["test"]) / EVALUATION_RATE
    if config.method == "zero-shot":
        return seconds
    train = config.label_fraction * (config.num_train or sizes["train"])
    val = (config.num_val or sizes["val"]) if config.scheme == "clean" else 0
    return seconds + config.epochs * (train / rates[config.method] + val / EVALUATION_RATE)


@cache
def _folder_sizes(data_dir: str, skip_unreadable: bool) -> dict[str, int]:
    from woofkit.data import load_dataset  # takes seconds, and only pictures of one's own have to be counted

    source = {"data_dir": data_dir, "skip_unreadable": skip_unreadable}
    return {split: len(load_dataset("folder", split=split, **source)) for split in ("train", "val", "test")}


if __name__ == "__main__":
    sys.exit(main())
