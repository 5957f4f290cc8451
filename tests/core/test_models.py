"""Models: the paper's parameter counts, strict loading, the original head."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from woofkit import models
from woofkit.config import ConfigError, LoRAConfig, StudyConfig, TrainConfig
from woofkit.datasets.imagewoof import IMAGENET_INDEX
from woofkit.lora import add_lora, count_lora_parameters
from woofkit.models import build_for, build_model, count_parameters, knows_classes, original_head, zero_shot_head
from woofkit.storage.weights import hash_tensors

NAME = "vit_tiny_patch16_224"


def realdata(name):
    folder = os.environ.get("WOOFKIT_REALDATA")
    if not folder:
        pytest.skip("WOOFKIT_REALDATA is not set: no folder with real weights")
    return Path(folder) / name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file of weights for the real architecture with 7 upstream classes, and its tensors."""
    torch.manual_seed(3)
    tensors = timm.create_model(NAME, num_classes=7).state_dict()
    path = tmp_path_factory.mktemp("weights") / "upstream.safetensors"
    save_file(tensors, path)
    return path, tensors


def test_the_papers_parameter_counts():
    model = build_model(NAME, weights=None)
    assert count_parameters(model) == (5_526_346, 5_526_346)
    assert count_lora_parameters(model, LoRAConfig.paper()) == 177_418
    assert count_parameters(add_lora(model, LoRAConfig.paper())).trainable == 177_418


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_are_loaded_but_for_the_head(checkpoint, tmp_path, suffix):
    path, tensors = checkpoint
    if suffix == ".pth":
        path = tmp_path / "upstream.pth"
        torch.save({"model": tensors, "epoch": 3}, path)  # as DeiT's checkpoints are wrapped
    state = build_model(NAME, weights=path).state_dict()
    assert all(state[name].equal(tensor) for name, tensor in tensors.items() if not name.startswith("head."))
    assert state["head.weight"].shape == (10, 192)
    assert original_head(NAME, path).weight.equal(tensors["head.weight"])


def test_the_new_head_depends_on_the_seed_alone(checkpoint):
    heads = [build_model(NAME, weights=checkpoint[0], seed=seed).head.weight for seed in (1, 1, 2)]
    assert heads[0].equal(heads[1])
    assert not heads[0].equal(heads[2])


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_for(TrainConfig(weights="random", method="lora", lora=LoRAConfig(), seed=9))
    assert torch.rand(3).equal(expected)


def test_tensors_that_do_not_fit_are_named(checkpoint, tmp_path):
    tensors = dict(checkpoint[1])
    del tensors["cls_token"]
    tensors["extra"] = torch.zeros(1)
    tensors["pos_embed"] = torch.zeros(1, 5, 192)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=r"does not fit .*missing cls_token; unexpected extra; pos_embed has shape"):
        build_model(NAME, weights=tmp_path / "w.safetensors")


def test_a_damaged_file_is_refused(checkpoint, tmp_path):
    whole = checkpoint[0].read_bytes()
    for name, content in (("cut.safetensors", whole[:5000]), ("empty.pth", b""), ("cut.npz", b"PK" + whole[:500])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=f"weights file {name} is (damaged or )?not a "):
            build_model(NAME, weights=tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="list.pth holds no state dict of tensors"):
        build_model(NAME, weights=tmp_path / "list.pth")


