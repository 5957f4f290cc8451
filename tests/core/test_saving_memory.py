"""A batch in parts, and activations computed twice: less memory, the same training, the same runs as ever."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from helpers import images, tiny_vit
from woofkit import train
from woofkit.config import NAMED_IF_CHANGED, ConfigError, LoRAConfig, StudyConfig, TrainConfig
from woofkit.fast.cuda_graph import GraphedStep
from woofkit.fast.runtime import Runtime
from woofkit.lora import add_lora
from woofkit.results import equal_run, run_folder
from woofkit.train import load_splits, make_optimizer, run_identity, run_training, train_step

METHODS = {"full": None, "lora": LoRAConfig(rank=2, dropout=0.5), "upper": LoRAConfig(rank=2, blocks=(2, 3))}
EVA = "vit_small_patch16_dinov3_qkvb"


def model_for(method, name="vit_tiny_patch16_224"):
    torch.manual_seed(0)
    model = tiny_vit(name, depth=3).double()
    return (add_lora(model, METHODS[method]) if METHODS[method] else model).train()


def after_two_steps(model, runtime, x, targets):
    """The trained parameters after two steps, and the last step's loss and logits."""
    runtime.prepare(model)
    optimizer = make_optimizer(model, 0.01, runtime)
    for _ in range(2):
        torch.manual_seed(5)  # dropout
        loss, logits = train_step(model, x, targets, optimizer, runtime)
    return [p.detach() for p in model.parameters() if p.requires_grad], loss, logits


