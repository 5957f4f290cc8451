"""The head: skull, muzzle, ears, hair and face, placed by a turn of the head in space."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from woofkit.sketch.coat import Fur, Hair, mixed, scaled
from woofkit.sketch.geometry import View, smooth
from woofkit.sketch.layers import Layer, Picture, Shape, outlined, paint_details
from woofkit.sketch.traits import Traits

Point = tuple[float, float, float]
Turn = tuple[float, float, float]  # of the head: yaw from the trunk, nod and tilt in radians

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
SIDES = (1, -1)  # left and right
_RING = np.linspace(0, 2 * np.pi, 14, endpoint=False)


class Head:
    """The head's own axes: points are (forward, left, up) from its middle, in head radii.

    `px` is a head radius in pixels, `near` the nearness of the middle in dog units, `facing` how much the face looks at
    the viewer (-1 to 1).
    """

    def __init__(self, view: View, center: np.ndarray, radius: float, turn: Turn) -> None:
        self.view, self.center, self.radius, self.px = view, center, radius, radius * view.scale
        cy, sy, cn, sn, ct, st = (f(a) for a in turn for f in (np.cos, np.sin))
        yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        nod = np.array([[cn, 0, sn], [0, 1, 0], [-sn, 0, cn]])
        tilt = np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
        self.axes = yaw @ nod @ tilt
        self.near = float(view.project(center)[0, 2])
        self.facing = self.at((1, 0, 0))[0, 2]

    def at(self, *points: Point) -> np.ndarray:
        """Map points (N, 3) to (N, 3): column, row, and nearness to the viewer in head radii."""
        mapped = self.view.project(self.center + self.radius * (np.array(points, float) @ self.axes.T))
        mapped[:, 2] = (mapped[:, 2] - self.near) / self.radius
        return mapped

    def disc(self, a: Point, b: Point, ra: float, rb: float) -> np.ndarray:
        """Return the disc (2, 3) from `a` with radius `ra` to `b` with radius `rb`."""
        p, q = self.at(a, b)[:, :2]
        return np.array([[*p, ra * self.px], [*q, rb * self.px]])


def muzzle_size(t: Traits) -> tuple[float, float, float]:
    """Return the muzzle's length, its radius at the base and at the nose, in head radii."""
    return 0.45 + 1.15 * t.muzzle_length, 0.52 + 0.2 * t.muzzle_depth, 0.30 + 0.22 * t.muzzle_depth


def head_layers(t: Traits, head: Head, fur: Fur, ears_marked: bool) -> list[Layer]:
    """Return skull, muzzle, beard and ears, furthest first."""
    layers = [_skull(t, head, fur), *_muzzle(t, head, fur), *_ears(t, head, fur, ears_marked)]
    return sorted(layers, key=lambda layer: layer.near)


def _skull(t: Traits, head: Head, fur: Fur) -> Layer:
    wide = 0.12 + 0.42 * t.skull_width
    cheeks = [head.disc((0.05, side * wide, -0.12), (0.1, 0, 0), 0.72, 0.8) for side in (-1, 1)]
    skull = np.array([head.disc((0, 0, 0.05), (0.22, 0, 0.0), 0.92, 0.85), *cheeks])
    markings: list[Shape] = []
    if t.pattern == "patched":
        eyes = head.at((0.74, 0.40, 0.26), (0.74, -0.40, 0.26))[:, :2]
        for eye in eyes[fur.rng.permutation(2)[: 1 + int(fur.rng.uniform() < 0.7)]]:
            patch = [[*eye, 0.55 * head.px], [*(eye + [0, -0.3 * head.px]), 0.6 * head.px]]
            markings += outlined([patch], fur.coat.marking)
    if t.white > 0.3:
        blaze = head.disc((0.95, 0, -0.1), (0.55, 0, 0.85), 0.28, 0.10 + 0.08 * t.white)
        cheek = head.disc((0.6, 0, -0.55), (0.0, 0, -0.9), 0.5, 0.4)
        markings += outlined([blaze, cheek], fur.coat.white)
    plush = Hair(length=0.35 + 0.5 * (t.coat_texture == "fluffy"), hang=0.25, number=0.5, rim=150)
    return fur.layer("head", head.near, skull, fur.coat.base, plush, markings)


