"""Shifts: what no model has seen in training, made from test images, and how many of them a model still names.

A shift changes how an image looks and not which breed it shows. SHIFTS work on pixels, uint8 (B, 3, H, W), on any
device; DRAWN_SHIFTS draw the same dogs anew, so drawings alone have them.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.transforms import functional as vision

from woofkit import sketch
from woofkit.data import Images, WoofDataset
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
# What `sketch.draw_dog` is asked for, beyond what makes the usual drawing.
DRAWN_SHIFTS = {"unseen pose": {"pose": sketch.UNSEEN_POSE}, "other place": {"place": sketch.UNSEEN_PLACE}}


@dataclass(frozen=True, eq=False)
class DrawnShift(WoofDataset):
    """The same drawings but for one of DRAWN_SHIFTS."""

    shift: str = ""

    def _stream(self, index: int) -> dict[str, Any]:
        return super()._stream(index) | DRAWN_SHIFTS[self.shift]


def drawn_shifts(dataset: WoofDataset) -> dict[str, DrawnShift]:
    """DRAWN_SHIFTS of a split, image by image; of photographs, none."""
    shared = {field.name: getattr(dataset, field.name) for field in fields(WoofDataset)}
    return {name: DrawnShift(**shared, shift=name) for name in DRAWN_SHIFTS if dataset.drawn}


def shifted_hits(model: nn.Module, images: Images, runtime: Runtime) -> pd.DataFrame:
    """Which images a model names rightly, bool: one row per image, columns "none" (as they are) and SHIFTS."""
    shifts = {"none": lambda pixels: pixels, **SHIFTS}
    return pd.DataFrame({name: _hits(model, images, runtime, shift) for name, shift in shifts.items()})


def drawn_hits(model: nn.Module, images: Images, runtime: Runtime) -> pd.DataFrame:
    """Which images of one of DRAWN_SHIFTS a model names rightly, bool: one row per image, column "drawn"."""
    return pd.DataFrame({"drawn": _hits(model, images, runtime, lambda pixels: pixels)})


def _hits(model: nn.Module, images: Images, runtime: Runtime, shift: Callable[[Tensor], Tensor]) -> np.ndarray:
    parts = []
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        some = replace(images, pixels=shift(images.pixels[part]), labels=images.labels[part])
        found = evaluate(model, some, runtime)
        parts.append(found.logits.argmax(1) == found.labels)
    return torch.cat(parts).numpy()


def kept_shifted_hits(
    path: Path,
    load_model: Callable[[], nn.Module],
    images: Callable[[], Images],
    runtime: Runtime,
    measure: Callable[[nn.Module, Images, Runtime], pd.DataFrame] = shifted_hits,
) -> pd.DataFrame:
    """The hits in the file `path`; measured and written there if it does not exist yet."""
    if not path.is_file():
        hits = measure(load_model(), images(), runtime)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda temporary: hits.to_parquet(temporary, index=False))
    return pd.read_parquet(path)


def lost(hits: pd.DataFrame) -> dict[str, np.ndarray]:
    """What each shift changes, image by image, (N,) from -1 to 1: named rightly then minus named rightly as usual.

    "" is the mean of SHIFTS.
    """
    usual = hits["none"].to_numpy().astype(float)
    by_shift = {name: hits[name].to_numpy() - usual for name in hits if name != "none"}
    return {"": np.mean([by_shift[name] for name in SHIFTS], axis=0), **by_shift}
