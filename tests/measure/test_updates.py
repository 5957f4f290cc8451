"""Updates of weights: by hand where one can, by law where one cannot."""

import copy

import pytest
import torch

from helpers import train_a_little
from woofkit.config import LoRAConfig
from woofkit.lora import add_lora
from woofkit.measure.weight_updates import (
    captured_share,
    chance_overlap,
    count_intruders,
    intruder_dimensions,
    subspace_overlap,
    weight_updates,
)


def test_updates_are_the_differences_of_the_blocks_matrices(small_vit, images):
    full = train_a_little(copy.deepcopy(small_vit), images)
    updates = weight_updates(small_vit, full)
    assert set(updates) == {
        f"blocks.{b}.{name}" for b in (0, 1) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    name = "blocks.1.mlp.fc1"
    moved = full.get_submodule(name).weight - small_vit.get_submodule(name).weight
    assert updates[name].equal(moved.detach())


def test_an_adapters_update_is_its_delta_weight_and_its_rank_its_own(small_vit, images):
    model = train_a_little(add_lora(copy.deepcopy(small_vit), LoRAConfig(rank=3)), images)
    updates = weight_updates(small_vit, model)
    assert set(updates) == {f"blocks.{b}.attn.{name}" for b in (0, 1) for name in ("qkv", "proj")}
    for update in updates.values():
        assert captured_share(update)[2] == pytest.approx(1, abs=1e-9)
        assert captured_share(update)[1] < 1


def test_captured_by_hand():
    assert captured_share(torch.diag(torch.tensor([1.0, 3.0, 2.0]))).tolist() == pytest.approx([9 / 14, 13 / 14, 1])
    assert captured_share(torch.zeros(2, 2)).isnan().all()


def test_overlap_by_hand():
    one = torch.diag(torch.tensor([3.0, 2, 1, 0]))  # input directions e1, e2, e3
    other = torch.diag(torch.tensor([0.0, 5, 4, 3]))  # e2, e3, e4
    assert subspace_overlap(one, one, 2, 2) == pytest.approx(1)
    assert subspace_overlap(one, other, 1, 1) == pytest.approx(0)
    assert subspace_overlap(one, other, 2, 2) == pytest.approx(0.5)
    assert subspace_overlap(one, other, 2, 1) == pytest.approx(1)  # e2 lies in the span of e1, e2
    assert subspace_overlap(one, torch.randn(7, 4), 3, 4) == pytest.approx(1)  # all four directions hold everything


def test_random_subspaces_overlap_by_chance():
    torch.manual_seed(0)
    values = [subspace_overlap(torch.randn(20, 30), torch.randn(40, 30), 3, 6) for _ in range(200)]
    assert sum(values) / len(values) == pytest.approx(chance_overlap(30, 3, 6), rel=0.1)


def test_an_intruder_is_a_strong_direction_that_was_not_there():
    before = torch.diag(torch.tensor([5.0, 4.0, 0.0, 0.0]))
    assert intruder_dimensions(before, before, top=2) == 0
    assert intruder_dimensions(before, 3 * before, top=2) == 0  # stronger, but not new
    after = before.clone()
    after[2, 2] = 9.0
    plain = torch.diag(torch.tensor([5.0, 4.0, 0.0]))[:, :2]  # a direction that no column of it has
    tall = torch.cat([plain, torch.zeros(1, 2)])
    assert intruder_dimensions(tall, tall + torch.tensor([[0, 0], [0, 0], [0, 0], [9.0, 0]]), top=1) == 1


def test_intruders_are_counted_over_the_attention_of_the_merged_model(small_vit):
    adapted = add_lora(copy.deepcopy(small_vit), LoRAConfig(rank=1))
    assert count_intruders(small_vit, adapted) == 0  # B is zero at the start
    merged = copy.deepcopy(small_vit)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.fill_(1.0) if name.endswith("lora_A") else parameter.normal_(std=50)
        for name, update in weight_updates(small_vit, adapted).items():
            merged.get_submodule(name).weight += update
    found = count_intruders(small_vit, adapted)
    assert found > 0
    assert count_intruders(small_vit, merged) == found  # however the change is stored


def test_what_cannot_be_compared_is_refused(small_vit):
    other = copy.deepcopy(small_vit)
    other.blocks[1].mlp.fc1 = torch.nn.Linear(48, 7)
    with pytest.raises(ValueError, match="blocks.1.mlp.fc1.weight is not in both models, or not of one shape"):
        weight_updates(small_vit, other)
    with pytest.raises(ValueError, match="the updates have 4 and 5 inputs"):
        subspace_overlap(torch.ones(3, 4), torch.ones(3, 5), 1, 1)
    with pytest.raises(ValueError, match="j = 2 is not allowed: the update has 1 directions"):
        subspace_overlap(torch.ones(3, 4), torch.ones(3, 4), 1, 2)
