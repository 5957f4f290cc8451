"""The verdicts: a planted effect is found, a planted null is not, and what is unclear stays undecided."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from woofkit.claims.effects import COUNTED, Effect, Key, Quantity
from woofkit.claims.error_rates import WORST, interval_coverage, verdict_rates
from woofkit.claims.evidence import difference
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.claims.register import CHANGED_IN_ALL, REGISTER
from woofkit.claims.study import attention_verdicts, judge_attention
from woofkit.claims.verdicts import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    UNMEASURED,
    Condition,
    Hypothesis,
    judge,
    judge_all,
    p_values,
)
from woofkit.explain.maps import KINDS
from woofkit.explain.study import summarize
from woofkit.files import RESULTS
from woofkit.stats.power import detectable_difference
from woofkit.stats.seeds import crossed_mean
from woofkit.tables.attention import ALL_ROWS, measures_markdown, verdict_lines, verdicts_markdown
from woofkit.tables.claims import (
    changes_markdown,
    error_rates_markdown,
    hypotheses_markdown,
    power_markdown,
    register_markdown,
)

M, N = Key(Quantity.ACCURACY, "m"), Key(Quantity.ACCURACY, "n")
ABOVE = Condition("more", M, margin=0.1)
BELOW = Condition("at most", M, above=False, limit=0.05)
ANY = Condition("", M)
KEYS = ["first", "second", "map", "quantity"]  # of the table of `summarize`


@pytest.mark.parametrize(
    ("condition", "value", "low", "high", "expected"),
    [
        (ABOVE, 0.3, 0.2, 0.4, SUPPORTED),
        (ABOVE, 0.3, -0.1, 0.7, UNDECIDED),
        (ABOVE, 0.2, 0.05, 0.35, UNDECIDED),  # surely above the limit, but perhaps by too little to matter
        (ABOVE, 0.08, 0.01, 0.15, UNDECIDED),
        (ABOVE, 0.05, 0.01, 0.09, CONTRADICTED),  # sure, and sure not to matter
        (ABOVE, -0.3, -0.4, -0.2, CONTRADICTED),
        (BELOW, 0.02, 0.01, 0.03, SUPPORTED),
        (BELOW, 0.04, 0.02, 0.06, UNDECIDED),
        (BELOW, 0.2, 0.1, 0.3, CONTRADICTED),
    ],
)
def test_a_condition_is_judged_by_its_interval(condition, value, low, high, expected):
    assert judge(condition, Effect(value, low, high)) == expected


def hypothesis(*conditions, name="H"):
    return Hypothesis(name, "", "", "it is so", conditions, "")


def test_what_was_not_measured_is_not_judged():
    assert judge(ABOVE, None) == UNMEASURED
    [judged] = judge_all([hypothesis(ABOVE, Condition("other", N))], {M: Effect(1, 0.9, 1.1)})
    assert (judged.verdict, judged.why) == (UNMEASURED, "1 of 2 conditions not measured")
    assert np.isnan(judged.p_value)


def test_an_effect_of_another_world_is_no_measurement():
    effects = {M._replace(world="drawings"): Effect(1, 0.9, 1.1)}
    verdicts = {
        world: judge_all([hypothesis(ABOVE)], effects, world)[0].verdict for world in ("drawings", "photographs")
    }
    assert verdicts == {"drawings": SUPPORTED, "photographs": UNMEASURED}


def test_p_values_are_those_of_the_interval():
    assert p_values(ANY, Effect(1.96, 0, 3.92)) == pytest.approx((0.025, 0.975), abs=1e-4)
    assert p_values(ABOVE, Effect(0.1, 0.0, 0.2)) == pytest.approx((0.5, 0.5))  # on limit and margin
    assert p_values(BELOW, Effect(0.05, 0.0, 0.1)) == pytest.approx((0.5, 0.5))
    assert p_values(Condition("", M, limit=10), Effect(31.1, 31.1, 31.1, (), COUNTED)) == (0, 1)
    assert p_values(Condition("", M, limit=10), Effect(10, 10, 10, (), COUNTED)) == (0, 1)  # at least ten
    assert p_values(Condition("", M, limit=10), Effect(9.9, 9.9, 9.9, (), COUNTED)) == (1, 0)


def test_the_side_towards_the_threshold_counts():
    wide_above, wide_below = Effect(1.0, 0.5, 9.0), Effect(1.0, -7.0, 1.5)
    assert p_values(ANY, wide_above) == p_values(ANY, Effect(1.0, 0.5, 1.5))
    assert p_values(ANY, wide_below) == p_values(ANY, Effect(1.0, -7.0, 9.0))
    assert 0 < p_values(ANY, Effect(1.0, 1.0, 3.0)).beyond < 1  # no width on this side


def test_a_measured_interval_without_width_proves_nothing():
    """Right on two images of one breed that the other gets wrong, and equal elsewhere, is not certain."""
    first, second = np.ones((1, 20), dtype=bool), np.ones((1, 20), dtype=bool)
    labels = np.repeat(np.arange(10), 2)
    second[0, labels == 3] = False
    effect = difference(first, second, labels)
    assert effect.low == effect.high == pytest.approx(0.1)
    condition = Condition("full is ahead", M, margin=0.01)
    assert p_values(condition, effect) == (1, 1)
    (judged,) = judge_all([hypothesis(condition)], {M: effect})
    assert judged.verdict == UNDECIDED


def test_few_degrees_of_freedom_make_a_p_value_larger():
    effect = Effect(4.0, 3.0, 5.0)
    assert p_values(ANY, effect._replace(freedom=2)).beyond > 30 * p_values(ANY, effect).beyond
    at_the_end = Effect(1.0, 0.0, 2.0)
    for freedom in (2, 5, float("inf")):
        assert p_values(ANY, at_the_end._replace(freedom=freedom)).beyond == pytest.approx(0.025)


def test_a_hypothesis_is_as_good_as_its_weakest_condition_and_fails_with_one():
    both = hypothesis(ABOVE, Condition("", N, margin=0.1))
    sure, open_, false = Effect(0.5, 0.4, 0.6), Effect(0.2, 0.0, 0.4), Effect(-0.5, -0.6, -0.4)

    def judged(first, second):
        return judge_all([both], {M: first, N: second})[0]

    assert judged(sure, sure).verdict == SUPPORTED
    assert judged(sure, open_)[2:] == (UNDECIDED, pytest.approx(float("nan"), nan_ok=True), judged(open_, sure).why)
    assert "the interval of 1 of 2 conditions contains the threshold" in judged(sure, open_).why
    assert judged(sure, false).verdict == judged(open_, false).verdict == CONTRADICTED
    assert judged(sure, false).p_value < 1e-6


@pytest.mark.parametrize("sign", [1, -1])
def test_either_verdict_has_to_survive_holm(sign):
    barely = Effect(0.1 + 0.2 * sign, *sorted((0.1 + 0.01 * sign, 0.1 + 0.39 * sign)))
    [alone] = judge_all([hypothesis(ABOVE)], {M: barely})
    assert alone.verdict == (SUPPORTED if sign > 0 else CONTRADICTED)
    six = [hypothesis(ABOVE, name=f"{number}") for number in range(6)]
    for judged in judge_all(six, {M: barely}):  # six tries: one such difference is to be expected by luck
        assert judged.verdict == UNDECIDED
        assert "as one of 6 hypotheses, that is not certain enough" in judged.why
        assert np.isnan(judged.p_value)  # no p-value stands beside a verdict that it does not belong to


def test_a_verdict_on_a_part_stays_when_the_rest_is_measured():
    """The first sweeps' effects alone, then with all others: no verdict is taken back, whatever the others are."""
    rng, names = np.random.default_rng(3), [f"{number}" for number in range(8)]
    keys = {name: Key(Quantity.ACCURACY, name) for name in names}
    asked = [hypothesis(Condition("", key, margin=0.1), name=name) for name, key in keys.items()]
    decided = 0
    for _ in range(50):
        values = dict(zip(keys.values(), rng.normal(0.1, 0.15, len(keys)), strict=True))
        effects = {key: Effect(value, value - 0.1, value + 0.1) for key, value in values.items()}
        part = {key: effects[key] for key in list(keys.values())[:3]}
        early, late = (dict(zip(names, judge_all(asked, each), strict=True)) for each in (part, effects))
        sure = [name for name in names if early[name].verdict in (SUPPORTED, CONTRADICTED)]
        assert [early[name].verdict for name in sure] == [late[name].verdict for name in sure]
        decided += len(sure)
    assert decided > 20


