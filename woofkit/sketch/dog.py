"""The whole dog: how it is framed, and its layers painted from the furthest to the nearest."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from woofkit.sketch.coat import Coat, Fur, Hair, scaled
from woofkit.sketch.geometry import View, capsule
from woofkit.sketch.head import Head, Turn, draw_face, fringe_layers, head_layers
from woofkit.sketch.layers import Color, Layer, Picture, Shape, outlined, paint, paint_details
from woofkit.sketch.skeleton import Skeleton
from woofkit.sketch.traits import Traits

COLLARS = ((186, 48, 44), (44, 92, 160), (50, 120, 76), (60, 52, 50), (208, 150, 40))


class Dog(NamedTuple):
    """One dog before it is painted: its own traits, its skeleton, its coat, and how it is looked at."""

    traits: Traits
    skeleton: Skeleton
    coat: Coat
    view: View
    turn: Turn


def frame(t: Traits, s: Skeleton, pose: str, size: int, rng: np.random.Generator) -> tuple[View, Turn]:
    """Choose the side, the distance and the place in the picture; return the view and the turn of the head."""
    chance = rng.uniform(size=9)
    portrait = pose == "portrait"
    if pose == "behind":
        azimuth = np.pi / 2 + np.deg2rad(70) * (chance[1] - 0.5)
        yaw = np.deg2rad((chance[2] - 0.5) * 2 * 125)
    else:
        azimuth = np.deg2rad(-85 + 65 * chance[1] if portrait else -38 + 1.7 * 38 * chance[1] ** 1.2 * 0.75)
        toward = -np.pi / 2 - azimuth  # the yaw at which the head looks at the viewer
        yaw = np.clip(toward * np.clip(chance[2] * 1.15 - 0.1, 0, 1.05), -np.deg2rad(95), np.deg2rad(95))
    if chance[0] < 0.5:  # facing left
        azimuth, yaw = np.pi - azimuth, -yaw
    view = View(float(azimuth), float(np.deg2rad(3 + 17 * chance[3])))
    turn = (float(yaw), float(np.deg2rad(-6 + 26 * chance[4])), float(np.deg2rad(24 * (chance[5] - 0.5))))

    shoulders = capsule(s.neck[0, 0, :3], s.neck[0, 0, :3], 0.2, 0.2)
    head = capsule(s.head, s.head, 1.7 * s.head_radius, 1.7 * s.head_radius)
    shown = np.array([*s.neck, shoulders, head] if portrait else [*s.capsules, head])
    ends, radii = view.project(shown[..., :3])[:, :2], shown[..., 3].reshape(-1, 1)
    low, high = (ends - radii).min(0), (ends + radii).max(0)
    fill = (0.72 + 0.28 * chance[6]) * (0.90 + 0.16 * t.body_size) * (1.12 if portrait else 1)
    scale = fill * size / float(max(high - low))
    slack = np.maximum(size - scale * (high - low), 0.08 * size)
    place = 0.5 * size + (chance[7:9] - 0.5) * slack * 0.9
    shift = place - scale * 0.5 * (low + high)
    return replace(view, scale=scale, shift=tuple(shift.tolist())), turn


def paint_dog(picture: Picture, dog: Dog, hair: np.random.Generator, faces: np.random.Generator) -> None:
    """Paint every part on the picture and its mask; `hair` and `faces` are random numbers for these."""
    t, s, coat, view = dog.traits, dog.skeleton, dog.coat, dog.view
    light = np.array([hair.uniform(-0.8, 0.8), -1.0])
    here, behind = view.project(np.array([[0, 0, 0], [-1.0, 0, -0.6]]))[:, :2]
    flow = (behind - here) / (np.hypot(*(behind - here)) + 1e-6) * 0.5
    fur = Fur(coat, view.scale, light, tuple(flow), hair)

    pattern, white = _trunk_markings(dog, hair)
    if t.ruff < 0.5:
        white += _collar(dog, faces)
    discs = view.flat(np.concatenate([s.trunk, s.neck]), coat.bulk)
    trunk = fur.layer("body", view.near(s.trunk), discs, coat.base, Hair(1, 1, 2.0, 150), pattern + white)
    layers = [trunk]
    if t.ruff > 0.15:
        layers.append(_ruff(dog, fur))
    for name, leg in s.legs.items():
        hind = name.startswith("hind")
        color = coat.marking if t.pattern == "mantle" and hind else coat.base
        layers.append(_leg(dog, fur, leg, color, pattern if hind else []))
    layers.append(_tail(dog, fur))
    for layer in sorted(layers, key=lambda one: one.near):
        paint(picture, layer)
        if layer is trunk:
            _draw_ridge(picture, dog, hair)
    _paint_head(picture, dog, replace(fur, flow=(0, 0)), faces)


def _paint_head(picture: Picture, dog: Dog, fur: Fur, faces: np.random.Generator) -> None:
    t, s = dog.traits, dog.skeleton
    head = Head(dog.view, s.head, s.head_radius, dog.turn)
    marked = t.pattern in ("patched", "mantle") and fur.rng.uniform() < 0.8
    parts = head_layers(t, head, fur, marked)
    front = [layer for layer in parts if layer.part == "ears" and layer.near > head.near]
    for layer in parts:
        if layer not in front:
            paint(picture, layer)
    draw_face(picture, t, head, faces)
    for layer in [*fringe_layers(t, head, fur), *front]:
        paint(picture, layer)


def _trunk_markings(dog: Dog, rng: np.random.Generator) -> tuple[list[Shape], list[Shape]]:
    """Return the pattern, which reaches down the legs, and the white of belly and chest, which does not."""
    t, s, coat, view = dog.traits, dog.skeleton, dog.coat, dog.view
    pattern: list[Shape] = []
    chance = rng.uniform(size=(8, 4))
    # Markings are flat shapes cut to the trunk's outline: what would be on its far side must be left out.
    back, ahead = view.project(np.stack([s.outward, [1.0, 0, 0]]))[:, 2]  # how much they face the viewer, -1 to 1
    if t.pattern == "saddle":
        drop = 0.45 + 0.6 * chance[0, 0]
        up = drop * (1 + 2 * max(0.0, -back - 0.1)) * s.outward
        pattern = outlined(view.flat(_moved(s.trunk[:2], up), coat.bulk), coat.marking)
    elif t.pattern == "mantle":
        pattern = outlined(view.flat(s.trunk[1:2] * [[1, 1, 1, 1.25], [1, 1, 1, 1.6]], coat.bulk), coat.marking)
    elif t.pattern == "patched":
        patches = []
        for k in range(3 + int(3 * chance[7, 0])):
            (p, q), a = s.trunk[k % 2, :, :3], s.trunk[k % 2, 0, 3]
            center = p + chance[k, 0] * (q - p) + [0, (2 * chance[k, 1] - 1) * a, 0.9 * a * (chance[k, 2] - 0.2)]
            r = 0.08 + 0.12 * chance[k, 3]
            patches.append(capsule(center, center + [-0.08, 0, 0.04], r, 0.8 * r))
        pattern = outlined(view.flat(np.array(patches)), coat.marking)
    if t.white <= 0.15:
        return pattern, []
    under = [*_moved(s.trunk[:2], -(1.5 - 0.75 * t.white) * s.outward)] if back < 0.3 else []
    if ahead > -0.4:
        breast, b = s.trunk[2, 1, :3], s.trunk[2, 1, 3]
        top = breast + [0.45 * b, 0, 0.5 * b * t.white]
        under.append(capsule(breast + [0.5 * b, 0, -0.3 * b], top, 0.8 * b, 0.6 * b))
    return pattern, outlined(view.flat(np.array(under)), coat.white) if under else []


def _moved(capsules: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Return capsules (K, 2, 4) whose ends have moved by `way` (3,) times their radius."""
    return np.concatenate([capsules[..., :3] + capsules[..., 3:] * way, capsules[..., 3:]], axis=2)