@pytest.mark.parametrize("method", ["full", "upper"])
@pytest.mark.parametrize("size", [1, 3, 5, 7, 100])
def test_a_batch_in_parts_takes_the_steps_of_the_whole_batch(method, size):
    x, targets = images(7, 3, 32, 32).double(), torch.arange(7)  # 7 is 3 + 3 + 1, and 5 + 2
    whole, parts = (after_two_steps(model_for(method), Runtime(micro_batch=number), x, targets) for number in (0, size))
    for one, other in zip(whole[0], parts[0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(whole[1:], parts[1:], atol=1e-6, rtol=1e-6)  # the loss is of float32
    assert parts[2].shape == (7, 10)


def test_no_more_than_a_part_is_computed_at_once(small_vit, images):
    seen = []
    small_vit.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    runtime = Runtime(micro_batch=3)
    train_step(small_vit, images, torch.arange(4), make_optimizer(small_vit, 0.01, runtime), runtime)
    assert seen == [3, 1]


def gradients(model, runtime, x):
    """The loss and the gradients of one step in training mode, and the bytes kept for the backward pass."""
    kept = {}
    runtime.prepare(model).zero_grad()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(tensor):
        if (storage := tensor.untyped_storage()).data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    torch.manual_seed(3)
    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = F.cross_entropy(runtime.forward()(model, x), torch.arange(len(x)))
    held = sum(storage.nbytes() for storage in kept.values())
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, held


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", EVA])
@pytest.mark.parametrize("fast", [True, False])
def test_checkpointing_gives_the_same_gradients_and_keeps_less(method, name, fast):
    x = images(4, 3, 32, 32).double()
    plain, saving = (
        gradients(model_for(method, name), Runtime(fast=fast, checkpointing=on), x) for on in (False, True)
    )
    assert plain[0].equal(saving[0])
    assert plain[1].keys() == saving[1].keys()
    for key, gradient in plain[1].items():
        torch.testing.assert_close(saving[1][key], gradient, atol=1e-13, rtol=1e-11)
    assert saving[2] < plain[2] / (3 if method != "upper" else 1.5)


def test_checkpointing_leaves_evaluation_alone(small_vit, images):
    plain, saving = Runtime(), Runtime(checkpointing=True)
    with torch.inference_mode():
        expected = plain.forward()(plain.prepare(small_vit), images)
        assert saving.forward()(saving.prepare(small_vit), images).equal(expected)


def test_a_gpu_records_no_step_that_saves_memory(monkeypatch):
    monkeypatch.setattr("woofkit.fast.cuda_graph.CudaRecorder", lambda device: None)
    gpu = Runtime(torch.device("cuda"))
    assert isinstance(gpu.repeated(print, 8), GraphedStep)
    assert replace(gpu, micro_batch=4).repeated(print, 8) is print
    assert replace(gpu, checkpointing=True).repeated(print, 8) is print


@pytest.mark.parametrize("method", ["full", "zero-shot"])
def test_a_run_without_these_settings_is_the_run_that_it_was_before_there_were_any(tiny_run, tmp_path, method):
    config = replace(tiny_run, method=method, dataset="sketchwoof")
    model, splits = train.build_for(tiny_run), load_splits(tiny_run, 160)

    def identity(config):
        return run_identity(config, splits, model, Runtime.of(config))

    written = json.dumps(identity(config), sort_keys=True)
    assert not any(name in written for name in NAMED_IF_CHANGED)
    named = replace(config, micro_batch=0, checkpointing=False)
    assert json.dumps(identity(named), sort_keys=True) == written
    changed = [identity(replace(config, **change)) for change in ({"micro_batch": 2}, {"checkpointing": True})]
    folders = {run_folder(config, each, tmp_path) for each in (json.loads(written), *changed)}
    assert len(folders) == (3 if method == "full" else 1)  # zero-shot trains nothing


def test_the_identity_of_a_known_run_is_what_it_was():
    """The settings that stood in every identity before these two, in full."""
    names = "method dataset scheme data_dir skip_unreadable image_variant preprocess num_train num_val num_test"
    names += " label_fraction model_name weights epochs batch_size lr schedule precision augment seed device label"
    names += " last_blocks lora"
    assert list(TrainConfig().to_dict()) == [*names.split(), "fast"]


def test_a_finished_run_that_is_older_than_a_setting_is_found(tiny_run, tmp_path):
    run = run_training(tiny_run, tmp_path)
    record = json.loads((run / "config.json").read_text())
    older = run.with_name(run.name[:-8] + "00000000")
    run.rename(older)
    metrics = json.loads((older / "metrics.json").read_text())
    del metrics["files"], metrics["checksum"]  # as of old runs, which know nothing of the files beside them
    (older / "metrics.json").write_text(json.dumps(metrics))
    for name in ("num_val", "fast"):
        assert record["identity"]["settings"].pop(name) == getattr(TrainConfig, name)
    (older / "config.json").write_text(json.dumps(record))
    assert run_training(tiny_run, tmp_path) == older
    assert run_training(replace(tiny_run, fast=False), tmp_path) != older  # what it lacks has to be the default
    del record["identity"]["transform"]
    (older / "config.json").write_text(json.dumps(record))
    assert equal_run(run, {**record["identity"], "transform": {"size": "1"}}) == run  # its weights may bring another
    (older / "config.json").write_text(json.dumps(record | {"config": {"weights": "bundled"}}))
    assert equal_run(run, {**record["identity"], "transform": {"size": "1"}}) == older
    (older / "metrics.json").unlink()
    assert equal_run(run, {**record["identity"], "transform": {"size": "1"}}) == run


def test_a_run_that_saves_memory_trains_as_one_that_does_not(tiny_run, tmp_path):
    plain = run_training(tiny_run, tmp_path)
    saving = run_training(replace(tiny_run, micro_batch=3, checkpointing=True), tmp_path)
    assert plain != saving
    losses = [train.read_history(run).train_loss.item() for run in (plain, saving)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    settings = json.loads((saving / "config.json").read_text())["config"]
    assert (settings["micro_batch"], settings["checkpointing"]) == (3, True)


def test_what_is_no_number_of_images_is_refused():
    with pytest.raises(ConfigError, match="micro_batch = -1 is out of range: allowed is from 0 to 65536"):
        StudyConfig(micro_batch=-1)
    with pytest.raises(ConfigError, match="checkpointing must be of type bool, not int"):
        StudyConfig(checkpointing=1)


def test_a_model_keeps_its_weights_when_it_is_prepared(small_vit):
    before = copy.deepcopy(small_vit.state_dict())
    Runtime(checkpointing=True).prepare(small_vit)
    assert all(tensor.equal(before[name]) for name, tensor in small_vit.state_dict().items())
