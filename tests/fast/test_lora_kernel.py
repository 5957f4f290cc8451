"""LoRA as one product is the formula: bit for bit where it can be, to rounding elsewhere."""

import copy

import pytest
import torch
from torch import nn

from woofkit.config import LoRAConfig
from woofkit.fast.lora_kernel import FastLoRALinear, use_fast_lora
from woofkit.fast.runtime import Runtime
from woofkit.lora import LoRALinear, adapters_disabled, add_lora, lora_layers, merge_lora, unmerge_lora

TARGETS = ["attn.proj", "attn.qkv", "attn.qkv[qv]", "attn.qkv[k]"]


def layers(target, dtype, shared_A=True, dropout=0.0):
    """The same adapted layer as the formula and as the kernel."""
    torch.manual_seed(0)
    config = LoRAConfig(rank=3, alpha=5.0, bias=True, shared_A=shared_A, dropout=dropout)
    plain = LoRALinear(nn.Linear(8, 12), config, target.partition("[")[2].rstrip("]")).to(dtype)
    for parameter in (plain.lora_A, plain.lora_B, plain.lora_bias):
        nn.init.normal_(parameter)
    return plain, use_fast_lora(nn.Sequential(copy.deepcopy(plain)))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shared_A", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_outputs_and_gradients_are_those_of_the_formula(target, shared_A, dtype):
    plain, fast = layers(target, dtype, shared_A)
    assert type(fast) is FastLoRALinear
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    x = torch.randn(2, 5, 8, dtype=dtype)
    results = []
    for layer in (plain, fast):
        own = x.clone().requires_grad_()
        y = layer(own)
        y.square().sum().backward()
        results.append([y, own.grad, layer.lora_A.grad, layer.lora_B.grad, layer.lora_bias.grad])
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(found, expected, atol=tolerance, rtol=10 * tolerance)


@pytest.mark.parametrize("target", TARGETS)
def test_it_equals_the_merged_layer_to_the_last_bit(target):
    _, fast = layers(target, torch.float32)
    x = torch.randn(4, 8)
    assert fast(x).equal(fast.merged()(x))


@pytest.mark.parametrize("state", ["start", "disabled", "dropout"])
def test_where_nothing_is_gained_it_is_the_formula_to_the_last_bit(small_vit, images, state):
    model = add_lora(small_vit, LoRAConfig(rank=2, dropout=0.5 if state == "dropout" else 0.0))
    model.train(state == "dropout")
    if state != "start":
        for layer in lora_layers(model).values():
            nn.init.normal_(layer.lora_B)
    outputs = []
    for fast in (False, True):
        use_fast_lora(model, fast)
        torch.manual_seed(0)
        if state == "disabled":
            with adapters_disabled(model):
                outputs.append(model(images))
        else:
            outputs.append(model(images))
    assert outputs[0].equal(outputs[1])


def test_gradients_pass_autograds_own_check():
    _, fast = layers("attn.qkv[kv]", torch.float64, shared_A=False)
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)

    def adapted(x, *adapter):
        return fast(x)

    assert torch.autograd.gradcheck(adapted, (x, fast.lora_A, fast.lora_B, fast.lora_bias))
    assert fast.base.weight.grad is None


def test_the_verbs_work_on_fast_layers(small_vit, images):
    model = use_fast_lora(add_lora(small_vit, LoRAConfig.paper(rank=2)))
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B, std=0.1)
    adapted = model(images)
    assert merge_lora(model)(images).equal(adapted)
    assert unmerge_lora(model)(images).equal(adapted)


def test_a_runtime_chooses_the_kernel_and_fast_false_the_formula(small_vit):
    model = add_lora(small_vit, LoRAConfig(rank=2))
    for fast, kind in ((True, FastLoRALinear), (False, LoRALinear)):
        assert {type(layer) for layer in lora_layers(Runtime(fast=fast).prepare(model)).values()} == {kind}


def test_a_base_that_somebody_has_unfrozen_is_refused(small_vit, images):
    model = use_fast_lora(add_lora(small_vit, LoRAConfig(rank=2))).requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"is frozen and gets no gradient: call remove_lora\(model\)"):
        model(images)
