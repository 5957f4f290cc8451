"""Laws of calibration: a model that says what it knows has little error, and planted errors are found by their size."""

import numpy as np
import pytest
import torch

from woofkit.stats.calibration import expected_calibration_error, probabilities, reliability


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


def torchmetrics_error(logits, labels, bins):
    """What torchmetrics' `multiclass_calibration_error` computes, in float32: bins [low, high), 1 in one of its own."""
    sure, predicted = torch.from_numpy(logits).softmax(1).float().max(1)
    right = (predicted == torch.from_numpy(labels)).float()
    places = torch.bucketize(sure, torch.linspace(0, 1, bins + 1), right=True) - 1
    counts = torch.zeros(bins + 1).scatter_add(0, places, torch.ones_like(sure))
    accuracy, confidence = (torch.zeros(bins + 1).scatter_add(0, places, each) / counts for each in (right, sure))
    return float(((accuracy - confidence).nan_to_num().abs() * counts / counts.sum()).sum())


def test_the_error_is_that_of_torchmetrics_and_of_the_reliability_table():
    logits, labels = drawn(np.random.default_rng(0), 1000, too_sure=2.0)
    for bins in (1, 10, 15):
        value = expected_calibration_error(logits, labels, bins, resamples=10).value
        assert value == pytest.approx(torchmetrics_error(logits, labels, bins), abs=1e-6)
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


def test_reliability_counts_every_image_once_and_empty_bins_hold_nan():
    logits, labels = two_bins(right=(9, 5), of=(10, 10))
    table = reliability(logits, labels)
    assert table["count"].tolist() == [0] * 7 + [10, 0, 10]
    assert table.loc[9, ["low", "high", "confidence", "accuracy"]].tolist() == pytest.approx([0.9, 1.0, 0.95, 0.9])
    assert table.loc[7, "accuracy"] == 0.5
    assert table["accuracy"].isna().sum() == 8


def test_what_does_not_fit_is_named():
    for function in (expected_calibration_error, reliability):
        with pytest.raises(ValueError, match=r"got shapes \(3, 2\) and \(2,\)"):
            function(np.zeros((3, 2)), np.zeros(2, int))
        with pytest.raises(ValueError, match="labels 0 to 2 do not fit 2 classes"):
            function(np.zeros((2, 2)), np.array([0, 2]))
        with pytest.raises(ValueError, match="bins = 0 is not allowed"):
            function(np.zeros((2, 2)), np.zeros(2, int), bins=0)