def test_a_verdict_is_confirmatory_if_all_its_data_are():
    both, fresh = hypothesis(ABOVE, Condition("", N)), Effect(0.5, 0.4, 0.6, confirmatory=True)
    old = fresh._replace(confirmatory=False)

    def kind(first, second):
        return judge_all([both], {M: first, N: second} if second else {M: first})[0].kind

    assert [kind(fresh, fresh), kind(old, old), kind(fresh, None)] == ["confirmatory", "exploratory", ""]
    assert kind(fresh, old) == "partly confirmatory (1 of 2 conditions)"


# --- how often the verdicts are wrong ---

SEEDS, TEST_IMAGES, STUDIES = 5, 200, 200


def simulated_effect(rng, true, seed_spread=0.01, image_spread=0.25):
    """A difference over five seeds and 200 images whose true mean is `true`, with the interval of `crossed_mean`."""
    seeds = rng.normal(0, seed_spread, (SEEDS, 1))
    images = rng.normal(0, image_spread, TEST_IMAGES)
    values = true + seeds + images + rng.normal(0, image_spread, (SEEDS, TEST_IMAGES))
    found = crossed_mean(values, np.zeros(TEST_IMAGES))
    return Effect(found.value, found.low, found.high, freedom=found.freedom)


def share_of_studies(true, count, studies=STUDIES, conditions=1):
    """How often a study of `count` hypotheses, all of whose effects are `true`, has a verdict of each kind anywhere."""
    rng, seen = np.random.default_rng(0), Counter()
    keys = [[Key(Quantity.ACCURACY, f"{number}-{part}") for part in range(conditions)] for number in range(count)]
    asked = [hypothesis(*(Condition("", key, margin=0.1) for key in mine), name=str(n)) for n, mine in enumerate(keys)]
    for _ in range(studies):
        effects = {key: simulated_effect(rng, true) for mine in keys for key in mine}
        seen.update({judged.verdict for judged in judge_all(asked, effects)})
    return {verdict: seen[verdict] / studies for verdict in (SUPPORTED, CONTRADICTED)}


