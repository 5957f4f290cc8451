"""A layer: one part of the dog as outlines, colour, markings and hairs, painted onto picture, shading and mask."""

from collections.abc import Iterable
from dataclasses import dataclass

import aggdraw
import numpy as np
from PIL import Image, ImageFilter

from woofkit.sketch.geometry import capsule_outlines

PARTS = ("background", "body", "head", "ears", "legs", "tail")  # the value in a mask is the position here

FULL_LIGHT = 235  # the brightness of what is not modelled: ground, walls, things

Color = tuple[int, int, int]
Marking = tuple[np.ndarray, Color]  # an outline (M, 2) in pixels and what fills it
Detail = tuple[np.ndarray, Color, int]  # an outline (M, 2), its colour, its opacity (0 to 255)


@dataclass(eq=False)
class Layer:
    """One piece of a part: drawn together, hiding what is further away.

    Outlines are (M, 2) in pixels. `modelling` are inner outlines painted with a brightness of 0 to 255, over the
    edge's `rim`, and then softened, which makes the piece look round. Hairs are (K, 4) lines, dark and light by turns.
    `fade` is two points (2, 2): on other parts of the dog the layer is see-through at the first, whole from the
    second on, so that a leg grows out of the trunk without an edge.
    """

    part: str
    near: float
    outlines: Iterable[np.ndarray]
    color: Color
    markings: list[Marking]
    modelling: list[tuple[np.ndarray, int]]
    rim: int
    softness: float
    hairs: np.ndarray | None = None
    hair_width: float = 1.0
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

    def window(self, outlines: Iterable[np.ndarray]) -> tuple[int, int, int, int] | None:
        """Return left, top, right and bottom of what holds the outlines, or None where they lie outside the picture."""
        points = np.concatenate(list(outlines))
        left, top = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0).tolist()
        right, bottom = np.minimum(np.ceil(points.max(0)).astype(int) + 2, self.size).tolist()
        return (left, top, right, bottom) if left < right and top < bottom else None


def outlined(discs: Iterable[np.ndarray], color: Color) -> list[Marking]:
    """Return each disc of (K, 6) as a marking of that colour."""
    return [(outline, color) for outline in capsule_outlines(np.array(discs))]


def polygon(draw: aggdraw.Draw, outline: np.ndarray, color: Color | int, opacity: int = 255) -> None:
    """Fill an outline (M, 2)."""
    draw.polygon(outline.ravel().tolist(), aggdraw.Brush(color, opacity))


def stencil(outlines: Iterable[np.ndarray], size: tuple[int, int]) -> Image.Image:
    """Return an L picture of `size` (width, height): 255 inside the outlines, 0 outside, between on their edges."""
    draw = aggdraw.Draw("L", size, 0)
    for outline in outlines:
        polygon(draw, outline, 255)
    return Image.frombytes("L", size, draw.tobytes())


def _ramp(ends: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return float32 (H, W) that grows from 0 at the first end to 1 at the second, along the line between them."""
    (column, row), along = ends[0], ends[1] - ends[0]
    along = along / max(float(along @ along), 1e-6)
    across = (np.arange(size[0], dtype=np.float32) - column) * along[0]
    down = (np.arange(size[1], dtype=np.float32) - row) * along[1]
    return np.clip(across[None, :] + down[:, None], 0, 1).astype(np.float32)


def paint(picture: Picture, layer: Layer) -> None:
    """Paint a layer over the picture; a pixel is the part's where the layer covers at least half of it."""
    window = picture.window(layer.outlines)
    if window is None:
        return
    left, top, right, bottom = window
    corner, size, mask = (left, top), (right - left, bottom - top), picture.mask[top:bottom, left:right]
    covered = stencil((outline - corner for outline in layer.outlines), size)
    if layer.fade is not None:
        ramp = _ramp(layer.fade - corner, size)
        ramp[mask == 0] = 1  # the ground must not show through
        covered = Image.fromarray((np.asarray(covered) * ramp).astype(np.uint8))

    coat = aggdraw.Draw("RGB", size, layer.color)
    for outline, color in layer.markings:
        polygon(coat, outline - corner, color)
    if layer.hairs is not None:
        pens = aggdraw.Pen("black", layer.hair_width, 30), aggdraw.Pen("white", layer.hair_width, 56)
        for i, line in enumerate((layer.hairs - np.tile(corner, 2)).tolist()):
            coat.line(line, pens[i % 2])

    light = aggdraw.Draw("L", size, layer.rim)
    for outline, brightness in layer.modelling:
        polygon(light, outline - corner, (brightness,) * 3)
    soft = Image.frombytes("L", size, light.tobytes()).filter(ImageFilter.BoxBlur(layer.softness))

    picture.colors.paste(Image.frombytes("RGB", size, coat.tobytes()), corner, covered)
    picture.shading.paste(soft, corner, covered)
    mask[np.asarray(covered) >= 128] = PARTS.index(layer.part)


def paint_details(picture: Picture, part: str, details: list[Detail]) -> None:
    """Paint small shapes; they are of the part also where they stick out."""
    outlines = [outline for outline, *_ in details]
    window = picture.window(outlines)
    if window is None:
        return
    left, top, right, bottom = window
    corner, size = (left, top), (right - left, bottom - top)
    draw = aggdraw.Draw(picture.colors.crop(window))
    for outline, color, opacity in details:
        polygon(draw, outline - corner, color, opacity)
    picture.colors.paste(Image.frombytes("RGB", size, draw.tobytes()), window)
    covered = stencil((outline - corner for outline in outlines), size)
    picture.mask[top:bottom, left:right][np.asarray(covered) >= 128] = PARTS.index(part)
