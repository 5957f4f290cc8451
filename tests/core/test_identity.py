"""Everything that decides a result is part of a run's identity; whoever adds an input has to say so here."""

import inspect
from dataclasses import asdict, fields, replace
from enum import Enum

import pytest
from safetensors.torch import load_file, save_file

from helpers import imagewoof_folder
from woofkit import data, train
from woofkit.config import LoRAConfig, TrainConfig
from woofkit.data import Transform, WoofDataset, load_dataset
from woofkit.fast.runtime import Runtime
from woofkit.models import build_model
from woofkit.progress import Monitor
from woofkit.results import read_predictions
from woofkit.sweeps.grid import settings_hash
from woofkit.train import run_training

# Each setting: what to change in it, and what else must be set for it to matter.
DECIDES = {
    "method": ({"method": "probe"}, {}),
    "dataset": ({"dataset": "imagewoof"}, {}),
    "scheme": ({"scheme": "paper"}, {}),
    "image_variant": ({"image_variant": "320"}, {}),
    "preprocess": ({"preprocess": "grey"}, {}),
    "num_train": ({"num_train": 20}, {}),
    "num_val": ({"num_val": 20}, {"num_val": 10}),
    "num_test": ({"num_test": 20}, {}),
    "label_fraction": ({"label_fraction": 0.5}, {"num_train": 20}),
    "model_name": ({"model_name": "test_vit4"}, {}),
    "image_size": ({"image_size": 64}, {}),
    "epochs": ({"epochs": 2}, {}),
    "batch_size": ({"batch_size": 5}, {}),
    "micro_batch": ({"micro_batch": 2}, {}),
    "checkpointing": ({"checkpointing": True}, {}),
    "lr": ({"lr": 1e-3}, {}),
    "schedule": ({"schedule": "cosine"}, {}),
    "precision": ({"precision": "bf16"}, {"precision": "fp32"}),
    "augment": ({"augment": "flip"}, {}),
    "seed": ({"seed": 1}, {}),
    "label": ({"label": "pose"}, {}),
    "last_blocks": ({"last_blocks": 2}, {"method": "last"}),
    "validate_every": ({"validate_every": 2}, {}),
    "lora": ({"lora": LoRAConfig(rank=2)}, {"method": "lora", "lora": LoRAConfig(rank=1)}),
    "fast": ({"fast": False}, {}),
}
# Where images and weights come from, and on what they run: their hashes and the precision stand for them.
DECIDES_NOT = {"data_dir", "skip_unreadable", "weights", "device"}

ADAPTER = {
    "rank": 3,
    "alpha": 2.0,
    "targets": ("attn.qkv",),
    "dropout": 0.1,
    "bias": True,
    "init_std": 0.01,
    "modules_to_save": ("norm", "head"),
    "rslora": True,
    "blocks": (0, 1),
    "shared_A": False,
}


@pytest.fixture(autouse=True)
def drawings_by_what_decides_them(monkeypatch):
    """Nothing is drawn for a fingerprint."""
    monkeypatch.setattr(data.sketch, "drawing_hash", lambda **stream: repr(stream).encode())


def identity_of(config):
    model = train.build_for(config)
    transform = train.make_transform(train.data_config(model), config.preprocess)
    return train.run_identity(config, train.load_splits(config, transform.size), model, Runtime.of(config))


def names(cls):
    return {field.name for field in fields(cls)}


def test_every_setting_is_said_to_decide_a_result_or_not():
    assert DECIDES.keys() | DECIDES_NOT == names(TrainConfig)
    assert not DECIDES.keys() & DECIDES_NOT
    assert ADAPTER.keys() == names(LoRAConfig)
    assert list(inspect.signature(run_training).parameters) == ["config", "root", "monitor"]


@pytest.mark.parametrize("name", sorted(DECIDES.keys() - {"dataset", "image_variant"}))
def test_a_setting_that_decides_a_result_makes_another_run(tiny_run, name):
    change, needed = DECIDES[name]
    base = replace(tiny_run, **needed)
    assert identity_of(replace(base, **change)) != identity_of(base)
    assert identity_of(replace(base)) == identity_of(base)


@pytest.mark.parametrize(
    ("world", "method", "known"),
    [
        ({"num_train": 10, "num_val": 10, "num_test": 10}, "lora", "36f664b055a3"),
        ({"num_train": 10, "num_val": 10, "num_test": 10}, "full", "001bee80860a"),
        ({"dataset": "imagewoof", "num_train": 0, "num_test": 0}, "full", "9e96439ead72"),
        ({"dataset": "imagewoof", "scheme": "paper", "num_train": 0, "num_test": 0}, "lora", "01fc683b4b2f"),
    ],
)
def test_the_settings_of_the_studys_own_runs_have_the_hashes_that_they_always_had(world, method, known):
    """A new setting that moves them loses every finished run: name it in NAMED_IF_CHANGED."""
    lora = LoRAConfig.paper() if method == "lora" else None
    whole = {"method": method, "lora": lora, "model_name": "test_vit", "weights": "random", "image_variant": "160"}
    config = TrainConfig(**whole, **world, precision="fp32")
    identity = train.run_identity(config, {}, train.build_for(config), Runtime.of(config))
    assert settings_hash(identity["settings"]) == known