@pytest.mark.parametrize("conditions", [1, 2])
def test_at_the_threshold_both_verdicts_are_rarely_given(conditions):
    shares = share_of_studies(0.1, 1, conditions=conditions)
    assert max(shares.values()) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / STUDIES)
    assert sum(shares.values()) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.parametrize(("distances", "verdict"), [(WORST[0], SUPPORTED), (WORST[1], CONTRADICTED)])
def test_in_a_study_of_all_hypotheses_a_false_verdict_on_any_is_rare(distances, verdict):
    """All ten at once, where each verdict is at its worst. Without Holm's correction about one study in five errs."""
    studies = 4000
    rates = verdict_rates(HYPOTHESES, distances, studies)
    error = np.sqrt(0.025 * 0.975 / studies)
    assert max(rates.supported, rates.contradicted) <= 0.025 + 3 * error
    assert rates.either <= 0.05
    assert getattr(rates, verdict) > 0.018  # the test is about as strict as it may be


def test_the_error_rates_in_words_are_those_of_the_simulation():
    text = error_rates_markdown(40)
    rows = [line.split(" | ")[1:] for line in text.splitlines()[2:4]]
    for cells, distances in zip(rows, WORST, strict=True):
        assert [cell.rstrip(" |") for cell in cells] == [f"{r:.1%}" for r in verdict_rates(HYPOTHESES, distances, 40)]
    assert f"**{interval_coverage(5, 1000, 40):.1%}**" in text


