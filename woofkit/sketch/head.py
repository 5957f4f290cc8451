"""The head: skull, muzzle, ears, hair and face, placed by a turn of the head in space."""

from __future__ import annotations

import numpy as np

from woofkit.sketch.coat import Coat, piece, scaled
from woofkit.sketch.geometry import View, capsule_outline, furry, smooth
from woofkit.sketch.layers import Layer, Picture, paint_details
from woofkit.sketch.traits import Traits

WHITE = (255, 255, 255)


class Pose3D:
    """The head's own axes (forward, left, up) in pixels: yaw from the trunk, nod and tilt in radians."""

    def __init__(self, view: View, center: np.ndarray, radius: float, yaw: float, nod: float, tilt: float):
        self.view, self.center, self.radius = view, center, radius
        cy, sy, cn, sn, ct, st = (f(a) for a in (yaw, nod, tilt) for f in (np.cos, np.sin))
        turn = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        dip = np.array([[cn, 0, sn], [0, 1, 0], [-sn, 0, cn]])
        roll = np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
        self.axes = turn @ dip @ roll
        self.middle = float(view.project(center)[0, 2])

    def at(self, *points: tuple[float, float, float]) -> np.ndarray:
        """Map points in head radii (N, 3) to (N, 3): column, row, and nearness to the eye in head radii."""
        placed = self.center + self.radius * (np.array(points, float) @ self.axes.T)
        mapped = self.view.project(placed)
        mapped[:, 2] = (mapped[:, 2] - self.middle) / self.radius
        return mapped


def muzzle_size(t: Traits) -> tuple[float, float, float]:
    """Return the muzzle's length, its radius at the base and at the nose, in head radii."""
    return 0.45 + 1.15 * t.muzzle_length, 0.52 + 0.2 * t.muzzle_depth, 0.30 + 0.22 * t.muzzle_depth


def head_layers(t: Traits, pose: Pose3D, coat: Coat, rng: np.random.Generator, light, ears_marked: bool) -> list[Layer]:
    """Return skull, muzzle, beard, ears and fringe, furthest first."""
    px = pose.radius * pose.view.scale
    scale = pose.view.scale
    near = pose.middle
    wide = 0.12 + 0.42 * t.skull_width
    long, base_r, tip_r = muzzle_size(t)

    def disc(a, b, ra, rb):
        p, q = pose.at(a, b)
        return (p[:2], q[:2], ra * px, rb * px)

    skull = [disc((0, 0, 0.05), (0.22, 0, 0.0), 0.92, 0.85)]
    skull += [disc((0.05, s * wide, -0.12), (0.1, 0, 0), 0.72, 0.8) for s in (-1, 1)]
    markings = []
    eyes = pose.at((0.74, 0.40, 0.26), (0.74, -0.40, 0.26))
    if t.pattern == "patched":
        for e in eyes[rng.permutation(2)[: 1 + int(rng.uniform() < 0.7)]]:
            markings.append((capsule_outline(e[:2], e[:2] + [0, -0.3 * px], 0.55 * px, 0.6 * px), coat.marking))
    white = t.white > 0.3
    if white:
        blaze = disc((0.95, 0, -0.1), (0.55, 0, 0.85), 0.28, 0.10 + 0.08 * t.white)
        markings.append((capsule_outline(*blaze), coat.white))
        cheek = disc((0.6, 0, -0.55), (0.0, 0, -0.9), 0.5, 0.4)
        markings.append((capsule_outline(*cheek), coat.white))
    plush = 0.35 + 0.5 * (t.coat_texture == "fluffy")
    layers = [
        piece(
            "head",
            near,
            skull,
            coat.base,
            coat,
            scale,
            rng,
            light=light,
            fur=plush,
            hang=0.25,
            markings=markings,
            hairs=0.5,
            rim=150,
        )
    ]

    tip = (0.62 + long, 0, -0.34)
    muzzle = [disc((0.45, 0, -0.28), tip, base_r, tip_r)]
    color = coat.white if white else coat.base
    marks = []
    if t.dark_mask > 0.15:
        dark = tuple(int(c * (1 - 0.6 * t.dark_mask)) for c in coat.base)
        marks = [(capsule_outline(*disc((0.75, 0, -0.34), (1.2 + long, 0, -0.36), base_r * 1.2, tip_r * 1.4)), dark)]
    # The muzzle grows out of the skull, forward and down, without an edge between the eyes.
    fade = pose.at((0.35, 0, 0.3), (0.9, 0, -0.25))[:, :2]
    toward = pose.at(tip)[0, 2]
    order = near + 0.4 * pose.radius * toward
    layers.append(
        piece(
            "head",
            order,
            muzzle,
            color,
            coat,
            scale,
            rng,
            light=light,
            fur=0.25,
            hang=0.2,
            markings=marks,
            hairs=0.2,
            rim=160,
            fade=fade,
        )
    )
    if t.beard > 0.15:
        drop = 0.25 + 0.75 * t.beard
        beard = [
            disc((0.35 + 0.5 * long, s * 0.35, -0.45), (0.4 + 0.5 * long, s * 0.5, -0.5 - drop), 0.42, 0.28)
            for s in (-1, 1)
        ]
        layers.append(
            piece(
                "head",
                order - 0.01,
                beard,
                scaled(color, 1.04),
                coat,
                scale,
                rng,
                light=light,
                fur=0.9,
                hang=0.25,
                hairs=0.5,
                rim=170,
            )
        )
    layers += _ears(t, pose, coat, rng, light, ears_marked)
    return sorted(layers, key=lambda layer: layer.near)


