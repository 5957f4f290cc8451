"""Adapter files: what is saved comes back, onto its own base only."""

import copy
import json
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers import train_a_little
from woofkit.adapters import FORMAT, load_adapter, read_adapter, save_adapter, swap_adapter
from woofkit.config import ConfigError, LoRAConfig
from woofkit.lora import add_lora, lora_layers, merge_lora, remove_lora, unmerge_lora

CONFIG = LoRAConfig.paper(rank=3)


@pytest.fixture
def saved(small_vit, images, tmp_path):
    """A trained adapter's file and the logits that it belongs to."""
    model = train_a_little(add_lora(copy.deepcopy(small_vit), CONFIG), images)
    path = tmp_path / "adapter.safetensors"
    save_adapter(model, CONFIG, path)
    return path, model(images).detach()


@pytest.fixture
def fresh(small_vit):
    """The base as it was before the adapter was trained on it, with the norm frozen: that, too, must stay."""
    small_vit.norm.requires_grad_(False)
    return small_vit


def test_reloaded_equals_saved_with_head_norm_and_bias(saved, fresh, images):
    path, logits = saved
    assert not torch.allclose(fresh(images), logits, atol=1e-3)
    assert load_adapter(fresh, path)(images).equal(logits)
    names = set(load_file(path))
    assert {"head.weight", "norm.bias", "blocks.0.attn.qkv.lora_bias"} <= names
    assert not any("base" in name for name in names)


