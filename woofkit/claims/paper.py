"""What the paper says, and the same numbers on the usual scale.

Its code summed the means of the batches and divided by the number of *images*, where the number of *batches*
was due. For training accuracy and for every loss, the reported number is therefore short by a factor of
images / batches, about 127. The test accuracies are right as they stand.
"""

import math

import numpy as np
import pandas as pd

from woofkit.stats.intervals import accuracy_interval

NUM_TRAIN, NUM_TEST, BATCH_SIZE = 9_025, 3_929, 128
TRAINABLE_PARAMETERS = {"full": 5_526_346, "lora": 177_418}
TRAIN_SECONDS = {"full": 2263.59, "lora": 2501.08}

SECTIONS = (("full", "results"), ("full", "discussion"), ("lora", "results"), ("lora", "discussion"))
REPORTED = {  # quantity, split -> the number that each section prints
    ("accuracy", "train"): (0.0079, 0.007864, 0.0071, 0.007840),  # "79%" is 0.79%: see `usual_scale`
    ("accuracy", "test"): (0.9165, 0.9145, 0.8878, 0.9012),
    ("loss", "train"): (None, 0.0001, 0.0025, 0.0001),
    ("loss", "test"): (0.0023, 0.0023, 0.0027, 0.0032),
}


def images_per_batch(split: str) -> float:
    """Images over batches, the factor by which the paper's sums fall short: 9025 / 71 or 3929 / 31."""
    images = {"train": NUM_TRAIN, "test": NUM_TEST}[split]
    return images / math.ceil(images / BATCH_SIZE)


def usual_scale(quantity: str, split: str, reported: float) -> float:
    """A number of the paper as everyone else would give it: accuracy in 0..1, loss a mean per image."""
    wrongly_divided = quantity == "loss" or split == "train"
    return reported * images_per_batch(split) if wrongly_divided else reported


def paper_scale(quantity: str, split: str, usual: float) -> float:
    """The inverse of `usual_scale`: what the paper's code would have printed for a usual number."""
    return usual / usual_scale(quantity, split, 1.0)


def reported_table() -> pd.DataFrame:
    """Every number of the paper: method, section, quantity, split, reported, usual."""
    rows = [
        (*section, *what, number, usual_scale(*what, number))
        for what, numbers in REPORTED.items()
        for section, number in zip(SECTIONS, numbers, strict=True)
        if number is not None
    ]
    return pd.DataFrame(rows, columns=["method", "section", "quantity", "split", "reported", "usual"])


def reported_accuracies() -> pd.DataFrame:
    """The paper's test accuracies with the Wilson intervals it left out: method, section, accuracy, low, high."""
    rows = []
    for section, accuracy in zip(SECTIONS, REPORTED["accuracy", "test"], strict=True):
        interval = accuracy_interval(np.arange(NUM_TEST) < round(accuracy * NUM_TEST))
        rows.append((*section, accuracy, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["method", "section", "accuracy", "low", "high"])