def fringe_layer(t: Traits, pose: Pose3D, coat: Coat, rng: np.random.Generator, light) -> Layer | None:
    """Return the hair that falls over the eyes, or None; it is painted over the face."""
    if t.fringe < 0.12 or pose.at((1, 0, 0))[0, 2] < -0.3:
        return None
    px, reach = pose.radius * pose.view.scale, 0.75 - 0.75 * t.fringe
    a, b, c = pose.at((0.45, 0, 0.75), (0.72, 0.45, 0.15 + reach), (0.72, -0.45, 0.15 + reach))
    discs = [(a[:2], e[:2], 0.62 * px, (0.30 + 0.22 * t.fringe) * px) for e in (b, c)]
    return piece(
        "head",
        9.0,
        discs,
        scaled(coat.base, 1.03),
        coat,
        pose.view.scale,
        rng,
        light=light,
        fur=0.9,
        hang=0.5,
        flow=(0, 0.8),
        hairs=0.9,
        rim=185,
    )


def _ears(t: Traits, pose: Pose3D, coat: Coat, rng, light, marked: bool) -> list[Layer]:
    px, scale = pose.radius * pose.view.scale, pose.view.scale
    length = {
        "pricked": 0.55 + 0.95 * t.ear_length,
        "folded": 0.45 + 0.7 * t.ear_length,
        "drop": 0.65 + 1.25 * t.ear_length,
    }[t.ear_shape]
    width = (0.42 + 0.5 * t.ear_width) * px
    perk = rng.normal(0, 0.1, 4)
    layers = []
    for i, s in enumerate((1, -1)):
        side = 0.52 + 0.3 * t.skull_width
        lift = perk[i]
        if t.ear_shape == "pricked":
            base, tip = (-0.05, s * side, 0.62), (0.0 + lift, s * (side + 0.32 * length), 0.62 + 0.95 * length)
            bias, bend = -0.15, 0.0
        elif t.ear_shape == "folded":
            base, tip = (0.12, s * side, 0.72), (0.62 + lift, s * (side + 0.42), 0.72 - 0.62 * length)
            bias, bend = 0.3, 0.22
        else:
            side += 0.12  # clear of the eyes
            base, tip = (0.02, s * side, 0.55), (0.12 + lift, s * (side + 0.42), 0.5 - length)
            bias, bend = 0.12, 0.12
        (b, e) = pose.at(base, tip)
        axis = e[:2] - b[:2]
        across = np.array([-axis[1], axis[0]]) / (np.hypot(*axis) + 1e-6) * width
        # Half widths from base to tip; an ear stays wide seen from any side, as the scoop it is.
        if t.ear_shape == "pricked":
            profile = [(-0.12, 0.5), (0.3, 0.44), (0.7, 0.2), (1.0, 0.02)]
        elif t.ear_shape == "folded":
            profile = [(-0.2, 0.42), (0.05, 0.58), (0.5, 0.4), (1.0, 0.05)]
        else:
            profile = [(-0.1, 0.3), (0.25, 0.46), (0.7, 0.56), (0.98, 0.28)]
        lift_row = np.array([0, -bend * px])
        left = [b[:2] + f * axis + h * across + lift_row * (1 - f) for f, h in profile]
        right = [b[:2] + f * axis - h * across + lift_row * (1 - f) for f, h in profile]
        outline = smooth(np.array(left + right[::-1]), 4)
        shape = outline
        if coat.length * scale > 1.5:
            shape = furry(
                outline,
                0.55 * coat.length * scale,
                coat.spacing * scale,
                0.5 * coat.hang * scale,
                (0, 0.3 if t.ear_shape == "drop" else 0),
                rng,
                coat.soft,
            )
        middle = outline.mean(0)
        color = coat.marking if marked else scaled(coat.base, 0.82 if t.ear_shape != "pricked" else 0.9)
        marks = []
        if t.ear_shape == "pricked" and pose.at((1, 0, 0))[0, 2] > -0.1:
            pink = tuple(int(0.5 * c + 0.5 * k) for c, k in zip(color, (215, 150, 140), strict=True))
            marks = [(b[:2] + 0.1 * axis + 0.58 * (outline - b[:2] - 0.1 * axis), pink)]
        modelling = [(middle + 0.72 * (outline - middle) + np.array(light) * 0.05 * px, 225)]
        near = pose.middle + pose.radius * (0.75 * b[2] + bias)
        layers.append(Layer("ears", near, [shape], color, marks, modelling, rim=160, softness=float(max(1, 0.1 * px))))
    return layers


