"""From a dataset to batches: which images a split holds, what a model is shown of them, and in which order.

A dataset names images, `load_pixels` decodes or draws them once, `batches` hands them to a model:

    dataset = load_dataset("sketchwoof", split="train")
    pixels = load_pixels(dataset, transform)                       # uint8 (N, 3, H, W), once
    for images, labels in batches(Images(pixels, dataset.labels, transform), 32): ...
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from woofkit import sketch
from woofkit.config import (
    AUGMENTS,
    DATASETS,
    IMAGE_VARIANTS,
    LABELS,
    PREPROCESSES,
    PROJECT_ROOT,
    SCHEMES,
    SKETCH_SIZES,
    ConfigError,
    require_choice,
    require_range,
    resolve_path,
)
from woofkit.datasets import folder, imagewoof
from woofkit.datasets.pictures import in_processes, read_picture
from woofkit.fast.kept_rows import kept_rows, require_rows_fit, rows_in_memory

CACHE = PROJECT_ROOT / "data" / "cache"
SPLITS = ("train", "val", "test")

# The seed of a drawing; training seed s is 1000 + s. No two splits share one, so every model faces the same test.
_SKETCH_SEED = {"val": 1, "test": 5, "train": 1000}


@dataclass(frozen=True, eq=False)
class WoofDataset:
    """The images of one split, each with a name and a label; pixels are read or drawn when asked for.

    keys: "val/n02088364/n02088364_4991.JPEG" or "test-000123"; labels: int64 (N,), positions in class_names.
    """

    name: str
    split: str
    scheme: str
    keys: tuple[str, ...]
    labels: np.ndarray
    folder: Path | None = None  # where the files are; drawings have none
    draw_seed: int = 0  # sketchwoof: the seed stream
    image_size: int = 224  # sketchwoof: pixels a side
    class_names: tuple[str, ...] = imagewoof.BREEDS

    def __len__(self) -> int:
        return len(self.keys)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "WoofDataset":
        """The same split with only the images at `indices`, in that order."""
        indices = np.asarray(indices, dtype=int)
        return replace(self, keys=tuple(self.keys[i] for i in indices), labels=self.labels[indices])

    def draw(self, index: int) -> sketch.Drawing:
        """The drawing at `index` (sketchwoof only), with its `image`, part `mask` and `pose`."""
        return sketch.draw_dog(**self._stream(index))

    def _stream(self, index: int) -> dict[str, Any]:
        """What decides a drawing."""
        number = int(self.keys[index].rsplit("-", 1)[1])
        traits = sketch.breed_traits(imagewoof.BREEDS[number % len(imagewoof.BREEDS)])
        return {"traits": traits, "seed": self.draw_seed, "index": number, "size": self.image_size}

    def image(self, index: int) -> Image.Image:
        """The image at `index` as RGB; a greyscale photograph gets three equal channels."""
        if self.drawn:
            return Image.fromarray(self.draw(index).image)
        return read_picture(self.folder / self.keys[index])

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
        return np.array([self.name == "imagewoof" and not imagewoof.is_unseen(key) for key in self.keys], bool)

    def fingerprint(self) -> str:
        """sha256 of what the split shows: every file's name and bytes; for drawings a sample's pixels."""
        digest = hashlib.sha256(json.dumps([self.name, self.split, self.draw_seed, list(self.keys)]).encode())
        if self.drawn:  # twenty drawings: enough to notice that the drawing code has changed
            for index in np.unique(np.linspace(0, len(self) - 1, 20).astype(int)):
                digest.update(sketch.drawing_hash(**self._stream(index)))
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
    skip_unreadable: bool = False,
    image_variant: str = "160",
    num: int = 0,
    label_fraction: float = 1.0,
    seed: int = 0,
    image_size: int = 224,
    label: str = "breed",
) -> WoofDataset:
    """One split of "sketchwoof", "imagewoof" or "folder", whose images lie below `data_dir` (see `datasets.folder`).

    Schemes: "paper" is ImageWoof's own split, train/ and val/ (9,025 and 3,929), with nothing left to select on.
    "clean" tests on the 500 images that no ImageNet backbone has seen, trains on the rest of train/ (8,687) and
    validates on the rest of val/ (3,767).

    Args:
        data_dir: a folder with ImageWoof, which "" downloads to data/, or, for "folder", the images' own.
        num: size of a stratified subset; 0 is all of it (drawings: 600 train, 200 val, 500 test).
        label_fraction: share of the training images kept, above 0 to 1; other splits stay whole.
        seed: picks the training subset (drawings: the training drawings). Val and test never depend on it.
        image_size: side of a drawing in pixels; photographs keep their size.
        label: what `labels` name: the "breed", or, for drawings, the "pose".

    Raises ConfigError for an unknown name, an empty split, or more images than there are or than have room.
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
    require_rows_fit("num", num, 3 * image_size**2, CACHE)
    if name == "sketchwoof":
        total = num or SKETCH_SIZES[split]
        labels = np.arange(total, dtype=np.int64) % len(imagewoof.BREEDS)
        draw_seed = _SKETCH_SEED[split] + (seed if split == "train" else 0)
        keys = tuple(f"{split}-{index:06d}" for index in range(total))
        dataset = WoofDataset(name, split, scheme, keys, labels, draw_seed=draw_seed, image_size=image_size)
        if label == "pose":
            poses = [sketch.POSES.index(sketch.pose_of(draw_seed, index)) for index in range(total)]
            dataset = replace(dataset, labels=np.array(poses, dtype=np.int64), class_names=sketch.POSES)
    elif name == "folder":
        home = resolve_path(data_dir)
        pictures = folder.find_pictures(home, CACHE, skip_unreadable)
        keys, labels = pictures.splits[split]
        dataset = WoofDataset(name, split, scheme, keys, labels, folder=home, class_names=pictures.class_names)
    else:
        home = imagewoof.locate(data_dir, image_variant, PROJECT_ROOT / "data")
        keys = tuple(imagewoof.photographs(home, split, scheme))
        labels = np.array([imagewoof.label_of(key) for key in keys], dtype=np.int64)
        dataset = WoofDataset(name, split, scheme, keys, labels, folder=home)

    fewest = len(dataset.class_names) if name == "folder" else len(imagewoof.BREEDS)
    if num < 0 or 0 < num < fewest:
        raise ConfigError(f"num = {num} is out of range: allowed is 0 (all) or at least {fewest}, one per class")
    if num > len(dataset):
        raise ConfigError(f"num = {num:,} is more than {name} has: {split} ({scheme}) holds {len(dataset):,}")
    size = num or len(dataset)
    if split == "train" and label_fraction < 1:
        size = round(label_fraction * size)
        if size < fewest:
            raise ConfigError(f"label_fraction = {label_fraction} leaves {size} images: {fewest} are the least")
    if size < len(dataset):
        dataset = dataset.subset(stratified_subset(dataset.labels, size, seed if split == "train" else 0))
    return dataset