def test_hypotheses_that_surely_hold_leave_the_others_their_due():
    """Nine are certain, so Holm spends all of the error on the tenth, and no more."""
    sure = [hypothesis(Condition("", Key(Quantity.LEAD, f"{n}")), name=f"sure {n}") for n in range(9)]
    effects = {each.conditions[0].key: Effect(20.0, 19.0, 21.0) for each in sure}
    rng, studies, wrong = np.random.default_rng(1), 4000, 0
    for value in rng.normal(0, 1, studies):
        open_ = Effect(value, value - 1.96, value + 1.96)
        wrong += judge_all([*sure, hypothesis(ANY)], effects | {M: open_})[-1].verdict == SUPPORTED
    assert 0.018 < wrong / studies <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / studies)


def test_a_clear_effect_is_decided_and_the_burden_is_the_same_both_ways():
    beyond, short = share_of_studies(0.18, 1), share_of_studies(0.02, 1)
    assert beyond[SUPPORTED] > 0.8
    assert short[CONTRADICTED] > 0.8
    assert abs(beyond[SUPPORTED] - short[CONTRADICTED]) < 0.1
    assert beyond[CONTRADICTED] == short[SUPPORTED] == 0


# --- the table of hypotheses ---


def test_every_claim_of_the_paper_has_its_hypothesis_and_the_table_names_all():
    claims = [claim for each in HYPOTHESES for claim in each.claim.split(", ") if claim]
    assert sorted(claims) == [f"C{number}" for number in range(1, 9)]
    assert len({each.id for each in HYPOTHESES}) == len(HYPOTHESES)
    text = f"{hypotheses_markdown()}\n{power_markdown(500)}"
    assert all(f"| **{each.id}** | {each.claim} | {each.paper} |" in text for each in HYPOTHESES)
    points = f"{100 * detectable_difference(500):.1f} points"
    assert f"500 test images can show a difference of accuracy of **{points}** or more" in text
    assert "40 test images cannot show a difference of accuracy with any certainty." in power_markdown(40)
    assert "full fine-tuning is ahead at the paper's learning rate (at least 1 point)" in text
    assert [name for name in REGISTER] == [each.id for each in HYPOTHESES]
    assert all(
        f"| **{name}** | {entry.stated} | {entry.seen} |" in register_markdown() for name, entry in REGISTER.items()
    )
    assert "With 5 seeds of each method and 5,000 test images, a lead has to be about" in text
    assert all(entry.stated >= entry.seen or entry.changes for entry in REGISTER.values())
    assert all(change in register_markdown() for change in CHANGED_IN_ALL)


def test_of_every_first_verdict_it_is_said_whether_it_was_kept_and_why():
    """Nothing measured, then everything far beyond its threshold: each row compares the first verdict with today's."""
    nothing = changes_markdown(judge_all(HYPOTHESES, {})).splitlines()[2:]
    assert len(nothing) == len(REGISTER)
    assert all("| not measured in the new form |" in line for line in nothing)
    effects = {}
    for condition in (condition for each in HYPOTHESES for condition in each.conditions):
        value = condition.threshold + (5 if condition.above else -5)
        effects[condition.key] = Effect(value, value - 0.1, value + 0.1)
    for line, (name, entry) in zip(
        changes_markdown(judge_all(HYPOTHESES, effects)).splitlines()[2:], REGISTER.items(), strict=True
    ):
        assert line.startswith(f"| {name} ")
        assert f"| **{entry.before}**: {entry.found} |" in line
        assert f"| **supported**, {'kept' if entry.before == SUPPORTED else 'changed'} | {entry.since} |" in line
        assert entry.before in (SUPPORTED, CONTRADICTED, UNDECIDED)


