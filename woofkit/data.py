"""The two datasets behind one face: which images a split holds, and what each of them shows.

`load_dataset` names the images; how they become batches is in preprocess.py, whose functions are to be
had from here too. Nothing later asks which dataset it is.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from woofkit import imagewoof
from woofkit.config import (
    DATASETS,
    IMAGE_VARIANTS,
    LABELS,
    PROJECT_ROOT,
    SCHEMES,
    ConfigError,
    require_choice,
    require_range,
)
from woofkit.preprocess import Transform, batches, load_pixels, make_transform

__all__ = ["SPLITS", "Transform", "WoofDataset", "batches", "load_dataset", "load_pixels", "make_transform",
           "stratified_subset"]  # fmt: skip

SPLITS = ("train", "val", "test")
SKETCH_SIZES = {"train": 600, "val": 200, "test": 500}  # what num=0 means for drawings

# The seed of a drawing. Validation and test have one seed each for ever; training seed s is 1000 + s.
# No two splits share a seed, so no drawing is in two of them, and every model faces the same test.
_SKETCH_SEED = {"val": 1, "test": 3, "train": 1000}


@dataclass(frozen=True, eq=False)
class WoofDataset:
    """The images of one split: a name and a label each; pixels are read or drawn when asked for.

    keys: an image each, "val/n02088364/n02088364_4991.JPEG" or "test-000123"; labels: int64 (N,), positions in
    class_names.
    """

    name: str
    split: str
    scheme: str
    keys: tuple[str, ...]
    labels: np.ndarray
    folder: Path | None = None  # imagewoof: where the files are
    draw_seed: int = 0  # sketchwoof: the seed stream
    image_size: int = 224  # sketchwoof: pixels a side
    class_names: tuple[str, ...] = imagewoof.BREEDS

    def __len__(self) -> int:
        return len(self.keys)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "WoofDataset":
        """The same split with only the images at `indices`, in that order."""
        indices = np.asarray(indices, dtype=int)
        return replace(self, keys=tuple(self.keys[i] for i in indices), labels=self.labels[indices])

    def draw(self, index: int):
        """The drawing at `index` (sketchwoof only), with its `image`, part `mask` and `pose`."""
        from woofkit import sketch

        number = int(self.keys[index].rsplit("-", 1)[1])
        traits = sketch.breed_traits(imagewoof.BREEDS[number % len(imagewoof.BREEDS)])
        return sketch.draw_dog(traits, seed=self.draw_seed, index=number, size=self.image_size)

    def image(self, index: int) -> Image.Image:
        """The image at `index` as RGB; a greyscale photograph gets three equal channels."""
        if self.drawn:
            return Image.fromarray(self.draw(index).image)
        return _decode((self.folder / self.keys[index]).read_bytes(), self.keys[index])

    def mask(self, index: int) -> np.ndarray | None:
        """Which part each pixel shows, uint8 (H, W) of positions in sketch.PARTS; None for photographs."""
        return self.draw(index).mask if self.drawn else None

    @property
    def drawn(self) -> bool:
        """Whether the images are drawings, made when asked for, and not files."""
        return self.folder is None

    @property
    def sees_pretraining(self) -> np.ndarray:
        """bool (N,): True where a backbone pretrained on ImageNet has seen the image in its training."""
        return np.array([not self.drawn and not imagewoof.is_unseen(key) for key in self.keys], bool)

    def fingerprint(self) -> str:
        """sha256 of what the split shows: every file's name and bytes; for drawings a sample's pixels."""
        digest = hashlib.sha256(json.dumps([self.name, self.split, self.draw_seed, list(self.keys)]).encode())
        if self.drawn:  # twenty drawings: enough to notice that the drawing code has changed
            for index in np.unique(np.linspace(0, len(self) - 1, 20).astype(int)):
                digest.update(self.draw(index).image.tobytes())
        else:
            for key in self.keys:
                digest.update(hashlib.sha256((self.folder / key).read_bytes()).digest())
        return digest.hexdigest()


def load_dataset(
    name: str,
    *,
    split: str,
    scheme: str = "clean",
    data_dir: str = "",
    image_variant: str = "160",
    num: int = 0,
    label_fraction: float = 1.0,
    seed: int = 0,
    image_size: int = 224,
    label: str = "breed",
) -> WoofDataset:
    """One split of "sketchwoof" or "imagewoof".

    Schemes: "paper" is ImageWoof's own split, train/ and val/ (9,025 and 3,929), with nothing left to
    select on. "clean" tests on the 500 images that no ImageNet backbone has seen, trains on the rest of
    train/ (8,687) and validates on the rest of val/ (3,767).

    Args:
        data_dir: a folder with ImageWoof; "" downloads it to data/.
        num: size of a stratified subset; 0 is all of it (drawings: 600 train, 200 val, 500 test).
        label_fraction: share of the training images kept, above 0 to 1; other splits stay whole.
        seed: picks the training subset (drawings: the training drawings). Val and test never depend on it.
        image_size: side of a drawing in pixels; photographs keep their size.
        label: what `labels` name: the "breed", or, for drawings, the "pose".

    Raises ConfigError for an unknown name, an empty split, or more images than there are.
    """
    require_choice("dataset", name, DATASETS)
    require_choice("split", split, SPLITS)
    require_choice("scheme", scheme, SCHEMES)
    require_choice("image_variant", image_variant, IMAGE_VARIANTS)
    require_range("label_fraction", label_fraction, 0, 1, above=True)
    require_choice("label", label, LABELS)
    if label == "pose" and name != "sketchwoof":
        raise ConfigError(f"label 'pose' with dataset {name!r}: only drawings know their pose")
    if scheme == "paper" and split == "val":
        raise ConfigError("scheme 'paper' has no split 'val', as it selects nothing: use 'train' or 'test'")
    if num < 0 or 0 < num < len(imagewoof.BREEDS):
        raise ConfigError(f"num = {num} is out of range: allowed is 0 (all) or at least 10, one a breed")

    if name == "sketchwoof":
        total = num or SKETCH_SIZES[split]
        labels = np.arange(total, dtype=np.int64) % len(imagewoof.BREEDS)
        draw_seed = _SKETCH_SEED[split] + (seed if split == "train" else 0)
        keys = tuple(f"{split}-{index:06d}" for index in range(total))
        dataset = WoofDataset(name, split, scheme, keys, labels, draw_seed=draw_seed, image_size=image_size)
        if label == "pose":
            dataset = _with_poses(dataset)
    else:
        if data_dir:
            folder = imagewoof.find_folder(data_dir, image_variant)
        else:
            folder = imagewoof.fetch_archive(imagewoof.ARCHIVES[image_variant], PROJECT_ROOT / "data")
        keys = tuple(_photographs(folder, split, scheme))
        labels = np.array([imagewoof.label_of(key) for key in keys], dtype=np.int64)
        dataset = WoofDataset(name, split, scheme, keys, labels, folder=folder)

    if num > len(dataset):
        raise ConfigError(f"num = {num:,} is more than {name} has: {split} ({scheme}) holds {len(dataset):,}")
    size = num or len(dataset)
    if split == "train" and label_fraction < 1:
        size = round(label_fraction * size)
        if size < len(imagewoof.BREEDS):
            raise ConfigError(f"label_fraction = {label_fraction} leaves {size} images: 10 are the least")
    if size == len(dataset):
        return dataset
    return dataset.subset(stratified_subset(dataset.labels, size, seed if split == "train" else 0))


def _with_poses(dataset: WoofDataset) -> WoofDataset:
    """The same drawings, labelled with the pose instead of the breed."""
    from woofkit import sketch

    poses = [sketch.pose_of(dataset.draw_seed, index) for index in range(len(dataset))]
    labels = np.array([sketch.POSES.index(pose) for pose in poses], dtype=np.int64)
    return replace(dataset, labels=labels, class_names=sketch.POSES)


def stratified_subset(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Sorted indices of `size` images in which each class keeps its share, to within one image.

    A smaller subset of the same seed lies inside a larger one, so that a curve over label fractions
    adds images and exchanges none.
    """
    rng = np.random.default_rng(seed)
    share = np.empty(len(labels))  # how much of its class has been taken once this image is in
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        share[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    first_to_last = np.lexsort((rng.permutation(len(labels)), share))
    return np.sort(first_to_last[:size])


def _photographs(folder: Path, split: str, scheme: str) -> list[str]:
    train, val = imagewoof.list_images(folder, "train"), imagewoof.list_images(folder, "val")
    if scheme == "paper":
        return train if split == "train" else val
    if split == "test":
        return [key for key in train + val if imagewoof.is_unseen(key)]
    return [key for key in (train if split == "train" else val) if not imagewoof.is_unseen(key)]


def _decode(data: bytes, key: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except OSError as error:  # PIL does not say which file
        raise OSError(f"{key} cannot be read as an image: {error}") from error
