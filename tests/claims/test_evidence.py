"""Effects measured on planted runs: what was planted is found with its size, what was not is not."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from woofkit.claims import study as evidence_study
from woofkit.claims.effects import (
    BEST_LR,
    FEW_LABELS,
    FEW_MINUS_ALL,
    MATCHED,
    MORE_EPOCHS,
    WORLDS,
    Effect,
    Key,
    Quantity,
    effect_as_json,
    in_world,
    kept_effects,
)
from woofkit.claims.evidence import accuracy_effects, cost_effects, difference, sweep_effects
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.laws import ALL_LAYERS, MLP
from woofkit.claims.recommendations import Need, advise
from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, UNMEASURED, judge_all
from woofkit.config import ConfigError, StudyConfig
from woofkit.files import write_json
from woofkit.measure.source_tasks import SourceTask
from woofkit.results import read_answers, write_predictions
from woofkit.tables.claims import sentence, verdict_frame

AHEAD, BEHIND = Key(Quantity.ACCURACY, "full", "lora"), Key(Quantity.ACCURACY, "lora", "full")
TRAINED = Key(Quantity.ACCURACY, "full", "untouched")
AHEAD_FEW = BEHIND._replace(setting=FEW_LABELS)
LEAD = Key(Quantity.LEAD, "lora", "full", FEW_MINUS_ALL)
KEPT = Key(Quantity.KEPT, "lora", "full")
IMAGES, LABELS = 1000, np.arange(1000) % 10


def planted_run(folder, accuracy, seed):
    """A finished run that is right on this share of the images, the easiest first but for a little luck."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ease = np.random.default_rng(99).permutation(IMAGES) / IMAGES + rng.normal(0, 0.02, IMAGES)
    right = ease.argsort().argsort() < round(accuracy * IMAGES)
    logits = np.zeros((IMAGES, 10))
    logits[np.arange(IMAGES), np.where(right, LABELS, (LABELS + 1) % 10)] = 1
    write_predictions(folder, tuple(f"test-{i}" for i in range(IMAGES)), LABELS, logits)
    return folder


@pytest.fixture
def runs(tmp_path):
    """Three seeds of full at 0.90, of lora at 0.85, one probe at 0.80."""
    accuracies = {"full": (0.90, 0.905, 0.895), "lora": (0.85, 0.855, 0.845), "probe": (0.80,)}
    return {
        method: [planted_run(tmp_path / f"{method}-{seed}", a, seed) for seed, a in enumerate(each)]
        for method, each in accuracies.items()
    }


def test_a_planted_difference_is_found_with_its_size_and_a_null_is_not(runs, tmp_path):
    effects = accuracy_effects(runs)
    found = effects[AHEAD]
    assert found.value == pytest.approx(0.05)
    assert 0.02 < found.low < 0.05 < found.high < 0.08
    assert found.by_seed == pytest.approx((0.05, 0.055, 0.045))
    mirrored = effects[BEHIND]
    assert mirrored[:3] == pytest.approx((-found.value, -found.high, -found.low))
    twin = [planted_run(tmp_path / f"twin-{seed}", 0.90, 50 + seed) for seed in range(3)]
    null = accuracy_effects({"full": runs["full"], "lora": twin})[AHEAD]
    assert null.low < 0 < null.high


def test_the_untouched_backbone_is_zero_shot_or_the_probe(runs):
    effects = accuracy_effects(runs)
    assert effects[TRAINED] == effects[TRAINED._replace(second="probe")]
    assert effects[TRAINED].value == pytest.approx(0.10)
    with_zero_shot = accuracy_effects({**runs, "zero-shot": runs["lora"][:1]})
    assert with_zero_shot[TRAINED].value == pytest.approx(0.05)


def test_one_seed_each_has_an_interval_over_images_alone(runs):
    (full, labels), (lora, _) = read_answers(runs["full"][:1]), read_answers(runs["lora"][:1])
    effect = difference(full, lora, labels)
    assert effect.value == pytest.approx(0.05)
    assert effect.freedom == float("inf")
    assert len(effect.by_seed) == 1


def test_runs_on_other_images_are_not_compared(runs, tmp_path):
    other = planted_run(tmp_path / "other", 0.9, 0)
    frame = pd.read_parquet(other / "predictions.parquet")
    frame.assign(key=frame["key"] + "x").to_parquet(other / "predictions.parquet")
    with pytest.raises(ValueError, match="other and full-0 were tested on different images"):
        read_answers([*runs["full"], other])


