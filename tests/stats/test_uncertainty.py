"""Laws of the intervals and tests: they cover what they promise, find what is planted, and stay silent on nothing."""

import time

import numpy as np
import pytest
from scipy.stats import binomtest, norm, ttest_1samp

from woofkit.stats.intervals import accuracy_interval, mcnemar_test
from woofkit.stats.power import decidable_difference, detectable_difference, mcnemar_power
from woofkit.stats.seeds import (
    _over_seeds,
    crossed_mean,
    holm,
    mean_of_intervals,
    paired_bootstrap,
    paired_over_seeds,
    seed_and_image_variance,
)

LABELS = np.repeat(np.arange(10), 50)
EASE = np.linspace(0.7, 0.99, 10)[LABELS]  # accuracy by breed
MANY = 400  # replications: a share of 0.95 is then measured to within 0.022 (two standard errors)


def answers(rng, seeds=3, seed_sd=0.1, image_sd=2.0, images=None, shift=0.0, num_images=500):
    """Correct (seeds, images) by crossed random effects: image and seed both move a score, right above 0."""
    images = rng.normal(size=num_images) if images is None else images
    seed = rng.normal(size=(seeds, 1))
    return 2.5 + shift + image_sd * images + seed_sd * seed + rng.normal(size=(seeds, images.size)) > 0


def true_accuracy(seed_sd=0.1, image_sd=2.0, shift=0.0):
    return norm.cdf((2.5 + shift) / np.sqrt(1 + image_sd**2 + seed_sd**2))


# --- one training, many images ---


def test_it_is_as_wide_as_the_formula_and_not_wider_than_without_strata():
    rng = np.random.default_rng(2)
    correct = rng.random(500) < EASE
    result = paired_bootstrap(correct, np.zeros(500), LABELS, resamples=5000)  # against a model that is always wrong
    shares = correct.reshape(10, 50).mean(1)
    error = np.sqrt((shares * (1 - shares) / 50).sum()) / 10
    assert result.value == correct.mean()
    assert result.count == 500
    assert (result.high - result.low) / (2 * 1.96) == pytest.approx(error, rel=0.06)
    wilson = accuracy_interval(correct)
    assert result.high - result.low < wilson.high - wilson.low


def test_the_same_call_gives_the_same_interval():
    correct = np.random.default_rng(3).random(500) < EASE
    assert paired_bootstrap(correct, ~correct, LABELS) == paired_bootstrap(correct, ~correct, LABELS)


def test_the_paired_bootstrap_covers_the_true_difference_and_uses_the_pairing():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(MANY):
        first = rng.random(500) < EASE
        second = first & (rng.random(500) < 0.95)  # loses one in twenty
        result = paired_bootstrap(first, second, LABELS, resamples=500)
        held += result.low <= 0.05 * EASE.mean() <= result.high
    assert held / MANY == pytest.approx(0.95, abs=0.03)
    shuffled = paired_bootstrap(first, rng.permutation(second), LABELS, resamples=500)
    assert result.high - result.low < 0.6 * (shuffled.high - shuffled.low)
    assert paired_bootstrap(first, first, LABELS)[:3] == (0, 0, 0)
    swapped = paired_bootstrap(second, first, LABELS, resamples=500)
    assert (swapped.value, swapped.low) == pytest.approx((-result.value, -result.high), abs=0.005)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"got \(5,\) and \(4,\)"):
        paired_bootstrap(np.ones(5), np.ones(5), np.zeros(4))
    with pytest.raises(ValueError, match=r"got \(3,\) and \(4,\)"):
        paired_bootstrap(np.ones(4), np.ones(3), np.zeros(4))
    with pytest.raises(ValueError, match="two images or more: too few of 1"):
        paired_bootstrap(np.ones(3), np.ones(3), np.array([0, 0, 1]))
    with pytest.raises(ValueError, match=r"two seeds or more, got answers of shape \(1, 4\)"):
        seed_and_image_variance(np.ones((1, 4)))
    with pytest.raises(
        ValueError, match=r"\(seeds, images\) and one label per image are needed: got \(2, 3\) and \(4,\)"
    ):
        paired_over_seeds(np.ones((2, 4)), np.ones((2, 3)), np.zeros(4))


# --- Holm, and power ---


