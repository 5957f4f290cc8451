"""Shifts: what no model has met in training, made from test images, and how many of them a model still names.

A shift changes how an image looks and not what it shows. All of them work on pixels, uint8 (B, 3, H, W), on any device.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.transforms import functional as vision

from woofkit.data import Images
from woofkit.fast.runtime import Runtime
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


def shifted_accuracies(model: nn.Module, images: Images, runtime: Runtime) -> dict[str, float]:
    """The accuracy, 0..1, on the images as they are ("none") and under each of SHIFTS."""
    accuracies = {"none": evaluate(model, images, runtime).accuracy}
    for name, shift in SHIFTS.items():
        pixels = torch.cat([shift(chunk) for chunk in images.pixels.split(CHUNK)])
        accuracies[name] = evaluate(model, replace(images, pixels=pixels), runtime).accuracy
    return accuracies
