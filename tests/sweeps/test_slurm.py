"""A sweep on a real Slurm of two virtual nodes, and what it takes: jobs cancelled, a node drained, Snakemake killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from woofkit.config import PROJECT_ROOT
from woofkit.sweeps.engine import PROFILES
from woofkit.sweeps.grid import Sweep, load_sweep
from woofkit.sweeps.results import collect
from woofkit.sweeps.run import job_table

SLURM = Path(__file__).with_name("slurm.sh")
GRIDS = """
profile: test
grids:
  search: {method: lora, lr: [1e-3, 1e-2], epochs: 60}
  best: {method: lora, lr: best of search, epochs: 60, seed: 1}
"""
# Every process that trains says after each epoch, while it holds the run's lock, which run it trains.
WATCHED = """
import sys
if "woofkit.sweeps.run" in sys.orig_argv:
    import os
    from pathlib import Path
    from woofkit import data, progress
    data.CACHE = Path({cache!r})
    def epoch(self, record, before=progress.ProgressLines.epoch):
        before(self, record)
        run, job = f"{{self.config.lr:g}}-{{self.config.seed}}", os.environ.get("SLURM_JOB_ID", "0")
        with open({log!r}, "a") as file:
            file.write(f"{{run}} {{job}} {{os.getpid()}} {{record['epoch']}}\\n")
    progress.ProgressLines.epoch = epoch
