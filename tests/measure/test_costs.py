"""Costs are counted where they can be, and what is counted is what the formulas say."""

import math

import pytest
import timm
import torch

from woofkit.config import ConfigError, LoRAConfig, TrainConfig
from woofkit.fast.forward import prefer_fast_attention
from woofkit.fast.lora_kernel import use_fast_lora
from woofkit.fast.memory import measure_peak_memory
from woofkit.fast.runtime import Runtime
from woofkit.lora import add_lora, count_lora_parameters
from woofkit.measure.costs import Step, count_flops, measure_costs, measure_latencies, measure_memory
from woofkit.train import make_optimizer

CPU = torch.device("cpu")


def vit(depth=3):
    model = timm.create_model("vit_tiny_patch16_224", img_size=48, num_classes=10, depth=depth)
    return prefer_fast_attention(model, CPU)


def linear_flops(model, tokens):
    """2 * tokens * in * out of every linear layer in the blocks."""
    layers = [m for m in model.blocks.modules() if isinstance(m, torch.nn.Linear)]
    return sum(2 * tokens * layer.in_features * layer.out_features for layer in layers)


def test_the_forward_is_counted_as_the_formula_has_it():
    flops = [count_flops(vit(depth), torch.randn(2, 3, 48, 48), Runtime()) for depth in (2, 3)]
    tokens, width = 10, 192
    block = linear_flops(vit(1), tokens) + 2 * 2 * tokens**2 * width  # and the two products of attention
    assert flops[1].forward - flops[0].forward == block
    assert flops[1].backward - flops[0].backward == 2 * block


def test_lora_spares_the_gradients_of_frozen_weights():
    images = torch.randn(2, 3, 48, 48)
    full, lora = vit(), vit()
    config = LoRAConfig.paper()
    use_fast_lora(add_lora(lora, config))
    spared = count_flops(full, images, Runtime()).backward - count_flops(lora, images, Runtime()).backward
    assert 0.8 * linear_flops(vit(), 10) < spared < 1.1 * linear_flops(vit(), 10)
    assert all(p.grad is None for p in lora.parameters())


@pytest.mark.parametrize("adapted", [False, True])
def test_memory_is_summed_over_the_very_tensors(adapted):
    model, config = vit(), LoRAConfig.paper()
    count = count_lora_parameters(model, config)
    if adapted:
        add_lora(model, config)
    else:
        count = sum(p.numel() for p in model.parameters())
    by_batch = []
    for size in (2, 4, 8):
        images, targets = torch.randn(size, 3, 48, 48), torch.arange(size)
        by_batch.append(measure_memory(Step(model, images, targets, make_optimizer(model, 1e-3, Runtime()), Runtime())))
    memory = by_batch[0]
    assert memory.weights == pytest.approx(4e-6 * sum(p.numel() for p in model.parameters()))
    assert memory.gradients == pytest.approx(4e-6 * count)
    assert memory.optimizer == pytest.approx(8e-6 * count, rel=1e-3)  # Adam: two moments, and a step a tensor
    two, four, eight = (measured.activations for measured in by_batch)
    assert eight - four == pytest.approx(2 * (four - two), rel=0.01)


def test_a_batch_in_parts_holds_the_activations_of_one_part():
    model, images, targets = vit(), torch.randn(8, 3, 48, 48), torch.arange(8)
    held = []
    for size, runtime in ((2, Runtime()), (8, Runtime(micro_batch=2)), (8, Runtime())):
        step = Step(model, images[:size], targets[:size], make_optimizer(model, 1e-3, runtime), runtime)
        held.append(measure_memory(step).activations)
    assert held[0] == pytest.approx(held[1], rel=0.01)
    assert held[1] < held[2] / 2


def test_a_mapped_file_is_not_memory_of_the_process(tmp_path):
    path = tmp_path / "pixels"
    path.write_bytes(bytes(50_000_000))
    with measure_peak_memory(CPU) as peak:
        torch.from_file(str(path), shared=False, size=50_000_000, dtype=torch.uint8).max()
    assert peak.megabytes < 20
    with measure_peak_memory(CPU) as peak:
        kept = torch.ones(50_000_000, dtype=torch.uint8)
    assert len(kept) == 50_000_000
    assert peak.megabytes > 45


def test_costs_of_methods_side_by_side():
    shared = {"weights": "random", "batch_size": 2, "device": "cpu", "precision": "fp32"}
    configs = [TrainConfig(method="full", **shared), TrainConfig(method="lora", lora=LoRAConfig.paper(), **shared)]
    full, lora = measure_costs(configs, rounds=1).to_dict("records")
    assert (full["method"], lora["method"]) == ("full", "lora")
    assert (full["trainable_parameters"], lora["trainable_parameters"]) == (5_526_346, 177_418)
    assert (full["file_mb"], lora["file_mb"]) == pytest.approx((22.12, 0.72), abs=0.01)  # as the runs' files
    assert math.isnan(full["merged_latency_ms"])  # there is nothing to merge
    assert lora["merged_latency_ms"] > 0
    assert full["backward_gflops"] / full["forward_gflops"] == pytest.approx(2, abs=0.05)
    assert 30 < full["gradients_mb"] / lora["gradients_mb"] < 32
    assert lora["activations_mb"] < full["activations_mb"]
    assert full["peak_mb"] > full["weights_mb"] + full["optimizer_mb"]


def test_what_trains_nothing_has_no_step():
    with pytest.raises(ConfigError, match="zero-shot trains nothing, so no step of it can be measured: leave it out"):
        measure_costs([TrainConfig(method="zero-shot", dataset="imagewoof", weights="random")])


def test_latencies_are_measured_in_eval_mode():
    models = [vit().train(), vit(1).train()]
    deep, shallow = measure_latencies(models, torch.randn(1, 3, 48, 48), Runtime(), rounds=15)
    assert 0 < shallow < deep
    assert not any(model.training for model in models)