def _muzzle(t: Traits, head: Head, fur: Fur) -> list[Layer]:
    """Return the muzzle and, where there is one, the beard."""
    long, base, tip = muzzle_size(t)
    end = (0.62 + long, 0, -0.34)
    near = head.near + 0.4 * head.radius * head.at(end)[0, 2]
    color = fur.coat.white if t.white > 0.3 else fur.coat.base
    mask: list[Shape] = []
    if t.dark_mask > 0.15:
        dark = head.disc((0.75, 0, -0.34), (1.2 + long, 0, -0.36), base * 1.2, tip * 1.4)
        mask = outlined([dark], scaled(fur.coat.base, 1 - 0.6 * t.dark_mask))
    disc = head.disc((0.45, 0, -0.28), end, base, tip)
    muzzle = fur.layer("head", near, disc[None], color, Hair(length=0.25, hang=0.2, number=0.2, rim=160), mask)
    # It grows out of the skull, forward and down, without an edge between the eyes.
    muzzle.fade = head.at((0.35, 0, 0.3), (0.9, 0, -0.25))[:, :2]
    if t.beard <= 0.15:
        return [muzzle]
    mid, low = 0.5 * long, -0.5 - (0.25 + 0.75 * t.beard)
    locks = [head.disc((0.35 + mid, 0.35 * s, -0.45), (0.4 + mid, 0.5 * s, low), 0.42, 0.28) for s in (-1, 1)]
    hair = Hair(length=0.9, hang=0.25, number=0.5, rim=170)
    return [muzzle, fur.layer("head", near - 0.01, np.array(locks), scaled(color, 1.04), hair)]


def fringe_layers(t: Traits, head: Head, fur: Fur) -> list[Layer]:
    """Return the hair that falls over the eyes, if it does; it is painted over the face."""
    if t.fringe < 0.12 or head.facing < -0.3:
        return []
    low = 0.15 + (0.75 - 0.75 * t.fringe)
    top, *eyes = head.at((0.45, 0, 0.75), (0.72, 0.45, low), (0.72, -0.45, low))[:, :2]
    locks = np.array([[[*top, 0.62 * head.px], [*eye, (0.30 + 0.22 * t.fringe) * head.px]] for eye in eyes])
    hair = Hair(length=0.9, hang=0.5, number=0.9, rim=185)
    return [replace(fur, flow=(0, 0.8)).layer("head", 9.0, locks, scaled(fur.coat.base, 1.03), hair)]


class EarShape(NamedTuple):
    """A shape of ear in head radii; a long ear is a step further along `growth` than a short one."""

    length: tuple[float, float]  # of the shortest, and what the longest has more
    aside: float  # how far out it grows
    root: tuple[float, float]  # forward, up
    tip: tuple[float, float, float]  # forward, outward from the root, up; for an ear without length
    growth: tuple[float, float]  # outward and up, for each head radius of length
    nearer: float  # than its root, for what hides what
    bend: float  # how far it rises at the root
    droop: float  # how far its tufts lean down
    shade: float  # of the coat's colour


EARS = {
    "pricked": EarShape((0.55, 0.95), 0.0, (-0.05, 0.62), (0.0, 0.0, 0.62), (0.32, 0.95), -0.15, 0.0, 0.0, 0.9),
    "folded": EarShape((0.45, 0.7), 0.0, (0.12, 0.72), (0.62, 0.42, 0.72), (0.0, -0.62), 0.3, 0.22, 0.0, 0.82),
    "drop": EarShape((0.65, 1.25), 0.12, (0.02, 0.55), (0.12, 0.42, 0.5), (0.0, -1.0), 0.12, 0.12, 0.3, 0.82),
}
# Half widths from root to tip: (share of the length, share of the width). An ear stays wide seen from any side.
EAR_PROFILES = {
    "pricked": ((-0.12, 0.5), (0.3, 0.44), (0.7, 0.2), (1.0, 0.02)),
    "folded": ((-0.2, 0.42), (0.05, 0.58), (0.5, 0.4), (1.0, 0.05)),
    "drop": ((-0.1, 0.3), (0.25, 0.46), (0.7, 0.56), (0.98, 0.28)),
}


