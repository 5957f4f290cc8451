"""The benchmark: its arithmetic, the paper's pipeline that it rebuilds, its processes, and one complete tiny run."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from helpers import imagewoof_folder
from tools.bench import __main__ as command
from tools.bench import accuracy, rivals
from tools.bench.accuracy import VARIANTS, accuracies_markdown, measure_accuracies
from tools.bench.chart import throughput_bars
from tools.bench.contestants import PAIRS, PARTS, Contestant, count_step_flops
from tools.bench.result import as_markdown, compare, summarize
from tools.bench.rivals import CopiedLoRA, add_copied_lora
from tools.bench.setting import Setting, build_vit, jpeg_pictures
from tools.bench.workers import alternate, started_workers
from woofkit import progress
from woofkit.config import PROJECT_ROOT
from woofkit.models import count_parameters

SIZE, BATCH, IMAGES = 48, 4, 8
SMALL = ["--image-size", str(SIZE), "--batch-size", str(BATCH), "--images", str(IMAGES)]


@pytest.fixture
def setting(tmp_path):
    return Setting("cpu", "fp32", SIZE, BATCH, jpeg_pictures(IMAGES, "", tmp_path))


# --- rounds ---


def test_turns_go_there_and_back_and_the_warm_up_comes_first(monkeypatch):
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0)
    order, lines = [], []
    performs = {name: partial(order.append, name) for name in "abc"}
    measured = alternate(performs, 2, lines.append, "steps")
    assert "".join(order) == "abccbaabc"
    turns = [f"steps, {turn}, {key} " for turn in ("warm-up", "round 1 of 2", "round 2 of 2") for key in "abc"]
    turns[3:6] = turns[5:2:-1]
    assert all(line.startswith(turn) for line, turn in zip(lines, turns, strict=True)), lines
    assert measured == {name: [None] * 3 for name in "abc"}


def test_a_summary_leaves_the_warm_up_out():
    summary = summarize([(100.0, 8), (2.0, 8), (4.0, 8), (1.0, 8)])
    seconds = {"warmup_seconds": 100.0, "seconds": [2.0, 4.0, 1.0]}
    speeds = {"images_per_second": [4.0, 2.0, 8.0], "median": 4.0, "low": 2.0, "high": 8.0}
    assert summary == {**seconds, **speeds, "images": 8}


def test_ratios_are_taken_within_a_round():
    comparison = compare([10.0, 2.0, 6.0], [5.0, 1.0, 2.0])  # the second round was slow for both
    assert comparison == {"ratios": [2.0, 2.0, 3.0], "median": 2.0, "low": 2.0, "high": 3.0}


def test_drawings_become_jpeg_files_of_160_pixels(setting):
    files = setting.pictures
    assert len(files) == IMAGES
    assert files.image(0).size == (160, 160)
    assert not files.drawn
    assert (files.folder / files.keys[0]).read_bytes()[:2] == b"\xff\xd8"
    np.testing.assert_array_equal(files.labels, np.arange(IMAGES))


def test_a_folder_with_imagewoof_gives_its_photographs(tmp_path, monkeypatch):
    folder = imagewoof_folder(tmp_path, monkeypatch, train=1, val=1)
    files = jpeg_pictures(IMAGES, str(folder), tmp_path)
    assert len(files) == IMAGES
    assert all(key.startswith("train/") for key in files.keys)
    size, label = rivals.JpegFiles(files, lambda image: image.size)[3]
    assert (size, label) == (Image.open(folder / files.keys[3]).size, 3)


# --- the paper's pipeline ---


def test_the_papers_wrapper_is_base_plus_b_a_plus_biases():
    linear = nn.Linear(2, 3)
    wrapper = CopiedLoRA(linear, rank=1)
    x = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    assert torch.equal(wrapper(x), linear(x))
    with torch.no_grad():
        wrapper.A.weight.copy_(torch.tensor([[2.0, 1.0]]))  # A x = 0 and 5
        wrapper.B.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
        wrapper.B.bias.copy_(torch.tensor([0.0, 10.0, 0.0]))
    by_hand = torch.tensor([[0.0, 10.0, 0.0], [5.0, 10.0, -5.0]])
    torch.testing.assert_close(wrapper(x) - linear(x), by_hand)
    assert {name for name, _ in wrapper.named_buffers()} == {"weight", "bias"}
    with torch.no_grad():
        linear.weight.zero_()
    assert wrapper.weight.abs().sum() > 0, "the wrapper holds a copy"


def test_the_papers_pipeline_reads_every_file_again_in_every_epoch(setting, monkeypatch):
    opened = []
    read = rivals.Image.open
    monkeypatch.setattr(rivals.Image, "open", lambda path: opened.append(path) or read(path))
    perform = rivals.prepare_paper_epochs(setting, "lora")
    assert perform() == perform() == IMAGES
    assert sorted(opened) == sorted(2 * [setting.pictures.folder / key for key in setting.pictures.keys])


def test_the_papers_images_are_grey_normalised_and_square(setting):
    images, _ = next(iter(rivals.paper_loader(setting)))
    assert images.shape == (BATCH, 3, SIZE, SIZE)
    mean, std = (torch.tensor(each)[:, None, None] for each in (rivals.IMAGENET_MEAN, rivals.IMAGENET_STD))
    channels = images * std + mean
    torch.testing.assert_close(channels[:, 0], channels[:, 2])


def test_contestants_train_the_same_number_of_parameters_at_every_image_size(setting):
    ours = count_parameters(build_vit(setting, "lora")).trainable
    papers = count_parameters(add_copied_lora(timm.create_model("vit_tiny_patch16_224", num_classes=10))).trainable
    biases = 12 * (576 + 192)
    assert ours == papers == 177_418
    assert count_parameters(rivals.peft_vit(setting)).trainable == ours - biases == 168_202
    assert count_parameters(build_vit(setting, "probe")).trainable == 1_930


def test_flops_are_those_of_the_layers(setting):
    tokens, width = (SIZE // 16) ** 2 + 1, 192

    def block(queries: int) -> int:  # multiply-adds of qkv for all tokens; of attention, proj and mlp for `queries`
        return 3 * tokens * width**2 + 2 * queries * tokens * width + (1 + 4 + 4) * queries * width**2

    layers = 11 * block(tokens) + block(1) + width * 10  # the head reads the last block's class token alone
    patches = (tokens - 1) * (16 * 16 * 3) * width
    by_hand = 2 * BATCH * (3 * layers + 2 * patches)  # no gradient for the pixels
    assert count_step_flops(setting) == by_hand


# --- processes ---


def _count_up(setting):
    numbers = iter(range(10))
    return lambda: (os.getpid(), next(numbers))


def _fail(setting):
    raise ValueError("not today")


def _vanish(setting):
    os._exit(3)


@pytest.mark.parametrize(("rehearse", "rounds"), [(False, [0, 1]), (True, [1, 3])])
def test_contestants_have_processes_that_keep_their_state_rest_and_end(setting, rehearse, rounds):
    contestants = {name: Contestant(name, "full", True, _count_up, rehearse) for name in "ab"}
    with started_workers(contestants, setting) as workers:
        turns = alternate({name: worker.perform for name, worker in workers.items()}, 1, print)
        processes = [psutil.Process(worker.process.pid) for worker in workers.values()]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(0.5)
        assert [sum(process.cpu_times()[:2]) for process in processes] == pytest.approx(before, abs=0.05)
    pids = {name: {pid for _, (pid, _) in turns[name]} for name in "ab"}
    assert len(pids["a"]) == len(pids["b"]) == 1
    assert len(pids["a"] | pids["b"] | {os.getpid()}) == 3
    assert [number for _, (_, number) in turns["a"]] == rounds
    assert not any(process.is_running() for process in processes)


@pytest.mark.parametrize(
    ("prepare", "message"), [(_fail, "poor: ValueError: not today"), (_vanish, r"exit code 3.*smaller --batch-size")]
)
def test_a_contestant_that_fails_is_named(setting, prepare, message):
    poor = Contestant("poor", "full", True, prepare)
    with pytest.raises(ChildProcessError, match=message), started_workers({"poor": poor}, setting):
        pass


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupted_command_leaves_no_process_and_no_result(tmp_path):
    script = """
