"""Several processes train as one: the same losses, the same weights on every rank, and one that writes.

Run by torchrun, this file is also what each of the processes does: `main` below.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import transform_for
from woofkit import data, train
from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.data import Images
from woofkit.fast import ranks
from woofkit.fast.frozen import start_late
from woofkit.fast.ranks import ENDED, Ranks
from woofkit.fast.runtime import Runtime
from woofkit.models import build_for
from woofkit.progress import Monitor, ProgressLines
from woofkit.results import read_history, read_metrics, read_predictions
from woofkit.storage.checkpoints import load_checkpoint
from woofkit.storage.weights import hash_tensors
from woofkit.train import evaluate, fit, run_training

SIDE = 160
# 21 images in batches of 10: the last batch has one, and all ranks but the first have none of it.
CONFIG = TrainConfig(
    model_name="test_vit", weights="random", precision="fp32", device="cpu", epochs=2, batch_size=10, lr=1e-3
)
LORA = LoRAConfig(rank=2, bias=True)
CASES = {
    "full": replace(CONFIG, method="full", augment="flip-crop"),
    "lora": replace(CONFIG, method="lora", lora=LORA, schedule="cosine"),
    "bitfit": replace(CONFIG, method="bitfit"),
    "probe": replace(CONFIG, method="probe", fast=False),
    "frozen": replace(CONFIG, method="probe"),
    "parts": replace(CONFIG, method="full", micro_batch=2),
    "stopped": replace(CONFIG, method="bitfit"),
    "dropout": replace(CONFIG, method="lora", lora=replace(LORA, dropout=0.5)),
}
EXACT = [name for name in CASES if name != "dropout"]  # each rank draws its own dropout
RUN = replace(CONFIG, dataset="sketchwoof", num_train=11, num_val=10, num_test=10, epochs=3, batch_size=5)


def noise(count, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return Images(pixels, np.arange(count) % 10, transform_for(SIDE))


def trained(name, folder):
    """What comes of a case on this rank: the records' losses, the weights' hash, and answers to 5 and to 1 images."""
    config, images = CASES[name], {"train": noise(21, 0), "val": noise(11, 1)}
    runtime, model = Runtime.of(config), build_for(config)
    if name == "frozen":
        files = {split: folder / "cache" / f"{split}.npy" for split in images}
        runtime, images, _ = runtime.ranks.in_turn(start_late, model, images, runtime, "none", files, print)
        assert runtime.start > 0
    monitor = Monitor()
    if name == "stopped" and runtime.ranks.first:  # in the second step, by one that watches the first rank
        monitor.stop = iter([False, True]).__next__
    history = fit(model, images, config, runtime, monitor=monitor)
    few = [replace(images["val"], pixels=images["val"].pixels[:n], labels=images["val"].labels[:n]) for n in (5, 1)]
    return {
        "losses": [[record[column] for column in ("train_loss", "val_loss")] for record in history],
        "accuracies": [[record[column] for column in ("train_accuracy", "val_accuracy")] for record in history],
        "images": [record["images"] for record in history],
        "weights": hash_tensors(model.state_dict()),
        "logits": [evaluate(model, each, runtime).logits.tolist() for each in few],
        "dropout_seed": torch.initial_seed(),
    }


def main(task, folder):
    """Train all cases, or a run, in which the second process may kill itself at a step."""
    folder = Path(folder)
    if task == "cases":
        found = {name: trained(name, folder) for name in CASES}
        (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
        return
    data.CACHE = folder / "cache"
    if task.startswith("kill"):
        steps, set_rate = iter(range(1000)), train.set_learning_rate

        def set_rate_or_die(*arguments):
            if next(steps) == int(task.removeprefix("kill")) and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGKILL)
            set_rate(*arguments)

        train.set_learning_rate = set_rate_or_die
    run = run_training(RUN, folder / "runs")
    assert read_metrics(run)["processes"] == int(os.environ["WORLD_SIZE"])  # finished for every rank


def torchrun(number, *command):
    """What `number` processes of a command have printed, and torchrun's exit status."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    path = os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*start, *map(str, command)], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return {name: trained(name, tmp_path_factory.mktemp(name)) for name in CASES}


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.long)])
def together(request, tmp_path_factory):
    """What each of two or three ranks has found."""
    folder = tmp_path_factory.mktemp("ranks")
    done = torchrun(request.param, __file__, "cases", folder)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{place}.json").read_text()) for place in range(request.param)]


def test_the_losses_are_those_of_one_process(alone, together):
    for name in EXACT:
        one, several = alone[name], together[0][name]
        np.testing.assert_allclose(several["losses"], one["losses"], atol=1e-5, rtol=0, err_msg=name)
        np.testing.assert_allclose(several["accuracies"], one["accuracies"], rtol=1e-6, err_msg=name)
        for ours, theirs in zip(several["logits"], one["logits"], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=name)
    images = {name: each["images"] for name, each in together[0].items()}
    assert images == {name: [20] if name == "stopped" else [21, 21] for name in CASES}


