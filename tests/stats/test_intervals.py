"""Laws of the bootstrap interval of a mean: known answers, and what cannot be known."""

import numpy as np
import pytest

from woofkit.stats.intervals import mean_interval


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