def test_other_photographs_make_another_run(tiny_run, tmp_path, monkeypatch):
    folder = imagewoof_folder(tmp_path, monkeypatch, train=2, val=2)
    base = replace(tiny_run, num_train=0, num_test=0, scheme="paper")
    photographs = replace(base, dataset="imagewoof", data_dir=str(folder))
    seen = [identity_of(config) for config in (base, photographs)]
    folder.rename(tmp_path / "any name")
    monkeypatch.setitem(data.imagewoof.ARCHIVES, "320", data.imagewoof.ARCHIVES["160"])
    elsewhere = replace(photographs, data_dir=str(tmp_path / "any name"))
    assert identity_of(elsewhere) == seen[1]
    seen.append(identity_of(replace(elsewhere, image_variant="320")))
    first = next((tmp_path / "any name" / "train").rglob("*.JPEG"))
    first.write_bytes(first.read_bytes() + b"\0")
    seen.append(identity_of(elsewhere))
    assert all(one != other for k, one in enumerate(seen) for other in seen[:k])


@pytest.mark.parametrize("name", ADAPTER)
def test_every_setting_of_an_adapter_makes_another_run(tiny_run, name):
    base = LoRAConfig(rank=2, targets=("attn.qkv[qv]",))
    one, other = (
        replace(tiny_run, method="lora", lora=lora) for lora in (base, replace(base, **{name: ADAPTER[name]}))
    )
    assert identity_of(one) != identity_of(other)


def other(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Enum):
        return next(each for each in type(value) if each != value)
    if isinstance(value, tuple):
        return (*value[:-1], other(value[-1]))
    return {int: 7, float: 0.123, str: "other"}[type(value)]


@pytest.mark.parametrize("name", sorted(names(Transform)))
def test_whatever_the_transform_does_makes_another_run(tiny_run, monkeypatch, name):
    before, make = identity_of(tiny_run), train.make_transform

    def changed(*arguments):
        transform = make(*arguments)
        return replace(transform, **{name: other(getattr(transform, name))})

    model, splits = train.build_for(tiny_run), train.load_splits(tiny_run, 160)
    monkeypatch.setattr(train, "make_transform", changed)
    assert train.run_identity(tiny_run, splits, model, Runtime.of(tiny_run)) != before


@pytest.mark.parametrize("key", ["mean", "std", "crop_pct", "interpolation"])
def test_what_a_weights_file_says_of_its_transform_makes_another_run(tiny_run, tmp_path, key):
    values = {"mean": "[0.1, 0.2, 0.3]", "std": "[1, 1, 1]", "crop_pct": "0.5", "interpolation": "bilinear"}
    tensors = build_model("test_vit", weights=None).state_dict()
    save_file(tensors, tmp_path / "plain.safetensors")
    save_file(tensors, tmp_path / "said.safetensors", {key: values[key]})
    plain, said = (
        identity_of(replace(tiny_run, weights=str(tmp_path / f"{name}.safetensors"))) for name in ("plain", "said")
    )
    assert plain != said
    assert plain["initial_weights"] == said["initial_weights"]


# What follows from the keys and the settings, or says only where the files are.
FOLLOWS = {"scheme", "labels", "folder", "class_names"}


@pytest.mark.parametrize("name", sorted(names(WoofDataset) - FOLLOWS))
def test_whatever_a_split_shows_is_in_its_fingerprint(name):
    dataset = load_dataset("sketchwoof", split="test", num=10)
    changed = replace(dataset, **{name: other(getattr(dataset, name)) if name != "keys" else dataset.keys[::-1]})
    assert changed.fingerprint() != dataset.fingerprint()


def test_what_is_no_part_of_a_runs_identity_changes_no_result(tiny_run, tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        save_file(build_model("test_vit", weights=None, seed=3).state_dict(), tmp_path / name)
    base = replace(tiny_run, weights=str(tmp_path / "a.safetensors"))
    elsewhere = {"data_dir": str(tmp_path), "skip_unreadable": True, "device": "cpu"}
    moved = replace(base, weights=str(tmp_path / "b.safetensors"), **elsewhere)
    assert {name for name, value in asdict(moved).items() if value != asdict(base)[name]} == DECIDES_NOT
    one, two = (run_training(config, tmp_path / name, Monitor()) for config, name in ((base, "one"), (moved, "two")))
    assert one.name == two.name
    assert read_predictions(one).equals(read_predictions(two))
    tensors = [load_file(run / "model.safetensors") for run in (one, two)]
    assert all(tensor.equal(tensors[1][name]) for name, tensor in tensors[0].items())
