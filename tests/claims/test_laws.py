"""Known effects as conditions: planted ones agree, opposite ones disagree, and a search gives its best rate."""

import numpy as np
import pandas as pd
import pytest

from woofkit.claims.effects import MATCHED, WORLDS, Effect, Key, Quantity, in_world
from woofkit.claims.evidence import CONTRASTS, RATES, best_rate, matched_runs, mean_difference, rate_effects
from woofkit.claims.laws import ALL_LAYERS, LAWS, judge_law
from woofkit.claims.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, UNMEASURED
from woofkit.tables.claims import laws_markdown


def search(best, grid="lr", method="lora", rates=(3e-4, 1e-3, 3e-3, 1e-2)):
    rows = [
        {"grid": grid, "method": method, "lr": lr, "seed": seed, "val_accuracy": 0.9 - 0.1 * (lr != best)}
        for lr in rates
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_a_best_rate_is_known_to_half_a_step():
    (group, _), *_ = RATES.values()
    best, low, high = best_rate(search(3e-3), group)
    assert (best, low, high) == pytest.approx((3e-3, 1.73e-3, 5.48e-3), rel=0.01)
    assert best_rate(search(1e-2), group) is None  # at the edge, where a better one may lie beyond
    assert best_rate(search(1e-2).assign(grid="other"), group) is None
    assert best_rate(pd.DataFrame(), group) is None


def noisy(rng, means, noise, seeds=3, **names):
    """A search whose rates, a factor of ten apart, have these means, with noise of each run and of each seed."""
    frame = search(None, rates=10.0 ** np.arange(-len(means), 0), **names)
    seed_part = rng.normal(0, 0.02, seeds)
    return frame.assign(
        val_accuracy=(np.array(means)[:, None] + seed_part + rng.normal(0, noise, (len(means), seeds))).ravel()
    )


def test_a_rate_that_is_not_shown_to_be_worse_may_be_the_best():
    (group, _), *_ = RATES.values()
    close = search(3e-3)
    close.loc[close["lr"] == 1e-3, "val_accuracy"] = [0.9, 0.89, 0.9]
    assert best_rate(close, group) == pytest.approx((3e-3, 5.48e-4, 5.48e-3), rel=0.01)
    close.loc[close["lr"] == 3e-4, "val_accuracy"] = [0.89, 0.9, 0.9]
    assert best_rate(close, group)[1] == 0  # the edge of the grid may be the best, and so may what lies beyond
    assert best_rate(close[close["seed"] == 0], group) is None  # one seed says nothing of others


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_the_interval_of_a_best_rate_holds_the_best_one(noise):
    rng, held, found = np.random.default_rng(5), 0, 0
    (group, _), *_ = RATES.values()
    for _ in range(200):
        result = best_rate(noisy(rng, (0.80, 0.89, 0.90, 0.89, 0.80), noise), group)
        if result is not None:
            found += 1
            held += result[1] <= 1e-3 <= result[2]
    assert found > 150
    assert held / found >= 0.93


@pytest.mark.parametrize(("full", "verdict"), [(3e-4, SUPPORTED), (1e-2, CONTRADICTED), (1e-3, UNDECIDED)])
def test_the_ratio_of_best_rates_is_judged(full, verdict):
    frame = pd.concat([search(3e-3), search(full, method="full", rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2))])
    effects = rate_effects(frame)
    assert list(effects) == [Key(Quantity.RATE, "lora", "full")]
    assert effects[Key(Quantity.RATE, "lora", "full")].value == pytest.approx(3e-3 / full)
    assert judge_law(LAWS[0], effects, "")[0] == verdict


def test_every_law_can_be_measured_and_its_conditions_can_be_met_together():
    delivered = CONTRASTS.keys() | RATES.keys()
    for law in LAWS:
        keys = {condition.key for condition in law.conditions}
        assert len(keys) == 1
        [key] = keys
        of_methods = {key.first, key.second} <= {"lora", "full", "bitfit", ALL_LAYERS} and key.quantity != Quantity.LEAD
        assert key in delivered or of_methods
        low = max((each.limit for each in law.conditions if each.above), default=-10)
        high = min((each.limit for each in law.conditions if not each.above), default=10)
        middle = (low + high) / 2
        assert judge_law(law, {key: Effect(middle, middle - 1e-4, middle + 1e-4)}, "")[0] == SUPPORTED
        outside = high + 1 if high < 10 else low - 1
        assert judge_law(law, {key: Effect(outside, outside - 1e-4, outside + 1e-4)}, "")[0] == CONTRADICTED
        assert judge_law(law, {}, "")[0] == UNMEASURED


def test_the_table_says_what_is_known_and_in_each_world_whether_it_is_found():
    rate, kept = Key(Quantity.RATE, "lora", "full"), Key(Quantity.KEPT, "lora", "full", MATCHED)
    effects = in_world({rate: Effect(10, 9, 11), kept: Effect(0.1, 0.05, 0.15, confirmatory=True)}, "sketchwoof")
    effects |= in_world({rate: Effect(100, 90, 110)}, "imagewoof")
    lines = laws_markdown(effects, tuple(WORLDS.values())).splitlines()
    assert lines[0] == "| what is known | from | on drawings | on photographs |"
    assert len(lines) == 2 + len(LAWS)
    assert "| **agrees** (exploratory). the ratio of the best rates: 10 (9 to 11) times | **disagrees**" in lines[2]
    assert all("https://" in line for line in lines[2:])
    assert "(here full fine-tuning at the rate whose validation accuracy is nearest to LoRA's best)" in "".join(lines)
    assert lines[3].endswith("| not measured | not measured |")
    [forgets] = [line for line in lines if "forgets less" in line]
    assert "| **agrees** (confirmatory). LoRA minus full fine-tuning: 10 (5 to 15) points | not measured |" in forgets


def accuracies(**means):
    """Searches over three rates of each method with these mean validation accuracies, and three seeds."""
    rows = [
        {"grid": "lr", "method": method, "lr": lr, "seed": seed, "val_accuracy": mean + 0.001 * seed}
        for method, own in means.items()
        for lr, mean in zip((1e-4, 1e-3, 1e-2), own, strict=True)
        for seed in range(3)
    ]
    return pd.DataFrame([row | {"run": f"{row['method']}-{row['lr']:g}-{row['seed']}"} for row in rows])


def test_forgetting_is_compared_where_both_are_as_accurate():
    """LoRA's best beside the rate of full fine-tuning that comes nearest to it, which need not be its best."""
    frame = accuracies(lora=(0.7, 0.85, 0.8), full=(0.86, 0.9, 0.6))
    lora, full = matched_runs(frame.sample(frac=1, random_state=0))
    assert [str(run) for run in lora] == ["lora-0.001-0", "lora-0.001-1", "lora-0.001-2"]
    assert [str(run) for run in full] == ["full-0.0001-0", "full-0.0001-1", "full-0.0001-2"]
    assert matched_runs(accuracies(lora=(0.7, 0.85, 0.8), full=(0.7, 0.8, 0.6))) is None  # none comes near
    assert matched_runs(accuracies(lora=(0.7, 0.85, 0.8))) is None
    assert matched_runs(pd.DataFrame()) is None


def test_means_over_seeds_are_compared_by_welchs_interval():
    effect = mean_difference([10, 12, 14], [1, 2, 3])
    assert effect.value == pytest.approx(10)
    assert effect.low < 10 < effect.high
    assert 2 < effect.freedom < 4
    assert mean_difference([5, 5], [1, 1])[:3] == (4, 4, 4)
