"""The leak's question: what a planted memory of seen images brings is found, and what is not there is not."""

import numpy as np
import pandas as pd
import pytest

from woofkit.claims.effects import Key, Quantity, in_world
from woofkit.claims.leak import SEEN, leak_effects
from woofkit.claims.steps import TEXT
from woofkit.files import write_json
from woofkit.results import write_predictions
from woofkit.tables.photographs import NOT_YET, leak_markdown

SEEN_IMAGES, OTHERS = 800, 200
KEYS = [f"val/n02086240/n02086240_{i}.JPEG" for i in range(SEEN_IMAGES)]
KEYS += [f"val/n02086240/ILSVRC2012_val_{i}.JPEG" for i in range(OTHERS)]
LEAD = Key(Quantity.LEAD, "lora", "full", SEEN)
ACCURACIES = {"full": (0.8, 0.8), "lora": (0.9, 0.6), "zero-shot": (0.9, 0.85)}  # on the seen images, on the others


def gain(method):
    return Key(Quantity.GAIN, method, setting=SEEN)


def planted(folder, seeds, keys=KEYS, grid=TEXT):
    """The frame of runs with these accuracies, of which zero-shot has one seed."""
    rows = []
    for method, shares in ACCURACIES.items():
        for seed in seeds if method != "zero-shot" else [0]:
            run = folder / f"{method}-{seed}"
            run.mkdir(parents=True)
            rng = np.random.default_rng(seed)
            counts = zip(shares, (SEEN_IMAGES, OTHERS), strict=True)
            right = np.concatenate([rng.permutation(count) < share * count for share, count in counts])
            logits = np.where(right[:, None], [1.0, 0.0], [0.0, 1.0])
            write_predictions(run, tuple(keys), np.zeros(len(keys), int), logits)
            write_json(run / "metrics.json", {})
            rows.append({"grid": grid, "method": method, "seed": seed, "run": str(run)})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [[0], [10, 11, 12]])
def test_what_seen_images_bring_is_found_for_each_method_and_for_the_lead(seeds, tmp_path):
    effects = leak_effects(planted(tmp_path, seeds))
    expected = {gain("full"): 0.0, gain("lora"): 0.3, gain("zero-shot"): 0.05, LEAD: 0.3}
    assert {key: effect.value for key, effect in effects.items()} == pytest.approx(expected)
    assert effects[gain("full")].low < 0 < effects[gain("full")].high
    assert 0.15 < effects[LEAD].low < 0.3 < effects[LEAD].high < 0.45
    text = leak_markdown(in_world(effects, "imagewoof"))
    assert "| LoRA | +30.0 (" in text
    assert "| LoRA's lead over full fine-tuning | +30.0 (" in text
    assert f"{len(seeds)} seed" in text


def test_nothing_is_said_where_all_images_are_of_one_kind_or_no_run_is_there(tmp_path):
    assert leak_effects(planted(tmp_path / "a", [0], KEYS[:1] * len(KEYS))) == {}
    assert leak_effects(planted(tmp_path / "b", [0], grid="lr")) == {}
    assert leak_effects(pd.DataFrame()) == {}
    assert leak_markdown({}) == NOT_YET
