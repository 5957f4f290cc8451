"""A layer: one part of the dog as outlines, colour, markings and hairs, painted onto picture, shading and mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import aggdraw
import numpy as np
from PIL import Image, ImageFilter

from woofkit.sketch.geometry import capsule_outlines

PARTS = ("background", "body", "head", "ears", "legs", "tail")  # the value in a mask is the position here

FULL_LIGHT = 235  # the brightness of what is not modelled: ground, walls, things

Color = tuple[int, int, int]


class Shape(NamedTuple):
    """An outline (M, 2) in pixels, what fills it, and its opacity (0 to 255)."""

    outline: np.ndarray
    color: Color
    opacity: int = 255


Shapes = Sequence[Shape]


@dataclass(eq=False)
class Layer:
    """One piece of a part: drawn together, hiding what is further away.

    Outlines are (M, 2) in pixels. `modelling` are inner shapes in greys, painted over the brightness of the edge
    (`rim`, 0 to 255) and then softened, so that the piece looks round. Hairs are (K, 4) lines, dark and light by turns.
    `fade` is two points (2, 2): on other parts of the dog the layer is see-through at the first, whole from the
    second on, so that a leg grows out of the trunk without an edge.
    """

    part: str
    near: float
    outlines: Sequence[np.ndarray]
    color: Color
    markings: Shapes
    modelling: Shapes
    rim: int
    softness: float
    hairs: np.ndarray | None = None
    hair_width: float = 1.0
    fade: np.ndarray | None = None


class Picture(NamedTuple):
    """What is painted on: colours (RGB), brightness (L) multiplied in at the end, and the mask of parts."""

    colors: Image.Image
    shading: Image.Image
    mask: np.ndarray


def outlined(discs: Sequence, color: Color, opacity: int = 255) -> list[Shape]:
    """Return each disc of (K, 2, 3) as a shape."""
    return [Shape(outline, color, opacity) for outline in capsule_outlines(np.array(discs))]


def fill(draw: aggdraw.Draw, shapes: Shapes, corner: tuple[int, int] = (0, 0)) -> None:
    """Fill shapes on a canvas whose upper left corner is at `corner` (column, row) of the picture."""
    for outline, color, opacity in shapes:
        draw.polygon((outline - corner).ravel().tolist(), aggdraw.Brush(color, opacity))


def stencil(outlines: Sequence[np.ndarray], size: tuple[int, int], corner: tuple[int, int] = (0, 0)) -> Image.Image:
    """Return an L picture of `size` (width, height): 255 inside the outlines, 0 outside, between on their edges."""
    draw = aggdraw.Draw("L", size, 0)
    fill(draw, [Shape(outline, (255, 255, 255)) for outline in outlines], corner)
    return Image.frombytes("L", size, draw.tobytes())


def _ramp(ends: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return float32 (H, W) that grows from 0 at the first end to 1 at the second, along the line between them."""
    (column, row), along = ends[0], ends[1] - ends[0]
    along = along / max(float(along @ along), 1e-6)
    across = (np.arange(size[0], dtype=np.float32) - column) * along[0]
    down = (np.arange(size[1], dtype=np.float32) - row) * along[1]
    return np.clip(across[None, :] + down[:, None], 0, 1).astype(np.float32)


def _crop(picture: Picture, outlines: Sequence[np.ndarray]) -> tuple[tuple[int, int], tuple[int, int], np.ndarray]:
    """Return where the outlines lie in the picture: the upper left corner, the size, and that part of the mask."""
    points = np.concatenate(outlines)
    left, top = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0).tolist()
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int) + 2, picture.colors.size).tolist()
    mask = picture.mask[top : max(top, bottom), left : max(left, right)]
    return (left, top), mask.shape[::-1], mask


def paint(picture: Picture, layer: Layer) -> None:
    """Paint a layer over the picture; a pixel is the part's where the layer covers at least half of it."""
    corner, size, mask = _crop(picture, layer.outlines)
    if not mask.size:
        return
    covered = stencil(layer.outlines, size, corner)
    if layer.fade is not None:
        ramp = _ramp(layer.fade - corner, size)
        ramp[mask == 0] = 1  # the ground must not show through
        covered = Image.fromarray((np.asarray(covered) * ramp).astype(np.uint8))

    coat = aggdraw.Draw("RGB", size, layer.color)
    fill(coat, layer.markings, corner)
    if layer.hairs is not None:
        pens = aggdraw.Pen("black", layer.hair_width, 30), aggdraw.Pen("white", layer.hair_width, 56)
        for i, line in enumerate((layer.hairs - np.tile(corner, 2)).tolist()):
            coat.line(line, pens[i % 2])

    light = aggdraw.Draw("L", size, layer.rim)
    fill(light, layer.modelling, corner)
    soft = Image.frombytes("L", size, light.tobytes()).filter(ImageFilter.BoxBlur(layer.softness))

    picture.colors.paste(Image.frombytes("RGB", size, coat.tobytes()), corner, covered)
    picture.shading.paste(soft, corner, covered)
    mask[np.asarray(covered) >= 128] = PARTS.index(layer.part)


def paint_details(picture: Picture, part: str, details: Shapes) -> None:
    """Paint small shapes; they are of the part also where they stick out."""
    outlines = [detail.outline for detail in details]
    corner, size, mask = _crop(picture, outlines)
    if mask.size:
        draw = aggdraw.Draw(picture.colors.crop((*corner, corner[0] + size[0], corner[1] + size[1])))
        fill(draw, details, corner)
        picture.colors.paste(Image.frombytes("RGB", size, draw.tobytes()), corner)
        mask[np.asarray(stencil(outlines, size, corner)) >= 128] = PARTS.index(part)
