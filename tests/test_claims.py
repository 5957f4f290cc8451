"""The verdicts: a planted effect is found, a planted null is not, and what is unclear stays undecided."""

import numpy as np
import pandas as pd
import pytest

from woofkit.attention_study import summarize
from woofkit.attention_tables import measures_markdown, verdict_lines, verdicts_markdown
from woofkit.claims import CLAIMS, CONTRADICTED, SUPPORTED, UNDECIDED, Condition, judge, judge_attention, worst

ABOVE = Condition("more", "lora", "full", "m", margin=0.1)
BELOW = Condition("at most", "lora", "", "m", above=False, limit=0.05)


@pytest.mark.parametrize(
    ("condition", "value", "low", "high", "expected"),
    [
        (ABOVE, 0.3, 0.2, 0.4, SUPPORTED),
        (ABOVE, 0.3, -0.1, 0.7, UNDECIDED),
        (ABOVE, 0.08, 0.01, 0.15, UNDECIDED),  # sure, but smaller than what matters; might still be larger
        (ABOVE, 0.05, 0.01, 0.09, CONTRADICTED),  # sure, and sure not to matter
        (ABOVE, -0.3, -0.4, -0.2, CONTRADICTED),
        (BELOW, 0.02, 0.01, 0.03, SUPPORTED),
        (BELOW, 0.04, 0.02, 0.06, UNDECIDED),
        (BELOW, 0.2, 0.1, 0.3, CONTRADICTED),
    ],
)
def test_a_condition_is_judged_by_its_interval(condition, value, low, high, expected):
    assert judge(condition, value, low, high) == expected


def test_a_seed_that_says_the_opposite_keeps_a_condition_undecided():
    assert judge(ABOVE, 0.3, 0.2, 0.4, (0.5, 0.4, 0.1)) == SUPPORTED
    assert judge(ABOVE, 0.3, 0.2, 0.4, (0.5, 0.6, -0.2)) == UNDECIDED


def test_a_claim_is_as_good_as_the_worst_of_its_conditions():
    assert worst([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert worst([SUPPORTED, UNDECIDED]) == UNDECIDED
    assert worst([UNDECIDED, CONTRADICTED, SUPPORTED]) == CONTRADICTED


def measured(face, legs, outside, seed=0, dogs=200):
    """What `measure_model` gives: numbers a dog, spread by 0.1 about the given means, for all kinds of maps."""
    rng, frames = np.random.default_rng(seed), []
    means = {"density on the face": face, "density on legs": legs, "share without dog": outside}
    for kind in ("attention", "rollout", "relevance", "random", "centre"):
        for measure, mean in means.items():
            value = (1.0 if kind in ("random", "centre") else mean) + rng.normal(0, 0.1 * min(mean, 1), dogs)
            frames.append(pd.DataFrame({"dog": np.arange(dogs), "map": kind, "measure": measure, "value": value}))
    return pd.concat(frames, ignore_index=True)


def study(lora, full):
    """A table of three seeds of each method."""
    means = {"full": full, "lora": lora}
    frames = {(model, seed): measured(*means[model], seed=10 * seed + number)
              for seed in range(3) for number, model in enumerate(means)}  # fmt: skip
    return summarize(frames)


def verdicts(table):
    return {claim: verdict for claim, (verdict, _) in judge_attention(table).items()}


def test_a_planted_effect_is_found():
    assert verdicts(study(lora=(2.0, 1.0, 0.01), full=(1.0, 2.0, 0.01))) == {"C5": SUPPORTED, "C6": SUPPORTED}


def test_a_planted_null_is_not_taken_for_an_effect():
    assert verdicts(study(lora=(2.0, 1.0, 0.3), full=(2.0, 1.0, 0.3))) == {"C5": CONTRADICTED, "C6": CONTRADICTED}


def test_looking_elsewhere_contradicts_although_the_models_differ():
    table = study(lora=(0.5, 0.2, 0.01), full=(0.2, 0.5, 0.01))  # LoRA more on the face, but less than a centre map
    verdict, findings = judge_attention(table)["C5"]
    assert verdict == CONTRADICTED
    assert [finding.verdict for finding in findings] == [SUPPORTED, SUPPORTED, CONTRADICTED]
    assert all(len(finding.by_seed) == 3 for finding in findings)


def test_a_table_without_masks_is_refused():
    table = study(lora=(1, 1, 0.1), full=(1, 1, 0.1))
    with pytest.raises(ValueError, match="0 rows of 'density on legs' for 'full'"):
        judge_attention(table[table["measure"] != "density on legs"])


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
    table = summarize(frames).set_index(["model", "against", "map", "measure"])
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
    table = summarize(frames).set_index(["model", "against", "map", "measure"])
    row = table.loc[("full", "", "attention", "extra")]
    assert row["value"] == pytest.approx(extra["value"].mean())
    assert len(row["by_seed"].split()) == 1


def test_the_verdicts_in_words_name_claim_kind_and_interval():
    findings = [{"verdict": UNDECIDED, "condition": "c", "value": 0.1, "low": -0.05, "high": 0.3}]
    judged = {"verdict": UNDECIDED, "conditions": findings}
    record = {
        "verdicts": {
            "C5": {"statement": CLAIMS["C5"][0]} | dict.fromkeys(("attention", "rollout", "relevance"), judged)
        }
    }
    lines = verdict_lines(record)
    assert lines[0] == "C5: LoRA attends to the face, full fine-tuning also to the legs"
    assert lines[2].strip() == "undecided: c: 0.100 (-0.050 to 0.300)"
    table = verdicts_markdown(record)
    assert "| c | undecided: 0.10 (-0.05 to 0.30) | undecided" in table
    assert verdict_lines({"verdicts": {}}) == ["photographs have no masks: nothing is said of the claims"]


def test_the_table_of_measures_shows_what_the_frame_holds():
    keys = [
        ("attention", "", "density in the corners"),
        ("attention", "", "correlation with the original's"),
        ("", "", "divergence"),
    ]
    keys += [
        (kind, "centre", f"area under {curve}")
        for kind in ("attention", "relevance")
        for curve in ("deletion", "insertion")
    ]
    rows = [
        (model, against, kind, measure, number + 0.25, number, number + 0.5, 10, "")
        for kind, against, measure in keys
        for number, model in enumerate(("original", "full", "lora"))
    ]
    rows += [("lora", "full", kind, measure, -0.5, -1, 0.25, 10, "") for kind, against, measure in keys if not against]
    columns = ["model", "against", "map", "measure", "value", "low", "high", "dogs", "by_seed"]
    settings = {"dogs": 10, "seeds": 1, "profile": "clean"}
    record = {"verdicts": {}, "settings": settings, "environment": {"date": "2026-01-02T03:04", "machine": "2 cores"}}
    text = measures_markdown(record, pd.DataFrame(rows, columns=columns))
    assert "| all blocks | divergence | 0.250 (0.000 to 0.500) | 1.250 (1.000 to 1.500) |" in text
    assert "| -0.500 (-1.000 to +0.250) |" in text
    assert "area under deletion, minus the centre map's" in text
    assert "one model of each kind (profile clean)" in text
    assert "density on the face" not in text  # photographs have no masks