def _collar(dog: Dog, rng: np.random.Generator) -> list[Shape]:
    """Return a collar around every third neck, whatever the breed."""
    worn, at, shade = rng.uniform() < 0.35, rng.uniform(0.3, 0.42), COLLARS[rng.integers(len(COLLARS))]
    if not worn:
        return []
    neck = dog.skeleton.neck[0]
    (p, q), radius = neck[:, :3], 1.3 * max(neck[:, 3])
    band = [capsule(p + (at + d) * (q - p), p + (at + d + 0.02) * (q - p), radius, radius) for d in (0, 0.1)]
    (lower, upper), width = dog.view.flat(np.array(band))[:, 0, :2], dog.view.scale * radius
    side = np.array([-(upper - lower)[1], (upper - lower)[0]])
    side = side / (np.hypot(*side) + 1e-6) * width
    return [Shape(np.array([lower - side, lower + side, upper + side, upper - side]), shade)]


def _ruff(dog: Dog, fur: Fur) -> Layer:
    ruff, view = dog.traits.ruff, dog.view
    (p, q), radius = dog.skeleton.neck[0, :, :3], dog.skeleton.neck[0, 0, 3]
    collar = capsule(p, p + 0.55 * (q - p), radius * (1.0 + 0.35 * ruff), radius * (0.75 + 0.35 * ruff))[None]
    near = view.near(collar)
    if near >= -0.15:  # seen from the front or the side, it falls over the shoulders
        near = max(view.near(leg) for leg in dog.skeleton.legs.values()) + 0.1
    hair = Hair(length=1.2 + ruff, hang=0.6, number=0.8, rim=175)
    return fur.layer("body", near, view.flat(collar, fur.coat.bulk), scaled(fur.coat.base, 1.05), hair)