"""
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("slurmctld") or os.getuid() != 0, reason="needs root, slurm-wlm and munge"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Two idle nodes."""
    folder = tmp_path_factory.mktemp("slurm")
    done = subprocess.run([SLURM, "up", folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        pytest.skip(f"no Slurm: {done.stderr}")
    yield
    subprocess.run([SLURM, "down", folder], check=True)


class Site:
    """A folder of runs, and the sweep that trains them."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.file = folder, folder / "searched.yaml"
        self.file.write_text(GRIDS)
        self.log = folder / "trained.log"
        self.log.touch()
        (folder / "sitecustomize.py").write_text(WATCHED.format(cache=str(cache), log=str(self.log)))
        self.parameters = {"model_name": "test_vit", "weights": "random", "runs_dir": str(folder / "runs")}
        self.parameters |= {"num_train": 10, "num_val": 10, "precision": "fp32"}

    @property
    def sweep(self) -> Sweep:
        return load_sweep(self.file, self.parameters)

    def start(self, log: str, *options: str) -> subprocess.Popen:
        pairs = [word for name, value in self.parameters.items() for word in ("-p", f"{name}={value}")]
        command = [sys.executable, "-m", "woofkit", "sweep", str(self.file), *pairs, *options]
        places = os.pathsep.join([str(self.folder), str(PROJECT_ROOT)])
        environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
        with (self.folder / log).open("w") as file:
            return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def trained(self) -> list[tuple[str, str, str, int]]:
        """Run, Slurm's job, process and epoch, in the order in which the epochs ended."""
        words = (line.split() for line in self.log.read_text().splitlines())
        return [(run, job, process, int(epoch)) for run, job, process, epoch in words]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def site(tmp_path, cache):
    return Site(tmp_path, cache)


@pytest.fixture(scope="module")
def local(tmp_path_factory, cache):
    """The same sweep on this machine, in one thread."""
    here = Site(tmp_path_factory.mktemp("local"), cache)
    assert here.start("local.log", "--cores", "1").wait(900) == 0, (here.folder / "local.log").read_text()
    return here


def wait_until(what, seconds: float = 480.0):
    """What `what()` returns, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.2)
    pytest.fail(f"this never came: {what}")


def queue() -> list[str]:
    """The jobs that Slurm knows and that have not ended."""
    return subprocess.run(["squeue", "--noheader", "--format=%i %T"], capture_output=True, text=True).stdout.split(
        "\n"
    )[:-1]


def require_all_once_and_equal(site: Site, local: Site) -> None:
    """Every job is done, every run was trained by one process at a time, and every result is that of a local run."""
    assert set(job_table(site.sweep)["state"]) == {"done"}
    runs, expected = (collect(each.sweep).drop_duplicates("run").set_index("run") for each in (site, local))
    folders, same = (sorted(Path(run).name for run in each.index) for each in (runs, expected))
    assert folders == same
    root = site.sweep.root
    assert sorted(path.parent.name for path in root.glob("*/metrics.json")) == folders
    assert not [*root.glob("*/checkpoint*"), *root.glob("*/lease*"), *root.glob("**/*.tmp")]
    for name in folders:
        here, there = root / name, local.sweep.root / name
        tensors, others = (load_file(run / "adapter.safetensors") for run in (here, there))
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[name], others[name]) for name in tensors)
        pd.testing.assert_frame_equal(
            pd.read_parquet(here / "predictions.parquet"),
            pd.read_parquet(there / "predictions.parquet"),
            check_exact=True,
        )
        history, other = (pd.read_csv(run / "history.csv").filter(regex="loss|accuracy|lr") for run in (here, there))
        pd.testing.assert_frame_equal(history, other, check_exact=True)
    epochs = site.trained()
    for run in {run for run, *_ in epochs}:
        turns = [process for process, _ in groupby(process for name, _, process, _ in epochs if name == run)]
        assert len(turns) == len(set(turns)), f"two processes trained {run} at once: {turns}"


@pytest.mark.skipif(not find_spec("snakemake_executor_plugin_slurm"), reason="pip install -e '.[slurm]'")
def test_a_sweep_outlives_a_cancelled_job_a_drained_node_and_its_own_death(slurm, site, local):
    profile = site.folder / "profile"
    profile.mkdir()
    text = (PROFILES / "slurm" / "config.yaml").read_text()
    for usual, here in {
        "train: 4": "train: 1",
        "choose: 4": "choose: 1",
        "checks: 20": "checks: 5",
        ": 4000": ": 2000",
    }.items():
        assert usual in text
        text = text.replace(usual, here)
    (profile / "config.yaml").write_text(f"{text}slurm-keep-successful-logs: true\n")
    options = ("--cluster", str(profile))

    first = site.start("first.log", *options)
    cancelled, job, _, _ = wait_until(lambda: [line for line in site.trained() if line[3] >= 3])[0]
    subprocess.run(["scancel", job], check=True)
    subprocess.run(["scontrol", "update", "nodename=n1", "state=drain", "reason=test"], check=True)
    wait_until(lambda: "Trying to restart" in (site.folder / "first.log").read_text())
    subprocess.run(["scontrol", "update", "nodename=n1", "state=resume"], check=True)
    # The run that was cancelled goes on in another job, after its last epoch.
    again = wait_until(lambda: [line for line in site.trained() if line[0] == cancelled and line[1] != job])
    last = max(epoch for _, its, _, epoch in site.trained() if its == job)
    assert again[0][3] in (last, last + 1)  # as the checkpoint of the last epoch may not have been written any more

    # Snakemake is killed with jobs at work, which go on; the next Snakemake sends the same runs again.
    before = len(site.trained())
    wait_until(lambda: len(site.trained()) > before and "RUNNING" in str(queue()))
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert queue()
    second = site.start("second.log", *options)
    assert second.wait(900) == 0, (site.folder / "second.log").read_text()
    require_all_once_and_equal(site, local)


def test_a_launcher_brings_jobs_to_slurm_and_leaves_none_behind(slurm, site, local):
    options = ("--launcher", "srun -Q -n1 -c1 --mem=2000 -t 10", "--jobs", "3")
    first = site.start("first.log", *options)
    wait_until(lambda: len({job for _, job, _, _ in site.trained()}) == 2)
    jobs = queue()
    assert [state for job in jobs for state in job.split()[1:]].count("RUNNING") >= 1
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: not queue(), 30)
    trained = site.trained()
    time.sleep(5)
    assert site.trained() == trained  # nobody trains on
    second = site.start("second.log", *options)
    assert second.wait(900) == 0, (site.folder / "second.log").read_text()
    assert re.search("every run is done", (site.folder / "second.log").read_text())
    require_all_once_and_equal(site, local)
