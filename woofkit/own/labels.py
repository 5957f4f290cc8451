"""What more labels would bring: accuracies on nested amounts of one's own training images, at equal steps.

Of the probe every amount is cheap: what enters its head is computed once for all images. Other methods are trained on
a half and a quarter of the images by `run_training`, when everything else is done.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from woofkit.config import TrainConfig
from woofkit.data import Images, cache_file, cached_pixels, make_transform, stratified_subset
from woofkit.fast.frozen import start_late
from woofkit.fast.runtime import Runtime
from woofkit.models import build_for, data_config, draw_head
from woofkit.results import read_answers
from woofkit.stats.learning_curve import LEAST_SIZES, Extrapolation, expected_gain, extrapolate, measured_curve
from woofkit.train import evaluate, fit, load_splits

HALVINGS = 3  # a half, a quarter, an eighth
SEEDS = 5  # of the probe, for each amount; each has images of its own
LEAST_PER_CLASS = 2
LEAST_FOR_A_CURVE = LEAST_PER_CLASS * 2 ** (LEAST_SIZES - 1)  # training images of each class
MORE = (2, 4)  # times the training images
FRACTIONS = (0.5, 0.25)  # on which other methods are trained


class LabelCurve(NamedTuple):
    """A method's accuracies, measured on growing amounts of training images and extrapolated beyond them.

    `measured`: training images, accuracy, standard error. `gain`: how much more accurate twice the images make.
    """

    method: str
    measured: tuple[tuple[int, float, float], ...]
    expected: tuple[Extrapolation, ...]
    gain: Extrapolation


def amounts(labels: np.ndarray) -> list[int]:
    """All training images (N,), a half, a quarter, an eighth, while the smallest class keeps LEAST_PER_CLASS."""
    smallest = np.bincount(labels).min()
    sizes = [len(labels) // 2**halving for halving in range(HALVINGS + 1) if smallest >= LEAST_PER_CLASS * 2**halving]
    return sizes[::-1]


def held_steps(config: TrainConfig, images: int, size: int) -> int:
    """The epochs on `size` images that take as many steps as the config's epochs on `images`, at least."""
    steps = config.epochs * ceil(images / config.batch_size)
    return ceil(steps / ceil(size / config.batch_size))


def probe_answers(config: TrainConfig, rates: Sequence[float], log: Callable[[str], None]) -> dict[int, np.ndarray]:
    """The probe on growing amounts: number of training images -> which test images are right, bool (SEEDS, N).

    Each amount has its own best of `rates`, chosen on the validation images. Fewer than LEAST_SIZES amounts are none.
    """
    model = build_for(config)
    transform, runtime = make_transform(data_config(model), config.preprocess), Runtime.of(config)
    splits = load_splits(config, transform.size)
    sizes = amounts(splits["train"].labels)
    if len(sizes) < LEAST_SIZES:
        return {}
    log(f"training the probe on {', '.join(f'{size:,}' for size in sizes)} of the images, {SEEDS} times each")
    images, files = {}, {}
    for split, dataset in splits.items():
        fingerprint = dataset.fingerprint()
        files[split] = cache_file(dataset, transform, fingerprint)
        pixels = cached_pixels(dataset, transform, fingerprint=fingerprint, log=log)
        images[split] = Images(runtime.near(pixels), dataset.labels, transform)
    runtime, images, _ = start_late(model, images, runtime, config.augment, files, lambda line: None)
    train, found = images["train"], {}
    for size in sizes:
        epochs = held_steps(config, len(train), size)
        by_rate: dict[float, tuple[list[float], list[np.ndarray]]] = {}
        for rate in rates:
            seen, answers = by_rate.setdefault(rate, ([], []))
            for seed in range(SEEDS):
                own = replace(config, lr=rate, seed=1000 * size + seed, epochs=epochs)
                part = torch.from_numpy(stratified_subset(train.labels, size, own.seed))
                subset = replace(train, pixels=train.pixels[part], labels=train.labels[part.numpy()])
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(own.seed)
                    draw_head(model.head)
                fit(model, {"train": subset, "val": images["val"]}, own, runtime)
                seen.append(evaluate(model, images["val"], runtime).accuracy)
                test = evaluate(model, images["test"], runtime)
                answers.append((test.logits.argmax(1) == test.labels).numpy())
        best = max(by_rate, key=lambda rate: (np.mean(by_rate[rate][0]), -rate))
        found[size] = np.stack(by_rate[best][1])
    return found


def fraction_config(config: TrainConfig, fraction: float, images: int) -> TrainConfig:
    """The training of `config` on a share of its images, at equal steps."""
    epochs = held_steps(config, images, round(fraction * images))
    return replace(config, label_fraction=fraction, epochs=epochs)


def run_answers(runs: Mapping[int, Sequence[Path]]) -> dict[int, np.ndarray]:
    """As `probe_answers`, of finished runs by their number of training images."""
    return {size: read_answers(folders)[0] for size, folders in runs.items()}


def label_curve(method: str, correct: Mapping[int, np.ndarray]) -> LabelCurve | None:
    """What was measured, and what MORE times the images are to be expected to bring; None of too few amounts."""
    if len(correct) < LEAST_SIZES:
        return None
    curve = measured_curve(correct)
    errors = np.sqrt(np.diag(curve.covariance))
    measured = tuple(zip(map(int, curve.sizes), map(float, curve.accuracies), map(float, errors), strict=True))
    expected = tuple(extrapolate(curve, more * curve.sizes[-1]) for more in MORE)
    return LabelCurve(method, measured, expected, expected_gain(curve, 2 * curve.sizes[-1]))


def curve_as_json(curve: LabelCurve) -> dict[str, Any]:
    """A curve as JSON has it."""
    return curve._asdict()


def curve_from_json(kept: Mapping[str, Any]) -> LabelCurve:
    """The curve that `curve_as_json` has written."""
    measured = tuple(tuple(point) for point in kept["measured"])
    expected = tuple(Extrapolation(*each) for each in kept["expected"])
    return LabelCurve(kept["method"], measured, expected, Extrapolation(*kept["gain"]))
