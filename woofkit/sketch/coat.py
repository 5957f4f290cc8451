"""Coats: the colours of one dog, and how its hair changes an outline."""

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from woofkit.sketch.geometry import capsule_outlines, neighbours, smooth, unit
from woofkit.sketch.layers import Color, Layer, Shape, Shapes
from woofkit.sketch.traits import COLORS, Traits


class Coat(NamedTuple):
    """The coat of one dog: colours (RGB 0 to 255) and hair (lengths in dog units)."""

    base: Color
    marking: Color
    white: Color
    length: float
    spacing: float
    hang: float
    bulk: float  # how much the hair thickens the trunk
    hairs: float  # how many hairs are drawn
    soft: bool  # round tufts


def build_coat(t: Traits, rng: np.random.Generator) -> Coat:
    """Colour and comb one dog; two dogs of a breed differ in shade, two whites hardly."""
    shift = rng.normal(0, 1, 9)
    base, marking = vary(COLORS[t.coat_color], shift[0:3]), vary(COLORS[t.marking_color], shift[3:6])
    white = vary(COLORS["white"], 0.5 * shift[6:9])
    amount = t.coat_length
    hair = {  # length, spacing, hang, bulk, hairs
        "smooth": (0.004 + 0.030 * amount, 0.032, 0.0, 0.0, 0.5),
        "wiry": (0.014 + 0.045 * amount, 0.030, 0.03 * amount, 0.02 * amount, 1.3),
        "silky": (0.010 + 0.045 * amount, 0.048, 0.02 + 0.20 * amount**2, 0.03 * amount, 1.2),
        "fluffy": (0.014 + 0.030 * amount, 0.075, 0.05 * amount, 0.06 * amount, 1.0),
    }[t.coat_texture]
    return Coat(base, marking, white, *hair, soft=t.coat_texture == "fluffy")


