"""Weights of others: whatever they are wrapped in they load, and what cannot be used is refused by name."""

import argparse
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from helpers import budget, tiny_vit
from woofkit import models
from woofkit.config import ConfigError
from woofkit.models import build_model, original_head
from woofkit.storage.weights import npz_sizes, read_weights, require_numbers, safetensors_bytes

NAME = "vit_tiny_patch16_224"


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    """timm's name stands for a Vision Transformer of two blocks."""
    monkeypatch.setattr(models, "_vision_transformer", lambda name, **given: tiny_vit(name, **given))


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(3)
    return {name: torch.randn_like(tensor) for name, tensor in tiny_vit(num_classes=7).state_dict().items()}


def backbone_of(model):
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}


def assert_loads(path, tensors):
    found = backbone_of(build_model(NAME, weights=path))
    assert found.keys() == {name for name in tensors if not name.startswith("head.")}
    assert all(tensor.equal(tensors[name].float()) for name, tensor in found.items())


def prefixed(tensors, prefix):
    return {prefix + name: tensor for name, tensor in tensors.items()}


WRAPPED = {
    "bare.pth": lambda t: t,
    "deit.pth": lambda t: {"model": t, "epoch": 3},
    "parallel.pth.tar": lambda t: {"epoch": 3, "arch": "vit", "state_dict": prefixed(t, "module."), "best": 0.5},
    "lightning.ckpt": lambda t: {"state_dict": prefixed(t, "model."), "callbacks": {"a": [1]}, "global_step": 7},
    "compiled.pt": lambda t: {"model_state_dict": prefixed(t, "model._orig_mod."), "optimizer": {"state": {}}},
    "twice.bin": lambda t: {"model": {"state_dict": prefixed(t, "backbone.")}},
    "own_head.pth": lambda t: {name if name.startswith("head.") else f"backbone.{name}": v for name, v in t.items()},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_whatever_weights_are_wrapped_in_they_load(tensors, tmp_path, name):
    torch.save(WRAPPED[name](tensors), tmp_path / name)
    assert_loads(tmp_path / name, tensors)
    assert original_head(NAME, tmp_path / name).weight.equal(tensors["head.weight"])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_become_float32(tensors, tmp_path, kind):
    other = {name: tensor.to(kind) for name, tensor in tensors.items()}
    save_file(prefixed(other, "module."), tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", other)


def test_weights_without_a_head_get_a_new_one_and_have_no_original(tensors, tmp_path):
    save_file({k: v for k, v in tensors.items() if not k.startswith("head.")}, tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", tensors)
    with pytest.raises(ConfigError, match="come without a head: there is no original one"):
        original_head(NAME, tmp_path / "w.safetensors")


# --- refused by name ---


def changed(tensors, name, change):
    return tensors | {name: change(tensors[name].clone())}


def with_nan(tensor):
    tensor.view(-1)[-1] = torch.nan
    return tensor


NORM = "norm.weight"
NO_NUMBERS = {
    "nan": (NORM, with_nan, "the tensor norm.weight holds nan or inf"),
    "half nan": (NORM, lambda t: with_nan(t.half()), "the tensor norm.weight holds nan or inf"),
    "inf": (NORM, lambda t: t / 0, "the tensor norm.weight holds nan or inf"),
    "too large": (NORM, lambda t: t.double() * 1e300, "the tensor norm.weight holds nan or inf, as float32 at least"),
    "int8": (NORM, lambda t: t.to(torch.int8), "norm.weight is int8: allowed are float16, bfloat16, float32, float64"),
    "bool": (NORM, lambda t: t > 0, "norm.weight is bool: allowed are float16"),
    "complex": (NORM, lambda t: t.to(torch.complex64), "norm.weight is complex64: allowed are float16"),
    "float8": (NORM, lambda t: t.to(torch.float8_e4m3fn), "norm.weight is float8_e4m3fn: allowed are float16"),
    "0-d": ("head.bias", lambda t: t[0], r"head.bias has shape \(\) instead of \(1,\)"),
    "sparse": (NORM, lambda t: t.to_sparse(), "the tensor norm.weight is sparse, allowed are dense ones"),
    "meta": (NORM, lambda t: t.to("meta"), "the tensor norm.weight is empty, allowed are dense ones"),
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_a_tensor_that_is_no_numbers_is_refused_by_its_name(tensors, tmp_path, case):
    name, change, message = NO_NUMBERS[case]
    torch.save(changed(tensors, name, change), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=rf"weights file w.pth.*{message}"):
        build_model(NAME, weights=tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: {"state_dict": t, "args": argparse.Namespace(lr=1)}, r"holds Python objects \(argparse.Namespace\)"),
        (lambda t: {"model": t, "best": np.float64(0.5)}, r"holds Python objects \(numpy\S+\) beside its tensors"),
        (
            lambda t: nn.Linear(2, 2),
            r"holds Python objects \(torch.nn.modules.linear.Linear\) beside .* instead of them",
        ),
        (lambda t: t | {"epoch": 3}, "holds no state dict of tensors: 'epoch' is of type int; save a model's tensors"),
        (lambda t: list(t.values()), "holds no state dict of tensors: save a model's tensors alone"),
        (lambda t: {0: torch.zeros(2)}, "holds no state dict of tensors"),
        (lambda t: {}, "holds no state dict of tensors"),
        (lambda t: t | prefixed(t, "module."), "holds 'cls_token' twice, once as 'module.cls_token'"),
    ],
)
def test_more_than_tensors_is_refused_with_what_to_save(tensors, tmp_path, content, message):
    torch.save(content(tensors), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=f"weights file w.pth {message}") as refused:
        read_weights(tmp_path / "w.pth")
    assert "torch.save(model.state_dict(), 'weights.pth')" in str(refused.value)
    assert "weights_only" not in str(refused.value)


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tensors, tmp_path):
    torch.save(tensors, tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[content.index(tensors["blocks.0.attn.qkv.weight"].numpy().tobytes()) + 100] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match="weights file w.pth is damaged .*: the checksum of .* is wrong"):
        read_weights(tmp_path / "w.pth")


METADATA = {
    "mean": (["[0.5, 0.5]", "[0.5, 0.5, NaN]", "0.5", "{", "[true, 0, 0]", "[" * 10**5], "a list of three numbers"),
    "std": (["[0, 0, 0]", "[1e-30, 1, 1]", '"abc"', "[-1, 1, 1]"], "a list of three numbers from 0.0001 to 100"),
    "crop_pct": (["0", "nan", "inf", "1e400", "much", ""], "a number from 0.1 to 2"),
    "interpolation": (["magic", "", "random"], "nearest, .*bicubic"),
}


@pytest.mark.parametrize("name", METADATA)
def test_a_transform_that_cannot_be_is_refused(tensors, tmp_path, name):
    values, allowed = METADATA[name]
    for value in values:
        save_file(tensors, tmp_path / "w.safetensors", {name: value})
        with pytest.raises(ConfigError, match=rf"w.safetensors: {name} = .* in its metadata, allowed is .*{allowed}"):
            read_weights(tmp_path / "w.safetensors")


def test_arrays_of_jax_are_checked_too(tmp_path):
    for array, message in (
        (np.full(3, np.nan), "head/bias holds nan or inf"),
        (np.zeros(3, np.int8), "head/bias is int8: allowed are numbers with a fraction"),
    ):
        np.savez(tmp_path / "w.npz", **{"head/bias": array})
        with pytest.raises(ConfigError, match=f"weights file w.npz: (the tensor )?{message}"):
            build_model(NAME, weights=tmp_path / "w.npz")


# --- laws ---

FEW = budget(60, derandomize=True)


@FEW
@given(
    kind=st.sampled_from([".safetensors", ".pth", ".npz"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=3),
    kept=st.floats(0, 1) | st.just(1.0),
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_file_holds_a_model_is_built_of_numbers_or_the_file_is_named(tmp_path, kind, changes, kept):
    small = {"head.bias": torch.ones(3), "head.weight": torch.ones(3, 4)}
    path = tmp_path / f"w{kind}"
    if kind == ".npz":
        np.savez(path, **{name.replace(".", "/"): tensor.numpy() for name, tensor in small.items()})
    elif kind == ".pth":
        torch.save({"model": small}, path)
    else:
        save_file(small, path, {"crop_pct": "0.9"})
    content = bytearray(path.read_bytes())
    for place, new in changes:
        at = int(place * len(content))
        content[at : at + len(new)] = new
    path.write_bytes(content[: int(kept * len(content))])
    found = tensors_or_error(path)
    if isinstance(found, ConfigError):
        assert f"weights file w{kind}" in str(found)
        assert "weights_only" not in str(found)
        assert "\n" not in str(found)
    else:
        require_numbers(found, "again")


def tensors_or_error(path):
    try:
        if path.suffix == ".npz":
            return npz_sizes(path) and {}
        return read_weights(path)[0]
    except ConfigError as error:
        return error


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")


@FEW
@given(
    shapes=st.dictionaries(NAMES, st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=4),
    metadata=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=5),
)
def test_a_file_in_a_fixed_order_reads_as_the_librarys_own(tmp_path, shapes, metadata):
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    content = safetensors_bytes(tensors, metadata)
    assert content == safetensors_bytes(dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    (tmp_path / "w").write_bytes(content)
    found = load_file(tmp_path / "w")
    assert found.keys() == tensors.keys()
    assert all(found[name].equal(tensor) for name, tensor in tensors.items())
    (size,) = struct.unpack("<Q", content[:8])
    assert size % 8 == 0
    assert json.loads(content[8 : 8 + size])["__metadata__"] == metadata