def stratified_subset(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Sorted indices of `size` images in which each class keeps its share, to within one image.

    A smaller subset of the same seed lies inside a larger one: a curve over label fractions only adds images.
    """
    rng = np.random.default_rng(seed)
    share = np.empty(len(labels))  # how much of its class has been taken once this image is in
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        share[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    first_to_last = np.lexsort((rng.permutation(len(labels)), share))
    return np.sort(first_to_last[:size])


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

FEW, FEW_FILES = 30, 1000  # drawings and photographs so few that they are done before other processes have started


@dataclass(frozen=True)
class Transform:
    """Geometry on 8-bit images (done once, kept), then normalisation on tensors (done in each batch).

    size: the model's input side in pixels. resize: the shorter side before the centre crop, or None to
    squeeze the whole image into the square. mean, std: per channel, of values in 0..1.
    """

    size: int
    resize: int | None
    interpolation: Image.Resampling
    greyscale: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def geometry(self, image: Image.Image) -> np.ndarray:
        """Cut an RGB image to uint8 (size, size, 3)."""
        image = image.convert("L" if self.greyscale else "RGB")
        return np.array(self._fit(image, self.interpolation).convert("RGB"))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Cut a part mask, uint8 (H, W), the same way; the nearest pixel decides, since parts do not mix."""
        return np.array(self._fit(Image.fromarray(mask), Image.Resampling.NEAREST))

    def normalize(self, pixels: Tensor) -> Tensor:
        """(pixels / 255 - mean) / std: uint8 (B, 3, H, W) to float32, on the tensor's device."""
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def __call__(self, image: Image.Image) -> Tensor:
        """One image as the model gets it: float32 (3, size, size)."""
        return self.normalize(torch.from_numpy(self.geometry(image)).permute(2, 0, 1)).contiguous()

    def _fit(self, image: Image.Image, interpolation: Image.Resampling) -> Image.Image:
        if self.resize is None:
            return image.resize((self.size, self.size), interpolation)
        width, height = image.size
        short = min(width, height)
        # the longer side is rounded down and the crop's corner to even, as in torchvision
        wanted = (int(self.resize * width / short), int(self.resize * height / short))
        if wanted != (width, height):
            image = image.resize(wanted, interpolation)
        left, top = round((wanted[0] - self.size) / 2), round((wanted[1] - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


def make_transform(data_config: dict[str, Any], preprocess: str = "timm") -> Transform:
    """The transform for a model with this timm data config (`models.data_config(model)`).

    "timm": what the model was trained for; equal to timm.data.create_transform(**data_config). "paper-code": what the
    paper's code did: "grey" (three equal channels), "squeeze" (the whole image into the square, by bilinear resizing)
    and "imagenet-norm" (ImageNet's mean and std whatever the model wants), each of which may be had by itself. (That
    code resized last, on floats; here the resized image is rounded to 8 bits.)

    Raises ConfigError for an unknown `preprocess`, an input that is not square, or a crop mode other than "center".
    """
    require_choice("preprocess", preprocess, PREPROCESSES)
    channels, height, width = data_config["input_size"]
    if (channels, height) != (3, width):
        raise ConfigError(f"input_size {data_config['input_size']} is not supported: allowed is (3, n, n)")
    require_choice("crop_mode", data_config.get("crop_mode", "center"), ("center",))
    resize, interpolation = math.floor(height / data_config["crop_pct"]), data_config["interpolation"].upper()
    mean, std = tuple(data_config["mean"]), tuple(data_config["std"])
    if preprocess in ("squeeze", "paper-code"):
        resize, interpolation = None, "BILINEAR"
    if preprocess in ("imagenet-norm", "paper-code"):
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    greyscale = preprocess in ("grey", "paper-code")
    return Transform(height, resize, Image.Resampling[interpolation], greyscale, mean, std)


def iter_pixels(dataset: WoofDataset, transform: Transform, progress: bool = True) -> Iterator[Tensor]:
    """Yield every image, decoded or drawn and cut to the model's input: uint8 (3, H, W), in the dataset's order.

    Raises:
        OSError: an image cannot be read; the message names it.
    """
    from tqdm.auto import tqdm

    title = f"{'Drawing' if dataset.drawn else 'Reading'} {dataset.split}"
    yield from tqdm(_in_processes(dataset, transform), title, len(dataset), unit=" images", disable=not progress)


def load_pixels(dataset: WoofDataset, transform: Transform, progress: bool = True) -> Tensor:
    """Every image of `iter_pixels` in memory, 150 kB each at 224 pixels: uint8 (N, 3, H, W)."""
    shape = (len(dataset), 3, transform.size, transform.size)
    return rows_in_memory(shape, iter_pixels(dataset, transform, progress))


@dataclass(frozen=True)
class Images:
    """Images ready for a model: pixels uint8 (N, 3, H, W), labels (N,) or None, and what normalises a batch of them."""

    pixels: Tensor
    labels: np.ndarray | Tensor | None
    transform: Transform

    def __len__(self) -> int:
        return len(self.pixels)


def batches(
    images: Images,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    generator_seed: int | None = None,
    augment: str = "none",
    share: slice = slice(None),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images float (B, 3, H, W), labels int64 (B,)) on `device`; the last batch may be smaller.

    In order without a `generator_seed`; with one, in the permutation that belongs to it. The seed also decides how each
    image is augmented, whatever the device and the batch size.

    Args:
        augment: "flip" mirrors each image with probability 1/2; "flip-crop" also shifts it by up to an eighth of its
            side in each direction, as a random crop of the image padded by reflection does.
        share: which images of each batch to yield; the others' places in the order and random numbers stay theirs.

    Raises:
        ConfigError: `augment` is unknown, or asks for random numbers and there is no `generator_seed`.
    """
    require_choice("augment", augment, AUGMENTS)
    if augment != "none" and generator_seed is None:
        raise ConfigError(f"augment {augment!r} needs a generator_seed, which decides what happens to each image")
    pixels, labels = images.pixels, torch.as_tensor(images.labels, dtype=torch.int64)
    order = torch.arange(len(pixels))
    if generator_seed is not None:
        generator = torch.Generator().manual_seed(generator_seed)
        order = torch.randperm(len(pixels), generator=generator)  # first, so that every `augment` has the same order
    if augment != "none":
        flips = torch.rand(len(pixels), generator=generator) < 0.5
        most = pixels.shape[-1] // 8 if augment == "flip-crop" else 0
        shifts = torch.randint(-most, most + 1, (len(pixels), 2), generator=generator)
        flips, shifts = flips[order].to(device), shifts[order].to(device)
    # All that is small goes to the device once: a copy in every step would have a GPU wait for it.
    labels, order = labels[order.to(labels.device)].to(device), order.to(pixels.device)
    pinned = pixels.device.type == "cpu" and torch.device(device).type == "cuda"  # copied while the GPU computes
    for start in range(0, len(order), batch_size):
        part = slice(start, start + batch_size)
        batch = pixels.index_select(0, order[part][share])
        batch = (batch.pin_memory() if pinned else batch).to(device, non_blocking=True)
        if augment != "none":
            batch = flip_and_shift(batch, flips[part][share], shifts[part][share])
        yield images.transform.normalize(batch), labels[part][share]


def flip_and_shift(images: Tensor, flips: Tensor, shifts: Tensor) -> Tensor:
    """Mirror images (B, C, H, W) where `flips` bool (B,), then move each window by `shifts` int64 (B, 2), rows first.

    What a window shows beyond the border is reflected there: pixel -1 is pixel 1. A shift is less than the side.
    """
    _, channels, height, width = images.shape
    rows, columns = _reflected(shifts[:, 0], height), _reflected(shifts[:, 1], width)  # (B, H), (B, W): where from
    columns = torch.where(flips[:, None], width - 1 - columns, columns)
    # whole rows are copied as blocks; only the columns are picked one by one
    planes = torch.arange(len(images) * channels, device=images.device).view(-1, channels, 1)  # (B, C, 1)
    lines = (planes * height + rows[:, None]).flatten()
    moved = images.reshape(-1, width).index_select(0, lines).view(images.shape)
    return moved.gather(3, columns[:, None, None].expand(images.shape))


def _reflected(shifts: Tensor, side: int) -> Tensor:
    """The positions shift, shift + 1, ... of `side` pixels, reflected at both borders: (B,) to (B, side)."""
    positions = (shifts[:, None] + torch.arange(side, device=shifts.device)).abs()
    return side - 1 - (side - 1 - positions).abs()


def _in_processes(dataset: WoofDataset, transform: Transform) -> Iterator[Tensor]:
    # Drawing is Python, and Pillow decodes with Python's lock held: threads would wait for each other.
    for part in in_processes(_Cut(dataset, transform), 8, FEW if dataset.drawn else FEW_FILES):
        for image in part:
            if isinstance(image, OSError):
                raise image
            yield torch.from_numpy(image).permute(2, 0, 1)


class _Cut:
    """Images by index, uint8 (H, W, 3), or why one cannot be read. Arrays, as tensors would need shared memory."""

    def __init__(self, dataset: WoofDataset, transform: Transform):
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> np.ndarray | OSError:
        try:
            return self.transform.geometry(self.dataset.image(index))
        except OSError as error:
            return error


def cached_pixels(
    dataset: WoofDataset,
    transform: Transform,
    *,
    fingerprint: str,
    folder: Path | None = None,
    progress: bool = True,
    log: Callable[[str], None] | None = None,
) -> Tensor:
    """The pixels that `load_pixels` gives, uint8 (N, 3, H, W), from a file where an earlier call has left one.

    The tensor is a private view of the file, as `kept_rows` says.

    Args:
        fingerprint: `dataset.fingerprint()`, which callers have at hand and which reads every photograph.
        folder: where the files are; None is data/cache.
        log: gets a line where a file is damaged or cannot be written; None prints it.

    Raises:
        OSError: an image cannot be read; the message names it.
    """
    log = log or (lambda line: print(line, flush=True))
    shape = (len(dataset), 3, transform.size, transform.size)
    if not len(dataset):
        return torch.empty(shape, dtype=torch.uint8)
    path = cache_file(dataset, transform, fingerprint, folder)
    return kept_rows(path, shape, lambda: iter_pixels(dataset, transform, progress), log)


def cache_file(dataset: WoofDataset, transform: Transform, fingerprint: str, folder: Path | None = None) -> Path:
    """Where `cached_pixels` keeps a split; the name stands for everything that decides the pixels."""
    geometry = {field.name: str(getattr(transform, field.name)) for field in fields(transform)}
    del geometry["mean"], geometry["std"]  # applied to each batch
    # Pillow decodes and resizes; a sample shows a change of how it, or this package, does so
    sample = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    cut = hashlib.sha256(transform.geometry(Image.fromarray(sample)).tobytes()).hexdigest()
    code = sketch.code_hash() if dataset.drawn else ""  # the fingerprint has seen only a sample of the drawings
    decisive = json.dumps([fingerprint, geometry, PIL.__version__, cut, code], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:12]
    return (folder or CACHE) / f"{dataset.name}-{dataset.split}-{transform.size}px-{len(dataset)}-{digest}.npy"
