"""Laws of calibration: a model that says what it knows has little error, and planted errors are found by their size."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from woofkit.stats.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    probabilities,
    reliability,
    temperature,
)


def drawn(rng, count, too_sure=1.0):
    """Logits (count, 10) whose labels are drawn by softmax(logits / too_sure): calibrated for too_sure = 1."""
    logits = 3 * rng.normal(size=(count, 10))
    labels = (probabilities(logits).cumsum(1) > rng.random((count, 1))).argmax(1)
    return too_sure * logits, labels


def two_bins(right=(9, 5), of=(10, 10), sure=(0.95, 0.75)):
    """Two classes: `right` of so many images each at one confidence."""
    logits, labels = [], []
    for correct, count, share in zip(right, of, sure, strict=True):
        logits += [[np.log(share), np.log(1 - share)]] * count
        labels += [0] * correct + [1] * (count - correct)
    return np.array(logits), np.array(labels)


def test_the_error_by_hand():
    logits, labels = two_bins()
    result = expected_calibration_error(logits, labels, bins=10)
    assert result.value == pytest.approx((abs(0.9 - 0.95) + abs(0.5 - 0.75)) / 2, abs=1e-6)
    assert result.count == 20


def test_the_error_is_that_of_torchmetrics_and_of_the_reliability_table():
    logits, labels = drawn(np.random.default_rng(0), 1000, too_sure=2.0)
    shares = torch.from_numpy(probabilities(logits))
    for bins in (1, 10, 15):
        value = expected_calibration_error(logits, labels, bins, resamples=10).value
        expected = multiclass_calibration_error(shares, torch.from_numpy(labels), 10, n_bins=bins)
        assert value == pytest.approx(float(expected), abs=1e-6)
        table = reliability(logits, labels, bins)
        gaps = (table["count"] * (table["accuracy"] - table["confidence"]).abs()).sum() / 1000
        assert value == pytest.approx(gaps, abs=1e-6)


def test_logits_between_0_and_1_are_not_taken_for_probabilities():
    logits = np.array([[0.9, 0.1], [0.8, 0.3]])
    expected = 1 - probabilities(logits).max(1)  # both right; the two confidences share no bin
    value = expected_calibration_error(logits, np.zeros(2, int), bins=100, resamples=10).value
    assert value == pytest.approx(expected.mean(), abs=1e-6)


def test_certainty_is_counted_in_the_last_bin():
    logits = np.array([[200.0, 0.0], [200.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    labels = np.array([0, 1, 0, 0])
    last = reliability(logits, labels).iloc[-1]
    assert (last["count"], last["accuracy"]) == (4, 0.75)
    value = expected_calibration_error(logits, labels, resamples=10).value
    assert value == pytest.approx(last["confidence"] - 0.75, abs=1e-6)


def test_a_calibrated_model_is_not_called_miscalibrated_and_one_that_is_too_sure_is():
    rng = np.random.default_rng(1)
    found = {1.0: 0, 1.6: 0}
    for too_sure in found:
        for _ in range(120):
            result = expected_calibration_error(*drawn(rng, 500, too_sure), resamples=300)
            found[too_sure] += result.p_value <= 0.05
            assert (result.low > 0) <= (result.p_value <= 0.05)
    assert found[1.0] / 120 <= 0.09
    assert found[1.6] / 120 > 0.95


def test_few_images_make_a_calibrated_model_look_miscalibrated_by_as_much_as_chance():
    rng = np.random.default_rng(2)
    few = [expected_calibration_error(*drawn(rng, 200), resamples=200) for _ in range(50)]
    assert np.mean([result.value for result in few]) > 0.05
    assert np.mean([result.value - result.by_chance for result in few]) == pytest.approx(0, abs=0.01)
    assert expected_calibration_error(*drawn(rng, 100_000), resamples=2).value < 0.008


def test_the_interval_covers_the_error_of_a_model_that_is_too_sure():
    rng = np.random.default_rng(3)
    truth = expected_calibration_error(*drawn(rng, 300_000, 2.5), resamples=2).value
    held = 0
    for _ in range(120):
        result = expected_calibration_error(*drawn(rng, 500, 2.5), resamples=300)
        held += result.low <= truth <= result.high
    assert held / 120 == pytest.approx(0.95, abs=0.05)


def test_reliability_counts_every_image_once_and_empty_bins_hold_nan():
    logits, labels = two_bins(right=(9, 5), of=(10, 10))
    table = reliability(logits, labels)
    assert table["count"].tolist() == [0] * 7 + [10, 0, 10]
    assert table.loc[9, ["low", "high", "confidence", "accuracy"]].tolist() == pytest.approx([0.9, 1.0, 0.95, 0.9])
    assert table.loc[7, "accuracy"] == 0.5
    assert table["accuracy"].isna().sum() == 8


@pytest.mark.parametrize("planted", [0.5, 1.0, 2.5])
def test_temperature_recovers_a_planted_one_and_leaves_no_error(planted):
    rng = np.random.default_rng(4)
    found = temperature(*drawn(rng, 20_000, planted))
    assert found == pytest.approx(planted, rel=0.03)
    logits, labels = drawn(rng, 5_000, planted)  # other images
    after = expected_calibration_error(logits / found, labels, resamples=300)
    assert after.p_value > 0.01
    assert after.value < 0.03


def test_temperature_is_the_minimum_and_one_that_does_not_exist_is_refused():
    logits, labels = drawn(np.random.default_rng(5), 500, 1.7)
    best = temperature(logits, labels)
    at = [negative_log_likelihood(logits / t, labels) for t in (0.99 * best, best, 1.01 * best)]
    assert at[1] < min(at[0], at[2])
    with pytest.raises(ValueError, match="3 of 3 images are classified rightly"):
        temperature(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match="0 of 2 images are classified rightly"):
        temperature(np.eye(2), np.array([1, 0]))


def test_what_no_temperature_repairs_keeps_its_error():
    rng = np.random.default_rng(6)
    logits, labels = drawn(rng, 5_000)
    logits[:2500] *= 4  # half the images too sure, the others not: no one number is right for both
    found = temperature(logits, labels)
    after = expected_calibration_error(logits / found, labels, resamples=300)
    assert found > 1.1
    assert after.p_value < 0.01


def test_likelihood_and_brier_score_in_closed_form():
    guess, labels = np.zeros((4, 10)), np.array([0, 3, 5, 9])
    assert negative_log_likelihood(guess, labels) == pytest.approx(np.log(10))
    assert brier_score(guess, labels) == pytest.approx(0.9**2 + 9 * 0.1**2)
    certain = 1000 * np.eye(10)[labels]
    assert (negative_log_likelihood(certain, labels), brier_score(certain, labels)) == (0, 0)
    assert brier_score(certain, (labels + 1) % 10) == 2
    logits, labels = drawn(np.random.default_rng(7), 50)
    mean = -np.mean([log_softmax(row)[label] for row, label in zip(logits, labels, strict=True)])
    assert negative_log_likelihood(logits, labels) == pytest.approx(mean)
    torchs = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    assert negative_log_likelihood(logits, labels) == pytest.approx(float(torchs))


def test_what_does_not_fit_is_named():
    for function in (expected_calibration_error, reliability, temperature, negative_log_likelihood, brier_score):
        with pytest.raises(ValueError, match=r"got shapes \(3, 2\) and \(2,\)"):
            function(np.zeros((3, 2)), np.zeros(2, int))
        with pytest.raises(ValueError, match="labels 0 to 2 do not fit 2 classes"):
            function(np.zeros((2, 2)), np.array([0, 2]))
    for function in (reliability, expected_calibration_error):
        with pytest.raises(ValueError, match="bins = 0 is not allowed"):
            function(np.zeros((2, 2)), np.zeros(2, int), bins=0)
