"""Shifts: what no model has seen in training, made from test images, and how many of them a model still names.

A shift changes how an image looks and not what it shows. All of them work on pixels, uint8 (B, 3, H, W), on any device.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.transforms import functional as vision

from woofkit.data import Images
from woofkit.fast.runtime import Runtime
from woofkit.files import write_atomic
from woofkit.train import evaluate

EVENING = (1.0, 0.72, 0.5)  # how much of red, green and blue is left
CHUNK = 512  # images


def grey(pixels: Tensor) -> Tensor:
    """Without colour."""
    return vision.rgb_to_grayscale(pixels, num_output_channels=3)


def dark(pixels: Tensor) -> Tensor:
    """A third of the light."""
    return (pixels.float() / 3).round().to(torch.uint8)


def evening(pixels: Tensor) -> Tensor:
    """Reddish light."""
    left = torch.tensor(EVENING, device=pixels.device).view(3, 1, 1)
    return (pixels.float() * left).round().to(torch.uint8)


def blur(pixels: Tensor) -> Tensor:
    """Out of focus: a Gaussian with a standard deviation of a sixtieth of the side."""
    sigma = pixels.shape[-1] / 60
    return vision.gaussian_blur(pixels, 2 * round(3 * sigma) + 1, sigma)


def noise(pixels: Tensor) -> Tensor:
    """A noisy sensor: normal noise with a standard deviation of 40 of 255."""
    generator = torch.Generator().manual_seed(0)
    added = 40 * torch.randn(pixels.shape[-2:], generator=generator).to(pixels.device)
    return (pixels.float() + added).clamp(0, 255).round().to(torch.uint8)


def occlusion(pixels: Tensor) -> Tensor:
    """A grey square of half the side, over one quarter of the image: top left in the first image, then clockwise."""
    shifted, half = pixels.clone(), pixels.shape[-1] // 2
    for quarter, (row, column) in enumerate(((0, 0), (0, half), (half, half), (half, 0))):
        shifted[quarter::4, :, row : row + half, column : column + half] = 128
    return shifted


SHIFTS: dict[str, Callable[[Tensor], Tensor]] = {
    "grey": grey,
    "dark": dark,
    "evening": evening,
    "blur": blur,
    "noise": noise,
    "occlusion": occlusion,
}


def shifted_hits(model: nn.Module, images: Images, runtime: Runtime) -> pd.DataFrame:
    """Which images a model names rightly, bool: one row per image, columns "none" (as they are) and SHIFTS."""
    columns = {}
    for name, shift in {"none": lambda pixels: pixels, **SHIFTS}.items():
        parts = []
        for start in range(0, len(images), CHUNK):
            part = slice(start, start + CHUNK)
            some = replace(images, pixels=shift(images.pixels[part]), labels=images.labels[part])
            found = evaluate(model, some, runtime)
            parts.append(found.logits.argmax(1) == found.labels)
        columns[name] = torch.cat(parts).numpy()
    return pd.DataFrame(columns)


def kept_shifted_hits(
    path: Path, load_model: Callable[[], nn.Module], images: Callable[[], Images], runtime: Runtime
) -> pd.DataFrame:
    """The hits in the file `path`; measured and written there if it does not exist yet."""
    if not path.is_file():
        hits = shifted_hits(load_model(), images(), runtime)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: hits.to_parquet(temporary, index=False))
    return pd.read_parquet(path)


def lost(hits: pd.DataFrame) -> np.ndarray:
    """What the shifts change, image by image, (N,) from -1 to 1: the share of shifts named rightly minus the usual."""
    return hits[list(SHIFTS)].mean(axis=1).to_numpy() - hits["none"].to_numpy()
