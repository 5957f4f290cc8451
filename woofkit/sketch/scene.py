"""Where the dog is: indoors, on grass, in snow or on sand, among other things; none of it depends on the breed."""

import aggdraw
import numpy as np
from PIL import Image

from woofkit.sketch.coat import mixed
from woofkit.sketch.geometry import smooth
from woofkit.sketch.layers import FULL_LIGHT, Color, Picture, Shape, fill, outlined, stencil

PLACES = ("indoor", "grass", "snow", "sand")
UNSEEN_PLACE = "water"  # the shallows of a lake; drawn only where it is asked for, so no model has learned it
_WALLS = ((206, 198, 180), (170, 186, 190), (196, 160, 150), (150, 160, 130), (226, 222, 214), (120, 128, 150))
_FLOORS = ((150, 110, 76), (110, 84, 64), (180, 160, 140), (120, 124, 130), (160, 90, 80), (204, 190, 166))
_FAR = {"indoor": _WALLS, "grass": ((176, 208, 226),), "snow": ((186, 202, 220),), "sand": ((150, 196, 222),)}
_FAR[UNSEEN_PLACE] = ((206, 206, 212),)
_NEAR = {"indoor": _FLOORS, "grass": ((112, 150, 74),), "snow": ((232, 236, 242),), "sand": ((216, 190, 142),)}
_NEAR[UNSEEN_PLACE] = ((62, 128, 156),)
_HORIZON = {"grass": (70, 104, 62), "snow": (150, 168, 184), "sand": (86, 140, 170), UNSEEN_PLACE: (92, 96, 74)}


def _any_color(rng: np.random.Generator) -> Color:
    """Return a colour for a thing; dog colours are among them, so that colour alone tells nothing."""
    if rng.uniform() < 0.45:
        shade = rng.uniform(0.2, 1.0)
        return tuple(int(shade * c) for c in ((240, 210, 170), (200, 130, 70), (235, 235, 235))[rng.integers(3)])
    return tuple(int(c) for c in rng.integers(40, 230, 3))


def _jitter(color: Color, rng: np.random.Generator) -> Color:
    moved = np.array(color) * rng.uniform(0.72, 1.12) + rng.normal(0, 8, 3)
    return tuple(int(c) for c in np.clip(moved, 8, 250))


def _blob(center: np.ndarray, radius: float, flat: float, rng: np.random.Generator) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    reach = radius * rng.uniform(0.75, 1.2, 8)
    return smooth(center + np.stack([reach * np.cos(angle), flat * reach * np.sin(angle)], axis=1), 4)


def _gradient(color: Color, other: Color, amount: np.ndarray, size: int) -> Image.Image:
    """Return an RGB picture `size` wide: `color` turning into `other` by `amount` (N,) from row to row."""
    amount = np.minimum(amount, 1)[:, None, None]
    rows = (np.array(color) * (1 - amount) + np.array(other) * amount).astype(np.uint8)
    return Image.fromarray(np.repeat(rows, size, axis=1))


def _box(x: float, y: float, w: float, h: float, color: Color) -> Shape:
    return Shape(np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]), color)


def draw_background(size: int, place: str, ground: float, rng: np.random.Generator) -> Image.Image:
    """Return an RGB picture of a place; `ground` (0 to 1, from the top) is the row where the ground begins."""
    wall, floor = (choices[place][rng.integers(len(choices[place]))] for choices in (_FAR, _NEAR))
    wall, floor = _jitter(wall, rng), _jitter(floor, rng)
    picture = _gradient(wall, (255, 255, 255), np.linspace(0, 0.2, size) / ground, size)
    draw = aggdraw.Draw(picture)
    _draw_far(draw, size, place, ground * size, wall, rng)
    draw.flush()
    below = round(ground * size)
    picture.paste(_gradient(floor, (30, 30, 30), np.linspace(0.22, 0, size - below), size), (0, below))
    draw = aggdraw.Draw(picture)
    _draw_near(draw, size, place, ground * size, floor, rng)
    draw.flush()
    return picture


def _draw_far(draw: aggdraw.Draw, size: int, place: str, ground: float, wall: Color, rng: np.random.Generator) -> None:
    """Draw what stands on the far edge of the ground, before a wall or the sky."""
    if place == "indoor":
        for _ in range(rng.integers(0, 4)):  # pictures, windows, cupboards
            x, w, h = rng.uniform(-0.1, 0.9) * size, rng.uniform(0.12, 0.4) * size, rng.uniform(0.12, 0.5) * size
            y = rng.uniform(-0.1, 0.4) * size if rng.uniform() < 0.5 else ground - h
            color = _any_color(rng)
            inner = mixed(color, (240, 240, 235), rng.uniform(0.1, 0.6))
            fill(draw, [_box(x, y, w, h, color), _box(x + 0.1 * w, y + 0.1 * h, 0.8 * w, 0.8 * h, inner)])
        board = mixed(wall, (255, 255, 255), rng.uniform(-0.4, 0.6))
        fill(draw, [_box(0, ground - 0.025 * size, size, 0.025 * size, board)])
        return
    if place == "sand" and rng.uniform() < 0.7:  # the sea
        fill(draw, [_box(0, ground - rng.uniform(0.05, 0.2) * size, size, size, _jitter(_HORIZON[place], rng))])
    else:
        hills = np.cumsum(rng.normal(0, 0.03, 9)) * size + ground - rng.uniform(0.03, 0.3) * size
        line = np.stack([np.linspace(-5, size + 5, 9), hills], axis=1)
        fill(draw, [Shape(np.vstack([line, [[size + 5, size], [-5, size]]]), _jitter(_HORIZON[place], rng))])
    for _ in range(rng.integers(0, 6)):  # trees and bushes
        x, height = rng.uniform(0, size), rng.uniform(0.1, 0.5) * size
        green = _jitter((64, 92, 58), rng)
        if place == "snow":
            for k in range(3):
                y, w = ground - height * (0.25 + 0.25 * k), height * (0.32 - 0.08 * k)
                fill(draw, [Shape(np.array([[x - w, y], [x, y - 0.4 * height], [x + w, y]]), mixed(green, wall, 0.3))])
        else:
            trunk = [[x, ground + 2, 0.06 * height], [x, ground - 0.5 * height, 0.04 * height]]
            fill(draw, outlined([trunk], _jitter((96, 74, 54), rng)))
            fill(draw, [Shape(_blob(np.array([x, ground - 0.7 * height]), 0.36 * height, 1, rng), green)])


