"""A job of a sweep in a process of its own, started by Snakemake: `python -m woofkit.sweep_job TASK JSON`."""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from woofkit.config import ConfigError, TrainConfig
from woofkit.files import write_json
from woofkit.sweeps.plan import DIVERGED, Search, best_lr, val_accuracies
from woofkit.sweeps.time import progress_line
from woofkit.train import run_training

_PR_SET_PDEATHSIG = 1  # sys/prctl.h


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one task, "train" or "best", with what its JSON says; return 0 (done), 1 (failed) or 130 (interrupted)."""
    task, text = sys.argv[1:] if arguments is None else arguments
    given = json.loads(text)
    die_with(given.pop("parent"))
    try:
        {"train": train, "best": choose}[task](**given)
    except (ConfigError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def train(config: dict[str, Any], run: str, agenda: str) -> None:
    """Train the run, or find it trained, in the folder where it was planned."""
    planned = Path(run)
    print(progress_line(Path(agenda), planned), flush=True)
    try:
        made = run_training(TrainConfig(**config), planned.parent)
    except FloatingPointError as error:
        write_json(planned / DIVERGED, {"error": str(error)})
        raise
    if made != planned:
        raise ConfigError(f"{made.name} was planned as {planned.name}: images, weights or code have changed meanwhile")


def choose(name: str, runs: list, output: str) -> None:
    """Write the learning rate with the best validation accuracy, and those it was chosen from."""
    accuracies = val_accuracies(Search(name, tuple((lr, Path(run)) for lr, run in runs)))
    lr = best_lr(accuracies)
    edge = (
        ", at the edge of its grid: a wider one may hold a better" if lr in (min(accuracies), max(accuracies)) else ""
    )
    print(f"best learning rate of {name}: {lr:g}, val {accuracies[lr]:.1%}{edge}", flush=True)
    write_json(Path(output), {"lr": lr, "val_accuracy": accuracies})


def die_with(parent: int) -> None:
    """End this process at once when its parent process, of number `parent`, ends in whatever way.

    Linux sees to it; elsewhere a thread looks every second.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