COSTS = pd.DataFrame(
    {
        "method": ["full", "lora"],
        "trainable_parameters": [5_500_000, 177_418],
        "file_mb": [22.1, 0.7],
        "forward_gflops": [2.0, 2.0],
        "backward_gflops": [4.0, 2.0],
        "weights_mb": [100.0, 101.0],
        "optimizer_mb": [40.0, 2.0],
        "gradients_mb": [20.0, 1.0],
        "activations_mb": [140.0, 96.0],
        "round_seconds": [(3.0, 3.3, 2.8), (2.0, 2.0, 2.0)],
    }
)


def cost(quantity):
    return Key(quantity, "full", "lora")


def test_costs_are_ratios_of_every_pair():
    effects = cost_effects(COSTS)
    assert effects[cost(Quantity.OPERATIONS)][:3] == (1.5, 1.5, 1.5)
    assert effects[cost(Quantity.MEMORY)].value == 1.5
    assert effects[cost(Quantity.TIME)][:3] == pytest.approx((1.5, 1.4, 1.65))  # of three rounds, the first and last
    assert effects[Key(Quantity.TIME, "lora", "full")][:3] == pytest.approx((1 / 1.5, 1 / 1.65, 1 / 1.4))
    nine = [(9.0, 1, 2, 3, 4, 5, 6, 7, 8), (1,) * 9]
    time = cost_effects(COSTS.assign(round_seconds=nine))
    assert time[cost(Quantity.TIME)][:3] == (5, 2, 8)
    assert time[cost(Quantity.TIME)].freedom == 8
    assert effects[cost(Quantity.PARAMETERS)].value == pytest.approx(31, abs=0.01)
    judged = {each.hypothesis.id: each.verdict for each in judge_all(HYPOTHESES, effects)}
    assert (judged["H2"], judged["H1"]) == (SUPPORTED, UNMEASURED)
    surely = cost_effects(COSTS.assign(round_seconds=[np.linspace(2.9, 3.1, 9), (2.0,) * 9]))
    judged = {each.hypothesis.id: each.verdict for each in judge_all(HYPOTHESES, surely)}
    assert judged["H3"] == SUPPORTED


def sweep_frame(tmp_path):
    """Runs in which LoRA leads by 3 points with a tenth of the labels and trails by 2 with all; 20 epochs gain 4."""
    rows = []
    grids = {
        "seeds-best-lr": [("full", 0.90), ("lora", 0.88)],
        "labels-10": [("full", 0.60), ("lora", 0.63), ("probe", 0.65)],
        "epochs-20": [("full", 0.94)],
        "ranks": [("lora", 0.5), ("lora", 0.6)],
    }
    for grid, cells in grids.items():
        for seed in range(3):
            for number, (method, accuracy) in enumerate(cells):
                run = planted_run(tmp_path / f"{grid}-{number}-{seed}", accuracy + 0.002 * (seed - 1), seed)
                rows.append({"grid": grid, "method": method, "seed": seed, "run": str(run)})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)  # in any order


def test_a_sweeps_effects_are_those_that_were_planted(tmp_path):
    effects = sweep_effects(sweep_frame(tmp_path))
    assert effects[AHEAD._replace(setting=BEST_LR)].value == pytest.approx(0.02)
    lead = effects[LEAD]
    assert lead.value == pytest.approx(0.05)
    assert 0.02 < lead.low < 0.05 < lead.high
    assert effects[AHEAD_FEW].value == pytest.approx(0.03)
    assert effects[AHEAD_FEW._replace(first="probe")].value == pytest.approx(0.05)
    assert effects[Key(Quantity.GAIN, "full", setting=MORE_EPOCHS)].value == pytest.approx(0.04)
    assert Key(Quantity.GAIN, "lora", setting=MORE_EPOCHS) not in effects
    assert not any(key.setting == "" for key in effects)
    judged = {each.hypothesis.id: each.verdict for each in judge_all(HYPOTHESES, effects)}
    assert judged["H4"] == SUPPORTED
    assert judged["H7"] == UNMEASURED  # of LoRA


def test_images_that_were_looked_at_before_count_in_no_effect(tmp_path):
    """On the first 500 every method is wrong: the effects of the others are as if those did not exist."""
    frame = sweep_frame(tmp_path)
    fresh = sweep_effects(frame, skip=500)
    assert {effect.source for effect in fresh.values()} == {"3 seeds, 500 test images"}
    for path in frame["run"]:
        file = Path(path) / "predictions.parquet"
        kept = pd.read_parquet(file)
        kept.loc[:499, "label"] = -1
        kept.to_parquet(file)
    assert sweep_effects(frame, skip=500) == fresh
    assert sweep_effects(frame)[LEAD].value == pytest.approx(fresh[LEAD].value / 2)


