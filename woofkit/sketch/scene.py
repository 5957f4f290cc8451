"""Where the dog is: indoors, on grass, in snow or on sand, with things about; none of it depends on the breed."""

from __future__ import annotations

from functools import partial

import aggdraw
import numpy as np
from PIL import Image

from woofkit.sketch.geometry import capsule_outline, smooth
from woofkit.sketch.layers import FULL_LIGHT, Color, Picture, polygon

PLACES = ("indoor", "grass", "snow", "sand")
_FAR = {"grass": (176, 208, 226), "snow": (186, 202, 220), "sand": (150, 196, 222)}
_NEAR = {"grass": (112, 150, 74), "snow": (232, 236, 242), "sand": (216, 190, 142)}
_INDOOR_WALL = ((206, 198, 180), (170, 186, 190), (196, 160, 150), (150, 160, 130), (226, 222, 214), (120, 128, 150))
_INDOOR_FLOOR = ((150, 110, 76), (110, 84, 64), (180, 160, 140), (120, 124, 130), (160, 90, 80), (204, 190, 166))


def _any_color(rng: np.random.Generator) -> Color:
    """Return a colour for a thing; dog colours are among them, so that colour alone tells nothing."""
    if rng.uniform() < 0.45:
        shade = rng.uniform(0.2, 1.0)
        return tuple(int(shade * c) for c in ((240, 210, 170), (200, 130, 70), (235, 235, 235))[rng.integers(3)])
    return tuple(int(c) for c in rng.integers(40, 230, 3))


def _jitter(color: Color, rng: np.random.Generator) -> Color:
    moved = np.array(color) * rng.uniform(0.72, 1.12) + rng.normal(0, 8, 3)
    return tuple(int(c) for c in np.clip(moved, 8, 250))


def _mixed(a: Color, b: Color, amount: float) -> Color:
    return tuple(int(x + (y - x) * amount) for x, y in zip(a, b, strict=True))


def draw_background(size: int, place: str, ground: float, rng: np.random.Generator) -> Image.Image:
    """Return an RGB picture of a place; `ground` (0 to 1, from the top) is the row where the ground begins."""
    wall = _INDOOR_WALL[rng.integers(len(_INDOOR_WALL))] if place == "indoor" else _FAR[place]
    floor = _INDOOR_FLOOR[rng.integers(len(_INDOOR_FLOOR))] if place == "indoor" else _NEAR[place]
    wall, floor = _jitter(wall, rng), _jitter(floor, rng)
    row, below = ground * size, round(ground * size)
    far = np.repeat(_gradient(wall, (255, 255, 255), np.linspace(0, 0.2, size) / ground), size, axis=1)
    draw = aggdraw.Draw(Image.fromarray(far))
    _far_things(draw, partial(_box, draw), size, place, row, wall, rng)
    draw.flush()

    near = np.repeat(_gradient(floor, (30, 30, 30), np.linspace(0.22, 0, size - below)), size, axis=1)
    picture = Image.frombytes("RGB", (size, size), draw.tobytes())
    picture.paste(Image.fromarray(near), (0, below))
    draw = aggdraw.Draw(picture)
    _near_things(draw, partial(_box, draw), size, place, row, floor, rng)
    draw.flush()
    return picture


def _gradient(color: Color, other: Color, amount: np.ndarray) -> np.ndarray:
    """Return uint8 (N, 1, 3): `color` turning into `other` by `amount` (N,) from row to row."""
    amount = np.minimum(amount, 1)[:, None, None]
    return (np.array(color) * (1 - amount) + np.array(other) * amount).astype(np.uint8)


def _box(draw: aggdraw.Draw, x: float, y: float, w: float, h: float, color: Color) -> None:
    polygon(draw, np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]), color)


def _blob(center: np.ndarray, radius: float, flat: float, rng: np.random.Generator) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    reach = radius * rng.uniform(0.75, 1.2, 8)
    return smooth(center + np.stack([reach * np.cos(angle), flat * reach * np.sin(angle)], axis=1), 4)


def _far_things(draw, box, size, place, row, wall, rng) -> None:
    if place == "indoor":
        for _ in range(rng.integers(0, 4)):  # pictures, windows, cupboards
            x, w, h = rng.uniform(-0.1, 0.9) * size, rng.uniform(0.12, 0.4) * size, rng.uniform(0.12, 0.5) * size
            y = rng.uniform(-0.1, 0.4) * size if rng.uniform() < 0.5 else row - h
            color = _any_color(rng)
            box(x, y, w, h, color)
            box(x + 0.1 * w, y + 0.1 * h, 0.8 * w, 0.8 * h, _mixed(color, (240, 240, 235), rng.uniform(0.1, 0.6)))
        box(0, row - 0.025 * size, size, 0.025 * size, _mixed(wall, (255, 255, 255), rng.uniform(-0.4, 0.6)))
        return
    tint = {"grass": (70, 104, 62), "snow": (150, 168, 184), "sand": (86, 140, 170)}[place]
    if place == "sand" and rng.uniform() < 0.7:
        box(0, row - rng.uniform(0.05, 0.2) * size, size, size, _jitter(tint, rng))
    else:
        hills = np.cumsum(rng.normal(0, 0.03, 9)) * size + row - rng.uniform(0.03, 0.3) * size
        line = np.stack([np.linspace(-5, size + 5, 9), hills], axis=1)
        polygon(draw, np.vstack([line, [[size + 5, size], [-5, size]]]), _jitter(tint, rng))
    for _ in range(rng.integers(0, 6)):  # trees and bushes
        x, height = rng.uniform(0, size), rng.uniform(0.1, 0.5) * size
        green = _jitter((64, 92, 58), rng)
        if place == "snow":
            for k in range(3):
                y, w = row - height * (0.25 + 0.25 * k), height * (0.32 - 0.08 * k)
                polygon(draw, np.array([[x - w, y], [x, y - 0.4 * height], [x + w, y]]), _mixed(green, wall, 0.3))
        else:
            trunk = np.array([x, row + 2]), np.array([x, row - 0.5 * height])
            polygon(draw, capsule_outline(*trunk, 0.06 * height, 0.04 * height), _jitter((96, 74, 54), rng))
            polygon(draw, _blob(np.array([x, row - 0.7 * height]), 0.36 * height, 1, rng), green)