def _ears(t: Traits, head: Head, fur: Fur, marked: bool) -> list[Layer]:
    ear = EARS[t.ear_shape]
    length = ear.length[0] + ear.length[1] * t.ear_length
    width = (0.42 + 0.5 * t.ear_width) * head.px
    aside = 0.52 + 0.3 * t.skull_width + ear.aside
    along, half = np.array(EAR_PROFILES[t.ear_shape]).T[:, :, None]
    color = fur.coat.marking if marked else scaled(fur.coat.base, ear.shade)
    fur = replace(fur, flow=(0, ear.droop))
    perk = fur.rng.normal(0, 0.1, 4)
    layers = []
    for side, lift in zip(SIDES, perk, strict=False):
        root = (ear.root[0], side * aside, ear.root[1])
        up = ear.tip[2] + ear.growth[1] * length
        b, e = head.at(root, (ear.tip[0] + lift, side * (aside + ear.tip[1] + ear.growth[0] * length), up))
        start, axis = b[:2], e[:2] - b[:2]
        across = half * (np.array([-axis[1], axis[0]]) / (np.hypot(*axis) + 1e-6) * width)
        middle, rise = start + along * axis, np.array([0, -ear.bend * head.px]) * (1 - along)
        outline = smooth(np.concatenate([middle + across + rise, (middle - across + rise)[::-1]]), 4)
        furred = fur.furry(outline, length=0.55, hang=0.5) if fur.coat.length * fur.scale > 1.5 else outline
        inside = []
        if t.ear_shape == "pricked" and head.facing > -0.1:
            bottom = start + 0.1 * axis
            inside = [Shape(bottom + 0.58 * (outline - start - 0.1 * axis), mixed(color, (215, 150, 140), 0.5))]
        center = outline.mean(0)
        modelling = [Shape(center + 0.72 * (outline - center) + fur.light * 0.05 * head.px, (225,) * 3)]
        near = head.near + head.radius * (0.75 * b[2] + ear.nearer)
        softness = float(max(1, 0.1 * head.px))
        layers.append(Layer("ears", near, [furred], color, inside, modelling, rim=160, softness=softness))
    return layers


def draw_face(picture: Picture, t: Traits, head: Head, rng: np.random.Generator) -> None:
    """Paint eyes, nose, mouth and perhaps a tongue where the turn of the head shows them."""
    mood = rng.uniform(size=3)
    details = _mouth_and_nose(t, head, tongue_out=mood[0] < 0.35) if head.facing > -0.35 else []
    r = (0.155 + 0.03 * mood[1]) * head.px
    for side in SIDES:
        eye, ahead = head.at((0.80, side * 0.40, 0.28), (1.5, side * 0.75, 0.38))
        outward = ahead[2] - eye[2]  # how much the eye looks at the viewer
        if outward >= 0.02 or head.facing >= 0.9:
            squeeze = float(np.clip(outward, 0.35, 1))
            oval = np.stack([np.cos(_RING) * (0.55 + 0.45 * squeeze), np.sin(_RING)], axis=1)
            details += [Shape(eye[:2] + oval * r * 1.25, BLACK, 90), Shape(eye[:2] + oval * r, (48, 30, 22))]
            spark = [*(eye[:2] + [-0.3 * r, -0.35 * r]), 0.28 * r]
            details += outlined([[spark, spark]], WHITE, 235)
    if details:
        paint_details(picture, "head", details)


def _mouth_and_nose(t: Traits, head: Head, *, tongue_out: bool) -> list[Shape]:
    long, base, tip = muzzle_size(t)
    end, lip = 0.62 + long, -0.38 - 0.72 * tip
    details: list[Shape] = []
    if tongue_out:
        tongue = head.disc((end - 0.12, 0, -0.34 - tip * 0.8), (end - 0.1, 0, -0.34 - tip * 1.0 - 0.45), 0.17, 0.2)
        details = outlined([tongue], (222, 112, 120))
    cheeks = (0.62 + 0.72 * long, 0.62 * base, lip - 0.02), (0.5 + 0.4 * long, 0.86 * base, lip + 0.1)
    corners = [(x, side * y, z) for x, y, z in cheeks for side in SIDES]
    smile = head.at((end + 0.75 * tip, 0, -0.34), (end + 0.45 * tip, 0, lip), *corners)
    # From under the nose to each corner of the mouth, where it is turned to the viewer.
    lines = [(0, 1)] + [line for k in (2, 3) if smile[k, 2] > 0.15 * smile[1, 2] for line in ((1, k), (k, k + 2))]
    thin = max(0.35, 0.021 * head.px)
    details += outlined([[[*smile[a, :2], thin], [*smile[b, :2], thin]] for a, b in lines], BLACK, 140)
    size, front = (0.17 + 0.1 * t.muzzle_depth) * head.px, end + 0.8 * tip
    a, b, c = head.at((front, 0.16, -0.18), (front, -0.16, -0.18), (front, 0, -0.30))[:, :2]
    details += outlined([[[*p, 0.75 * size], [*c, 0.55 * size]] for p in (a, b)], (30, 26, 28))
    shine = [*(0.5 * (a + b) + [-0.1 * size, -0.35 * size]), 0.2 * size]
    return details + outlined([[shine, shine]], WHITE, 150)