def test_the_gain_of_more_epochs_is_that_of_the_last_epochs(tmp_path):
    """Both trainings select an early epoch, which is the same; by their last epochs the longer one has lost."""
    frame = sweep_frame(tmp_path)
    for path in frame.loc[frame["grid"] == "epochs-20", "run"]:
        file = Path(path) / "predictions.parquet"
        kept = pd.read_parquet(file)
        kept.loc[:199, "last"] = (kept.loc[:199, "label"] + 1) % 10
        kept.to_parquet(file)
    gain = sweep_effects(frame)[Key(Quantity.GAIN, "full", setting=MORE_EPOCHS)]
    assert gain.value < -0.1


def test_a_run_whose_last_epoch_was_not_tested_is_named(runs):
    file = runs["full"][1] / "predictions.parquet"
    pd.read_parquet(file).drop(columns="last").to_parquet(file)
    assert read_answers(runs["full"])[0].shape == (3, IMAGES)
    with pytest.raises(ValueError, match="full-1 has no answers of its last epoch"):
        read_answers(runs["full"], last=True)


def test_a_method_that_lacks_seeds_is_not_measured_yet(tmp_path):
    frame = sweep_frame(tmp_path)
    lora = (frame["grid"] == "seeds-best-lr") & (frame["method"] == "lora")
    best = AHEAD._replace(setting=BEST_LR)
    assert best in sweep_effects(frame)
    assert best not in sweep_effects(frame[~lora | (frame["seed"] == 0)])


def test_methods_of_other_grids_are_compared_with_those_of_the_main_one(tmp_path):
    """Norms have a search and a grid of their own, and LoRA on all layers is a method beside LoRA on attention."""
    frame = sweep_frame(tmp_path)
    more = [("seeds-more", "norm", 0.86), ("seeds-all-layers", "lora", 0.91), ("seeds-mlp", "lora", 0.7)]
    for grid, method, accuracy in more:
        for seed in range(3):
            run = planted_run(tmp_path / f"{grid}-{method}-{seed}", accuracy, seed)
            frame.loc[len(frame)] = {"grid": grid, "method": method, "seed": seed, "run": str(run)}
    effects = sweep_effects(frame)
    named = {key.first for key in effects if key.quantity == Quantity.ACCURACY and key.setting == BEST_LR}
    assert named == {"full", "lora", "norm", ALL_LAYERS, MLP}
    assert effects[Key(Quantity.ACCURACY, "norm", "full", BEST_LR)].value == pytest.approx(-0.04)
    assert effects[Key(Quantity.ACCURACY, ALL_LAYERS, "lora", BEST_LR)].value == pytest.approx(0.03)
    advice = advise(Need("", Quantity.ACCURACY, BEST_LR), effects, "")
    assert advice.unbeaten == (ALL_LAYERS,)
    assert set(advice.beaten) == {"full", "lora", "norm"}


def test_seeds_are_paired_by_their_number(tmp_path):
    frame = sweep_frame(tmp_path)
    few = (frame["grid"] == "labels-10") & (frame["method"] == "lora")
    effect = sweep_effects(frame[~few | (frame["seed"] != 1)])[LEAD]
    assert effect.source == "2 seeds, 1,000 test images"
    assert effect.by_seed == pytest.approx((0.05, 0.05))  # place by place it would be 0.05 and 0.052


def test_two_runs_of_one_seed_are_refused(tmp_path):
    frame = sweep_frame(tmp_path)
    twice = frame[(frame["grid"] == "labels-10") & (frame["seed"] == 0)]
    with pytest.raises(ConfigError, match="'labels-10' has two runs of one seed for method full: let nothing else"):
        sweep_effects(pd.concat([frame, twice]))


