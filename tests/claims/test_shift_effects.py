"""What planted shifts take from planted runs: one effect per shift, method and pair, and the mean of old as it was."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from woofkit.claims import study as evidence_study
from woofkit.claims.effects import BEST_LR, Key, Quantity, in_world, shifted_by
from woofkit.config import StudyConfig
from woofkit.data import load_dataset
from woofkit.measure.shifts import DRAWN_SHIFTS, SHIFTS
from woofkit.tables.shifts import shifts_markdown

IMAGES = 100
USUAL, DARK, OTHER = 0.9, 0.5, 0.8  # accuracy as usual, in the dark, and under all other shifts on pixels
BOWING = {"full": 0.4, "lora": 0.6, "probe": 0.7}


@pytest.fixture
def found(monkeypatch, tmp_path):
    """The effects of shifts on three seeds of full and LoRA and one probe, and the files that were asked for."""
    asked = []

    def hits(path, load_model, images, runtime, measure):
        method, seed = path.name.split("-")[:2]
        asked.append(path.name)
        order = np.random.default_rng(int(seed)).permutation(IMAGES)
        if measure is evidence_study.drawn_hits:
            return pd.DataFrame({"drawn": order < BOWING[method] * IMAGES})
        shares = {"none": USUAL, **dict.fromkeys(SHIFTS, OTHER), "dark": DARK}
        return pd.DataFrame({name: order < share * IMAGES for name, share in shares.items()})

    splits = {"test": load_dataset("sketchwoof", split="test", num=IMAGES, image_size=16)}
    monkeypatch.setattr(evidence_study, "kept_shifted_hits", hits)
    monkeypatch.setattr(evidence_study, "load_splits", lambda *_: splits)
    monkeypatch.setattr(evidence_study, "load_run_model", lambda run: run)
    monkeypatch.setattr(evidence_study, "count_intruders", lambda base, run: 1)
    study = StudyConfig(profile="planted", runs_dir=str(tmp_path))
    cells = [("full", 0), ("full", 1), ("full", 2), ("lora", 0), ("lora", 1), ("lora", 2), ("probe", 0)]
    rows = [{"grid": "seeds-best-lr", "method": m, "seed": seed, "run": f"{m}-{seed}-x"} for m, seed in cells]
    effects = evidence_study.shift_effects(SimpleNamespace(study=study), pd.DataFrame(rows), lambda line: None)
    return effects, asked


def test_each_shift_has_an_effect_per_method_and_pair_and_the_mean_is_that_of_the_pixels_shifts(found):
    effects, asked = found
    alone = Key(Quantity.SHIFTED, "lora")
    assert effects[alone._replace(setting=shifted_by("dark"))].value == pytest.approx(DARK - USUAL)
    assert effects[alone._replace(setting=shifted_by("noise"))].value == pytest.approx(OTHER - USUAL)
    assert effects[alone._replace(setting=shifted_by("unseen pose"))].value == pytest.approx(0.6 - USUAL)
    mean = (DARK + 5 * OTHER) / 6 - USUAL
    assert effects[alone._replace(setting=BEST_LR)].value == pytest.approx(mean)
    assert effects[Key(Quantity.SHIFTED, "full", "lora", BEST_LR)].value == pytest.approx(0)
    pair = Key(Quantity.SHIFTED, "lora", "full", shifted_by("other place"))
    assert effects[pair].value == pytest.approx(0.2)
    settings = {key.setting for key in effects if key.quantity == Quantity.SHIFTED}
    assert settings == {shifted_by(name) for name in ("", *SHIFTS, *DRAWN_SHIFTS)}
    assert len(asked) == len(set(asked)) == 7 * 3  # no two kinds of images share a file


def test_the_table_of_shifts_has_one_row_per_shift_and_one_column_per_method(found):
    text = shifts_markdown(in_world(found[0], "sketchwoof"), "drawings")
    lines = text.splitlines()
    assert lines[0] == "| shift | linear probe | full fine-tuning | LoRA | LoRA minus full fine-tuning |"
    assert len(lines) == 2 + len(SHIFTS) + len(DRAWN_SHIFTS) + 1 + 2
    [row] = [line for line in lines if line.startswith("| unseen pose |")]
    assert "| −20.0 (" in row
    assert "| −50.0 (" in row
    assert "| −30.0 (" in row
    assert "| +20.0 (" in row
    assert "photographs take from each method has not been measured" in shifts_markdown({}, "photographs")
