"""The laws of LoRA, on a small Vision Transformer."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from helpers import budget, train_a_little
from woofkit.config import LoRAConfig
from woofkit.lora import (
    LoRALinear,
    adapters_disabled,
    add_lora,
    count_lora_parameters,
    lora_layers,
    merge_lora,
    remove_lora,
    unmerge_lora,
)

PARTS = ("q", "k", "v", "qk", "qv", "kv", "qkv")


@pytest.fixture
def adapted(small_vit, images):
    return train_a_little(add_lora(small_vit, LoRAConfig.paper(rank=3)), images)


def test_delta_weight_of_a_matrix_that_can_be_checked_by_eye():
    layer = LoRALinear(nn.Linear(4, 6), LoRAConfig(rank=2, alpha=1.0))
    A = torch.tensor([[1.0, 0, 0, 2], [0, 1, 0, 0]])
    B = torch.tensor([[2.0, 0], [0, 2], [0, 0], [4, 0], [0, 0], [2, 2]])
    layer.load_state_dict({**layer.state_dict(), "lora_A": A, "lora_B": B})
    expected = torch.tensor([[1.0, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 4], [0, 0, 0, 0], [1, 1, 0, 2]])
    assert layer.delta_weight().equal(expected)  # alpha / rank = 1/2: it does not vanish for alpha < rank
    x = torch.tensor([[1.0, 2, 3, 4]])
    assert torch.allclose(layer(x) - layer.base(x), x @ expected.T, atol=1e-6)


def test_equal_to_the_base_at_the_start(small_vit, images):
    before = small_vit(images)
    assert add_lora(small_vit, LoRAConfig.paper())(images).equal(before)


def test_only_what_should_train_moves(small_vit, images):
    model = add_lora(small_vit, LoRAConfig(rank=2, targets=("attn.qkv",), modules_to_save=("norm", "head")))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train_a_little(model, images)
    moved = {name for name, p in model.named_parameters() if not p.equal(before[name])}
    adapters = {f"blocks.{b}.attn.qkv.lora_{m}" for b in (0, 1) for m in "AB"}
    assert moved == adapters | {"norm.weight", "norm.bias", "head.weight", "head.bias"}


def test_merged_equals_unmerged_and_differs_from_the_base(small_vit, images):
    base = copy.deepcopy(small_vit)
    model = train_a_little(add_lora(small_vit, LoRAConfig.paper(rank=3)), images)
    adapted = model(images)
    merge_lora(model)
    assert set(model.state_dict()) == set(base.state_dict())
    assert all(type(module) is nn.Linear for name, module in model.named_modules() if name.endswith("attn.qkv"))
    assert torch.allclose(model(images), adapted, atol=1e-5)
    assert unmerge_lora(model)(images).equal(adapted)
    assert not torch.allclose(adapted, base(images), atol=1e-3)


def test_a_trained_bias_is_merged_too():
    layer = LoRALinear(nn.Linear(4, 6, bias=False), LoRAConfig(rank=1, alpha=3.0, bias=True))
    nn.init.ones_(layer.lora_bias)
    assert layer.merged().bias.equal(torch.full((6,), 3.0))
    x = torch.randn(5, 4)
    assert torch.allclose(layer.merged()(x), layer(x), atol=1e-6)


def test_disabled_adapters_give_back_the_base_layers_also_after_an_exception(adapted, images):
    trained = adapted(images)
    base = remove_lora(copy.deepcopy(adapted))  # keeps the trained norm and head

    def leave_by_an_exception():
        with adapters_disabled(adapted):
            assert adapted(images).equal(base(images))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        leave_by_an_exception()
    assert adapted(images).equal(trained)


def test_nested_disabling_puts_back_what_was_there(adapted):
    with adapters_disabled(adapted):
        with adapters_disabled(adapted):
            pass
        assert not any(layer.enabled for layer in lora_layers(adapted).values())
    assert all(layer.enabled for layer in lora_layers(adapted).values())


@pytest.mark.parametrize("merged", [False, True])
def test_removed_the_base_weights_are_as_they_were(small_vit, images, merged):
    before = copy.deepcopy(small_vit.state_dict())
    model = train_a_little(add_lora(small_vit, LoRAConfig(rank=2)), images)
    if merged:
        merge_lora(model)
    after = remove_lora(model).state_dict()
    assert set(after) == set(before)
    assert all(after[name].equal(tensor) for name, tensor in before.items() if not name.startswith("head."))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_merging_and_back_keeps_every_tensor_and_what_trains(adapted):
    before = {name: (p, p.detach().clone(), p.requires_grad) for name, p in adapted.named_parameters()}
    merge_lora(adapted)
    trains = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trains == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    unmerge_lora(adapted)
    after = dict(adapted.named_parameters())
    assert set(after) == set(before)
    for name, (parameter, value, trains) in before.items():
        assert after[name] is parameter, name
        assert (after[name].equal(value), after[name].requires_grad) == (True, trains), name


def test_dropout_acts_in_training_only(small_vit, images):
    model = add_lora(small_vit.eval(), LoRAConfig(rank=2, dropout=0.5))
    assert not any(module.training for module in model.modules())
    train_a_little(model, images)
    assert not model.train()(images).equal(model(images))
    adapted = model.eval()(images)
    assert adapted.equal(model(images))
    assert torch.allclose(merge_lora(model)(images), adapted, atol=1e-5)


def test_alpha_scales_the_update_and_nothing_else():
    layers = []
    for alpha in (1.0, 4.0):
        torch.manual_seed(0)
        layers.append(LoRALinear(nn.Linear(4, 6), LoRAConfig(rank=4, alpha=alpha, bias=True)))
        nn.init.ones_(layers[-1].lora_B)
        nn.init.ones_(layers[-1].lora_bias)
    x = torch.randn(5, 4)
    once, four_times = (layer(x) - layer.base(x) for layer in layers)
    assert torch.allclose(four_times, 4 * once, atol=1e-5)


def test_rslora_divides_by_the_root_of_the_rank():
    assert LoRAConfig(rank=16, alpha=8.0).scaling == 0.5
    assert LoRAConfig(rank=16, alpha=8.0, rslora=True).scaling == 2.0
    assert LoRALinear(nn.Linear(4, 6), LoRAConfig(rank=4, alpha=4.0, rslora=True)).scaling == 2.0


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("shared", [True, False])
def test_of_a_fused_projection_only_the_named_rows_are_adapted(parts, shared):
    torch.manual_seed(0)
    config = LoRAConfig(rank=2, alpha=3.0, bias=True, shared_A=shared)
    layer = LoRALinear(nn.Linear(5, 12), config, parts)
    nn.init.normal_(layer.lora_B)
    nn.init.normal_(layer.lora_bias)
    # By hand, part by part: 1.5 (B_p A_p x + bias_p), and nothing in the other rows.
    expected_weight, expected_bias = torch.zeros(12, 5), torch.zeros(12)
    for i, part in enumerate(parts):
        rows = slice(4 * "qkv".index(part), 4 * "qkv".index(part) + 4)
        A = layer.lora_A if shared else layer.lora_A[2 * i : 2 * i + 2]
        expected_weight[rows] = 1.5 * layer.lora_B[4 * i : 4 * i + 4] @ A
        expected_bias[rows] = 1.5 * layer.lora_bias[4 * i : 4 * i + 4]
    assert torch.allclose(layer.delta_weight(), expected_weight)
    assert torch.allclose(1.5 * layer.matrices()[2], expected_bias)
    x = torch.randn(7, 3, 5)
    assert torch.allclose(layer(x) - layer.base(x), x @ expected_weight.T + expected_bias, atol=1e-5)
    layer(x).sum().backward()
    assert all(p.grad is not None for p in (layer.lora_A, layer.lora_B, layer.lora_bias))
    assert layer.lora_A.shape == (2 if shared else 2 * len(parts), 5)


def test_blocks_keep_the_adapters_to_a_range(small_vit):
    add_lora(small_vit, LoRAConfig(blocks=(1, 2), targets=("attn.qkv[qv]", "mlp.fc1")))
    assert list(lora_layers(small_vit)) == ["blocks.1.attn.qkv", "blocks.1.mlp.fc1"]


def test_the_first_matrix_starts_as_the_settings_say():
    torch.manual_seed(0)
    gaussian = LoRALinear(nn.Linear(200, 5), LoRAConfig(rank=50, init_std=0.01)).lora_A
    assert gaussian.std().item() == pytest.approx(0.01, rel=0.05)
    uniform = LoRALinear(nn.Linear(200, 5), LoRAConfig(rank=50)).lora_A
    assert 0.99 / 200**0.5 < uniform.abs().max().item() <= 1 / 200**0.5  # Kaiming, a = sqrt 5: 1 / sqrt(in)


def test_what_is_named_twice_is_counted_once(small_vit):
    config = LoRAConfig(rank=2, targets=("attn.qkv", "qkv"), modules_to_save=("blocks.0.norm1", "head", "head"))
    predicted = count_lora_parameters(small_vit, config)
    add_lora(small_vit, config)
    assert sum(p.numel() for p in small_vit.parameters() if p.requires_grad) == predicted
    assert predicted == 2 * 2 * (48 + 144) + 2 * 48 + (48 * 10 + 10)


def test_a_target_is_a_whole_suffix(small_vit):
    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Linear(3, 3)

    small_vit.patch_embed_attn = Embedding()  # "...attn.proj" as text, but not as a name
    add_lora(small_vit, LoRAConfig(targets=("attn.proj",)))
    assert list(lora_layers(small_vit)) == ["blocks.0.attn.proj", "blocks.1.attn.proj"]


UNFIT = [
    ({"targets": ("attn.qkv", "attn.value")}, r"target 'attn.value' matches no linear layer .*attn\.qkv"),
    ({"modules_to_save": ("header",)}, r"module to save 'header' is not in the model.*head"),
    ({"blocks": (1, 3)}, r"blocks \(1, 3\) reach beyond the model's 2"),
    (
        {"blocks": (0, 1), "targets": ("head",)},
        "target 'head' matches no linear layer of blocks 0 to 0: there are attn",
    ),
    ({"targets": ("attn.proj[qv]",)}, r"'attn.proj\[qv\]' names parts of a fused .*, and blocks.0.attn.proj"),
    ({"targets": ("attn.qkv", "qkv[q]")}, r"targets 'attn.qkv', 'qkv\[q\]' claim blocks.0.attn.qkv twice"),
]


def test_refusals_name_the_thing_and_change_nothing(small_vit):
    small_vit.norm.requires_grad_(False)
    before = {name: p.requires_grad for name, p in small_vit.named_parameters()}
    for setting, message in UNFIT:
        with pytest.raises(ValueError, match=message):
            add_lora(small_vit, LoRAConfig(**setting))
    for saved, target in (("head", "head"), ("blocks.1", "blocks.1.attn.qkv")):
        both = LoRAConfig(targets=("attn.qkv", "head"), modules_to_save=(saved,))
        with pytest.raises(ValueError, match=f"module to save '{saved}' holds the target '{target}'"):
            add_lora(small_vit, both)
        with pytest.raises(ValueError, match="holds the target"):
            count_lora_parameters(small_vit, both)
    assert {name: p.requires_grad for name, p in small_vit.named_parameters()} == before
    for verb in (merge_lora, remove_lora, lambda model: adapters_disabled(model).__enter__()):
        with pytest.raises(ValueError, match="no active LoRA layer: call add_lora"):
            verb(small_vit)
    with pytest.raises(ValueError, match="no merged LoRA: call merge_lora"):
        unmerge_lora(small_vit)
    add_lora(small_vit, LoRAConfig())
    with pytest.raises(ValueError, match="has LoRA already: call remove_lora"):
        add_lora(small_vit, LoRAConfig())
    merge_lora(small_vit)
    with pytest.raises(ValueError, match="no active LoRA layer: call add_lora"):
        merge_lora(small_vit)
    with pytest.raises(ValueError, match="has LoRA already"):
        add_lora(small_vit, LoRAConfig())
    with pytest.raises(ValueError, match="merged adapters cannot be switched off"), adapters_disabled(small_vit):
        pass


@budget(30)
@given(
    rank=st.integers(1, 9),
    alpha=st.floats(0.5, 20),
    bias=st.booleans(),
    rslora=st.booleans(),
    shared=st.booleans(),
    qkv=st.sampled_from([[], ["attn.qkv"], *([f"attn.qkv[{parts}]"] for parts in PARTS)]),
    others=st.sets(st.sampled_from(["attn.proj", "mlp.fc1", "mlp.fc2"]), min_size=1).map(sorted),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_for_any_adapter_predicted_equals_counted_and_merged_equals_unmerged(
    rank, alpha, bias, rslora, shared, qkv, others, dtype
):
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "attn": nn.ModuleDict({"qkv": nn.Linear(8, 24), "proj": nn.Linear(8, 8)}),
            "mlp": nn.ModuleDict({"fc1": nn.Linear(8, 16), "fc2": nn.Linear(16, 8)}),
            "head": nn.Linear(8, 3),
        }
    ).to(dtype)
    config = LoRAConfig(rank=rank, alpha=alpha, bias=bias, targets=(*qkv, *others), rslora=rslora, shared_A=shared)
    predicted = count_lora_parameters(model, config)
    add_lora(model, config)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == predicted
    for layer in lora_layers(model).values():
        x = torch.ones(layer.base.in_features, dtype=dtype)
        assert layer(x).equal(layer.base(x))  # equal to the base at the start
        nn.init.normal_(layer.lora_B)
        if bias:
            nn.init.normal_(layer.lora_bias)
        x = torch.randn(5, layer.base.in_features, dtype=dtype)
        tolerance = 1e-4 if dtype == torch.float32 else 1e-10
        assert torch.allclose(layer.merged()(x), layer(x), atol=tolerance, rtol=tolerance)
        assert not torch.allclose(layer(x), layer.base(x))


@pytest.mark.parametrize("target", ["attn.qkv", "attn.qkv[qv]"])
def test_under_bf16_autocast_an_adapter_computes_and_learns_nearly_the_same(small_vit, images, target):
    config = LoRAConfig(rank=3, targets=(target,), shared_A=False, bias=True)
    model = train_a_little(add_lora(small_vit, config), images)
    expected = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert (logits.float() - expected).norm() / expected.norm() < 0.02
    gradients = []
    for values in (expected, logits.float()):
        model.zero_grad()
        values.square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for name, p in model.named_parameters() if ".lora_" in name]))
    assert (gradients[1] - gradients[0]).norm() / gradients[0].norm() < 0.05


def test_merging_under_autocast_does_not_round_the_update(adapted):
    exact = {name: layer.delta_weight() for name, layer in lora_layers(adapted).items()}
    with torch.autocast("cpu", torch.bfloat16):
        for name, layer in lora_layers(adapted).items():
            assert layer.delta_weight().equal(exact[name])
            assert layer.merged().weight.equal(layer.base.weight + exact[name])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("shared_A", [True, False])
@pytest.mark.parametrize("target", ["attn.proj", "attn.qkv[qkv]", "attn.qkv[kv]"])
def test_gradients_are_those_of_the_formula(target, shared_A, dropout):
    parts = target.partition("[")[2].rstrip("]")
    base = nn.Linear(4, 6).double()
    layer = LoRALinear(base, LoRAConfig(rank=2, alpha=3.0, bias=True, shared_A=shared_A, dropout=dropout), parts)
    with torch.no_grad():
        for parameter in (layer.lora_A, layer.lora_B, layer.lora_bias):
            parameter.copy_(torch.randn(parameter.shape))
    layer.double().train()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    def adapted(x, *adapter):
        torch.manual_seed(0)  # the same units are dropped each time
        return layer(x)

    assert torch.autograd.gradcheck(adapted, (x, layer.lora_A, layer.lora_B, layer.lora_bias))
    assert base.weight.grad is None


def test_the_bases_output_is_its_own(small_vit, images):
    """What a hook on the frozen layer keeps is not written over by the adapter."""
    model = add_lora(small_vit, LoRAConfig(rank=2, targets=("attn.qkv[qv]",), dropout=0.5)).train()
    layer = next(iter(lora_layers(model).values()))
    nn.init.ones_(layer.lora_B)
    kept = []
    layer.base.register_forward_hook(lambda module, inputs, output: kept.append((inputs[0], output)))
    model(images)
    x, output = kept[0]
    assert output.equal(F.linear(x, layer.base.weight, layer.base.bias))


def test_no_work_below_the_first_adapted_block_and_none_for_frozen_weights(small_vit, images):
    def backward_flops(config):
        model = add_lora(copy.deepcopy(small_vit), config)
        loss = model(images).square().sum()
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        return counter.get_total_flops()

    block = {"rank": 1, "targets": ("attn.proj", "mlp.fc2"), "modules_to_save": ("head",)}
    both, last = (backward_flops(LoRAConfig(blocks=blocks, **block)) for blocks in ((0, 2), (1, 2)))
    loss = copy.deepcopy(small_vit)(images).square().sum()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert last < 0.55 * both
    assert both < 0.6 * counter.get_total_flops()


def test_adapters_that_are_off_are_not_merged(adapted):
    with pytest.raises(ValueError, match="switched off: merge them outside"), adapters_disabled(adapted):
        merge_lora(adapted)
    assert lora_layers(adapted)