def draw_face(picture: Picture, t: Traits, pose: Pose3D, rng: np.random.Generator) -> None:
    """Paint eyes, nose, mouth and perhaps a tongue where the turn of the head shows them."""
    px = pose.radius * pose.view.scale
    long, base_r, tip_r = muzzle_size(t)
    mood = rng.uniform(size=3)
    facing = pose.at((1, 0, 0))[0, 2]
    details = _mouth_and_nose(t, pose, long, base_r, tip_r, tongue_out=mood[0] < 0.35) if facing > -0.35 else []
    for s in (1, -1):
        e, outward = pose.at((0.80, s * 0.40, 0.28), (1.5, s * 0.75, 0.38))
        if outward[2] - e[2] < 0.02 and facing < 0.9:
            continue
        r = (0.155 + 0.03 * mood[1]) * px
        squeeze = float(np.clip(outward[2] - e[2], 0.35, 1))
        ring = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        oval = np.stack([np.cos(ring) * (0.55 + 0.45 * squeeze), np.sin(ring)], axis=1)
        spark = e[:2] + [-0.3 * r, -0.35 * r]
        details += [
            (e[:2] + oval * r * 1.25, (0, 0, 0), 90),
            (e[:2] + oval * r, (48, 30, 22), 255),
            (capsule_outline(spark, spark, 0.28 * r, 0.28 * r), WHITE, 235),
        ]
    if details:
        paint_details(picture, "head", details)


def _mouth_and_nose(t: Traits, pose: Pose3D, long: float, base_r: float, tip_r: float, *, tongue_out: bool) -> list:
    px, out = pose.radius * pose.view.scale, 0.62 + long
    details = []
    if tongue_out:
        a, b = pose.at((out - 0.12, 0, -0.34 - tip_r * 0.8), (out - 0.1, 0, -0.34 - tip_r * 1.0 - 0.45))
        details.append((capsule_outline(a[:2], b[:2], 0.17 * px, 0.2 * px), (222, 112, 120), 255))
    lip = -0.38 - 0.72 * tip_r
    smile = pose.at(
        (out + 0.75 * tip_r, 0, -0.34),
        (out + 0.45 * tip_r, 0, lip),
        *((0.62 + 0.72 * long, s * 0.62 * base_r, lip - 0.02) for s in (1, -1)),
        *((0.5 + 0.4 * long, s * 0.86 * base_r, lip + 0.1) for s in (1, -1)),
    )
    # From under the nose to each corner of the mouth, where it is turned to the viewer.
    lines = [(0, 1)] + [line for k in (2, 3) if smile[k, 2] > 0.15 * smile[1, 2] for line in ((1, k), (k, k + 2))]
    thin = max(0.35, 0.021 * px)
    details += [(capsule_outline(smile[a, :2], smile[b, :2], thin, thin), (0, 0, 0), 140) for a, b in lines]
    size = (0.17 + 0.1 * t.muzzle_depth) * px
    a, b, c = pose.at(*((out + 0.8 * tip_r, y, z) for y, z in ((0.16, -0.18), (-0.16, -0.18), (0, -0.30))))
    details += [(capsule_outline(p[:2], c[:2], 0.75 * size, 0.55 * size), (30, 26, 28), 255) for p in (a, b)]
    shine = 0.5 * (a[:2] + b[:2]) + [-0.1 * size, -0.35 * size]
    return [*details, (capsule_outline(shine, shine, 0.2 * size, 0.2 * size), WHITE, 150)]
