"""One trial: a command of woofkit in a process of its own, which may be killed, and what it left behind."""

import faulthandler
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.torch import load_file

from woofkit import data
from woofkit.__main__ import main
from woofkit.faults import REPORT
from woofkit.results import FILES, read_predictions
from woofkit.storage.weights import hash_tensors

PATIENCE = 120.0  # seconds after which a trial counts as one that hangs
SETTINGS = {"model_name": "test_vit", "weights": "random", "precision": "fp32", "dataset": "folder", "num_train": 0}
SETTINGS |= {"num_test": 0, "epochs": 3, "batch_size": 8, "augment": "flip-crop", "schedule": "cosine"}
PICTURES = 24  # of each of two classes
MEASURED_ANEW = {"train_seconds", "images_per_second", "peak_memory_mb", "date", "machine", "files", "commit"}
MEASURED_ANEW |= {"checksum"}  # of those, too
IMPORTED_LATE = (
    "woofkit.train",
    "woofkit.fast.frozen",
    "woofkit.stats.intervals",
    "woofkit.own.predict",
    "scipy.stats",
)
IMPORTED_LATE += ("woofkit.own.export", "woofkit.tables.results", "pyarrow.parquet", "torch._dynamo", "tqdm.auto")
IMPORTED_LATE += ("ruamel.yaml", "requests", "scipy.stats")
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Outcome:
    """How a trial's process ended: its exit status, -N after signal N, and all that it said."""

    status: int
    said: str
    hangs: bool = False

    @property
    def fault(self) -> str:
        """A traceback, a crash or a hang, in words; "" if there was none."""
        if self.hangs:
            _, _, main_thread = self.said.rpartition("Current thread")
            return "it hangs:" + " <".join(main_thread.splitlines()[1:4])
        if TRACEBACK in self.said:
            lines = [line for line in self.said.splitlines() if line.strip() and line != REPORT]
            return f"a traceback: {lines[-1]}"
        return "" if self.status >= 0 or self.status == -signal.SIGKILL else f"signal {-self.status}"


@dataclass(frozen=True)
class Place:
    """A folder for trials, and an undisturbed run to compare with."""

    folder: Path
    random: random.Random
    method: str = "full"

    def fresh(self) -> Path:
        """A new empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @property
    def whole(self) -> Path:
        """The folder of runs with the undisturbed one."""
        return self.folder / f"undisturbed-{self.method}"

    def copy(self) -> Path:
        """A new folder of runs with a copy of the undisturbed one; return the run."""
        root = self.fresh() / "runs"
        shutil.copytree(self.whole, root)
        return find_run(root)

    def train(
        self,
        root: Path,
        before: Callable[[], None] | None = None,
        kill_after: float | None = None,
        **changes: str | int | float,
    ) -> Outcome:
        """`python -m woofkit train` into `root`, in a process of its own, with these changes of SETTINGS."""
        given = (
            SETTINGS | {"runs_dir": str(root), "profile": "fuzz", "data_dir": str(self.folder / "pictures")} | changes
        )
        pairs = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
        return command(["train", "--method", self.method, *pairs], before, kill_after)


def in_child(work: Callable[[], int | None], kill_after: float | None = None) -> Outcome:
    """Do `work` in a forked process, whose exit status it gives; kill that after so many seconds."""
    said, into = os.pipe()  # not a file, which could be too large for the child's limits
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _be_child(work, into)
    os.close(into)
    os.set_blocking(said, False)
    heard, killed, begin = [], False, time.monotonic()
    while not (done := os.waitpid(process, os.WNOHANG))[0]:
        heard.append(_read(said))
        if not killed and time.monotonic() - begin > (PATIENCE if kill_after is None else kill_after):
            if kill_after is None:
                os.kill(process, signal.SIGUSR1)  # says where it is
                time.sleep(0.5)
            os.kill(process, signal.SIGKILL)
            killed = True
        time.sleep(0.005)
    heard.append(_read(said))
    os.close(said)
    words = b"".join(heard).decode(errors="replace")
    return Outcome(os.waitstatus_to_exitcode(done[1]), words, hangs=killed and kill_after is None)


def _be_child(work: Callable[[], int | None], into: int) -> NoReturn:
    status = 99
    try:
        os.dup2(into, 1)
        os.dup2(into, 2)
        faulthandler.register(signal.SIGUSR1, file=2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        status = work() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _read(pipe: int) -> bytes:
    """What has come since the last look."""
    chunks = []
    with suppress(BlockingIOError):
        while chunk := os.read(pipe, 1 << 16):
            chunks.append(chunk)
    return b"".join(chunks)


def command(words: list[str], before: Callable[[], None] | None = None, kill_after: float | None = None) -> Outcome:
    """`python -m woofkit WORDS` in a process of its own, after `before()` there."""

    def work() -> int:
        if before:
            before()
        return main(words)

    return in_child(work, kill_after)


def find_run(root: Path) -> Path:
    """The one run below a folder."""
    [run] = [file.parent for file in root.rglob("config.json") if ".damaged" not in file.parent.name]
    return run


def differences(run: Path, other: Path) -> str:
    """What differs between two runs beside times, in words."""
    metrics = [json.loads((each / "metrics.json").read_text()) for each in (run, other)]
    for name in metrics[0].keys() | metrics[1].keys():
        if name not in MEASURED_ANEW and metrics[0].get(name) != metrics[1].get(name):
            return f"{name}: {metrics[0].get(name)} and {metrics[1].get(name)}"
    histories = [pd.read_csv(each / "history.csv") for each in (run, other)]
    times = ["seconds", "images_per_second", "data_share"]
    if not histories[0].drop(columns=times).equals(histories[1].drop(columns=times)):
        return "history.csv"
    if not read_predictions(run).equals(read_predictions(other)):
        return "predictions.parquet"
    for name in FILES:
        if not name.endswith(".safetensors") or not (run / name).exists():
            continue
        if hash_tensors(load_file(run / name)) != hash_tensors(load_file(other / name)):
            return name
    return ""


def leftovers(root: Path) -> str:
    """What lies below a folder of runs that should not, in words."""
    kinds = ("*.tmp", "checkpoint*.pt")
    found = [str(path.relative_to(root)) for kind in kinds for path in root.rglob(kind) if ".damaged" not in str(path)]
    return f"left behind: {found[0]}" if found else ""


def finishes_equal(place: Place, root: Path) -> str:
    """Whether the same command now ends as the undisturbed run did, with nothing left behind; "" or what is wrong."""
    again = place.train(root)
    if again.status or again.fault:
        return again.fault or f"status {again.status}: {again.said.strip().splitlines()[-1:]}"
    return differences(find_run(root), find_run(place.whole)) or leftovers(root)


def prepare(place: Place) -> None:
    """Train the undisturbed run; its images are kept in the folder's cache from then on."""
    for name in IMPORTED_LATE:  # once here, and not in every trial's process
        import_module(name)
    data.CACHE = place.folder / "cache"
    noise = np.random.default_rng(0)
    for number in range(2 * PICTURES):
        file = place.folder / "pictures" / f"class-{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file)
    gc.collect()
    gc.freeze()  # each trial's collections pass over what it has from here
    done = place.train(place.whole)
    if done.status:
        raise RuntimeError(f"the undisturbed run failed: {done.said}")