def test_the_ranks_are_equal_to_the_bit(together):
    first, *others = together
    for other in others:
        for name in CASES:
            assert other[name] | {"dropout_seed": 0} == first[name] | {"dropout_seed": 0}, name


def test_each_rank_drops_out_what_it_draws_itself(alone, together):
    seeds = {each["dropout"]["dropout_seed"] for each in together}
    assert len(seeds) == len(together)
    assert together[0]["dropout"]["dropout_seed"] == alone["dropout"]["dropout_seed"]
    np.testing.assert_allclose(together[0]["dropout"]["losses"], alone["dropout"]["losses"], atol=0.2)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The run of one process."""
    return run_training(RUN, tmp_path_factory.mktemp("whole"), Monitor())


def assert_equal_runs(run, other):
    assert run.name == other.name  # the number of processes is no part of what a run is
    for column in ("train_loss", "val_loss"):
        np.testing.assert_allclose(read_history(run)[column], read_history(other)[column], atol=1e-5, rtol=0)
    ours, theirs = read_predictions(run), read_predictions(other)
    assert ours[["key", "label"]].equals(theirs[["key", "label"]])
    np.testing.assert_allclose(ours.filter(like="logit"), theirs.filter(like="logit"), atol=1e-4)


@pytest.mark.long
def test_one_rank_writes_and_speaks(whole_run, tmp_path):
    done = torchrun(2, __file__, "run", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/3  loss") == done.stdout.count("test accuracy") == 1
    assert done.stderr.count("Drawing train:   0%") == 1  # the other one reads what the first has kept
    (run,) = (tmp_path / "runs").iterdir()
    assert {file.name for file in run.iterdir()} == {file.name for file in whole_run.iterdir()}
    assert_equal_runs(run, whole_run)


@pytest.mark.long
def test_a_killed_rank_ends_the_job_and_another_number_of_ranks_goes_on(whole_run, tmp_path):
    done = torchrun(2, __file__, "kill7", tmp_path)  # three steps an epoch: in the second step of the third epoch
    assert done.returncode == 1
    assert ENDED in done.stderr
    assert f"full: broken off ({ENDED})" in done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    lines, tensors = [], {name: p for name, p in build_for(RUN).named_parameters() if p.requires_grad}
    state = load_checkpoint(run / "checkpoint.pt", tensors, torch.device("cpu"), lines.append)
    assert len(state["history"]) == 2
    assert run_training(RUN, tmp_path / "runs", ProgressLines(lines.append)) == run
    assert "epoch 3/3" in lines[0]
    assert_equal_runs(run, whole_run)
    assert "processes" not in read_metrics(run)


@pytest.mark.long
def test_the_command_prints_its_numbers_once(tmp_path):
    few = ["-p", "num_train=12", "-p", "num_val=10", "-p", "num_test=20", "-p", f"runs_dir={tmp_path}"]
    done = torchrun(2, "-m", "woofkit", "train", "--profile", "test", "--method", "probe", *few)
    assert done.returncode == 0, done.stderr
    for words in ("\ntest_accuracy ", "epoch 1/1  loss", "\nprocesses "):
        assert done.stdout.count(words) == 1, words


# --- without other processes ---


def test_shares_are_disjoint_and_together_the_batch():
    for count in (1, 2, 3, 7):
        each = [Ranks(place, count) for place in range(count)]
        for size in (1, 2, 5, 32):
            shares = [list(range(size))[rank.share] for rank in each]
            assert sorted(sum(shares, [])) == list(range(size))
            assert [rank.size(size) for rank in each] == [len(share) for share in shares]


def test_without_torchrun_a_process_is_alone():
    alone = Ranks.join(torch.device("cpu"))
    assert alone == Ranks()
    assert alone.first
    assert ranks.first_rank()
    assert alone.described == {}
    assert alone.once(lambda: 3) == alone.in_turn(lambda: 3) == 3
    alone.agree("words", "equal")


@pytest.fixture
def started_by_torchrun(monkeypatch):
    monkeypatch.setattr(ranks.distributed, "is_torchelastic_launched", lambda: True)
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 3}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("started_by_torchrun")
def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="a process for GPU 4 of this machine, which has 2"):
        Ranks.join(torch.device("cuda"))


def test_a_rank_with_other_files_is_told(monkeypatch):
    monkeypatch.setattr(Ranks, "once", lambda self, work: "theirs")
    with pytest.raises(ConfigError, match="process 1 has other weights than process 0"):
        Ranks(1, 2).agree("weights", "ours")


if __name__ == "__main__":
    main(*sys.argv[1:])
