"""Files, tables, and the paper's numbers."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from woofkit.claims import paper
from woofkit.config import ConfigError, LoRAConfig
from woofkit.fast.memory import measure_peak_memory
from woofkit.files import describe_environment, write_atomic
from woofkit.progress import Monitor
from woofkit.results import load_runs, read_metrics
from woofkit.stats.seeds import mean_of_intervals
from woofkit.tables import markdown_table
from woofkit.tables.results import compare_runs, results_markdown, seen_and_unseen
from woofkit.train import run_training


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_is_whole_or_not_there(tmp_path):
    seen = []

    def write(temporary):
        temporary.write_text("half")
        seen.append((tmp_path / "table.csv").exists())

    write_atomic(tmp_path / "table.csv", write)
    assert seen == [False]
    assert (tmp_path / "table.csv").read_text() == "half"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_unfinished_runs_are_no_runs(tmp_path):
    (tmp_path / "full-r0-s0-12345678").mkdir()
    assert load_runs(tmp_path).empty
    with pytest.raises(ConfigError, match="is not finished: it has no metrics.json"):
        read_metrics(tmp_path / "full-r0-s0-12345678")
    with pytest.raises(ConfigError, match="is not finished"):
        compare_runs([tmp_path / "full-r0-s0-12345678"], "demo")


def test_the_papers_numbers_on_the_usual_scale():
    usual = paper.reported_table().set_index(["method", "section", "quantity", "split"])["usual"]
    assert usual["full", "discussion", "accuracy", "train"] == pytest.approx(0.9996, abs=5e-5)
    assert usual["lora", "results", "loss", "test"] == pytest.approx(0.34, abs=0.005)
    assert usual["full", "results", "accuracy", "test"] == pytest.approx(3601 / 3929, abs=5e-5)
    assert paper.images_per_batch("train") == pytest.approx(9025 / 71)
    assert round(paper.images_per_batch("train")) == round(paper.images_per_batch("test")) == 127
    intervals = paper.reported_accuracies()
    assert [round(accuracy * paper.NUM_TEST) for accuracy in intervals.accuracy] == [3601, 3593, 3488, 3541]
    assert ((intervals.low < intervals.accuracy) & (intervals.accuracy < intervals.high)).all()
    for kind in (("loss", "test"), ("accuracy", "train"), ("accuracy", "test")):
        assert paper.usual_scale(*kind, paper.paper_scale(*kind, 0.3)) == pytest.approx(0.3)


def test_a_table_in_markdown_and_its_empty_cells():
    table = markdown_table(["", "kept"], [["lora", "80.1%"], ["", "-"]], "lr")
    assert table.splitlines() == ["| | kept |", "|---|---:|", "| lora | 80.1% |", "|  | - |"]
    assert markdown_table(["a", "b"], []) == "| a | b |\n|---|---|"


ROW = {"profile": "demo", "method": "lora", "accuracy": 0.8, "low": 0.76, "high": 0.83, "loss": 0.5, "seconds": 61.0}
ROW |= {"trainable_parameters": 5526346, "images_per_second": 50.0, "peak_memory_mb": 900.0, "checkpoint_bytes": 22e6}
ROW |= {"num_test_images": 500, "machine": "M", "precision": "bf16", "date": "2026-01-02T03"}


def table_of(*changes):
    """The results table of runs that differ from ROW in these values."""
    return results_markdown(pd.DataFrame([ROW | change for change in changes]))


def test_the_results_table_shows_what_was_measured_and_a_dash_for_what_was_not():
    missing = dict.fromkeys(("seconds", "images_per_second", "peak_memory_mb"))
    zero_shot = {"method": "zero-shot", "accuracy": 0.5, "low": 0.4, "high": 0.6, "loss": 1.0, **missing}
    text = table_of({"method": "full"}, {"trainable_parameters": 0, **zero_shot})
    assert "| full fine-tuning | 80.0% (76.0 to 83.0) | 0.500 | 5,526,346 | 61 | 50.0 | 900 | 22.00 |" in text
    assert "| zero-shot | 50.0% (40.0 to 60.0) | 1.000 | 0 | - | - | - | 22.00 |" in text
    assert text.endswith("500 test images of 224 pixels. Measured 2026-01-02, M, bf16.")


def test_a_table_says_how_large_the_images_were():
    stored, set_, pretrained = {"dataset": "imagewoof"}, {"other": "rank 1; image_size 96"}, {"model_name": "vit_b_384"}
    larger = stored | {"other": "image_variant 320"}
    for change, pixels in ((stored, 160), (larger, 320), (stored | set_, 96), (set_, 96), (pretrained, 384)):
        assert f"500 test images of {pixels} pixels." in table_of(change)
    assert "500 test images of 160 or 320 pixels." in table_of(stored, larger)


def test_runs_that_differ_in_their_seed_alone_make_one_row_of_means():
    shared = {"profile": "seeds", "low": 0, "high": 1, "trainable_parameters": 9, "num_test_images": 1000}
    text = table_of(
        shared | {"accuracy": 0.88, "low": 0.86, "high": 0.90, "seconds": 10.0, "seed": 0, "lr": 1e-3},
        shared | {"accuracy": 0.92, "low": 0.90, "high": 0.94, "seconds": 20.0, "seed": 1, "lr": 1e-3},
        shared | {"accuracy": 0.50, "seconds": 30.0, "seed": 0, "lr": 1e-4},
    )
    interval = mean_of_intervals([0.88, 0.92], [0.86, 0.90], [0.90, 0.94])
    expected = f"| LoRA, lr 0.001 | 90.0% ({100 * interval.low:.1f} to 100.0) | 0.500 | 9 | 15 |"
    assert expected in text
    assert "| LoRA, lr 0.0001 | 50.0% (0.0 to 100.0) | 0.500 | 9 | 30 |" in text
    assert "By seed: LoRA, lr 0.001: 88.0%, 92.0%; LoRA, lr 0.0001: 50.0%." in text


def test_images_that_pretraining_has_seen_stand_beside_those_that_it_has_not():
    shared = {"profile": "paper", "num_test_images": 1000, "num_unseen_images": 200.0}
    text = table_of(
        shared | {"accuracy": 0.8, "unseen_accuracy": 0.8},
        shared | {"method": "full", "accuracy": 0.8, "unseen_accuracy": 0.4},  # so 90% of the other 800
    )
    assert "| method | on the 800 seen | on the 200 not seen | seen minus not seen, points |" in text
    assert "| LoRA | 80.0% (77.1 to 82.6) | 80.0% (73.9 to 85.0) | +0.0 (−5.7 to +6.6) |" in text
    assert "| full fine-tuning | 90.0% (87.7 to 91.9) | 40.0% (33.5 to 46.9) | +50.0 (+42.7 to +56.8) |" in text
    assert "pretraining has seen" not in table_of({"num_unseen_images": 200.0, "unseen_accuracy": None})


@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_the_interval_of_seen_minus_unseen_holds_the_true_gap(gap):
    rng, held, seen, new = np.random.default_rng(3), 0, 3000, 160
    for _ in range(200):
        right, right_new = rng.binomial(seen, 0.9), rng.binomial(new, 0.9 - gap)
        row = {"accuracy": (right + right_new) / (seen + new), "unseen_accuracy": right_new / new, "name": "x"}
        row |= {"num_test_images": seen + new, "num_unseen_images": new}
        shown = seen_and_unseen(pd.DataFrame([row]), "paper").rsplit("(", 1)[1].replace("−", "-")
        low, high = (float(end) / 100 for end in shown.rstrip(") |").split(" to "))
        held += low <= gap <= high
    assert 0.9 < held / 200 < 1


def test_peak_memory_sees_what_a_block_holds_and_not_what_was_there_before():
    before = torch.ones(30_000_000)
    with measure_peak_memory(torch.device("cpu")) as memory:
        held = torch.ones(50_000_000)  # 200 MB
        time.sleep(0.3)  # long enough to be sampled on a busy machine
        del held
    assert 150 < memory.megabytes < 300
    assert before.numel() == 30_000_000


def test_a_machine_without_git_is_described_all_the_same(monkeypatch):
    monkeypatch.setenv("PATH", "")
    environment = describe_environment(torch.device("cpu"))
    assert environment["commit"] == "unknown"
    assert environment["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_runs_of_other_ranks_or_labels_are_no_seeds_of_one_another(tiny_run, tmp_path):
    usual = replace(tiny_run, method="lora", lora=LoRAConfig.paper())
    changes = [{"lora": LoRAConfig.paper(1)}, {"label_fraction": 0.999}, {"seed": 1}]
    runs = [run_training(replace(usual, **change), tmp_path, Monitor()) for change in ({}, *changes)]
    frame = compare_runs(runs, "tiny")
    assert frame["other"].str.startswith("num_train 10; num_test 10").all()
    lines = results_markdown(frame).splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| LoRA")]
    assert names == ["LoRA", "LoRA, rank 1", "LoRA, label_fraction 0.999"]
    assert any("By seed: LoRA: " in line for line in lines)