def _draw_near(
    draw: aggdraw.Draw, size: int, place: str, ground: float, floor: Color, rng: np.random.Generator
) -> None:
    """Draw what lies or grows on the ground."""
    if place != "indoor":  # blades of grass, strokes in the snow or the sand, waves; dark and light by turns
        number = {"grass": 70, "snow": 14, "sand": 40, UNSEEN_PLACE: 50}[place]
        x, y = rng.uniform(0, size, number), rng.uniform(ground, size, number)
        height = rng.uniform(0.01, 0.05, number) * size * (1 if place == "grass" else 0.25)
        tip = x + 0.3 * height * np.where(np.arange(number) % 3, 1, -2) + (0 if place == "grass" else 2 * height)
        shades = mixed(floor, (20, 40, 10), 0.35), mixed(floor, (250, 250, 210), 0.35)
        pens = [aggdraw.Pen(shade, max(0.7, 0.006 * size)) for shade in shades]
        for i, line in enumerate(np.column_stack([x, y, tip, y - height]).tolist()):
            draw.line(line, pens[i % 2])
    elif rng.uniform() < 0.6:  # a rug
        center = np.array([rng.uniform(0.2, 0.8) * size, rng.uniform(ground, size)])
        fill(draw, [Shape(_blob(center, rng.uniform(0.25, 0.6) * size, 0.3, rng), _any_color(rng))])
    else:  # floorboards
        pen = aggdraw.Pen(mixed(floor, (20, 20, 20), 0.3), max(0.6, size / 224))
        for y in np.linspace(ground, size, 6)[1:].tolist():
            draw.line([0, y, size, y], pen)
    for _ in range(rng.integers(0, 4)):  # toys, stones, cushions
        center, r = np.array([rng.uniform(0, size), rng.uniform(ground, size)]), rng.uniform(0.02, 0.1) * size
        shape = _blob(center, r, rng.uniform(0.4, 1), rng)
        fill(draw, [Shape(shape + [0, 0.25 * r], (0, 0, 0), 50), Shape(shape, _any_color(rng))])


def draw_shadow(picture: Image.Image, center: np.ndarray, width: float, rng: np.random.Generator) -> None:
    """Darken the ground under the dog."""
    draw = aggdraw.Draw(picture)
    fill(draw, [Shape(_blob(center, factor * width, 0.16, rng), (0, 0, 0), 26) for factor in (1.0, 0.8, 0.6)])
    draw.flush()


def draw_occluders(picture: Picture, feet: float, rng: np.random.Generator) -> None:
    """Put something in front of about a third of the dogs; what it hides becomes background in the mask."""
    if rng.uniform() > 0.36:
        return
    size = len(picture.mask)
    draw = aggdraw.Draw(picture.colors)
    kind = rng.integers(5)
    color, x = _any_color(rng), rng.uniform(0.1, 0.9) * size
    things: list[Shape] = []
    if kind == 0:  # grass or flowers in front of the feet
        green = _jitter((90, 120, 60), rng)
        for _ in range(26):
            foot = np.array([rng.uniform(0, size), rng.uniform(feet, feet + 0.1 * size)])
            blade = np.array([[-1.5, 0], [rng.uniform(-8, 8), -rng.uniform(14, 46)], [1.5, 0]]) * size / 224
            things.append(Shape(foot + blade, _jitter(green, rng)))
    elif kind == 1:  # a post or a leash
        width, lean = rng.uniform(0.012, 0.06) * size, rng.uniform(-0.25, 0.25) * size
        things += outlined([[[x, -9.0, width], [x + lean, size + 9.0, width]]], color)
    elif kind == 2:  # a ball, a box, a stone
        center = np.array([x, min(feet, size) - rng.uniform(-0.05, 0.08) * size])
        things.append(Shape(_blob(center, rng.uniform(0.05, 0.13) * size, rng.uniform(0.6, 1), rng), color))
    elif kind == 3:  # leaves reaching in from a side
        edge = np.array([size * rng.integers(2), rng.uniform(0, 0.8) * size])
        for _ in range(9):
            tip = edge + rng.normal(0, 0.13, 2) * size
            end = tip + rng.normal(0, 0.06, 2) * size
            things += outlined([[[*tip, 0.028 * size], [*end, 0.005 * size]]], _jitter((74, 110, 56), rng))
    else:  # the edge of a table or a wall
        top = size - rng.uniform(0.04, 0.16) * size * np.array([1, 0.8])
        things.append(Shape(np.array([[0, top[0]], [size, top[1]], [size, size], [0, size]]), color))
    fill(draw, things)
    draw.flush()
    covered = stencil([thing.outline for thing in things], (size, size))
    picture.shading.paste(FULL_LIGHT, (0, 0), covered)
    picture.mask[np.asarray(covered) >= 128] = 0
