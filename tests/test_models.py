"""Models: the paper's parameter counts, strict loading, the original head."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from woofkit import models
from woofkit.config import ConfigError, LoRAConfig, StudyConfig, TrainConfig
from woofkit.imagewoof import IMAGENET_INDEX
from woofkit.lora import add_lora, count_lora_parameters
from woofkit.methods import build_for, knows_breeds, zero_shot_head
from woofkit.models import build_model, count_parameters, original_head

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
        torch.save({"state_dict": tensors}, path)
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


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"head.bias": Bomb()}))
    with pytest.raises(ConfigError, match="bomb.pth is damaged or not a weights file"):
        build_model(NAME, weights=tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown model 'vit_tiny_patch17_224': .* example, .*vit_tiny_patch16_224"):
        build_model("vit_tiny_patch17_224", weights=None)
    with pytest.raises(ConfigError, match="'resnet18' is not a Vision Transformer with a linear head"):
        build_model("resnet18", weights=None)
    (tmp_path / "w.h5").touch()
    with pytest.raises(ConfigError, match="format '.h5' is not one of .safetensors"):
        build_model(NAME, weights=tmp_path / "w.h5")
    with pytest.raises(ConfigError, match="weights file .*nowhere.pth does not exist: allowed are 'bundled'"):
        build_model(NAME, weights=tmp_path / "nowhere.pth")
    with pytest.raises(ConfigError, match="weights='bundled' are for 'vit_tiny_patch16_224', not 'vit_small"):
        build_model("vit_small_patch16_224")
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
    assert not knows_breeds(drawn)
    with pytest.raises(ConfigError, match="zero-shot on 'sketchwoof'"):
        build_for(drawn)
    with pytest.raises(ConfigError, match="needs a head with ImageNet's 1,000 classes; .* have 7"):
        zero_shot_head(TrainConfig(method="zero-shot", dataset="imagewoof", weights=str(checkpoint[0])))


def test_real_weights_give_the_ten_rows_of_their_head():
    path = realdata("deit_tiny_patch16_224.fp16.safetensors")
    settings = {"dataset": "imagewoof", "model_name": "deit_tiny_patch16_224", "weights": str(path)}
    config = StudyConfig(**settings).train_config("zero-shot")
    assert knows_breeds(config)
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