import sys
from tools.bench import __main__ as command
from woofkit import progress
if __name__ == "__main__":  # the one contestant whose process has processes of its own
    command.PARTS = {"epochs": {"plain_fp32": command.PARTS["epochs"]["plain_fp32"]}}
    progress.PROGRESS_SECONDS = 0
    sys.exit(command.main(sys.argv[1:]))
"""
    options = [*SMALL, "--rounds", "1000", "--output", str(tmp_path / "bench.json"), "--figures", str(tmp_path)]
    started = {"cwd": PROJECT_ROOT, "text": True, "stdout": subprocess.PIPE, "start_new_session": True}
    bench = subprocess.Popen([sys.executable, "-c", script, *options], **started)
    try:
        while "round 1 of 1000" not in (line := bench.stdout.readline()):
            assert line, "the command ended early"
        family = psutil.Process(bench.pid).children(recursive=True)
        assert family
        os.killpg(bench.pid, signal.SIGINT)  # as a terminal does
        bench.communicate(timeout=60)  # and reads what it still prints: a full pipe would hold it up
        assert bench.returncode == 130
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive
        assert not list(tmp_path.iterdir())
    finally:
        if bench.poll() is None:
            os.killpg(bench.pid, signal.SIGKILL)
        bench.stdout.close()


# --- the command ---


@pytest.mark.long
def test_a_complete_run_leaves_every_contestant_every_ratio_and_a_chart(tmp_path, capsys):
    output = tmp_path / "results" / "small.json"
    options = ["--device", "cpu", "--precision", "fp32", "--output", str(output), "--figures", str(tmp_path)]
    assert command.main([*SMALL, "--rounds", "1", *options]) == 0
    plt.close("all")
    result = json.loads(output.read_text(encoding="utf-8"))
    for part, images in (("steps", BATCH), ("epochs", IMAGES)):
        assert result[part].keys() == PARTS[part].keys()
        for contestant in result[part].values():
            assert len(contestant["seconds"]) == 1
            assert contestant["median"] == pytest.approx(images / contestant["seconds"][0])
    assert result["ratios"].keys() == PAIRS.keys()
    for ratio in result["ratios"].values():
        fast, slow = (result[ratio["part"]][ratio[name]]["median"] for name in ("fast", "slow"))
        assert ratio["median"] == pytest.approx(fast / slow)
    assert 1e8 < result["flops_per_image"] < result["model_flops_per_image"]
    for precision in ("bf16", "fp32"):
        reached = result["steps"][f"full_{precision}"]["median"] * result["flops_per_image"] / 1e9
        share = result["share_of_peak"][f"full_{precision}"]["median"]
        assert share == pytest.approx(reached / result["peak_gflops"][precision]["median"])
    assert result["settings"]["precision"] == "fp32"
    assert {"date", "machine", "torch"} <= result["environment"].keys()
    for name in ("bench", "bench_limit"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    where = pd.DataFrame(result["where_time_goes"]).pivot(index="method", columns="kind", values="ms_per_image")
    assert set(where.index) == {"full", "lora", "probe"}
    assert (where["matrix products"] > 0).all()
    assert (where["the rest"] < 0.3 * where.sum(axis=1)).all(), "the names of operations have changed"
    printed = capsys.readouterr().out
    for title in (*(one["title"] for one in result["steps"].values()), "our LoRA : the paper's LoRA", "of the peak"):
        assert title in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "--rounds = 0 is out of range: allowed is from 1 to 1000"),
        (["--images", "-3"], "--images = -3 is out of range"),
        (["--image-size", "50"], "--image-size = 50 is not allowed: it must be a multiple of 16"),
        (["--device", "tpu"], "unknown --device 'tpu': allowed are 'auto', 'cpu', 'cuda'"),
        (["--data-dir", "no/such/folder"], "--data-dir 'no/such/folder' is not a folder"),
        (["--output", "bench.csv"], "--output 'bench.csv' is not a .json file"),
        (["--accuracy", "2", "--rounds", "3"], "--accuracy takes no other option: leave out --rounds"),
    ],
)
def test_bad_options_are_refused_before_any_work(options, message, monkeypatch, capsys):
    monkeypatch.setattr(command, "_measure", lambda *_: pytest.fail("work has begun"))
    monkeypatch.setattr(command, "jpeg_pictures", lambda *_: pytest.fail("work has begun"))
    assert command.main(options) == 2
    assert message in capsys.readouterr().err


def test_the_kept_result_is_rendered():
    kept = json.loads((PROJECT_ROOT / "data" / "results" / "bench.json").read_text(encoding="utf-8"))
    text = as_markdown(kept)
    for ratio in kept["ratios"].values():
        assert f": {ratio['title']} | {ratio['median']:.2f} | {ratio['low']:.2f} to {ratio['high']:.2f} |" in text
    assert kept["environment"]["machine"] in text


def test_a_chart_says_who_is_ours_and_how_far_the_rounds_lie_apart():
    common = {"method": "lora", "low": 8.0, "median": 10.0, "high": 11.0}
    ax = plt.figure().add_subplot()
    throughput_bars([common | {"title": "A", "ours": True}, common | {"title": "B", "ours": False}], ax, "Steps")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]
    assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()
    [whiskers] = [c for c in ax.collections if len(c.get_segments()) == 2]
    np.testing.assert_allclose(whiskers.get_segments()[0], [[8, 0], [11, 0]])
    assert [text.get_text() for text in ax.texts] == ["10.0", "10.0"]
    plt.close("all")


@pytest.mark.long
def test_accuracies_are_measured_once_and_hardly_differ(tmp_path, monkeypatch, capsys):
    path = tmp_path / "accuracy.csv"
    some = {name: VARIANTS[name] for name in ("nothing optimised", "fp32")}
    monkeypatch.setattr(accuracy, "VARIANTS", some)
    options = {"weights": "random", "num_train": 10, "epochs": 1, "batch_size": 5, "device": "cpu"}
    table = measure_accuracies(path, 1, num_val=10, **options)
    assert table.groupby("method")["variant"].apply(list).to_dict() == {"full": list(some), "lora": list(some)}
    assert table["accuracy"].between(table["low"], table["high"]).all()
    losses = table.groupby("method")["loss"]
    assert (losses.max() - losses.min() < 1e-3).all()  # in float32 nothing but the order of sums differs
    capsys.readouterr()
    assert measure_accuracies(path, 1, num_val=10, **options).equals(pd.read_csv(path))
    assert capsys.readouterr().out == ""  # a row that is there is not measured again


def test_accuracies_are_told_by_variant_and_seed():
    rows = [("as it is", "full", 0, 0.80), ("as it is", "full", 1, 0.90), ("two products", "lora", 0, 0.7)]
    table = pd.DataFrame(rows, columns=["variant", "method", "seed", "accuracy"])
    table = table.assign(low=0.8, high=0.9, num_val_images=200, num_train_images=600)
    table = table.assign(date="2026-01-02T03:04", machine="a machine", torch="2")
    text = accuracies_markdown(table)
    assert "| as it is | 85.0% (80.0, 90.0) | - |" in text
    assert "| two products | - | 70.0% (70.0) |" in text
    assert "An image more or less is 0.5 points; the 95% interval of one accuracy is about 5.0 points" in text
