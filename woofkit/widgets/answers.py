"""A model's answers to the images of a split, checked to be about these images. No widgets here."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from woofkit.config import ConfigError, require_choice
from woofkit.data import WoofDataset

ALL = -1  # in place of a breed
Given = Sequence[int] | pd.DataFrame  # labels, or a frame of read_predictions


class Answers(NamedTuple):
    """What a model says of a split: classes int64 (N,), and how probable it finds them (N,), or None if not known."""

    predicted: np.ndarray
    probability: np.ndarray | None


def checked_answers(
    splits: Mapping[str, WoofDataset], predicted: Mapping[str, Given]
) -> tuple[dict[str, Answers], tuple[str, ...]]:
    """Each split's answers, and the names that labels stand for.

    Raises:
        ConfigError: no split, one without images, splits of different labels, or answers that are not a split's own.
    """
    if not splits:
        raise ConfigError("there is no split to browse")
    names = tuple(next(iter(splits.values())).class_names)
    for name, dataset in splits.items():
        if not len(dataset):
            raise ConfigError(f"split {name!r} has no image")
        if tuple(dataset.class_names) != names:
            raise ConfigError(f"split {name!r} has other labels than the first: {', '.join(dataset.class_names)}")
    for name in predicted:
        require_choice("split of predictions", name, tuple(splits))
    return {name: _answers(name, splits[name], given) for name, given in predicted.items()}, names


def of_breed(dataset: WoofDataset, breed: int) -> np.ndarray:
    """Which images show a breed, or ALL: bool (N,)."""
    return np.ones(len(dataset), bool) if breed == ALL else dataset.labels == breed


def score(dataset: WoofDataset, said: Answers | None, breed: int) -> str:
    """How often the model is right on the images of a breed, or on all; "" where it is not known."""
    if said is None:
        return ""
    asked = of_breed(dataset, breed)
    right, total = int((said.predicted == dataset.labels)[asked].sum()), int(asked.sum())
    share = f": {100 * right / total:.1f} %" if total else ""
    return f"The model is right on {right:,} of {total:,} images{share}. Its answer stands below each true name."


def _answers(split: str, dataset: WoofDataset, given: Given) -> Answers:
    if len(given) != len(dataset):
        raise ConfigError(f"split {split!r} has {len(dataset)} images, but {len(given)} predictions")
    if not isinstance(given, pd.DataFrame):
        predicted = np.asarray(given)
        if predicted.ndim != 1 or predicted.dtype.kind not in "iu" or not _within(predicted, dataset):
            raise ConfigError(
                f"predictions of {split!r} must be a frame of read_predictions, or whole numbers (N,) from 0 to "
                f"{len(dataset.class_names) - 1}"
            )
        return Answers(predicted, None)
    if tuple(given["key"]) != dataset.keys or not np.array_equal(given["label"], dataset.labels):
        raise ConfigError(f"the predictions of {split!r} are of other images, or of the same in another order")
    logits = given.filter(regex=r"^logit_\d+$").to_numpy(dtype=float)
    if logits.shape[1] != len(dataset.class_names):
        raise ConfigError(f"predictions of {split!r} know {logits.shape[1]} classes, not {len(dataset.class_names)}")
    highest = logits.max(axis=1, keepdims=True)
    return Answers(given["predicted"].to_numpy(), 1 / np.exp(logits - highest).sum(axis=1))


def _within(predicted: np.ndarray, dataset: WoofDataset) -> bool:
    return predicted.min() >= 0 and predicted.max() < len(dataset.class_names)