def test_holm_by_hand():
    adjusted = holm({"C1": 0.01, "C2": 0.04, "C3": 0.03, "C4": 0.005})
    # ordered 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 -> none below the one before it
    assert adjusted == pytest.approx({"C4": 0.02, "C1": 0.03, "C3": 0.06, "C2": 0.06})
    assert list(adjusted) == ["C1", "C2", "C3", "C4"]
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1, "b": 1}
    assert holm({}) == {}
    with pytest.raises(ValueError, match="the p of 'C5' is nan"):
        holm({"C5": float("nan")})


def test_holm_rejects_what_the_stepwise_procedure_rejects_whatever_the_order_of_the_claims():
    rng = np.random.default_rng(18)
    for _ in range(100):
        p_values = dict(enumerate(rng.random(6) ** 3))
        adjusted = holm(p_values)
        assert all(p <= adjusted[claim] <= min(1, 6 * p) for claim, p in p_values.items())  # at most Bonferroni's
        steps = sorted(p_values, key=p_values.get)
        assert [adjusted[claim] for claim in steps] == sorted(adjusted.values())
        rejected = set()
        for rank, claim in enumerate(steps):  # Holm's own words: stop at the first that is not below alpha / (m - rank)
            if p_values[claim] > 0.05 / (6 - rank):
                break
            rejected.add(claim)
        assert {claim for claim, p in adjusted.items() if p <= 0.05} == rejected
        assert holm(dict(reversed(p_values.items()))) == adjusted


def test_holm_keeps_the_chance_of_any_false_claim_at_alpha():
    rng = np.random.default_rng(5)
    p_values = rng.random((MANY, 8))
    any_false = np.mean([min(holm(dict(enumerate(row))).values()) <= 0.05 for row in p_values])
    assert any_false == pytest.approx(0.05, abs=0.03)


def test_the_power_is_what_simulated_mcnemar_tests_find():
    rng = np.random.default_rng(6)
    for difference in (0.0, 0.03, 0.05):
        shares = [(0.1 + difference) / 2, (0.1 - difference) / 2, 0.9]
        only = rng.multinomial(500, shares, size=4000)[:, :2]
        pairs, times = np.unique(only, axis=0, return_counts=True)
        found = [binomtest(int(a), int(a + b)).pvalue <= 0.05 if a + b else False for a, b in pairs]
        share = (np.array(found) * times).sum() / 4000
        assert mcnemar_power(500, difference) == pytest.approx(share, abs=0.02)


def test_the_detectable_difference_has_its_power_and_is_near_the_normal_one():
    for num_images in (500, 3929):
        found = detectable_difference(num_images)
        assert mcnemar_power(num_images, found) == pytest.approx(0.8, abs=1e-6)
        assert mcnemar_power(num_images, -found) == pytest.approx(0.8, abs=1e-6)
        z = norm.ppf(0.975) * np.sqrt(0.1) + norm.ppf(0.8) * np.sqrt(0.1 - found**2)  # Connor 1987
        assert found == pytest.approx(z / np.sqrt(num_images), rel=0.06)
        assert found >= z / np.sqrt(num_images)  # the exact test is the stricter
    assert detectable_difference(500, discordant=0.05) < detectable_difference(500)


@pytest.mark.parametrize(("seeds", "images", "spread"), [(5, 2000, 0.01), (3, 500, 0.02), (5, 2000, 0.0)])
def test_several_seeds_show_the_decidable_difference_with_its_power(seeds, images, spread):
    """Models that share each image's ease and differ by a seed's luck; a lead counts if its interval is beyond 0.01."""
    rng, labels, shown = np.random.default_rng(0), np.zeros(images), 0
    true = decidable_difference(seeds, images, spread, margin=0.01)
    for _ in range(200):
        luck = rng.normal(0, spread, (2, seeds, 1))
        swayed = rng.random(images) < 0.1  # right for one of the methods alone
        first = np.where(swayed, rng.random(images) < 0.5 + 5 * true, True)
        answers = np.stack([first, np.where(swayed, ~first, True)])[:, None] + luck
        shown += paired_over_seeds_of(answers, labels).low > 0.01
    assert 0.7 < shown / 200 < 0.92


def paired_over_seeds_of(answers, labels):
    """The interval of `paired_over_seeds`, of numbers that need not be answers."""
    return _over_seeds(answers[0].mean(0) - answers[1].mean(0), list(answers), labels, 0.95)


