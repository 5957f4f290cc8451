"""Effects measured on planted runs: what was planted is found with its size, what was not is not."""

import json
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
    MORE_EPOCHS,
    Effect,
    Key,
    Quantity,
    effect_as_json,
    kept_effects,
)
from woofkit.claims.evidence import accuracy_effects, cost_effects, difference, sweep_effects
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.recommendations import NEEDS, decide
from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, UNMEASURED, judge_all
from woofkit.config import ConfigError, StudyConfig
from woofkit.explain.maps import KINDS
from woofkit.files import write_json
from woofkit.measure.source_tasks import SourceTask
from woofkit.results import read_answers, write_predictions
from woofkit.tables.claims import decisions_markdown, verdict_frame

AHEAD, BEHIND = Key(Quantity.ACCURACY, "full", "lora"), Key(Quantity.ACCURACY, "lora", "full")
TRAINED = Key(Quantity.ACCURACY, "full", "untouched")
AHEAD_FEW = BEHIND._replace(setting=FEW_LABELS)
LEAD = Key(Quantity.LEAD, "lora", "full", FEW_MINUS_ALL)
KEPT = Key(Quantity.KEPT, "lora", "full")
IMAGES, LABELS = 1000, np.arange(1000) % 10


def planted_run(folder, accuracy, seed, trainable=100):
    """A finished run that is right on this share of the images, the easiest first but for a little luck."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ease = np.random.default_rng(99).permutation(IMAGES) / IMAGES + rng.normal(0, 0.02, IMAGES)
    right = ease.argsort().argsort() < round(accuracy * IMAGES)
    logits = np.zeros((IMAGES, 10))
    logits[np.arange(IMAGES), np.where(right, LABELS, (LABELS + 1) % 10)] = 1
    write_predictions(folder, tuple(f"test-{i}" for i in range(IMAGES)), LABELS, logits)
    write_json(folder / "metrics.json", {"trainable_parameters": trainable, "checkpoint_bytes": 10 * trainable})
    return folder


@pytest.fixture
def runs(tmp_path):
    """Three seeds of full at 0.90, of lora at 0.85, one probe at 0.80."""
    accuracies = {"full": (0.90, 0.905, 0.895), "lora": (0.85, 0.855, 0.845), "probe": (0.80,)}
    return {
        method: [
            planted_run(tmp_path / f"{method}-{seed}", a, seed, 3100 if method == "full" else 100)
            for seed, a in enumerate(each)
        ]
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


def test_costs_are_ratios_of_full_to_lora(runs):
    effects = cost_effects(COSTS, {method: folders[0] for method, folders in runs.items()})
    assert effects[cost(Quantity.OPERATIONS)][:3] == (1.5, 1.5, 1.5)
    assert effects[cost(Quantity.MEMORY)].value == 1.5
    assert effects[cost(Quantity.TIME)][:3] == pytest.approx((1.5, 1.4, 1.65))  # of three rounds, the first and last
    nine = [(9.0, 1, 2, 3, 4, 5, 6, 7, 8), (1,) * 9]
    time = cost_effects(COSTS.assign(round_seconds=nine), {m: folders[0] for m, folders in runs.items()})
    assert time[cost(Quantity.TIME)][:3] == (5, 2, 8)
    assert time[cost(Quantity.TIME)].freedom == 8
    assert effects[cost(Quantity.PARAMETERS)].value == 31
    judged = {each.hypothesis.id: each.verdict for each in judge_all(HYPOTHESES, effects)}
    assert (judged["H2"], judged["H3"], judged["H1"]) == (SUPPORTED, SUPPORTED, UNMEASURED)


def sweep_frame(tmp_path):
    """Runs in which LoRA leads by 3 points with a tenth of the labels and trails by 2 with all; 20 epochs gain 4."""
    rows = []
    grids = {
        "seeds-paper-lr": [("full", 1.0, 5, 0.90), ("lora", 1.0, 5, 0.88)],
        "labels": [("full", 0.1, 5, 0.60), ("lora", 0.1, 5, 0.63), ("full", 1.0, 5, 0.90), ("lora", 1.0, 5, 0.88)],
        "epochs": [("full", 1.0, 5, 0.90), ("full", 1.0, 20, 0.94)],
    }
    for grid, cells in grids.items():
        for seed in range(3):
            for number, (method, fraction, epochs, accuracy) in enumerate(cells):
                run = planted_run(tmp_path / f"{grid}-{number}-{seed}", accuracy + 0.002 * (seed - 1), seed)
                rows.append(
                    {
                        "grid": grid,
                        "method": method,
                        "label_fraction": fraction,
                        "epochs": epochs,
                        "seed": seed,
                        "run": str(run),
                    }
                )
    return pd.DataFrame(rows).sample(frac=1, random_state=0)  # in any order


def test_a_sweeps_effects_are_those_that_were_planted(tmp_path):
    effects = sweep_effects(sweep_frame(tmp_path))
    assert effects[AHEAD].value == pytest.approx(0.02)
    lead = effects[LEAD]
    assert lead.value == pytest.approx(0.05)
    assert effects[AHEAD_FEW].value == pytest.approx(0.03)
    assert 0 < lead.low < 0.05 < lead.high
    assert effects[Key(Quantity.GAIN, "full", setting=MORE_EPOCHS)].value == pytest.approx(0.04)
    assert Key(Quantity.GAIN, "lora", setting=MORE_EPOCHS) not in effects
    assert not any(key.setting == BEST_LR for key in effects)
    judged = {each.hypothesis.id: each.verdict for each in judge_all(HYPOTHESES, effects)}
    assert judged["H4"] == SUPPORTED
    assert judged["H7"] == CONTRADICTED
    assert judged["H8"] == CONTRADICTED


def test_a_method_that_lacks_seeds_is_not_measured_yet(tmp_path):
    frame = sweep_frame(tmp_path)
    lora = (frame["grid"] == "seeds-paper-lr") & (frame["method"] == "lora")
    assert AHEAD in sweep_effects(frame)
    assert AHEAD not in sweep_effects(frame[~lora | (frame["seed"] == 0)])


def test_seeds_are_paired_by_their_number(tmp_path):
    frame = sweep_frame(tmp_path)
    few = (frame["grid"] == "labels") & (frame["method"] == "lora") & (frame["label_fraction"] == 0.1)
    effect = sweep_effects(frame[~few | (frame["seed"] != 1)])[AHEAD_FEW]
    assert effect.source == "2 seeds, 1,000 test images"
    assert effect.by_seed == pytest.approx((0.03, 0.03))  # place by place it would be 0.03 and 0.032


def test_two_runs_of_one_seed_are_refused(tmp_path):
    frame = sweep_frame(tmp_path)
    twice = frame[(frame["grid"] == "labels") & (frame["seed"] == 0)]
    with pytest.raises(ConfigError, match="'labels' has two runs of one seed for method full, label_fraction"):
        sweep_effects(pd.concat([frame, twice]))


def test_few_labels_are_answered_by_who_is_ahead_there():
    """LoRA 20 points behind with all labels and 10 behind with few has gained, and is still behind."""
    effects = {AHEAD_FEW: Effect(-0.1, -0.12, -0.08, (), "3 seeds"), LEAD: Effect(0.1, 0.08, 0.12, (), "3 seeds")}
    assert "| Few labels? | **full fine-tuning** |" in decisions_markdown(effects)


def test_whether_to_train_is_answered_at_each_methods_best_rate_where_that_is_known():
    usual = {TRAINED: Effect(0.03, 0.02, 0.05)}
    assert "**train it** | accuracy, full minus untouched: +3.0" in decisions_markdown(usual)
    best = {TRAINED._replace(setting=BEST_LR): Effect(0.0, -0.02, 0.02)}
    assert "**a linear probe first: it may be enough** | accuracy, full minus untouched, best lr" in decisions_markdown(
        usual | best
    )


def test_verdicts_as_a_frame_have_one_row_per_condition():
    effects = {AHEAD: Effect(0.05, 0.02, 0.08, (), "here")}
    frame = verdict_frame(judge_all(HYPOTHESES, effects))
    assert len(frame) == sum(len(hypothesis.conditions) for hypothesis in HYPOTHESES)
    row = frame[frame["hypothesis"] == "H1"].iloc[0]
    assert (row["verdict"], row["value"], row["margin"], row["source"]) == (SUPPORTED, 0.05, 0.01, "here")
    assert frame[frame["hypothesis"] == "H5"]["value"].isna().all()


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
    assert kept == {key: effect._replace(source=f"{effect.source} (sweep rigor)") for key, effect in measured.items()}
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
    assert kept_effects("sketchwoof", tmp_path)[AHEAD].value == (0.1, 0.2)[winner]


def test_what_the_repository_keeps_is_read_and_answers_all_but_the_costs():
    asked = {condition.key for hypothesis in HYPOTHESES for condition in hypothesis.conditions}
    missing = asked - kept_effects("sketchwoof").keys()
    assert {key.quantity.unit for key in missing} == {"times"}
    assert kept_effects("imagewoof")


def test_an_answer_follows_its_effect_and_cites_it():
    need = next(need for need in NEEDS if need.question.startswith("Must the old task"))
    assert decide(need, Effect(0.15, 0.1, 0.2)) == "LoRA"
    assert decide(need, Effect(-0.15, -0.2, -0.1)) == "full fine-tuning"
    assert "no difference" in decide(need, Effect(0.01, -0.1, 0.1))
    assert decide(need, None) == "not measured"
    text = decisions_markdown({need.keys[0]: Effect(0.15, 0.1, 0.2, (), "3 seeds")})
    assert "| Must the old task survive? | **LoRA** |" in text
    assert "+15.0 points (+10.0 to +20.0); 3 seeds" in text
    assert text.count("not measured") == len(NEEDS) - 1


def test_an_undecided_effect_is_undecided():
    effects = {AHEAD: Effect(0.01, -0.02, 0.04), BEHIND: Effect(-0.01, -0.04, 0.02)}
    effects |= {key._replace(setting=BEST_LR): effect for key, effect in effects.items()}
    judged = {each.hypothesis.id: each.verdict for each in judge_all(HYPOTHESES, effects)}
    assert (judged["H1"], judged["H8"]) == (UNDECIDED, UNDECIDED)


@pytest.mark.parametrize(
    ("key", "name", "unit"),
    [
        (AHEAD._replace(setting=BEST_LR), "accuracy, full minus lora, best lr", "points"),
        (Key(Quantity.NO_DOG, "lora"), "share without dog, lora", "%"),
        (Key(Quantity.TIME, "full", "lora"), "time, full over lora", "times"),
        (Key(Quantity.LEGS, "full", "lora", "attention"), "density on legs, full minus lora, attention", "even shares"),
        (Key(Quantity.GAIN, "full", setting=MORE_EPOCHS), "gain, full, 20 epochs over 5", "points"),
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
    kept = {"lora": 0.9, "full": 0.8}

    def hits(path, load, task, runtime):
        method, seed = path.name.split("-")[:2]
        return pd.DataFrame({"head": np.random.default_rng(int(seed)).permutation(IMAGES) < kept[method] * IMAGES})

    monkeypatch.setattr(evidence_study, "load_source_task", lambda *_, **__: toy)
    monkeypatch.setattr(evidence_study, "kept_hits", hits)
    monkeypatch.setattr(evidence_study, "hits_path", lambda root, name, task, run: tmp_path / name)
    sweep = SimpleNamespace(study=StudyConfig())
    return lambda frame: evidence_study.forgetting_effects(sweep, frame, "", lambda line: None)


def test_what_is_kept_is_compared_seed_by_seed(forgetting):
    """A seed that only one of the methods has does not count."""
    cells = [("lora", 0), ("lora", 1), ("lora", 2), ("full", 2), ("full", 0)]
    rows = [
        {"grid": "seeds-best-lr", "method": method, "seed": seed, "run": f"{method}-{seed}-x"} for method, seed in cells
    ]
    effects = forgetting(pd.DataFrame(rows))
    assert list(effects) == [KEPT._replace(setting=BEST_LR)]
    (effect,) = effects.values()
    assert effect.value == pytest.approx(0.1)
    assert effect.by_seed == pytest.approx((0.1, 0.1))
    assert effect.source == "2 seeds, 1,000 images of toy"


def test_what_the_command_writes_is_what_is_read(monkeypatch, tmp_path):
    frame = sweep_frame(tmp_path / "runs")
    monkeypatch.setattr(evidence_study, "collect", lambda sweep: frame)
    monkeypatch.setattr(evidence_study, "forgetting_effects", lambda *_: {})
    monkeypatch.setattr(evidence_study, "study_forgetting", lambda *_, **__: None)
    sweep, lines = SimpleNamespace(name="toy", study=StudyConfig()), []
    path = evidence_study.study_evidence(sweep, folder=tmp_path, log=lines.append)
    assert path.name == "evidence_sketchwoof_toy.json"
    expected = {
        key: effect._replace(source=f"{effect.source} (sweep toy)") for key, effect in sweep_effects(frame).items()
    }
    assert kept_effects("sketchwoof", tmp_path) == expected
    assert any(line.startswith("accuracy, full minus lora: 0.0200 (") for line in lines)
    monkeypatch.setattr(evidence_study, "collect", lambda sweep: frame[:0])
    with pytest.raises(ConfigError, match="no run of sweep 'toy' has finished: python -m woofkit sweep toy"):
        evidence_study.study_evidence(sweep, folder=tmp_path)


# --- what is asked for and what is measured ---


def test_every_key_that_is_asked_for_is_one_that_a_measurement_makes(runs, forgetting):
    """Those of maps: tests/explain/test_attention_study.py."""
    grids = {"seeds-paper-lr": [(1.0, 5)], "seeds-best-lr": [(1.0, 5)], "labels": [(0.1, 5), (1.0, 5)]}
    grids["epochs"] = [(1.0, 5), (1.0, 20)]
    rows = [
        {"grid": grid, "method": method, "label_fraction": share, "epochs": epochs, "seed": seed, "run": str(run)}
        for grid, settings in grids.items()
        for share, epochs in settings
        for method, folders in {"full": runs["full"], "lora": runs["lora"], "zero-shot": runs["probe"]}.items()
        for seed, run in enumerate(folders)
    ]
    frame = pd.DataFrame(rows)
    made = sweep_effects(frame) | forgetting(frame)
    made |= cost_effects(COSTS, {method: folders[0] for method, folders in runs.items()})
    asked = {condition.key for hypothesis in HYPOTHESES for condition in hypothesis.conditions}
    asked |= {key for need in NEEDS for key in need.keys}
    assert {key for key in asked if key.setting not in KINDS} <= made.keys()
