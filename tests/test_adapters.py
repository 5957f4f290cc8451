"""Adapter files: what is saved comes back, onto its own base only."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_lora import train_a_little

from woofkit.adapters import load_adapter, save_adapter
from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import add_lora, lora_layers, merge_lora

CONFIG = LoRAConfig.paper(rank=3)


@pytest.fixture
def saved(small_vit, images, tmp_path):
    """A trained adapter's file and the logits that it belongs to."""
    model = train_a_little(add_lora(small_vit, CONFIG), images)
    path = tmp_path / "adapter.safetensors"
    save_adapter(model, CONFIG, path)
    return path, model(images).detach()


@pytest.fixture
def fresh(small_vit, images, saved):
    """The base as it was before the adapter was trained on it."""
    import timm

    torch.manual_seed(0)
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return timm.create_model("vit_tiny_patch16_224", **settings).eval()


def test_reloaded_equals_saved_with_head_norm_and_bias(saved, fresh, images):
    path, logits = saved
    assert not torch.allclose(fresh(images), logits, atol=1e-3)
    assert load_adapter(fresh, path)(images).equal(logits)
    with safe_open(path, "pt") as file:
        assert {"head.weight", "norm.bias", "blocks.0.attn.qkv.lora_bias"} <= set(file.keys())
        assert not any("base" in name for name in file.keys())  # noqa: SIM118


def assert_refused(model, path, message):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        load_adapter(model, path)
    assert not lora_layers(model)
    assert {name: True for name in before} == {name: t.equal(before[name]) for name, t in model.state_dict().items()}


def test_another_base_is_refused(saved, fresh):
    with torch.no_grad():
        fresh.blocks[0].mlp.fc1.weight[0, 0] += 1
    assert_refused(fresh, saved[0], "belongs to another base: its hash is [0-9a-f]{12}")


def test_a_file_that_is_no_adapter_is_refused(fresh, tmp_path):
    save_file({"head.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    assert_refused(fresh, tmp_path / "model.safetensors", "is not an adapter file: its format is None")


def test_a_truncated_or_missing_file_is_refused(saved, fresh, tmp_path):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:1000])
    assert_refused(fresh, path, "missing, damaged or not safetensors")
    assert_refused(fresh, tmp_path / "nowhere.safetensors", "missing, damaged or not safetensors")


def test_tensors_that_do_not_fit_are_named(saved, fresh):
    path, _ = saved
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["blocks.0.attn.qkv.lora_A"] = torch.zeros(5, 48)
    del tensors["norm.bias"]
    save_file(tensors, path, metadata)
    assert_refused(fresh, path, r"missing norm.bias; blocks.0.attn.qkv.lora_A has shape \(5, 48\) instead of \(3, 48\)")


def test_a_merged_model_has_no_adapter_to_save(small_vit, images, tmp_path):
    model = merge_lora(train_a_little(add_lora(small_vit, CONFIG), images))
    with pytest.raises(ValueError, match="no active LoRA to save"):
        save_adapter(model, CONFIG, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