def as_jax(model):
    """A Vision Transformer's tensors under the names and in the shapes of Google's JAX checkpoints."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays = {"cls": state["cls_token"], "Transformer/posembed_input/pos_embedding": state["pos_embed"]}
    arrays["embedding/kernel"] = state["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    arrays["embedding/bias"] = state["patch_embed.proj.bias"]
    arrays["head/kernel"], arrays["head/bias"] = state["head.weight"].T, state["head.bias"]
    names = [("Transformer/encoder_norm", "norm")]
    for index in range(len(model.blocks)):
        theirs, ours = f"Transformer/encoderblock_{index}", f"blocks.{index}"
        names += [(f"{theirs}/LayerNorm_0", f"{ours}.norm1"), (f"{theirs}/LayerNorm_2", f"{ours}.norm2")]
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        for i in range(2):
            arrays[f"{theirs}/MlpBlock_3/Dense_{i}/kernel"] = state[f"{ours}.mlp.fc{i + 1}.weight"].T
            arrays[f"{theirs}/MlpBlock_3/Dense_{i}/bias"] = state[f"{ours}.mlp.fc{i + 1}.bias"]
        heads, width = model.blocks[index].attn.num_heads, model.embed_dim
        qkv = zip(*(np.split(state[f"{ours}.attn.qkv.{kind}"], 3) for kind in ("weight", "bias")), strict=True)
        for name, (weight, bias) in zip(("query", "key", "value"), qkv, strict=True):
            arrays[f"{attention}/{name}/kernel"] = weight.T.reshape(width, heads, -1)
            arrays[f"{attention}/{name}/bias"] = bias.reshape(heads, -1)
        arrays[f"{attention}/out/kernel"] = state[f"{ours}.attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"]
    for theirs, ours in names:
        arrays[f"{theirs}/scale"], arrays[f"{theirs}/bias"] = state[f"{ours}.weight"], state[f"{ours}.bias"]
    return arrays


def test_jax_weights_are_loaded_and_none_is_left_over(tmp_path):
    torch.manual_seed(4)
    model = timm.create_model("test_vit", num_classes=7)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    arrays = as_jax(model)
    np.savez(tmp_path / "w.npz", **arrays)
    state = build_model("test_vit", weights=tmp_path / "w.npz").state_dict()
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    assert all(state[name].equal(tensor) for name, tensor in kept.items())
    assert original_head("test_vit", tmp_path / "w.npz").weight.equal(model.head.weight)

    np.savez(tmp_path / "more.npz", **arrays, extra=np.zeros(3))
    with pytest.raises(ConfigError, match="more.npz does not fit 'test_vit': 306,698 parameters, not 306,695"):
        build_model("test_vit", weights=tmp_path / "more.npz")
    arrays["renamed"] = arrays.pop("Transformer/encoder_norm/scale")
    np.savez(tmp_path / "less.npz", **arrays)
    with pytest.raises(ConfigError, match="less.npz does not fit 'test_vit': .*encoder_norm/scale"):
        build_model("test_vit", weights=tmp_path / "less.npz")


def test_the_transform_comes_with_the_file(tmp_path):
    tensors = timm.create_model("test_vit", num_classes=7).state_dict()
    own = {"mean": "[0.1, 0.2, 0.3]", "std": "[1.0, 1.0, 1.0]", "crop_pct": "0.5", "interpolation": "bilinear"}
    save_file(tensors, tmp_path / "w.safetensors", own)
    config = models.data_config(build_model("test_vit", weights=tmp_path / "w.safetensors"))
    expected = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0), "crop_pct": 0.5, "interpolation": "bilinear"}
    assert {name: config[name] for name in own} == expected


def test_a_hash_sees_names_shapes_types_and_values():
    tensors = [torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2, 3).double(), torch.eye(3)[:2]]
    hashes = {hash_tensors({"a": tensor}) for tensor in tensors} | {hash_tensors({"b": tensors[0]})}
    assert len(hashes) == 5
    other_order = {"b": tensors[1], "a": tensors[0].T.contiguous().T}
    assert hash_tensors({"a": tensors[0], "b": tensors[1]}) == hash_tensors(other_order)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"head.bias": Bomb()}, protocol=2))
    with pytest.raises(
        ConfigError, match=r"bomb.pth holds Python objects \(\S+\) .* not read for safety: save a model's"
    ):
        build_model(NAME, weights=tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


UNKNOWN = [
    ("vit_tiny_patch17_224", None, "unknown model 'vit_tiny_patch17_224': .* example, .*vit_tiny_patch16_224"),
    ("resnet18", None, "'resnet18' is not a Vision Transformer with a linear head"),
    (NAME, "w.h5", "format '.h5' is not one of .safetensors"),
    (NAME, "nowhere.pth", "weights file .*nowhere.pth does not exist: allowed are 'bundled'"),
    ("vit_small_patch16_224", "bundled", "weights='bundled' are for 'vit_tiny_patch16_224', not 'vit_small"),
    (f"{NAME}.best", None, r"unknown weights .*'vit_tiny_patch16_224.best'.*augreg_in21k_ft_in1k"),
]


@pytest.mark.parametrize(("name", "weights", "message"), UNKNOWN)
def test_unknown_names_are_refused(tmp_path, name, weights, message):
    (tmp_path / "w.h5").touch()
    with pytest.raises(ConfigError, match=message):
        build_model(name, weights=tmp_path / weights if weights and "." in weights else weights)


def test_a_head_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="num_classes = 0 is out of range: allowed is from 1"):
        build_model(NAME, num_classes=0, weights=None)
    with pytest.raises(
        ConfigError, match="'deit_tiny_distilled_patch16_224' has a second head, head_dist, which would"
    ):
        build_model("deit_tiny_distilled_patch16_224", weights=None)
    with pytest.raises(ConfigError, match="random weights have no original head"):
        original_head(NAME, None)


def test_timms_weights_out_of_reach_are_a_clear_error(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(models.timm, "create_model", fail)
    with pytest.raises(ConfigError, match=r"could not be loaded \(OSError\): without internet, pass the path"):
        build_model(NAME, weights="timm")


def test_a_damaged_bundled_file_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"weights")
    (tmp_path / "w.safetensors.sha256").write_text(hashlib.sha256(b"weights").hexdigest() + "  w.safetensors\n")
    models.verify_checksum(path)
    (tmp_path / "w.safetensors.sha256").rename(tmp_path / "note")
    with pytest.raises(ConfigError, match=r"w.safetensors.sha256 is missing in .*: check out again or `make backbone`"):
        models.verify_checksum(path)
    (tmp_path / "note").rename(tmp_path / "w.safetensors.sha256")
    path.write_bytes(b"weighty")
    monkeypatch.setattr(models, "BUNDLED_WEIGHTS", path)
    with pytest.raises(ConfigError, match="w.safetensors is damaged: sha256"):
        build_model(NAME, weights="bundled")


def test_the_bundled_backbone_loads_with_its_own_transform():
    model = build_model(NAME)
    config = models.data_config(model)
    assert (config["crop_pct"], config["mean"], config["std"]) == (1.0, (0.5,) * 3, (0.5,) * 3)
    assert original_head(NAME, "bundled").out_features >= 100


def test_zero_shot_is_for_weights_that_know_the_breeds(checkpoint):
    drawn = TrainConfig(method="zero-shot", weights="random")
    assert not knows_classes(drawn)
    with pytest.raises(ConfigError, match="zero-shot on 'sketchwoof'"):
        build_for(drawn)
    with pytest.raises(ConfigError, match="needs a head with ImageNet's 1,000 classes; .* have 7"):
        zero_shot_head(TrainConfig(method="zero-shot", dataset="imagewoof", weights=str(checkpoint[0])))


def test_real_weights_give_the_ten_rows_of_their_head():
    path = realdata("deit_tiny_patch16_224.fp16.safetensors")
    settings = {"dataset": "imagewoof", "model_name": "deit_tiny_patch16_224", "weights": str(path)}
    config = StudyConfig(**settings).train_config("zero-shot")
    assert knows_classes(config)
    model, head = build_for(config), original_head("deit_tiny_patch16_224", path)
    features = torch.randn(2, 192)
    assert torch.allclose(model.head(features), head(features)[:, list(IMAGENET_INDEX)], atol=1e-6)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("method", "trainable"), [("full", 5_526_346), ("lora", 177_418), ("probe", 1_930)])
def test_a_method_trains_what_it_says(method, trainable):
    config = StudyConfig(weights="random").train_config(method)
    assert count_parameters(build_for(config)).trainable == trainable


def test_targets_that_do_not_fit_are_refused_as_settings():
    config = TrainConfig(method="lora", weights="random", lora=LoRAConfig(targets=("attn.value",)))
    with pytest.raises(ConfigError, match="LoRA does not fit .*'attn.value' matches no linear layer"):
        build_for(config)
