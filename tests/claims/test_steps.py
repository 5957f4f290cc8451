"""The sweeps of photographs: every grid is read, and the steps from text to code come out as planted."""

import numpy as np
import pandas as pd
import pytest

from woofkit.claims import evidence
from woofkit.claims.effects import BEST_LR, CONFIRMATORY, WORLDS, Key, Quantity, in_world
from woofkit.claims.evidence import METHOD_GRIDS, sweep_effects
from woofkit.claims.steps import SPLIT, STEPS, TEXT
from woofkit.sweeps.grid import load_sweep
from woofkit.tables.photographs import NOT_YET, steps_markdown

SWEEPS = ("photographs", "photographs-small")
IMAGES = 1000
TEXT_ACCURACY = {"full": 0.80, "lora": 0.86, "zero-shot": 0.85}
GAINS = {"paper-rate": (0.05, -0.04), "paper-grey": (-0.02, -0.03), "paper-code": (0.02, -0.09)}  # full, LoRA


def right_answers(runs, last=False):
    """The answers of runs named ACCURACY-SEED: the easiest images are named rightly."""
    ease = np.random.default_rng(0).permutation(IMAGES)
    shares = [float(run.name.rpartition("-")[0]) + 0.001 * (int(run.name[-1]) - 1) for run in runs]
    return np.stack([ease < round(share * IMAGES) for share in shares]), np.arange(IMAGES) % 10


def planted(sweep):
    """The frame of all runs of a sweep, with these accuracies."""
    rows = []
    for grid in sweep.grids:
        for config in (job.config for job in sweep.jobs_of(grid)):
            gain = dict(zip(("full", "lora"), GAINS.get(grid, (0, 0)), strict=True)).get(config.method, 0)
            accuracy = TEXT_ACCURACY.get(config.method, 0.84) + gain
            row = {"grid": grid, "method": config.method, "lr": config.lr, "seed": config.seed}
            rows.append(row | {"run": f"{accuracy:.3f}-{config.seed % 10}"})
    return pd.DataFrame(rows)


@pytest.fixture
def found(monkeypatch):
    """Of the name of a sweep, the effects of its planted runs."""
    monkeypatch.setattr(evidence, "read_answers", right_answers)
    return lambda name: sweep_effects(planted(load_sweep(name)))


@pytest.mark.parametrize("name", SWEEPS)
def test_every_grid_that_is_no_search_is_read(name):
    sweep = load_sweep(name)
    searches = {sweep.jobs_of(grid)[0].grids[0] for grid in sweep.grids if grid.startswith("lr")}
    assert searches == {"lr"}
    assert set(sweep.grids) - searches <= set(METHOD_GRIDS)
    assert {job.config.dataset for job in sweep.jobs} == {"imagewoof"}
    assert name not in CONFIRMATORY  # their test images were looked at before


@pytest.mark.parametrize("name", SWEEPS)
def test_photographs_get_the_effects_that_the_hypotheses_and_the_steps_ask_for(name, found):
    effects = found(name)
    for method in ("full", "lora", "probe", "bitfit"):
        for setting in ("", BEST_LR):
            assert Key(Quantity.ACCURACY, method, "untouched", setting) in effects
    assert effects[Key(Quantity.ACCURACY, "full", "untouched", BEST_LR)].value == pytest.approx(-0.05, abs=0.004)
    measured = set(load_sweep(name).grids) & set(STEPS)
    assert {STEPS[grid] for grid in measured} == {key.setting for key in effects if key.quantity == Quantity.GAIN}
    for grid in measured:
        gains = [effects[Key(Quantity.GAIN, method, setting=STEPS[grid])] for method in ("full", "lora")]
        assert [gain.value for gain in gains] == pytest.approx(GAINS.get(grid, (0, 0)))
        assert all(gain.low <= gain.value <= gain.high for gain in gains)
    assert effects[Key(Quantity.ACCURACY, "full", "lora", SPLIT)].value == pytest.approx(-0.06)


def test_one_factor_changes_in_each_step():
    sweep = load_sweep("photographs")

    def changed(grid):
        ours, text = sweep.jobs_of(grid)[0].config.to_dict(), sweep.jobs_of(TEXT)[0].config.to_dict()
        return {setting: value for setting, value in ours.items() if value != text[setting]}

    steps = {grid: changed(grid) for grid in STEPS}
    assert [len(each) for each in steps.values()] == [1, 1, 1, 1, 2]
    assert steps["paper-code"] == steps["paper-rate"] | {"preprocess": "paper-code"}


def test_the_table_of_steps_says_what_each_does_and_what_was_not_measured(found):
    text = steps_markdown(in_world(found("photographs-small"), "imagewoof"))
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines()}
    assert lines[STEPS["paper-rate"]].count("+5.0 (") == 1
    assert "−4.0 (" in lines[STEPS["paper-rate"]]
    assert "+3.0 (" in lines[STEPS["paper-rate"]]  # from −6 to +3: the order is reversed
    assert lines["everything as in the text"].startswith("| everything as in the text | - | - | −6.0 (")
    assert lines[STEPS["paper-imagenet-norm"]].endswith("| - | - | - |")
    assert "1 seed, 1,000 test images" in text
    assert steps_markdown({}) == NOT_YET
    assert steps_markdown(in_world(found("photographs-small"), "sketchwoof")) == NOT_YET
    assert WORLDS["imagewoof"] == "photographs"