def test_verdicts_as_a_frame_have_one_row_per_condition():
    effects = {AHEAD: Effect(0.05, 0.02, 0.08, (), "here")}
    effects[AHEAD._replace(setting=BEST_LR)] = effects[AHEAD]._replace(confirmatory=True)
    frame = verdict_frame(judge_all(HYPOTHESES, effects))
    assert len(frame) == sum(len(hypothesis.conditions) for hypothesis in HYPOTHESES)
    row = frame[frame["hypothesis"] == "H1"].iloc[0]
    assert (row["verdict"], row["value"], row["margin"], row["source"]) == (SUPPORTED, 0.05, 0.01, "here")
    assert row["kind"] == "partly confirmatory (1 of 2 conditions)"
    assert frame[frame["hypothesis"] == "H5"]["value"].isna().all()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            0.05,
            "Supported: full fine-tuning is ahead of LoRA by at least 1 point. Full fine-tuning is ahead at the "
            "paper's learning rate (5 ",
        ),
        (
            -0.05,
            "Contradicted: full fine-tuning is ahead of LoRA by at least 1 point. But accuracy, full minus lora is "
            "−5 (−6 to −4) points",
        ),
        (
            0.01,
            "Undecided: full fine-tuning is ahead of LoRA by at least 1 point (the interval of 2 of 2 conditions "
            "contains the threshold).",
        ),
        (None, "Not measured: full fine-tuning is ahead of LoRA by at least 1 point."),
    ],
)
def test_what_a_student_would_say_follows_from_the_rows(value, says):
    effects = {} if value is None else {AHEAD: Effect(value, value - 0.01, value + 0.01)}
    effects |= {key._replace(setting=BEST_LR): effect for key, effect in effects.items()}
    judged = {each.hypothesis.id: each for each in judge_all(HYPOTHESES, effects)}
    assert sentence(judged["H1"]).startswith(says)


@pytest.mark.parametrize("side", [1, -1])
def test_every_sentence_agrees_with_its_rows(side):
    """Effects far beyond every threshold, or far short of it: the sentence cites a number on the side it claims."""
    effects = {}
    for condition in (condition for each in HYPOTHESES for condition in each.conditions):
        value = condition.threshold + side * (5 if condition.above else -5)
        effects[condition.key] = Effect(value, value - 0.1, value + 0.1)
    for judged in judge_all(HYPOTHESES, effects):
        assert judged.verdict == (SUPPORTED if side > 0 else CONTRADICTED)
        assert sentence(judged).startswith("Contradicted") == (side < 0)
        assert judged.p_value < 1e-6
        numbers = re.findall(r"(−?\d[\d.e+]*)%? \(−?[\d.e+]+ to", sentence(judged))
        rows = judged.findings if side > 0 else judged.findings[:1]  # all are as sure
        units = [condition.key.quantity.unit for condition, _, _ in rows]
        shown = [
            effect.value * (100 if unit in ("points", "%") else 1)
            for (_, effect, _), unit in zip(rows, units, strict=True)
        ]
        assert [float(number.replace("−", "-")) for number in numbers] == pytest.approx(shown, rel=0.01)


@pytest.mark.parametrize(
    ("hypothesis", "condition"),
    [(each, condition) for each in HYPOTHESES for condition in each.conditions if condition.threshold],
    ids=lambda part: getattr(part, "id", ""),
)
def test_a_difference_that_is_sure_but_too_small_contradicts_a_sentence_that_names_the_margin(hypothesis, condition):
    """Full fine-tuning ahead by 0.4 points does not contradict that it is ahead, only that it is so by a point."""
    side = 1 if condition.above else -1
    effects = {}
    for each in hypothesis.conditions:  # the others hold
        value = each.threshold + 5 * side
        effects[each.key] = Effect(value, value - 0.1, value + 0.1)
    value = condition.threshold - side * (condition.margin / 2 or 0.001)
    effects[condition.key] = Effect(value, value - 1e-4, value + 1e-4)
    [judged] = judge_all([hypothesis], effects)
    assert judged.verdict == CONTRADICTED
    claim, wanted = re.fullmatch(r"Contradicted: (.*)\. But .*, and not (.*)\.", sentence(judged)).groups()
    assert wanted in claim


# --- what is kept, and the answer ---


def write_kept(folder, sweep, date, effects):
    """A file of `study_evidence` for drawings; `effects` is key -> effect."""
    records = [effect_as_json(key, effect) for key, effect in effects.items()]
    record = {"sweep": sweep, "environment": {"date": date}, "effects": records}
    write_json(folder / f"evidence_sketchwoof_{sweep}.json", record)


def test_kept_effects_come_back_as_they_were(tmp_path):
    measured = {AHEAD: Effect(0.1, 0.0, 0.2, (0.1, 0.1), "3 seeds", 2.5), LEAD: Effect(31.0, 31.0, 31.0)}
    write_kept(tmp_path, "rigor", "2026-01-01", measured)
    kept = kept_effects("sketchwoof", tmp_path)
    expected = {key: effect._replace(source=f"{effect.source} (sweep rigor)") for key, effect in measured.items()}
    assert kept == in_world(expected, "sketchwoof")
    assert {key.world for key in kept} == {"drawings"}
    assert all(isinstance(key.quantity, Quantity) for key in kept)
    assert kept_effects("imagewoof", tmp_path) == {}
    json.loads((tmp_path / "evidence_sketchwoof_rigor.json").read_text(), parse_constant=pytest.fail)  # strict JSON


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    ("seeds", "winner"),
    [((3, 2), 0), ((2, 3), 1), ((3, 3), 1)],  # the most seeds; of equally many, the later measurement
)
def test_of_two_files_the_one_over_more_seeds_counts_then_the_later(seeds, winner, names, tmp_path):
    for name, date, count, value in zip(names, ("2026-01-01", "2026-02-01"), seeds, (0.1, 0.2), strict=True):
        write_kept(tmp_path, name, date, {AHEAD: Effect(value, value, value, (value,) * count)})
    assert kept_effects("sketchwoof", tmp_path)[AHEAD._replace(world="drawings")].value == (0.1, 0.2)[winner]


