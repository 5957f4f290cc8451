"""Laws of intervals and of counts of errors: known answers, and what cannot be known."""

import numpy as np
import pytest

from woofkit.stats.intervals import accuracy_interval, confusion_matrix, errors_within, mcnemar_test, mean_interval


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


def test_wilson_interval_of_a_known_case():
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263, score method without correction
    interval = accuracy_interval(np.arange(263) < 81)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)
    more_certain = accuracy_interval(np.arange(263) < 81, confidence=0.99)
    assert more_certain.low < interval.low < 81 / 263 < interval.high < more_certain.high
    assert accuracy_interval(np.zeros(20, bool)).low == pytest.approx(0.0)
    assert accuracy_interval(np.ones(20, bool)).high == pytest.approx(1.0)
    with pytest.raises(ValueError, match="accuracy of no images"):
        accuracy_interval(np.array([]))


def test_mcnemar_counts_only_the_images_that_tell_the_models_apart():
    first = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0, 1], bool)
    second = np.array([0, 0, 0, 0, 0, 0, 0, 1, 0, 1], bool)
    test = mcnemar_test(first, second)
    assert (test.only_first, test.only_second) == (6, 0)
    assert test.difference == pytest.approx(0.6)
    assert test.p_value == pytest.approx(2 * 0.5**6)
    assert mcnemar_test(first, first).p_value == 1
    with pytest.raises(ValueError, match="needs the same images twice"):
        mcnemar_test(first, second[:5])


def test_rows_of_the_confusion_matrix_are_true_classes():
    assert confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 2]), 3).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_errors_within_groups_by_hand():
    matrix = np.array([[8, 2, 0, 0], [1, 7, 1, 1], [0, 0, 9, 1], [0, 0, 0, 5]])
    within, aimless = errors_within(matrix, [[0, 1], [2, 3]])
    assert within == pytest.approx(4 / 6)
    assert aimless == pytest.approx(1 / 3)  # one of three other classes is alike
    assert errors_within(matrix, [[0, 1, 2, 3]]) == (1, 1)
    assert np.isnan(errors_within(np.eye(3, dtype=int), [[0, 1]])).all()
