"""The photograph: light, tint, blur, noise, and a share of greyscale pictures."""

import numpy as np
from PIL import Image, ImageFilter

from woofkit.sketch.layers import FULL_LIGHT

GREYSCALE_SHARE = 0.08


def photograph(colors: Image.Image, shading: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Return the picture (size, size, 3) uint8 as a camera would: `shading` (L) darkens, then light and faults."""
    size = colors.size[0]
    chance = rng.uniform(size=8)
    if chance[0] < 0.35:
        radius = float(size * (0.002 + 0.008 * chance[1]))
        colors = colors.filter(ImageFilter.BoxBlur(radius))
        shading = shading.filter(ImageFilter.BoxBlur(radius))
    exposure = np.exp(np.clip(rng.normal(0, 0.17), -0.4, 0.16)) / FULL_LIGHT
    tint = 1 + rng.normal(0, 0.045) * np.array([1, 0.1, -1]) + rng.normal(0, 0.015, 3)
    contrast, middle = np.exp(rng.normal(0, 0.1)), 0.45
    slope = rng.normal(0, 0.18, 2)  # light falls off to a side
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = np.asarray(shading) * (1 + np.float32(slope[0]) * ramp[None, :] + np.float32(slope[1]) * ramp[:, None])
    lift = np.full((size, size), 255 * middle * (1 - contrast), np.float32)
    grey = rng.uniform() < GREYSCALE_SHARE
    if chance[2] < 0.7:
        lift += rng.standard_normal((size, size), dtype=np.float32) * np.float32(1 + 7 * chance[3])

    # Channel by channel, because NumPy is slow where the last axis has three elements.
    pixels = np.asarray(colors)
    planes = [pixels[:, :, c] * (light * np.float32(exposure * contrast * tint[c])) for c in range(3)]
    if grey:
        planes = 3 * [0.299 * planes[0] + 0.587 * planes[1] + 0.114 * planes[2]]
    return np.stack([np.clip(plane + lift, 0, 255).astype(np.uint8) for plane in planes], axis=2)
