"""What each method trains, and what a run keeps of it."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from woofkit import models as methods
from woofkit.adapters import load_run_model
from woofkit.config import ConfigError, TrainConfig
from woofkit.data import Images, load_dataset, load_pixels, make_transform
from woofkit.models import build_for, count_parameters, data_config, untouched_method
from woofkit.results import read_metrics, read_predictions, write_metrics
from woofkit.sketch.drawing import pose_of
from woofkit.sketch.skeleton import POSES
from woofkit.train import evaluate, run_training

HEAD = {"head.weight", "head.bias"}


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_each_method_trains_its_own_parameters_and_always_the_head():
    methods = ("full", "probe", "bitfit", "norm")
    models = {method: build_for(TrainConfig(method=method, weights="random")) for method in methods}
    names = {name for name, _ in models["full"].named_parameters()}
    assert trained(models["full"]) == names
    assert trained(models["probe"]) == HEAD
    assert trained(models["bitfit"]) == {name for name in names if name.endswith("bias")} | HEAD
    assert trained(models["norm"]) == {name for name in names if "norm" in name} | HEAD
    for blocks in (1, 3):
        last = build_for(TrainConfig(method="last", last_blocks=blocks, weights="random"))
        kept = tuple(f"blocks.{number}." for number in range(12 - blocks, 12)) + ("norm.", "head.")
        assert trained(last) == {name for name in names if name.startswith(kept)}


def test_their_sizes_on_the_studys_model():
    # By hand, with d = 192, 12 blocks and ten classes: biases 12 (2 d + 3 d + d + 4 d + d) + 2 d with the patch
    # embedding's and the last norm's; norms 12 * 4 d + 2 d; a block 12 d^2 + 13 d. And the head, 10 d + 10.
    d, head = 192, 1930
    expected = {"probe": 0, "bitfit": 12 * 11 * d + 2 * d, "norm": 12 * 4 * d + 2 * d}
    expected["last"] = 12 * d * d + 13 * d + 2 * d
    for method, number in expected.items():
        model = build_for(TrainConfig(method=method, weights="random"))
        assert count_parameters(model).trainable == number + head, method


def test_more_last_blocks_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="last_blocks = 13 is more than 'vit_tiny_patch16_224' has: 12"):
        build_for(TrainConfig(method="last", last_blocks=13, weights="random"))


@pytest.mark.parametrize("method", ["bitfit", "last"])
def test_a_run_keeps_what_trained_and_its_model_gives_the_same_logits(tiny_run, tmp_path, method):
    run = run_training(replace(tiny_run, method=method), tmp_path)
    model, start = load_run_model(run), build_for(replace(tiny_run, method=method))
    assert set(load_file(run / "trained.safetensors")) == trained(start)
    transform = make_transform(data_config(model))
    test = load_dataset("sketchwoof", split="test", num=tiny_run.num_test, image_size=transform.size)
    result = evaluate(model, Images(load_pixels(test, transform), test.labels, transform))
    logits = read_predictions(run).filter(like="logit_").to_numpy()
    assert torch.allclose(result.logits, torch.tensor(logits), atol=1e-5)
    before = start.state_dict()
    assert {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])} == trained(start)
    assert read_metrics(run)["checkpoint_bytes"] == (run / "trained.safetensors").stat().st_size


def test_trained_weights_that_do_not_fit_are_refused(tiny_run, tmp_path):
    run = run_training(replace(tiny_run, method="probe"), tmp_path)
    tensors, metrics = load_file(run / "trained.safetensors"), read_metrics(run)
    save_file({"head.weight": tensors["head.weight"]}, run / "trained.safetensors")
    write_metrics(run, metrics)  # as if it had been written so
    with pytest.raises(ConfigError, match="do not fit their settings: missing head.bias"):
        load_run_model(run)


def test_the_pose_is_a_label_of_its_own(tiny_run, tmp_path):
    breeds, poses = (
        load_dataset("sketchwoof", split="val", num=20, label=label, image_size=32) for label in ("breed", "pose")
    )
    assert poses.class_names == POSES
    drawings = [poses.draw(index) for index in range(20)]
    assert [POSES[label] for label in poses.labels] == [drawing.pose for drawing in drawings]
    assert [pose_of(poses.draw_seed, index) for index in range(20)] == [drawing.pose for drawing in drawings]
    assert all((breeds.draw(i).image == drawings[i].image).all() for i in range(20))
    some = poses.subset([3, 17])
    assert (some.draw(1).image == drawings[17].image).all()

    run = run_training(replace(tiny_run, label="pose"), tmp_path)
    assert load_run_model(run).head.out_features == len(POSES)


def test_a_pose_of_photographs_is_refused():
    with pytest.raises(ConfigError, match="label 'pose' with dataset 'imagewoof', method 'full': only drawings know"):
        TrainConfig(dataset="imagewoof", label="pose")
    with pytest.raises(ConfigError, match="label 'pose' with dataset 'imagewoof': only drawings know their pose"):
        load_dataset("imagewoof", split="test", label="pose")


def test_the_untouched_backbone_names_breeds_by_its_own_head_or_by_a_probe(monkeypatch):
    assert untouched_method(TrainConfig()) == "probe"
    monkeypatch.setattr(methods, "knows_classes", lambda config: True)
    assert untouched_method(TrainConfig()) == "zero-shot"