def _leg(dog: Dog, fur: Fur, leg: np.ndarray, color: Color, pattern: list[Shape]) -> Layer:
    t, near = dog.traits, dog.view.near(leg)
    hair = Hair(length=0.45 + 0.6 * t.feathering, hang=0.25 + 0.4 * t.feathering, number=0.5, rim=165)
    discs, markings = dog.view.flat(leg, 0.4 * fur.coat.bulk), pattern + _socks(dog, leg)
    layer = fur.layer("legs", near + 0.05 * np.sign(near), discs, color, hair, markings)
    (*hip, radius), (*knee, _) = dog.view.flat(leg[:1])[0]
    down = np.subtract(knee, hip)
    layer.fade = hip + np.outer([-0.3 * radius, 0.9 * radius], down / (np.hypot(*down) + 1e-6))
    return layer


def _socks(dog: Dog, leg: np.ndarray) -> list[Shape]:
    if dog.traits.white < 0.1:
        return []
    high = 1.15 * dog.traits.white * len(leg)  # how many capsules from the foot up are white
    share = np.clip(high - np.arange(len(leg)), 0, 1)
    socks = leg[::-1] * [1, 1, 1, 1.3]
    top, foot = socks[:, 0, :3], socks[:, 1, :3]
    socks[:, 0, :3] = foot + share[:, None] * (top - foot)
    return outlined(dog.view.flat(socks[share > 0]), dog.coat.white)


def _tail(dog: Dog, fur: Fur) -> Layer:
    t, tail, view, coat = dog.traits, dog.skeleton.tail, dog.view, dog.coat
    markings: list[Shape] = []
    if t.tail_tip > 0.1:
        tip = tail[-max(1, int(round(len(tail) * 0.75 * t.tail_tip))) :]
        markings = outlined(view.flat(tip, 0.2), coat.white)
    plume = 0.3 * coat.bulk + 0.045 * t.feathering * (0.4 + t.tail_length)
    near = view.near(tail) + (0.12 if t.tail_shape == "curled" else -0.02)
    color = coat.base if t.pattern == "solid" else coat.marking
    hair = Hair(length=0.5 + 0.9 * t.feathering, hang=0.3 + 0.6 * t.feathering, number=0.5, rim=160)
    return fur.layer("tail", near, view.flat(tail, plume), color, hair, markings)


def _draw_ridge(picture: Picture, dog: Dog, rng: np.random.Generator) -> None:
    """Paint the stripe of hair along the back, inside the trunk: darker, with its hairs standing."""
    ridge, s, view = dog.traits.ridge, dog.skeleton, dog.view
    facing = view.project(s.outward)[0, 2]
    seen = facing * np.cos(view.elevation) + s.outward[2] * np.sin(view.elevation)
    if ridge < 0.15 or seen < 0:
        return
    dark = scaled(dog.coat.base, 1 - 0.42 * ridge)
    line = np.concatenate([np.linspace(a, b, 7) for a, b in zip(s.spine[:-1], s.spine[1:], strict=True)])
    middle = view.project(line - 0.035 * s.outward)[:, :2]
    width = np.interp(np.arange(len(line)), [0, 2, len(line) - 1], [0.026, 0.040, 0.012])
    width *= view.scale * (0.5 + 0.5 * ridge)
    circles = np.column_stack([middle, width])
    details = outlined(np.stack([circles[:-1], circles[1:]], axis=1), dark)
    lean = rng.uniform(-0.5, 0.5, len(line))
    for p, a, x in zip(middle, width, lean, strict=True):  # hairs that stand up
        details.append(Shape(p + np.array([[-0.35 * a, 0], [x * a, -1.5 * a], [0.35 * a, 0]]), scaled(dark, 0.75)))
    paint_details(picture, "body", details)
