"""The earlier task: what a backbone knew before it was fine-tuned, on held-out images, with its original head.

A head of 200 classes is this project's own: such weights know the invented breeds of the litter. A head of 1,000
classes is ImageNet's: Imagenette, ten easy classes of it, stands for what such weights knew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from torch import nn

from woofkit.config import PROJECT_ROOT, ConfigError, require_range, resolve_path
from woofkit.data import Images, Transform, WoofDataset, cached_pixels
from woofkit.datasets.imagewoof import Archive, fetch_archive, list_images

LITTER_BREEDS, LITTER_SEED = 200, 20260  # of the bundled backbone's pretraining, see data/results/backbone.json
SOURCE_SEED = 7_000_003  # drawings that neither pretraining nor any split of the ten breeds uses
NUM_DRAWINGS = 2_000  # ten of each invented breed
IMAGENET_CLASSES = 1_000
WNIDS, NAMES, POSITIONS = zip(
    ("n01440764", "tench", 0),  # the position is that in ImageNet's 1,000 classes
    ("n02102040", "English springer", 217),
    ("n02979186", "cassette player", 482),
    ("n03000684", "chain saw", 491),
    ("n03028079", "church", 497),
    ("n03394916", "French horn", 566),
    ("n03417042", "garbage truck", 569),
    ("n03425413", "gas pump", 571),
    ("n03445777", "golf ball", 574),
    ("n03888257", "parachute", 701),
    strict=True,
)
IMAGENETTE = Archive(
    "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
    "e793b78cc4c9e9a4ccc0c1155377a412",
    "imagenette2-160",
    9_469,
    3_925,
    WNIDS,
)


class LitterDataset(WoofDataset):
    """Drawings of the invented breeds; drawing i shows breed i % 200."""

    def draw(self, index: int):
        """The drawing at `index`."""
        from woofkit import sketch

        number = int(self.keys[index].rsplit("-", 1)[1])
        breed = _litter()[number % LITTER_BREEDS]
        return sketch.draw_dog(breed, seed=self.draw_seed, index=number, size=self.image_size)


@cache
def _litter() -> list:
    from woofkit import sketch

    return sketch.litter(LITTER_BREEDS, LITTER_SEED)


@dataclass(frozen=True)
class SourceTask(Images):
    """Images of the earlier task, with labels (N,) as positions in the original `head`.

    `classes` are the positions that occur. Where they are few of the head's, the choice is also made among them alone.
    """

    head: nn.Linear
    classes: tuple[int, ...]
    name: str
    fingerprint: str


def load_source_task(
    head: nn.Linear,
    transform: Transform,
    source_dir: str = "",
    num_drawings: int = NUM_DRAWINGS,
    *,
    start: int = 0,
    log: Callable[[str], None] | None = None,
) -> SourceTask:
    """The task that weights with this original head were pretrained for.

    Args:
        head: from `models.original_head`.
        start: the first of the drawings.
        source_dir: folder with Imagenette's val/<wnid>/*.JPEG (or its parent); "" downloads it to data/.

    Raises:
        ConfigError: a head of another size, no such folder or no image in it, too few drawings.
    """
    if head.out_features == LITTER_BREEDS:
        require_range("num_drawings", num_drawings, 2 * LITTER_BREEDS, 1_000_000)
        dataset, classes = _litter_drawings(num_drawings, start, transform.size), tuple(range(LITTER_BREEDS))
    elif head.out_features == IMAGENET_CLASSES:
        dataset, classes = _imagenette(source_dir), POSITIONS
    else:
        raise ConfigError(
            f"nothing is known of what weights with a head of {head.out_features:,} classes were pretrained for: "
            f"allowed are {LITTER_BREEDS} (the bundled backbone) and {IMAGENET_CLASSES:,} (ImageNet)"
        )
    fingerprint = dataset.fingerprint()
    pixels = cached_pixels(dataset, transform, fingerprint=fingerprint, log=log)
    return SourceTask(pixels, np.array(classes)[dataset.labels], transform, head, classes, dataset.name, fingerprint)


def _litter_drawings(number: int, start: int, size: int) -> LitterDataset:
    indices = np.arange(start, start + number, dtype=np.int64)
    keys = tuple(f"source-{index:06d}" for index in indices)
    labels = indices % LITTER_BREEDS
    names = tuple(f"invented breed {breed}" for breed in range(LITTER_BREEDS))
    return LitterDataset("litter", "source", "", keys, labels, None, SOURCE_SEED, size, names)


def _imagenette(source_dir: str) -> WoofDataset:
    folder = _find_imagenette(source_dir) if source_dir else fetch_imagenette()
    keys = tuple(list_images(folder, "val", WNIDS))
    if not keys:
        raise ConfigError(f"{folder} has no image val/<wnid>/*.JPEG of Imagenette's classes")
    labels = np.array([WNIDS.index(key.split("/")[1]) for key in keys], dtype=np.int64)
    return WoofDataset("imagenette", "val", "", keys, labels, folder, class_names=NAMES)


def fetch_imagenette() -> Path:
    """Download Imagenette to data/, if it is not there; return its folder. Raises as `fetch_archive`."""
    return fetch_archive(IMAGENETTE, PROJECT_ROOT / "data")


def _find_imagenette(source_dir: str) -> Path:
    given = resolve_path(source_dir)
    for folder in (given, *sorted(given.glob("imagenette2*"))):
        if (folder / "val").is_dir():
            return folder
    raise ConfigError(
        f"source_dir {str(given)!r} has no val/: allowed is a folder with Imagenette's val/<wnid>/*.JPEG, or its parent"
    )