def test_a_confirmatory_effect_counts_before_one_over_more_seeds(tmp_path):
    write_kept(tmp_path, "confirm", "2026-01-01", {AHEAD: Effect(0.1, 0.0, 0.2, (0.1,) * 2)})
    write_kept(tmp_path, "rigor", "2026-02-01", {AHEAD: Effect(0.3, 0.2, 0.4, (0.3,) * 9)})
    kept = kept_effects("sketchwoof", tmp_path)[AHEAD._replace(world="drawings")]
    assert (kept.value, kept.confirmatory) == (0.1, True)
    rate = Key(Quantity.RATE, "lora", "full")
    matched = KEPT._replace(setting=MATCHED)
    write_kept(tmp_path, "confirm", "2026-01-01", dict.fromkeys((rate, matched), Effect(10, 5, 20)))
    assert not any(effect.confirmatory for effect in kept_effects("sketchwoof", tmp_path).values())  # of the search


def test_what_the_repository_keeps_is_read():
    for dataset in WORLDS:
        kept = kept_effects(dataset)
        assert kept
        assert all(effect.low <= effect.value <= effect.high for effect in kept.values())


# --- the names of effects ---


@pytest.mark.parametrize(
    ("key", "name", "unit"),
    [
        (AHEAD._replace(setting=BEST_LR), "accuracy, full minus lora, best lr", "points"),
        (Key(Quantity.NO_DOG, "lora"), "share without dog, lora", "%"),
        (Key(Quantity.TIME, "full", "lora"), "time, full over lora", "times"),
        (Key(Quantity.LEGS, "full", "lora", "attention"), "density on legs, full minus lora, attention", "even shares"),
        (Key(Quantity.GAIN, "full", setting=MORE_EPOCHS), "gain, full, 20 epochs over 5, last epochs", "points"),
        (Key(Quantity.DELETION, "lora", "centre"), "area under deletion, lora minus centre", ""),
    ],
)
def test_the_name_and_the_unit_of_an_effect_come_from_its_key(key, name, unit):
    assert (str(key), key.quantity.unit) == (name, unit)


# --- what is forgotten ---


@pytest.fixture
def forgetting(monkeypatch, tmp_path):
    """Of a frame of runs, the effects on a toy task of which LoRA keeps nine of ten and full fine-tuning eight."""
    pixels = torch.zeros(1000, 3, 8, 8, dtype=torch.uint8)
    toy = SourceTask(pixels, LABELS, None, torch.nn.Linear(48, 10), tuple(range(10)), "toy", "print")
    kept = {"lora": 0.9, "full": 0.8, "probe": 1.0}

    def hits(path, load, task, runtime):
        method, seed = path.name.split("-")[:2]
        return pd.DataFrame({"head": np.random.default_rng(int(seed)).permutation(IMAGES) < kept[method] * IMAGES})

    monkeypatch.setattr(evidence_study, "load_source_task", lambda *_, **__: toy)
    monkeypatch.setattr(evidence_study, "kept_hits", hits)
    monkeypatch.setattr(evidence_study, "hits_path", lambda root, name, task, run: tmp_path / name)
    sweep = SimpleNamespace(name="rigor", study=StudyConfig())
    return lambda frame: evidence_study.forgetting_effects(sweep, frame, "", lambda line: None)


def test_what_every_method_keeps_is_compared(forgetting):
    cells = [("lora", 0), ("lora", 1), ("full", 1), ("full", 0), ("probe", 0)]  # the probe's second run is to come
    rows = [
        {"grid": "seeds-best-lr", "method": method, "seed": seed, "run": f"{method}-{seed}-x"} for method, seed in cells
    ]
    effects = forgetting(pd.DataFrame(rows))
    best = KEPT._replace(setting=BEST_LR)
    assert set(effects) == {best, best._replace(first="full", second="lora")}
    assert effects[best].value == pytest.approx(0.1)
    assert effects[best].source == "2 seeds, 1,000 images of toy"
