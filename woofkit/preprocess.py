"""From images to batches: the model's own transform or the paper's, done once for every image of a split."""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from woofkit.config import AUGMENTS, PREPROCESSES, ConfigError, require_choice

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

MAX_WORKERS = 8  # processes that draw; with batches of 8 they need 20 MB of shared memory, containers have 64
FEW = 100  # drawings so few that they are done before other processes have started
AHEAD = 256  # photographs decoded before the first of them is taken: 40 MB


class Images(Protocol):
    """What `iter_pixels` needs of a dataset; `data.WoofDataset` is one."""

    split: str
    drawn: bool

    def __len__(self) -> int: ...
    def image(self, index: int) -> Image.Image: ...


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
        if self.greyscale:
            grey = np.asarray(self._fit(image.convert("L"), self.interpolation))
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.array(self._fit(image.convert("RGB"), self.interpolation))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Cut a part mask, uint8 (H, W), the same way; the nearest pixel decides, since parts do not mix."""
        return np.array(self._fit(Image.fromarray(mask), Image.Resampling.NEAREST))

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pixels / 255 - mean) / std: uint8 (B, 3, H, W) to float32, on the tensor's device."""
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def __call__(self, image: Image.Image) -> torch.Tensor:
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

    "timm": what the model was trained for; equal to timm.data.create_transform(**data_config).
    "paper-code": what the paper's code did: greyscale in three equal channels, squeezed to the square by
    bilinear resizing, ImageNet's mean and std whatever the model wants. (That code resized last, on
    floats; here the resized image is rounded to 8 bits.)

    Raises ConfigError for an unknown `preprocess`, an input that is not square, or a crop mode other
    than "center".
    """
    require_choice("preprocess", preprocess, PREPROCESSES)
    channels, height, width = data_config["input_size"]
    if (channels, height) != (3, width):
        raise ConfigError(f"input_size {data_config['input_size']} is not supported: allowed is (3, n, n)")
    if preprocess == "paper-code":
        return Transform(height, None, Image.Resampling.BILINEAR, True, IMAGENET_MEAN, IMAGENET_STD)
    require_choice("crop_mode", data_config.get("crop_mode", "center"), ("center",))
    return Transform(
        size=height,
        resize=math.floor(height / data_config["crop_pct"]),
        interpolation=Image.Resampling[data_config["interpolation"].upper()],
        greyscale=False,
        mean=tuple(data_config["mean"]),
        std=tuple(data_config["std"]),
    )


def iter_pixels(dataset: Images, transform: Transform, progress: bool = True) -> Iterator[torch.Tensor]:
    """Yield every image, decoded or drawn and cut to the model's input: uint8 (3, H, W), in the dataset's order.

    Raises:
        OSError: an image cannot be read; the message names it.
    """
    from tqdm.auto import tqdm

    verb = "Drawing" if dataset.drawn else "Reading"
    images = _in_processes(dataset, transform) if dataset.drawn else _in_threads(dataset, transform)
    yield from tqdm(images, f"{verb} {dataset.split}", len(dataset), unit=" images", disable=not progress)


def load_pixels(dataset: Images, transform: Transform, progress: bool = True) -> torch.Tensor:
    """Every image of `iter_pixels` in memory, 150 kB each at 224 pixels: uint8 (N, 3, H, W)."""
    pixels = torch.empty((len(dataset), 3, transform.size, transform.size), dtype=torch.uint8)
    for index, image in enumerate(iter_pixels(dataset, transform, progress)):
        pixels[index] = image
    return pixels


def batches(
    pixels: torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    batch_size: int,
    *,
    transform: Transform,
    device: torch.device | str = "cpu",
    generator_seed: int | None = None,
    augment: str = "none",
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (images float (B, 3, H, W), labels int64 (B,)) on `device`; the last batch may be smaller.

    In order without a `generator_seed`; with one, in the permutation that belongs to it. The seed also decides
    how each image is augmented, whatever the device and the batch size.

    Args:
        augment: "flip" mirrors each image with probability 1/2; "flip-crop" also shifts it by up to an eighth of
            its side in each direction, as a random crop of the image padded by reflection does.

    Raises:
        ConfigError: `augment` is unknown, or asks for random numbers and there is no `generator_seed`.
    """
    require_choice("augment", augment, AUGMENTS)
    if augment != "none" and generator_seed is None:
        raise ConfigError(f"augment {augment!r} needs a generator_seed, which decides what happens to each image")
    labels = torch.as_tensor(labels, dtype=torch.int64)
    order = torch.arange(len(pixels))
    if generator_seed is not None:
        generator = torch.Generator().manual_seed(generator_seed)
        order = torch.randperm(len(pixels), generator=generator)  # first, so that every `augment` has the same order
    if augment != "none":
        flips = torch.rand(len(pixels), generator=generator) < 0.5
        most = pixels.shape[-1] // 8 if augment == "flip-crop" else 0
        shifts = torch.randint(-most, most + 1, (len(pixels), 2), generator=generator)
    for chosen in order.split(batch_size):
        images = pixels.index_select(0, chosen.to(pixels.device)).to(device)
        if augment != "none":
            images = flip_and_shift(images, flips[chosen], shifts[chosen])
        yield transform.normalize(images), labels[chosen.to(labels.device)].to(device)


def flip_and_shift(images: torch.Tensor, flips: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Mirror images (B, C, H, W) where `flips` bool (B,), then move each window by `shifts` int64 (B, 2), rows first.

    What a window shows beyond the border is reflected there: pixel -1 is pixel 1. A shift is less than the side.
    """
    _, channels, height, width = images.shape
    rows, columns = _reflected(shifts[:, 0], height), _reflected(shifts[:, 1], width)  # (B, H), (B, W): where from
    columns = torch.where(flips[:, None], width - 1 - columns, columns)
    # whole rows are copied as blocks; only the columns are picked one by one
    planes = torch.arange(len(images) * channels).view(-1, channels, 1)  # (B, C, 1)
    lines = (planes * height + rows[:, None]).flatten().to(images.device)
    moved = images.reshape(-1, width).index_select(0, lines).view(images.shape)
    return moved.gather(3, columns[:, None, None].to(images.device).expand(images.shape))


def _reflected(shifts: torch.Tensor, side: int) -> torch.Tensor:
    """The positions shift, shift + 1, ... of `side` pixels, reflected at both borders: (B,) to (B, side)."""
    positions = (shifts[:, None] + torch.arange(side)).abs()
    return side - 1 - (side - 1 - positions).abs()


def _in_threads(dataset: Images, transform: Transform) -> Iterable[torch.Tensor]:
    # PIL lets other threads run while it decodes and resizes
    cut = _Cut(dataset, transform)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(dataset), AHEAD):  # a map over all would hold all where the taker is slower
            yield from pool.map(cut.__getitem__, range(start, min(start + AHEAD, len(dataset))))


def _in_processes(dataset: Images, transform: Transform) -> Iterable[torch.Tensor]:
    # drawing is Python, one thread at a time; torch's number of threads respects limits set for this process
    workers = min(torch.get_num_threads(), MAX_WORKERS) if len(dataset) > FEW else 0
    workers = workers if workers > 1 else 0
    for batch in DataLoader(_Cut(dataset, transform), batch_size=8, num_workers=workers):
        yield from batch


class _Cut:
    """The images of a dataset as the DataLoader wants them: uint8 (3, H, W), by index."""

    def __init__(self, dataset: Images, transform: Transform):
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.transform.geometry(self.dataset.image(index))).permute(2, 0, 1)
