"""What is frozen is computed once, and nobody can tell from the results."""

import copy
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from woofkit.config import LoRAConfig, TrainConfig
from woofkit.data import Images, Transform
from woofkit.fast import frozen
from woofkit.fast.frozen import FrozenCost, first_trained_block, frozen_hash, start_late, where_to_start
from woofkit.fast.runtime import Runtime
from woofkit.lora import add_lora
from woofkit.results import read_metrics
from woofkit.train import evaluate, fit, run_training

DEPTH = 2


@pytest.fixture
def split(images):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, *images.shape[1:]), generator=generator, dtype=torch.uint8)
    side = images.shape[-1]
    return Images(pixels, np.arange(20) % 10, Transform(side, None, None, False, (0.5, 0.4, 0.6), (0.5, 0.5, 0.5)))


@pytest.fixture
def files(tmp_path):
    return {split: tmp_path / "cache" / f"{split}.npy" for split in ("train", "val")}


def trains(model, method):
    """`model` with what a method trains, and no more."""
    model = copy.deepcopy(model)
    if method == "adapter":
        config = LoRAConfig(rank=2, blocks=(DEPTH - 1, DEPTH), modules_to_save=("norm", "head"))
        return add_lora(model, config)
    model.requires_grad_(False)
    chosen = {"probe": [model.head], "norm": [model.norm, model.head], "last": [model.blocks[-1], model.head]}[method]
    for module in chosen:
        module.requires_grad_(True)
    return model


STARTS = {"probe": DEPTH, "norm": DEPTH, "last": DEPTH - 1, "adapter": DEPTH - 1}


@pytest.mark.parametrize("method", STARTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_and_training_are_the_same_to_rounding(small_vit, split, files, method, precision):
    assert len(small_vit.blocks) == DEPTH
    model, runtime = trains(small_vit, method), Runtime(precision=precision)
    late, kept, _ = start_late(model, {"train": split, "val": split}, runtime, "none", files, print)
    assert late.start == STARTS[method]
    tolerance = 1e-5 if precision == "fp32" else 0.05
    plain, quick = evaluate(model, split, runtime), evaluate(model, kept["val"], late)
    assert torch.allclose(plain.logits, quick.logits, atol=tolerance)

    config = TrainConfig(epochs=3, batch_size=8, lr=1e-3, device="cpu", precision=precision)
    histories, trained = [], []
    for images, where in (({"train": split, "val": split}, runtime), (kept, late)):
        own = copy.deepcopy(model)
        histories.append(fit(own, images, config, where))
        trained.append(own)
    for one, other in zip(*histories, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=tolerance)
        assert one["val_loss"] == pytest.approx(other["val_loss"], abs=tolerance)
    for one, other in zip(trained[0].parameters(), trained[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=10 * tolerance)


def test_the_tokens_are_computed_once_for_all_runs_that_share_them(small_vit, split, files, monkeypatch):
    model = trains(small_vit, "probe")
    first = start_late(model, {"train": split}, Runtime(), "none", files, print)[1]["train"].pixels
    computed = []
    monkeypatch.setattr(frozen, "_tokens", lambda *_: computed.append(1))
    other_head = copy.deepcopy(model)
    nn.init.normal_(other_head.head.weight)
    second = start_late(other_head, {"train": split}, Runtime(), "none", files, print)[1]["train"].pixels
    assert second.equal(first)
    assert not computed
    assert frozen_hash(model, DEPTH) == frozen_hash(other_head, DEPTH)
    with torch.no_grad():
        other_head.blocks[0].mlp.fc1.bias += 1
    assert frozen_hash(model, DEPTH) != frozen_hash(other_head, DEPTH)
    assert frozen_hash(model, DEPTH - 1) != frozen_hash(model, DEPTH)


def test_it_is_left_alone_where_the_tokens_would_differ_from_epoch_to_epoch(small_vit):
    probe = trains(small_vit, "probe")
    assert where_to_start(probe, Runtime(), "none") == DEPTH
    assert where_to_start(probe, Runtime(), "flip") == 0
    assert where_to_start(probe, Runtime(fast=False), "none") == 0
    assert where_to_start(small_vit, Runtime(), "none") == first_trained_block(small_vit) == 0  # full fine-tuning
    dropping = copy.deepcopy(probe)
    dropping.blocks[1].mlp.drop1.p = 0.1
    assert where_to_start(dropping, Runtime(), "none") == 0
    hooked = copy.deepcopy(probe)
    hooked.blocks[-1].register_forward_hook(lambda *_: None)
    assert where_to_start(hooked, Runtime(), "none") == 0
    stem = copy.deepcopy(probe)
    stem.pos_embed.requires_grad_(True)
    assert where_to_start(stem, Runtime(), "none") == 0


def test_without_room_nothing_is_kept_and_a_line_says_so(small_vit, split, files, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(1000))
    lines = []
    late, kept, cost = start_late(trains(small_vit, "last"), {"train": split}, Runtime(), "none", files, lines.append)
    assert cost == FrozenCost()
    assert late == Runtime()
    assert kept["train"] is split
    assert "frozen blocks are computed in every epoch" in lines[0]
    assert not list(files["train"].parent.glob("*.npy"))


def test_without_a_folder_to_write_to_training_goes_its_usual_way(small_vit, split, tmp_path):
    (tmp_path / "file").touch()
    files = {"train": tmp_path / "file" / "train.npy"}  # a folder that cannot be made
    late, kept, _ = start_late(trains(small_vit, "probe"), {"train": split}, Runtime(), "none", files, print)
    assert late == Runtime()
    assert kept["train"] is split


def test_what_is_computed_once_counts_as_training(tiny_run, tmp_path):
    metrics = {}
    for method in ("probe", "full"):
        run = run_training(TrainConfig(**{**tiny_run.to_dict(), "method": method, "epochs": 2}), tmp_path)
        metrics[method] = read_metrics(run)
    probe = metrics["probe"]
    assert "frozen_blocks" not in metrics["full"]
    assert probe["frozen_blocks"] > 0
    assert probe["train_seconds"] > probe["frozen_seconds"] > 0
    assert probe["images_per_second"] == pytest.approx(2 * 10 / probe["train_seconds"])


def test_nothing_is_gained_where_nothing_trains(small_vit):
    assert where_to_start(small_vit.requires_grad_(False), Runtime(), "none") == 0
