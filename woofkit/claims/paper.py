"""What the report says, and the same numbers on the usual scale.

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
EPOCHS = 5

# (method, section of the report, quantity, split, the number as printed)
REPORTED = (
    ("full", "results", "accuracy", "train", 0.0079),  # "79 %" is 0.79 %: see `usual_scale`
    ("full", "discussion", "accuracy", "train", 0.007864),
    ("lora", "results", "accuracy", "train", 0.0071),
    ("lora", "discussion", "accuracy", "train", 0.007840),
    ("full", "results", "accuracy", "test", 0.9165),
    ("full", "discussion", "accuracy", "test", 0.9145),
    ("lora", "results", "accuracy", "test", 0.8878),
    ("lora", "discussion", "accuracy", "test", 0.9012),
    ("full", "discussion", "loss", "train", 0.0001),
    ("lora", "results", "loss", "train", 0.0025),
    ("lora", "discussion", "loss", "train", 0.0001),
    ("full", "results", "loss", "test", 0.0023),
    ("full", "discussion", "loss", "test", 0.0023),
    ("lora", "results", "loss", "test", 0.0027),
    ("lora", "discussion", "loss", "test", 0.0032),
)


def images_per_batch(split: str) -> float:
    """Images over batches, the factor by which the report's sums fall short: 9025 / 71 or 3929 / 31."""
    images = {"train": NUM_TRAIN, "test": NUM_TEST}[split]
    return images / math.ceil(images / BATCH_SIZE)


def usual_scale(quantity: str, split: str, reported: float) -> float:
    """A number of the report as everyone else would give it: accuracy in 0..1, loss a mean per image."""
    wrongly_divided = quantity == "loss" or split == "train"
    return reported * images_per_batch(split) if wrongly_divided else reported


def paper_scale(quantity: str, split: str, usual: float) -> float:
    """The inverse of `usual_scale`: what the report's code would have printed for a usual number."""
    return usual / (usual_scale(quantity, split, 1.0))


def reported_table() -> pd.DataFrame:
    """Every number of the report: method, section, quantity, split, reported, usual."""
    frame = pd.DataFrame(REPORTED, columns=["method", "section", "quantity", "split", "reported"])
    return frame.assign(usual=[usual_scale(r.quantity, r.split, r.reported) for r in frame.itertuples()])


def reported_accuracies() -> pd.DataFrame:
    """The report's test accuracies with the Wilson intervals it left out: method, section, accuracy, low, high."""
    rows = []
    for method, section, quantity, split, value in REPORTED:
        if (quantity, split) == ("accuracy", "test"):
            interval = accuracy_interval(np.arange(NUM_TEST) < round(value * NUM_TEST))
            rows.append((method, section, value, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["method", "section", "accuracy", "low", "high"])
