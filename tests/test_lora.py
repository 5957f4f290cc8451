"""The laws of LoRA, on a small Vision Transformer."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from woofkit.config import ConfigError, LoRAConfig
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


def train_a_little(model, images, steps=3):
    """A few steps of Adam on whatever is trainable, so that adapters are no longer zero."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    labels = torch.arange(len(images)) % 10
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


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
    assert {name for name, p in adapted.named_parameters() if p.requires_grad} == {
        "norm.weight", "norm.bias", "head.weight", "head.bias",
    }  # fmt: skip
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


def test_refusals_name_the_thing_and_change_nothing(small_vit):
    small_vit.norm.requires_grad_(False)
    before = {name: p.requires_grad for name, p in small_vit.named_parameters()}
    with pytest.raises(ValueError, match=r"target 'attn.value' matches no linear layer .*attn\.qkv"):
        add_lora(small_vit, LoRAConfig(targets=("attn.qkv", "attn.value")))
    with pytest.raises(ValueError, match=r"module to save 'header' is not in the model.*head"):
        add_lora(small_vit, LoRAConfig(modules_to_save=("header",)))
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


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rank": 0}, "rank = 0 is out of range: allowed is from 1"),
        ({"rank": 2.0}, "rank must be of type int, not float"),
        ({"rank": True}, "rank must be of type int, not bool"),
        ({"alpha": 0.0}, "alpha = 0.0 is out of range: allowed is above 0"),
        ({"alpha": float("nan")}, "alpha = nan is out of range"),
        ({"dropout": 1.0}, "dropout = 1.0 is out of range"),
        ({"bias": "false"}, "bias must be of type bool, not str"),
        ({"targets": "attn.qkv"}, "targets must be a sequence of module names"),
        ({"targets": 5}, "targets must be a sequence of module names, not 5"),
        ({"targets": ()}, "targets is empty"),
        ({"modules_to_save": "head"}, "modules_to_save must be a sequence of module names, not 'head'"),
        ({"init_std": "small"}, "init_std must be a number or None"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        LoRAConfig(**setting)


@given(
    rank=st.integers(1, 9),
    alpha=st.floats(0.5, 20),
    bias=st.booleans(),
    targets=st.sets(st.sampled_from(["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]), min_size=1).map(sorted),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=15, deadline=None)
def test_for_any_adapter_predicted_equals_counted_and_merged_equals_unmerged(rank, alpha, bias, targets, dtype):
    torch.manual_seed(0)
    model = nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(8, 24), "proj": nn.Linear(8, 8)}),
                           "mlp": nn.ModuleDict({"fc1": nn.Linear(8, 16), "fc2": nn.Linear(16, 8)}),
                           "head": nn.Linear(8, 3)}).to(dtype)  # fmt: skip
    config = LoRAConfig(rank=rank, alpha=alpha, bias=bias, targets=tuple(targets))
    predicted = count_lora_parameters(model, config)
    add_lora(model, config)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == predicted
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B)
        x = torch.randn(5, layer.base.in_features, dtype=dtype)
        tolerance = 1e-4 if dtype == torch.float32 else 1e-10
        assert torch.allclose(layer.merged()(x), layer(x), atol=tolerance, rtol=tolerance)
        assert not torch.allclose(layer(x), layer.base(x))
