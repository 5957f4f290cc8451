"""The adapter that notebook 00 starts from: its card fits it, and one changed trait flips its answer."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tools.adapter import FOLDER, MEASURED, main, ship_adapter
from woofkit import sketch
from woofkit.adapters import load_adapter
from woofkit.config import ConfigError, StudyConfig
from woofkit.data import make_transform
from woofkit.models import build_model, data_config


@pytest.fixture
def card():
    return json.loads((FOLDER / "lora.json").read_text(encoding="utf-8"))


def test_the_card_is_the_files(card):
    content = (FOLDER / "lora.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["measured"]["checkpoint_bytes"] == len(content) < 1_000_000
    assert tuple(card["classes"]) == tuple(sketch.BREEDS)


def test_a_white_coat_flips_the_answer_to_a_golden_retriever(card):
    base = build_model("vit_tiny_patch16_224", num_classes=len(card["classes"]))
    model = load_adapter(base, FOLDER / "lora.safetensors").eval()
    transform = make_transform(data_config(model))
    golden = sketch.breed_traits("golden retriever")
    dogs = [
        sketch.draw_dog(traits, seed=50, index=0, size=224, pose="standing").image
        for traits in (golden, replace(golden, coat_color="white"))
    ]
    with torch.inference_mode():
        answers = model(transform.normalize(torch.from_numpy(np.stack(dogs)).permute(0, 3, 1, 2))).argmax(dim=1)
    assert [card["classes"][answer] for answer in answers] == ["golden retriever", "Samoyed"]


def finished_run(folder, **changes):
    settings = StudyConfig().train_config("lora").to_dict() | changes
    (folder / "config.json").write_text(json.dumps({"config": settings}))
    (folder / "metrics.json").write_text(json.dumps(dict.fromkeys(MEASURED, 0.5)))
    (folder / "adapter.safetensors").write_bytes(b"weights")
    return folder


def test_what_is_shipped_is_a_finished_run_and_its_numbers(tmp_path):
    card = ship_adapter(finished_run(tmp_path), tmp_path / "shipped")
    written = json.loads(card.read_text())
    assert written["measured"] == dict.fromkeys(MEASURED, 0.5)
    assert written["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert card.with_suffix(".safetensors").read_bytes() == b"weights"


def test_other_runs_are_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"has method = 'full': what is shipped has 'lora'"):
        ship_adapter(finished_run(tmp_path, method="full"))
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "is no finished run" in capsys.readouterr().err