def what_trains(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def assert_refused(model, path, message):
    before, trained = copy.deepcopy(model.state_dict()), what_trains(model)
    with pytest.raises(ConfigError, match=message):
        load_adapter(model, path)
    assert not lora_layers(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert what_trains(model) == trained


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
        tensors, metadata = load_file(path), file.metadata()
    tensors["blocks.0.attn.qkv.lora_A"] = torch.zeros(5, 48)
    del tensors["norm.bias"]
    save_file(tensors, path, metadata)
    assert_refused(fresh, path, r"missing norm.bias; blocks.0.attn.qkv.lora_A has shape \(5, 48\) instead of \(3, 48\)")


def test_a_merged_model_has_no_adapter_to_save(small_vit, images, tmp_path):
    model = merge_lora(train_a_little(add_lora(small_vit, CONFIG), images))
    with pytest.raises(ValueError, match="no active LoRA to save"):
        save_adapter(model, CONFIG, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "config",
    [
        LoRAConfig(rank=2, alpha=5.0),
        LoRAConfig(rank=4, alpha=1.0, targets=("mlp.fc1",), dropout=0.2, modules_to_save=()),
        LoRAConfig(rank=1, bias=True, init_std=0.02, modules_to_save=("blocks.1.norm2", "head")),
    ],
)
def test_whatever_the_settings_the_file_alone_brings_the_model_back(small_vit, images, tmp_path, config):
    model = train_a_little(add_lora(copy.deepcopy(small_vit), config), images)
    save_adapter(unmerge_lora(merge_lora(model)), config, tmp_path / "a.safetensors")
    loaded = load_adapter(small_vit, tmp_path / "a.safetensors")
    assert loaded(images).equal(model(images))
    assert what_trains(loaded) == what_trains(model)


def test_equal_adapters_are_equal_bytes(small_vit, tmp_path):
    model = add_lora(small_vit, CONFIG)
    for name in "ab":
        save_adapter(model, CONFIG, tmp_path / name)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    places = [header.index(f'"{name}":') for name in ("base", "config", "format")]  # whatever the process
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors["head.bias"].fill_(torch.nan), "a.safetensors: the tensor head.bias holds nan or inf"),
        (
            lambda tensors: tensors.update({"head.bias": tensors["head.bias"].to(torch.int8)}),
            "head.bias is int8: allowed are float16, bfloat16, float32, float64",
        ),
    ],
)
def test_an_adapter_that_is_no_numbers_is_refused(saved, fresh, change, message):
    path = saved[0].with_name("a.safetensors")
    with safe_open(saved[0], framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(saved[0])
    change(tensors)
    save_file(tensors, path, metadata)
    assert_refused(fresh, path, message)


def test_another_number_format_and_a_compiled_model_are_told_apart_from_another_base(saved, fresh):
    with pytest.raises(ConfigError, match="this model is float16, the base of .* was float32: load the adapter first"):
        load_adapter(copy.deepcopy(fresh).half(), saved[0])
    with pytest.raises(ConfigError, match="this model is compiled: load adapter.safetensors before torch.compile"):
        load_adapter(torch.compile(fresh), saved[0])


def test_a_frozen_model_is_saved_whole(fresh, images, tmp_path):
    model = train_a_little(add_lora(copy.deepcopy(fresh), CONFIG), images).requires_grad_(False)
    save_adapter(model, CONFIG, tmp_path / "a.safetensors")
    assert load_adapter(fresh, tmp_path / "a.safetensors")(images).equal(model(images))


@pytest.mark.parametrize("other", [{"alpha": 6.0}, {"rank": 2, "alpha": 2.0}, {"bias": False}])
def test_settings_that_the_model_was_not_made_with_are_not_saved(small_vit, tmp_path, other):
    add_lora(small_vit, CONFIG)
    wrong = LoRAConfig(**{**vars(CONFIG), **other})
    with pytest.raises(ValueError, match="attn.qkv was made with other settings .* rank=3, scaling=1, bias=True"):
        save_adapter(small_vit, wrong, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("config", [None, "{", json.dumps({"rnk": 3}), json.dumps({"rank": 0})])
def test_a_file_that_does_not_say_how_it_was_made_is_refused(fresh, tmp_path, config):
    metadata = {"format": FORMAT, "base": "0" * 64} | ({"config": config} if config else {})
    save_file({"head.bias": torch.zeros(2)}, tmp_path / "a.safetensors", metadata)
    assert_refused(fresh, tmp_path / "a.safetensors", "a.safetensors does not say how its adapter was made")


def test_a_second_adapter_on_top_is_refused(saved, fresh, images):
    path, logits = saved
    load_adapter(fresh, path)
    with pytest.raises(ValueError, match="has LoRA already"):
        load_adapter(fresh, path)
    assert fresh(images).equal(logits)


@pytest.fixture
def two_tasks(small_vit, images, tmp_path):
    """Files of two adapters of one base, for ten classes and for five, and the logits of each model."""
    made, other = {}, LoRAConfig(rank=2, targets=("attn.qkv[qv]", "mlp.fc1"), blocks=(1, 2))
    for task, config, num_classes in (("breeds", CONFIG, 10), ("pose", other, 5)):
        base = copy.deepcopy(small_vit)
        base.reset_classifier(num_classes)
        model = train_a_little(add_lora(base, config), images, steps=3 if num_classes == 10 else 4)
        path = tmp_path / f"{task}.safetensors"
        save_adapter(model, config, path)
        made[task] = path, model(images).detach()
    return made


def test_adapters_change_places_and_each_gives_exactly_its_own_logits(two_tasks, small_vit, images):
    before = {name: (p, p.detach().clone()) for name, p in small_vit.named_parameters()}
    plain = small_vit(images)
    adapters = {task: read_adapter(small_vit, path) for task, (path, _) in two_tasks.items()}
    assert small_vit(images).equal(plain)
    for task in ("breeds", "pose", "pose", "breeds", None, "pose", "breeds", None):
        swap_adapter(small_vit, adapters.get(task))
        expected = plain if task is None else two_tasks[task][1]
        assert small_vit(images).equal(expected), task
    after = dict(small_vit.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is p and p.equal(value) for name, (p, value) in before.items())


def test_an_adapter_can_be_read_while_another_is_on(two_tasks, small_vit, images):
    path, logits = two_tasks["breeds"]
    swap_adapter(small_vit, read_adapter(small_vit, two_tasks["pose"][0]))
    assert swap_adapter(small_vit, read_adapter(small_vit, path))(images).equal(logits)
    pose = read_adapter(small_vit, two_tasks["pose"][0])  # the breeds' norm and head are in place
    assert small_vit(images).equal(logits)
    assert swap_adapter(merge_lora(small_vit), pose)(images).equal(two_tasks["pose"][1])


def test_a_merged_adapter_gives_way_to_the_next(two_tasks, small_vit, images):
    breeds, pose = (read_adapter(small_vit, two_tasks[task][0]) for task in ("breeds", "pose"))
    merge_lora(swap_adapter(small_vit, breeds))
    assert torch.allclose(small_vit(images), two_tasks["breeds"][1], atol=1e-5)
    assert swap_adapter(small_vit, pose)(images).equal(two_tasks["pose"][1])


def test_lora_that_was_not_swapped_in_is_in_the_way(two_tasks, small_vit, images):
    pose = read_adapter(small_vit, two_tasks["pose"][0])
    add_lora(small_vit, CONFIG)
    before = small_vit(images)
    with pytest.raises(ValueError, match="LoRA on blocks.0.attn.qkv was not swapped in: call remove_lora"):
        swap_adapter(small_vit, pose)
    assert small_vit(images).equal(before)
    merge_lora(small_vit)
    with pytest.raises(ValueError, match="LoRA on blocks.0.attn.qkv was not swapped in"):
        swap_adapter(small_vit, pose)


def test_after_removing_an_adapter_nothing_is_left_to_swap_back(two_tasks, small_vit, images):
    swap_adapter(small_vit, read_adapter(small_vit, two_tasks["breeds"][0]))
    remove_lora(small_vit)  # its head and norm stay
    kept = small_vit(images)
    assert swap_adapter(small_vit, None)(images).equal(kept)
    add_lora(small_vit, CONFIG)
    with pytest.raises(ValueError, match="was not swapped in"):
        swap_adapter(small_vit, None)


def test_an_adapter_read_for_another_model_is_refused(two_tasks, small_vit, images):
    pose = read_adapter(small_vit, two_tasks["pose"][0])
    twin = copy.deepcopy(small_vit)
    swap_adapter(twin, read_adapter(twin, two_tasks["breeds"][0]))
    with pytest.raises(ValueError, match="the adapter was read for another model"):
        swap_adapter(twin, pose)
    assert twin(images).equal(two_tasks["breeds"][1])


def test_a_swap_takes_mode_and_type_from_the_model(small_vit, images, tmp_path):
    config = LoRAConfig(rank=2, dropout=0.5)
    model = train_a_little(add_lora(copy.deepcopy(small_vit), config), images)
    save_adapter(model, config, tmp_path / "a.safetensors")
    adapter = read_adapter(small_vit.train(), tmp_path / "a.safetensors")
    swap_adapter(small_vit.eval(), adapter)
    assert small_vit(images).equal(model(images))
    swap_adapter(small_vit.train(), None)
    assert all(module.training for module in small_vit.modules())
    swap_adapter(small_vit.double().eval(), adapter)
    assert torch.allclose(small_vit(images.double()).float(), model(images), atol=1e-5)
    assert swap_adapter(small_vit.float(), None)(images).dtype == torch.float32


def test_a_copy_of_a_swapped_model_swaps_by_itself(two_tasks, small_vit, images):
    plain = small_vit(images)
    swap_adapter(small_vit, read_adapter(small_vit, two_tasks["breeds"][0]))
    twin = copy.deepcopy(small_vit)
    assert swap_adapter(twin, None)(images).equal(plain)
    assert small_vit(images).equal(two_tasks["breeds"][1])


def test_a_target_without_an_adapter_is_not_saved(small_vit, tmp_path):
    add_lora(small_vit, LoRAConfig(targets=("attn.qkv",)))
    with pytest.raises(ValueError, match="blocks.0.attn.proj is a target of the config to save, and has no adapter"):
        save_adapter(small_vit, LoRAConfig(), tmp_path / "a.safetensors")


def test_what_trained_and_would_not_be_saved_is_named(small_vit, tmp_path):
    add_lora(small_vit, LoRAConfig(modules_to_save=("norm", "head")))
    with pytest.raises(ValueError, match="norm.weight trains and would be lost: modules_to_save .* lack it"):
        save_adapter(small_vit, LoRAConfig(modules_to_save=("head",)), tmp_path / "a.safetensors")


def test_a_swap_copies_no_tensor(two_tasks, small_vit):
    adapters = [read_adapter(small_vit, path) for path, _ in two_tasks.values()]
    places = {p.data_ptr() for a in adapters for m in a.modules.values() for p in m.parameters()}
    places |= {p.data_ptr() for p in small_vit.parameters()}
    for adapter in 2 * adapters:
        swap_adapter(small_vit, adapter)
        assert {p.data_ptr() for p in small_vit.parameters()} <= places


@pytest.mark.bench
def test_a_swap_takes_milliseconds(two_tasks, small_vit):
    adapters, times = [read_adapter(small_vit, path) for path, _ in two_tasks.values()], []
    for adapter in 20 * adapters:
        begin = time.perf_counter()
        swap_adapter(small_vit, adapter)
        times.append(time.perf_counter() - begin)
    assert sorted(times)[len(times) // 2] < 0.05
