"""Coats: the colours of one dog, and how its hair changes an outline."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from woofkit.sketch.geometry import capsule_outlines, furry
from woofkit.sketch.layers import Color, Disc, Layer
from woofkit.sketch.traits import Traits

PALETTE: dict[str, Color] = {
    "white": (240, 236, 228),
    "cream": (230, 212, 176),
    "golden": (214, 168, 98),
    "wheaten": (186, 130, 80),
    "ginger": (190, 116, 62),
    "tan": (176, 114, 66),
    "red": (146, 72, 42),
    "brown": (106, 70, 46),
    "grey": (128, 129, 134),
    "blue": (88, 98, 116),
    "black": (46, 44, 46),
}


@dataclass(frozen=True)
class Coat:
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
    amount = t.coat_length
    length, spacing, hang, bulk, hairs = {
        "smooth": (0.004 + 0.030 * amount, 0.032, 0.0, 0.0, 0.5),
        "wiry": (0.014 + 0.045 * amount, 0.030, 0.03 * amount, 0.02 * amount, 1.3),
        "silky": (0.010 + 0.045 * amount, 0.048, 0.02 + 0.20 * amount**2, 0.03 * amount, 1.2),
        "fluffy": (0.014 + 0.030 * amount, 0.075, 0.05 * amount, 0.06 * amount, 1.0),
    }[t.coat_texture]
    return Coat(
        base=vary(PALETTE[t.coat_color], shift[0:3]),
        marking=vary(PALETTE[t.marking_color], shift[3:6]),
        white=vary(PALETTE["white"], 0.5 * shift[6:9]),
        length=length,
        spacing=spacing,
        hang=hang,
        bulk=bulk,
        hairs=hairs,
        soft=t.coat_texture == "fluffy",
    )


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


def piece(
    part: str,
    near: float,
    discs: list[Disc],
    color: Color,
    coat: Coat,
    scale: float,
    rng: np.random.Generator,
    *,
    light: tuple[float, float],
    fur: float = 1.0,
    hang: float = 1.0,
    flow: tuple[float, float] = (0, 0),
    markings=(),
    hairs: float = 1.0,
    rim: int = 150,
    merged: int = 0,
    fade: np.ndarray | None = None,
) -> Layer:
    """Make a layer out of projected capsules: furry outline, round modelling, hairs along the flow.

    `discs` are (start (2,), end (2,), radius, radius) in pixels; `fur` and `hang` scale the coat's own
    lengths; `light` (2,) points from the dog to the light; the first `merged` discs get no dark rim;
    `fade` is the layer's.
    """
    length, drop = coat.length * fur * scale, coat.hang * hang * scale
    ends = np.array([[*p, *q, a, b] for p, q, a, b in discs])
    p, q, a, b = ends[:, :2], ends[:, 2:4], ends[:, 4], ends[:, 5]
    # The edge, then all the wide inner outlines, then all the narrow ones: nested brightness, one soft slope.
    # The first `merged` discs have no rim: an upper leg is one with the trunk.
    number = len(discs)
    insets = np.repeat([1.0, 0.78, 0.48], number)
    insets[number : number + merged] = 1.1
    p, q, a, b = np.tile(p, (3, 1)), np.tile(q, (3, 1)), np.tile(a, 3), np.tile(b, 3)
    move = (0.30 * (1 - np.minimum(insets, 1)) * (a + b))[:, None] * np.array(light)
    every = capsule_outlines(p + move, q + move, a * insets, b * insets)
    outlines = list(every[:number])
    if length > 0.9:
        outlines = [furry(o, length, coat.spacing * scale, drop, flow, rng, coat.soft) for o in outlines]
    modelling = [(outline, 215) for outline in every[number : 2 * number]]
    modelling += [(outline, 250) for outline in every[2 * number :]]
    lines = _hairs(ends, coat, scale, flow, hairs, rng)
    radius = float(ends[:, 4:].max())
    return Layer(
        part,
        near,
        outlines,
        color,
        list(markings),
        modelling,
        lines,
        hair_width=max(0.6, 0.007 * scale),
        rim=rim,
        softness=float(max(1.0, 0.16 * radius)),
        fade=fade,
    )


def _hairs(ends: np.ndarray, coat: Coat, scale: float, flow, amount: float, rng) -> np.ndarray:
    number = int(26 * coat.hairs * amount)
    if number < 1:
        return np.zeros((0, 4))
    width = ends[:, 4] + ends[:, 5]
    weight = width * (np.hypot(ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1]) + width)
    chance = rng.uniform(0, 1, (5, number))
    ends = ends[np.searchsorted(weight.cumsum() / weight.sum(), chance[0]).clip(max=len(ends) - 1)]
    t, angle, out = chance[1][:, None], 2 * np.pi * chance[2], chance[3]
    radius = (ends[:, 4] + (ends[:, 5] - ends[:, 4]) * t[:, 0]) * np.sqrt(out)
    start = (
        ends[:, :2]
        + (ends[:, 2:4] - ends[:, :2]) * t
        + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    )
    lean = np.array(flow) + [0, 0.5] + rng.normal(0, 0.35, (number, 2))
    reach = (0.03 + 1.1 * coat.length + 0.35 * coat.hang) * scale * (0.5 + 0.7 * chance[4][:, None])
    return np.hstack([start, start + lean * reach])
