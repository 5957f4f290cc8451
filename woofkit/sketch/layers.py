"""A layer: one part of the dog as outlines, colour, markings and hairs, painted onto picture, shading and mask."""

from __future__ import annotations

from dataclasses import dataclass, field

import aggdraw
import numpy as np
from PIL import Image, ImageFilter

PARTS = ("background", "body", "head", "ears", "legs", "tail")  # the value in a mask is the position here

FULL_LIGHT = 235  # the brightness of what is not modelled: ground, walls, things

Color = tuple[int, int, int]
Disc = tuple[np.ndarray, np.ndarray, float, float]  # a projected capsule: ends (2,) and radii, in pixels


@dataclass
class Layer:
    """One piece of a part: drawn together, hiding what is further away.

    Outlines are (M, 2) in pixels. `modelling` are inner outlines painted with a brightness of 0 to 255
    and then softened, which makes the piece look round. Hairs are (K, 4) lines, light and dark by turns.
    `fade` is two points (2, 2): on other parts of the dog the layer is see-through at the first, whole from the
    second on, so that a leg grows out of the trunk without an edge.
    """

    part: str
    near: float
    outlines: list[np.ndarray]
    color: Color
    markings: list[tuple[np.ndarray, Color]] = field(default_factory=list)
    modelling: list[tuple[np.ndarray, int]] = field(default_factory=list)
    hairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    hair_width: float = 1.0
    rim: int = 165
    softness: float = 2.0
    fade: np.ndarray | None = None


@dataclass
class Picture:
    """What is painted on: colours (RGB), brightness (L) multiplied in at the end, and the mask of parts."""

    colors: Image.Image
    shading: Image.Image
    mask: np.ndarray

    @property
    def size(self) -> int:
        return self.mask.shape[0]


def polygon(draw: aggdraw.Draw, outline: np.ndarray, color, opacity: int = 255) -> None:
    """Fill an outline (M, 2)."""
    draw.polygon(outline.ravel().tolist(), aggdraw.Brush(color, opacity))


def _ramp(ends: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Return float32 (H, W) that grows from 0 at the first end to 1 at the second, along the line between them."""
    (column, row), along = ends[0], ends[1] - ends[0]
    along = along / max(float(along @ along), 1e-6)
    across = (np.arange(window[0], dtype=np.float32) - column) * along[0]
    down = (np.arange(window[1], dtype=np.float32) - row) * along[1]
    return np.clip(across[None, :] + down[:, None], 0, 1).astype(np.float32)


def paint(picture: Picture, layer: Layer) -> None:
    """Paint a layer over the picture; a pixel is the part's where the layer covers at least half of it."""
    points = np.concatenate(layer.outlines)
    left, top = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int) + 2, picture.size)
    if left >= right or top >= bottom:
        return
    corner, window = np.array([left, top]), (int(right - left), int(bottom - top))

    stencil = aggdraw.Draw("L", window, 0)
    for outline in layer.outlines:
        polygon(stencil, outline - corner, 255)
    covered = Image.frombytes("L", window, stencil.tobytes())

    if layer.fade is not None:
        ramp = _ramp(layer.fade - corner, window)
        ramp[picture.mask[top:bottom, left:right] == 0] = 1  # the ground must not show through
        covered = Image.fromarray((np.asarray(covered) * ramp).astype(np.uint8))

    coat = aggdraw.Draw("RGB", window, layer.color)
    for outline, color in layer.markings:
        polygon(coat, outline - corner, color)
    if len(layer.hairs):
        pens = aggdraw.Pen("black", layer.hair_width, 30), aggdraw.Pen("white", layer.hair_width, 56)
        for i, line in enumerate((layer.hairs - np.tile(corner, 2)).tolist()):
            coat.line(line, pens[i % 2])

    light = aggdraw.Draw("L", window, layer.rim)
    for outline, brightness in layer.modelling:
        polygon(light, outline - corner, (brightness,) * 3)
    soft = Image.frombytes("L", window, light.tobytes()).filter(ImageFilter.BoxBlur(layer.softness))

    corner = (int(left), int(top))
    picture.colors.paste(Image.frombytes("RGB", window, coat.tobytes()), corner, covered)
    picture.shading.paste(soft, corner, covered)
    inside = np.asarray(covered) >= 128
    picture.mask[top:bottom, left:right][inside] = PARTS.index(layer.part)


def paint_details(picture: Picture, part: str, details: list[tuple[np.ndarray, Color, int]]) -> None:
    """Paint small shapes (outline (M, 2), colour, opacity 0 to 255); they are of the part also where they stick out."""
    left, top = np.maximum(np.floor(np.min([o.min(0) for o, *_ in details], axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(np.max([o.max(0) for o, *_ in details], axis=0)).astype(int) + 2, picture.size)
    if left >= right or top >= bottom:
        return
    corner, window = np.array([left, top]), (int(right - left), int(bottom - top))
    box = (int(left), int(top), int(right), int(bottom))
    draw, stencil = aggdraw.Draw(picture.colors.crop(box)), aggdraw.Draw("L", window, 0)
    for outline, color, opacity in details:
        polygon(draw, outline - corner, color, opacity)
        polygon(stencil, outline - corner, 255)
    picture.colors.paste(Image.frombytes("RGB", window, draw.tobytes()), box)
    inside = np.frombuffer(stencil.tobytes(), np.uint8).reshape(window[::-1]) >= 128
    picture.mask[top:bottom, left:right][inside] = PARTS.index(part)
