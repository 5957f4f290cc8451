"""Laws of the bootstrap intervals of means: known answers, coverage by simulation, and what cannot be known."""

import numpy as np
import pytest

from woofkit.metrics import crossed_interval, mean_interval


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_for_many_numbers():
    values = np.random.default_rng(0).normal(3, 2, 2000)
    interval = mean_interval(values)
    assert interval.value == pytest.approx(values.mean())
    assert interval.count == 2000
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert mean_interval(values) == interval  # no luck from call to call


def test_what_is_nan_is_left_out_and_equal_numbers_have_no_spread():
    assert mean_interval(np.array([2.0, np.nan, 2.0])) == (2, 2, 2, 2)
    with pytest.raises(ValueError, match="mean of nothing"):
        mean_interval(np.array([np.nan]))


def test_one_number_says_nothing_about_others():
    interval = mean_interval(np.array([3.0, np.nan]))
    assert interval.value == 3
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)


def test_one_seed_leaves_the_images_alone():
    values = np.random.default_rng(0).normal(size=(50, 1))
    assert crossed_interval(values) == mean_interval(values[:, 0])


def test_seeds_widen_the_interval_even_where_the_images_agree():
    values = np.tile([0.0, 1.0, 2.0], (100, 1))  # every image alike, every seed another
    interval = crossed_interval(values)
    assert interval.value == 1
    assert interval.low < 0.4
    assert interval.high > 1.6
    noisy = values + np.random.default_rng(0).normal(0, 1, (100, 1))  # images differ for all seeds alike
    both, images_alone = crossed_interval(noisy), mean_interval(noisy.mean(axis=1))
    assert both.high - both.low > 3 * (images_alone.high - images_alone.low)


def test_a_seeds_missing_images_do_not_count_and_no_number_is_an_error():
    values = np.array([[1.0, 3.0], [1.0, np.nan], [np.nan, np.nan]])
    interval = crossed_interval(values)
    assert interval.value == 2  # the means of the seeds, 1 and 3
    assert interval.count == 2
    with pytest.raises(ValueError, match=r"pass \(images, seeds\)"):
        crossed_interval(np.full((3, 2), np.nan))


def test_the_crossed_interval_holds_the_truth_about_as_often_as_it_says():
    rng, covered, trials = np.random.default_rng(1), 0, 200
    for _ in range(trials):
        values = rng.normal(0, 0.3, (1, 8)) + rng.normal(0, 1, (60, 1)) + rng.normal(0, 1, (60, 8))
        interval = crossed_interval(values, resamples=400)
        covered += interval.low < 0 < interval.high
    assert 0.88 < covered / trials < 0.99  # 8 seeds make it a little too short; the simulation's error is 0.015