def vary(color: Color, shift: np.ndarray) -> Color:
    """Move a colour by normal steps (3,) of hue, saturation and brightness."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in color))
    hue = (hue + 0.008 * shift[0]) % 1
    saturation = float(np.clip(saturation * (1 + 0.11 * shift[1]), 0, 1))
    value = float(np.clip(value * np.exp(0.10 * shift[2]), 0.1, 0.97))
    return tuple(int(round(255 * c)) for c in colorsys.hsv_to_rgb(hue, saturation, value))


def scaled(color: Color, factor: float) -> Color:
    """Return the colour made darker (factor < 1) or lighter."""
    return tuple(int(min(255, max(0, c * factor))) for c in color)


def mixed(one: Color, other: Color, amount: float) -> Color:
    """Return `one` turned into `other` by `amount` (0 to 1)."""
    return tuple(int(a + (b - a) * amount) for a, b in zip(one, other, strict=True))


class Hair(NamedTuple):
    """How the hair of one piece differs from the coat's: three factors, and the brightness of the piece's edge."""

    length: float
    hang: float
    number: float
    rim: int


@dataclass(frozen=True)
class Fur:
    """What all pieces of a dog share: its coat, the pixels per dog unit, the light and the random numbers of the hair.

    `light` (2,) points from the dog to the light; the hair lies along `flow` (2,).
    """

    coat: Coat
    scale: float
    light: np.ndarray
    flow: tuple[float, float]
    rng: np.random.Generator

    def layer(self, part: str, near: float, discs: np.ndarray, color: Color, hair: Hair, marks: Shapes = ()) -> Layer:
        """Make a layer out of discs (K, 2, 3): furry outlines, round modelling, hairs along the flow."""
        # The outlines, then all the wide inner ones, then all the narrow ones: nested brightness, one soft slope.
        nested = np.tile(discs, (3, 1, 1))
        inset = np.repeat([1.0, 0.78, 0.48], len(discs))
        if part == "legs":
            inset[len(discs)] = 1.1  # without a dark rim: an upper leg is one with the trunk
        move = 0.30 * (1 - np.minimum(inset, 1)) * nested[..., 2].sum(1)
        nested[..., :2] += move[:, None, None] * self.light
        nested[..., 2] *= inset[:, None]
        outlines, wide, narrow = capsule_outlines(nested).reshape(3, len(discs), -1, 2)
        if self.coat.length * hair.length * self.scale > 0.9:
            outlines = [self.furry(outline, hair.length, hair.hang) for outline in outlines]
        modelling = [Shape(outline, (215,) * 3) for outline in wide]
        modelling += [Shape(outline, (250,) * 3) for outline in narrow]
        softness = float(max(1.0, 0.16 * discs[..., 2].max()))
        hairs, hair_width = self._hairs(discs, hair.number), max(0.6, 0.007 * self.scale)
        return Layer(part, near, outlines, color, marks, modelling, hair.rim, softness, hairs, hair_width)

    def furry(self, outline: np.ndarray, length: float, hang: float) -> np.ndarray:
        """Return the outline (M, 2) with tufts of `length` times the coat's; those that point down hang."""
        length, hang = self.coat.length * length * self.scale, self.coat.hang * hang * self.scale
        closed = np.concatenate([outline, outline[:1]])
        steps = closed[1:] - closed[:-1]
        along = np.concatenate([[0], np.sqrt((steps * steps).sum(1)).cumsum()])
        lobes = max(4, int(along[-1] / max(self.coat.spacing * self.scale, 1.0)))
        jitter, grow = self.rng.uniform(-0.35, 0.35, 2 * lobes), self.rng.uniform(0, 1, 2 * lobes)
        at = (np.arange(2 * lobes) + jitter) * (along[-1] / (2 * lobes))
        points = np.stack([np.interp(at, along, closed[:, 0]), np.interp(at, along, closed[:, 1])], axis=1)
        before, after = neighbours(points, -1), neighbours(points, 1)
        normal = unit((after - before)[:, ::-1] * [1, -1])
        if (points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1]).sum() < 0:  # the line runs counter-clockwise
            normal = -normal
        down = np.maximum(normal[:, 1:], 0)
        lean = normal + np.array(self.flow)
        lean[:, 1:] += 1.2 * down * min(hang / max(length, 1e-6), 1.0)
        factor = np.empty((2 * lobes, 1))
        factor[::2, 0] = 0.6 + 0.55 * grow[::2]
        factor[1::2, 0] = -0.1 + 0.35 * grow[1::2]
        if hang > length:  # between two tips a hanging coat still reaches most of the way down
            factor[1::2] = np.maximum(factor[1::2], 0.72 * down[1::2])
        grown = points + unit(lean) * ((length + hang * down * down) * factor)
        return smooth(grown, 3) if self.coat.soft else grown

    def _hairs(self, discs: np.ndarray, amount: float) -> np.ndarray:
        """Return lines (N, 4) from points spread evenly over the discs."""
        coat, rng = self.coat, self.rng
        number = int(26 * coat.hairs * amount)
        steps, width = discs[:, 1] - discs[:, 0], discs[..., 2].sum(1)
        weight = width * (np.hypot(steps[:, 0], steps[:, 1]) + width)
        chance = rng.uniform(0, 1, (5, number))
        chosen = np.searchsorted(weight.cumsum() / weight.sum(), chance[0]).clip(max=len(discs) - 1)
        circles = discs[chosen, 0] + steps[chosen] * chance[1][:, None]  # (N, 3), somewhere along the discs
        angle, radius = 2 * np.pi * chance[2], circles[:, 2] * np.sqrt(chance[3])
        start = circles[:, :2] + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        lean = np.array(self.flow) + [0, 0.5] + rng.normal(0, 0.35, (number, 2))
        reach = (0.03 + 1.1 * coat.length + 0.35 * coat.hang) * self.scale * (0.5 + 0.7 * chance[4][:, None])
        return np.hstack([start, start + lean * reach])