@pytest.mark.parametrize("wrong", [{"num_seeds": 1}, {"seed_spread": -1}, {"power": 0.01}, {"num_images": 0}])
def test_a_design_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        decidable_difference(**({"num_seeds": 5, "num_images": 500, "seed_spread": 0.01} | wrong))
    with pytest.raises(ValueError, match="5 images, 10% of them discordant, show no difference with power 0.8"):
        detectable_difference(5)
    with pytest.raises(ValueError, match="needs at least as large a discordant share, got 0.1"):
        mcnemar_power(500, 0.2)
    with pytest.raises(ValueError, match="power = 0.01 is not allowed"):
        detectable_difference(500, power=0.01)


def test_mcnemar_keeps_its_level_and_finds_a_planted_difference():
    rng = np.random.default_rng(7)
    rejected = {0.0: 0, 0.06: 0}
    for difference in rejected:
        for _ in range(MANY):
            kind = rng.random(500)
            first, second = kind > (0.1 - difference) / 2, (kind < (0.1 - difference) / 2) | (kind > 0.1)
            rejected[difference] += mcnemar_test(first, second).p_value <= 0.05
    assert rejected[0.0] / MANY <= 0.07  # exact: never above alpha but by luck
    assert rejected[0.06] / MANY > 0.9


# --- seeds and images ---


def test_the_errors_of_seeds_and_images_are_those_of_a_two_way_analysis_of_variance():
    rng = np.random.default_rng(8)
    y = answers(rng, seeds=4, seed_sd=0.5, num_images=200).astype(float)
    # mean squares written out, without breeds
    seed_ms = 200 * y.mean(1).var(ddof=1)
    image_ms = 4 * y.mean(0).var(ddof=1)
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    mixed_ms = (rest**2).sum() / (3 * 199)
    result = seed_and_image_variance(y)
    assert result.value == pytest.approx(y.mean())
    assert result.seed_error**2 == pytest.approx((seed_ms - mixed_ms) / 800)
    assert result.image_error**2 == pytest.approx((image_ms - mixed_ms) / 800)
    assert result.mixed_error**2 == pytest.approx(mixed_ms / 800)
    assert result.total_error**2 == pytest.approx((seed_ms + image_ms - mixed_ms) / 800)


def test_on_average_the_errors_are_the_planted_ones():
    rng = np.random.default_rng(9)
    means, parts = [], []
    for _ in range(1500):
        # linear in probabilities, so that each part is known: accuracy 0.8 +- seed +- image
        chance = 0.8 + 0.03 * rng.choice([-1, 1], size=(5, 1)) + 0.15 * rng.choice([-1, 1], size=500)
        correct = rng.random((5, 500)) < chance
        means.append(correct.mean())
        parts.append(np.square(seed_and_image_variance(correct)[3:7]))
    seed, image, mixed, total = np.mean(parts, axis=0)
    rest = 0.8 * 0.2 - 0.03**2 - 0.15**2
    assert seed == pytest.approx(0.03**2 / 5, rel=0.1)
    assert image == pytest.approx(0.15**2 / 500, rel=0.1)
    assert mixed == pytest.approx(rest / 2500, rel=0.1)
    assert total == pytest.approx(np.var(means), rel=0.12)


def test_identical_seeds_have_images_error_only_and_identical_images_have_seeds_error_only():
    one = np.random.default_rng(10).random(500) < 0.9
    alike = seed_and_image_variance(np.stack([one] * 3))
    assert (alike.seed_error, alike.mixed_error) == (0, 0)
    assert alike.image_error == pytest.approx(one.std(ddof=1) / np.sqrt(500))
    wilson = accuracy_interval(one)
    assert (alike.low, alike.high) == pytest.approx((wilson.low, wilson.high), abs=0.004)
    seeds = seed_and_image_variance(np.array([[1], [1], [0]]) * np.ones(40))
    assert (seeds.image_error, seeds.mixed_error) == pytest.approx((0, 0))
    assert seeds.seed_error == pytest.approx(1 / 3)
    assert (seeds.low, seeds.high) == (0, 1)  # three seeds that differ so much say nothing
    perfect = seed_and_image_variance(np.ones((3, 40)))
    assert perfect[:4] == (1, 1, 1, 0)


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.1), (3, 0.4), (5, 0.2)])
def test_the_interval_over_seeds_covers_the_accuracy_of_a_new_seed_on_new_images(seeds, seed_sd):
    rng = np.random.default_rng(11)
    results = [seed_and_image_variance(answers(rng, seeds, seed_sd)) for _ in range(MANY)]
    held = np.mean([result.low <= true_accuracy(seed_sd) <= result.high for result in results])
    assert 0.90 <= held <= 0.985