def measured(face, legs, outside, seed=0, dogs=200):
    """What `measure_model` gives: one number per dog, spread by 0.1 about the given means, for all kinds of maps."""
    rng, frames = np.random.default_rng(seed), []
    means = {Quantity.FACE: face, Quantity.LEGS: legs, Quantity.NO_DOG: outside}
    for kind in ("attention", "rollout", "relevance", "random", "centre"):
        for measure, mean in means.items():
            value = (1.0 if kind in ("random", "centre") else mean) + rng.normal(0, 0.1 * min(mean, 1), dogs)
            frames.append(pd.DataFrame({"dog": np.arange(dogs), "map": kind, "measure": str(measure), "value": value}))
    return pd.concat(frames, ignore_index=True)


def study(lora, full):
    """A table of three seeds of each method."""
    means = {"full": full, "lora": lora}
    frames = {
        (model, seed): measured(*means[model], seed=10 * seed + number)
        for seed in range(3)
        for number, model in enumerate(means)
    }
    return summarize(frames)


def verdicts(table):
    return {judged.hypothesis.claim: judged.verdict for judged in judge_attention(table)}


def test_a_planted_effect_is_found():
    assert verdicts(study(lora=(2.0, 1.0, 0.01), full=(1.0, 2.0, 0.01))) == {"C5": SUPPORTED, "C6": SUPPORTED}


def test_a_planted_null_is_not_taken_for_an_effect():
    assert verdicts(study(lora=(2.0, 1.0, 0.3), full=(2.0, 1.0, 0.3))) == {"C5": CONTRADICTED, "C6": CONTRADICTED}


def test_models_that_differ_from_seed_to_seed_decide_nothing():
    shifts = (-0.06, 0.17, 0.11)  # on every dog alike: sure about dogs, unsure about trainings
    frames = {}
    for seed, shift in enumerate(shifts):
        frames["full", seed] = measured(1.0, 1.5 + shift, 0.01, seed=0)
        frames["lora", seed] = measured(1.0, 1.5, 0.01, seed=0)
    table = summarize(frames)
    row = table.set_index(KEYS).loc["full", "lora", "attention", Quantity.LEGS]
    assert row["value"] == pytest.approx(np.mean(shifts), abs=1e-6)
    assert row["low"] < 0 < 0.1 < row["high"]
    legs = judge_attention(table)[0].findings[1]
    assert legs.verdict == UNDECIDED


def test_a_table_without_masks_has_no_verdict():
    table = study(lora=(1, 1, 0.1), full=(1, 1, 0.1))
    judged = judge_attention(table[table["quantity"] == "nothing"])
    assert [each.verdict for each in judged] == [UNMEASURED, UNMEASURED]


# --- the table ---


def test_differences_are_taken_dog_by_dog_and_seeds_averaged_first():
    noise = np.random.default_rng(0).normal(0, 5, 100)  # dogs differ much, models by exactly one
    frames = {}
    for seed in range(2):
        for model, shift in (("full", 0.0), ("lora", 1.0)):
            value = noise + shift + 0.2 * seed
            frames[model, seed] = pd.DataFrame(
                {"dog": np.arange(100), "map": "attention", "measure": "m", "value": value}
            )
            both = frames[model, seed].assign(map="random", value=noise)
            frames[model, seed] = pd.concat([frames[model, seed], both])
    for key, frame in frames.items():
        frames[key] = pd.concat([frame, frame[frame["map"] == "random"].assign(map="centre")])
    table = summarize(frames).set_index(KEYS)
    difference = table.loc[("lora", "full", "attention", "m")]
    assert (difference["value"], difference["low"], difference["high"]) == pytest.approx((1, 1, 1))
    alone = table.loc[("lora", "", "attention", "m")]
    assert alone["value"] == pytest.approx(noise.mean() + 1.1)
    assert alone["high"] - alone["low"] > 1
    assert [float(number) for number in alone["by_seed"].split()] == pytest.approx(
        [noise.mean() + 1, noise.mean() + 1.2], rel=1e-3
    )
    assert table.loc[("lora", "random", "attention", "m"), "value"] == pytest.approx(1.1)
    assert ("lora", "full", "random", "m") not in table.index


