"""The photograph: light, tint, blur, noise, and a share of greyscale pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

GREYSCALE_SHARE = 0.15


def photograph(colors: Image.Image, shading: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Return the picture (size, size, 3) uint8 as a camera would: `shading` (L) darkens, then light and faults."""
    size = colors.size[0]
    chance = rng.uniform(size=8)
    if chance[0] < 0.35:
        radius = float(size * (0.002 + 0.010 * chance[1]))
        colors = colors.filter(ImageFilter.BoxBlur(radius))
        shading = shading.filter(ImageFilter.BoxBlur(radius))
    pixels = np.asarray(colors, np.float32)
    light = np.asarray(shading, np.float32)

    exposure = np.exp(np.clip(rng.normal(0, 0.17), -0.4, 0.16)) / 255
    tint = 1 + rng.normal(0, 0.045) * np.array([1, 0.1, -1]) + rng.normal(0, 0.015, 3)
    contrast, middle = np.exp(rng.normal(0, 0.1)), 0.45
    slope = rng.normal(0, 0.18, 2)  # light falls off to a side
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = light * (1 + slope[0] * ramp[None, :] + slope[1] * ramp[:, None]).astype(np.float32)
    pixels = pixels * (exposure * contrast * tint * 255 / 245).astype(np.float32)
    pixels *= light[:, :, None]
    pixels += np.float32(255 * middle * (1 - contrast))
    if rng.uniform() < GREYSCALE_SHARE:
        pixels[:] = (0.299 * pixels[:, :, 0] + 0.587 * pixels[:, :, 1] + 0.114 * pixels[:, :, 2])[:, :, None]
    if chance[2] < 0.7:
        grain = rng.standard_normal((size, size), dtype=np.float32)
        pixels += (grain * np.float32(2 + 8 * chance[3]))[:, :, None]
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