def _near_things(draw, box, size, place, row, floor, rng) -> None:
    if place == "indoor":
        if rng.uniform() < 0.6:  # a rug
            center = np.array([rng.uniform(0.2, 0.8) * size, rng.uniform(row, size)])
            polygon(draw, _blob(center, rng.uniform(0.25, 0.6) * size, 0.3, rng), _any_color(rng))
        else:
            pen = aggdraw.Pen(_mixed(floor, (20, 20, 20), 0.3), max(0.6, size / 224))
            for y in np.linspace(row, size, 6)[1:]:
                draw.line([0, float(y), size, float(y)], pen)
    else:
        number = {"grass": 70, "snow": 14, "sand": 40}[place]
        x, y = rng.uniform(0, size, number), rng.uniform(row, size, number)
        height = rng.uniform(0.01, 0.05, number) * size * (1 if place == "grass" else 0.25)
        pens = [
            aggdraw.Pen(_mixed(floor, other, 0.35), max(0.7, 0.006 * size)) for other in ((20, 40, 10), (250, 250, 210))
        ]
        for i, (a, b, h) in enumerate(zip(x.tolist(), y.tolist(), height.tolist(), strict=True)):
            draw.line([a, b, a + 0.3 * h * (1 if i % 3 else -2) + (place != "grass") * 2 * h, b - h], pens[i % 2])
    for _ in range(rng.integers(0, 4)):  # toys, stones, cushions
        center, r = np.array([rng.uniform(0, size), rng.uniform(row, size)]), rng.uniform(0.02, 0.1) * size
        shape = _blob(center, r, rng.uniform(0.4, 1), rng)
        polygon(draw, shape + [0, 0.25 * r], (0, 0, 0), 50)
        polygon(draw, shape, _any_color(rng))


def draw_shadow(picture: Image.Image, center: np.ndarray, width: float, rng: np.random.Generator) -> None:
    """Darken the ground under the dog."""
    draw = aggdraw.Draw(picture)
    for factor in (1.0, 0.8, 0.6):
        polygon(draw, _blob(center, factor * width, 0.16, rng), (0, 0, 0), 26)
    draw.flush()


def draw_occluders(picture: Picture, feet: float, rng: np.random.Generator) -> None:
    """Put something in front of about a third of the dogs; what it hides becomes background in the mask."""
    if rng.uniform() > 0.36:
        return
    size = picture.size
    kind = rng.integers(5)
    color, x = _any_color(rng), rng.uniform(0.1, 0.9) * size
    outlines: list[tuple[np.ndarray, Color]] = []
    if kind == 0:  # grass or flowers in front of the feet
        green = _jitter((90, 120, 60), rng)
        for _ in range(26):
            foot = np.array([rng.uniform(0, size), rng.uniform(feet, feet + 0.1 * size)])
            blade = np.array([[-1.5, 0], [rng.uniform(-8, 8), -rng.uniform(14, 46)], [1.5, 0]]) * size / 224
            outlines.append((foot + blade, _jitter(green, rng)))
    elif kind == 1:  # a post or a leash
        width = rng.uniform(0.012, 0.06) * size
        lean = rng.uniform(-0.25, 0.25) * size
        outlines.append((capsule_outline(np.array([x, -9.0]), np.array([x + lean, size + 9.0]), width, width), color))
    elif kind == 2:  # a ball, a box, a stone
        center = np.array([x, min(feet, size) - rng.uniform(-0.05, 0.08) * size])
        outlines.append((_blob(center, rng.uniform(0.05, 0.13) * size, rng.uniform(0.6, 1), rng), color))
    elif kind == 3:  # leaves reaching in from a side
        edge = np.array([size * rng.integers(2), rng.uniform(0, 0.8) * size])
        for _ in range(9):
            tip = edge + rng.normal(0, 0.13, 2) * size
            outlines.append(
                (
                    capsule_outline(tip, tip + rng.normal(0, 0.06, 2) * size, 0.028 * size, 0.005 * size),
                    _jitter((74, 110, 56), rng),
                )
            )
    else:  # the edge of a table or a wall
        height = rng.uniform(0.04, 0.16) * size
        outlines.append((np.array([[0, size - height], [size, size - height * 0.8], [size, size], [0, size]]), color))
    stencil, draw = aggdraw.Draw("L", (size, size), 0), aggdraw.Draw(picture.colors)
    for outline, fill in outlines:
        polygon(stencil, outline, 255)
        polygon(draw, outline, fill)
    draw.flush()
    covered = Image.frombytes("L", (size, size), stencil.tobytes())
    picture.shading.paste(FULL_LIGHT, (0, 0), covered)
    picture.mask[np.asarray(covered) >= 128] = 0