def test_a_measure_of_the_first_seed_alone_keeps_its_value():
    frames = {("full", seed): measured(1, 1, 0.1, seed=seed) for seed in range(2)}
    extra = frames["full", 0].query("map == 'attention' and measure == 'density on legs'").assign(measure="extra")
    frames["full", 0] = pd.concat([frames["full", 0], extra])
    table = summarize(frames).set_index(KEYS)
    row = table.loc[("full", "", "attention", "extra")]
    assert row["value"] == pytest.approx(extra["value"].mean())
    assert len(row["by_seed"].split()) == 1


def test_a_claim_that_is_undecided_over_a_decided_condition_says_why():
    """Sure by itself, but one of many: the table says both."""
    table = study(lora=(2.0, 1.0, 0.01), full=(1.0, 2.0, 0.01))
    row = (table["first"] == "full") & (table["second"] == "lora") & (table["quantity"] == Quantity.LEGS)
    row &= table["map"] == "attention"
    table.loc[row, ["value", "low", "high", "freedom"]] = (0.5, 0.15, 0.85, np.inf)
    record = {"verdicts": attention_verdicts(table)}
    assert verdicts(table)["C5"] == UNDECIDED
    why = "judged alone, it holds; as one of 10 hypotheses, that is not certain enough"
    assert record["verdicts"]["C5"]["attention"]["why"] == why
    lines = verdicts_markdown(record).splitlines()
    assert f"**undecided** ({why})" in lines[2]
    assert lines[4].startswith("| judged alone: full fine-tuning attends to the legs more")
    assert "| supported: 0.50 (0.15 to 0.85) |" in lines[4]
    assert f"undecided ({why})" in "\n".join(verdict_lines(record))


def test_the_kept_verdicts_are_by_todays_rules():
    path = RESULTS / "attention_sketchwoof_demo.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
    table = pd.read_csv(path.with_suffix(".csv"), keep_default_na=False)
    assert kept == json.loads(json.dumps(attention_verdicts(table)))


def test_the_verdicts_in_words_name_claim_kind_and_interval():
    findings = [{"verdict": UNDECIDED, "condition": "c", "value": 0.1, "low": -0.05, "high": 0.3}]
    judged = {"verdict": UNDECIDED, "p_value": None, "why": "", "conditions": findings}
    record = {"verdicts": {"C5": {"statement": "LoRA attends to facial details"} | dict.fromkeys(KINDS, judged)}}
    lines = verdict_lines(record)
    assert lines[0] == "C5: LoRA attends to facial details"
    assert lines[2].strip() == "undecided: c: 0.100 (-0.050 to 0.300)"
    table = verdicts_markdown(record)
    assert "| judged alone: c | undecided: 0.10 (-0.05 to 0.30) | undecided" in table
    assert verdict_lines({"verdicts": {}}) == ["Photographs have no masks, so the claims cannot be judged."]


def test_the_table_of_measures_shows_what_the_frame_holds():
    keys = [(kind, measure) for kind, measure, _ in ALL_ROWS]
    rows = [
        (model, "", kind, measure, number + 0.25, number, number + 0.5, 10, "")
        for kind, measure in keys
        for number, model in enumerate(("original", "full", "lora"))
    ]
    rows += [("lora", "full", kind, measure, -0.5, -1, 0.25, 10, "") for kind, measure in keys]
    columns = [*KEYS, "value", "low", "high", "dogs", "by_seed"]
    settings = {"dogs": 10, "seeds": 1, "profile": "clean", "model_name": "vit", "lr": 4e-4}
    record = {"verdicts": {}, "settings": settings, "environment": {"date": "2026-01-02T03:04", "machine": "2 cores"}}
    text = measures_markdown(record, pd.DataFrame(rows, columns=columns))
    assert "| all blocks | divergence | 0.250 (0.000 to 0.500) | 1.250 (1.000 to 1.500) |" in text
    assert "| -0.500 (-1.000 to +0.250) |" in text
    assert "one model of each kind (profile clean, vit, learning rate 0.0004)" in text
    assert "density on the face" not in text  # photographs have no masks