def test_images_alone_would_cover_too_rarely_where_seeds_differ():
    rng = np.random.default_rng(12)
    held = 0
    for _ in range(MANY):
        low, high = accuracy_interval(answers(rng, 1, 0.8)[0])[1:3]
        held += low <= true_accuracy(0.8) <= high
    assert held / MANY < 0.6


@pytest.mark.parametrize("seed_sd", [0.0, 0.2])
def test_two_methods_over_seeds_a_planted_null_is_not_found_and_a_planted_effect_is(seed_sd):
    rng = np.random.default_rng(13)
    false, found, held = 0, 0, 0
    truth = true_accuracy(seed_sd, shift=1.2) - true_accuracy(seed_sd)
    for _ in range(MANY):
        images = rng.normal(size=500)
        first, null = (answers(rng, 5, seed_sd, images=images) for _ in range(2))
        better = answers(rng, 5, seed_sd, images=images, shift=1.2)
        nothing, effect = (paired_over_seeds(method, first, LABELS) for method in (null, better))
        assert (nothing.p_value < 0.05) == (not nothing.low <= 0 <= nothing.high)
        false, found = false + (nothing.p_value < 0.05), found + (effect.p_value < 0.05)
        held += effect.low <= truth <= effect.high
    assert 0.005 <= false / MANY <= 0.07
    assert found / MANY > 0.95
    assert 0.92 <= held / MANY <= 0.995


def test_pooling_seeds_of_methods_that_differ_by_luck_alone_would_find_too_much():
    rng = np.random.default_rng(14)
    naive = honest = 0
    for _ in range(MANY):
        images = rng.normal(size=500)
        first, second = (answers(rng, 3, 0.5, images=images) for _ in range(2))
        naive += ttest_1samp((first.mean(0) - second.mean(0)), 0).pvalue < 0.05
        honest += paired_over_seeds(first, second, LABELS).p_value < 0.05
    assert naive / MANY > 0.3
    assert honest / MANY < 0.1


def test_swapping_the_methods_turns_the_sign_and_a_method_against_itself_is_zero():
    rng = np.random.default_rng(15)
    first, second = answers(rng, 3), answers(rng, 4)
    ahead, behind = paired_over_seeds(first, second, LABELS), paired_over_seeds(second, first, LABELS)
    assert ahead.value == pytest.approx(first.mean() - second.mean())
    assert (ahead.low, ahead.high) == pytest.approx((-behind.high, -behind.low))
    assert ahead[3:] == pytest.approx(behind[3:])
    itself = paired_over_seeds(first, first, LABELS)
    assert (itself.value, itself.p_value) == (0, 1)


def test_differences_from_a_model_without_seeds_count_its_images_and_the_others_seeds():
    rng = np.random.default_rng(17)
    many, one = answers(rng, 3), answers(rng, 1)
    result = crossed_mean(many.astype(float) - one, LABELS)
    assert result.value == pytest.approx(many.mean() - one.mean())
    assert result.seed_error == pytest.approx(seed_and_image_variance(many, LABELS).seed_error)
    fixed = crossed_mean(many - 1.0, LABELS)  # from a model that is always right: the accuracy, moved by one
    assert fixed.high - fixed.low == pytest.approx(np.diff(seed_and_image_variance(many, LABELS)[1:3]).item())


@pytest.mark.bench
def test_five_seeds_of_a_thousand_images_take_less_than_a_second():
    rng = np.random.default_rng(16)
    correct, labels = rng.random((5, 1000)) < 0.9, np.arange(1000) % 10
    paired_bootstrap(correct[0], correct[1], labels, resamples=2)  # the imports
    start = time.perf_counter()
    for row in correct:
        paired_bootstrap(row, correct[0], labels)
    paired_over_seeds(correct, correct, labels)
    assert time.perf_counter() - start < 1


def test_intervals_of_several_seeds_are_joined():
    one = mean_of_intervals([0.3], [0.1], [0.6])
    assert one == (0.3, 0.1, 0.6, 1)  # one seed keeps its own
    alike = mean_of_intervals([0.3, 0.3], [0.2, 0.2], [0.4, 0.4])
    assert alike[:3] == pytest.approx((0.3, 0.2, 0.4))  # seeds that agree add nothing
    apart = mean_of_intervals([0.2, 0.4], [0.2, 0.4], [0.2, 0.4])
    assert apart.high - apart.value == pytest.approx(12.706 * 0.1, rel=1e-3)  # Student's, one degree of freedom
