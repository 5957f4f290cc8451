"""The dog in space: capsules for trunk, legs and tail, the place of the head, in each pose.

Coordinates are (forward, left, up) in dog units, the ground at up = 0; a middling dog is about 1 high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from woofkit.sketch.geometry import Capsule
from woofkit.sketch.traits import Traits

POSES = ("standing", "sitting", "lying", "portrait", "behind")


@dataclass(frozen=True)
class Skeleton:
    """Where everything is: capsules of each part, the line of the back (K, 3) and the head's place and size."""

    trunk: list[Capsule]
    neck: Capsule
    legs: dict[str, list[Capsule]]  # "front left", "front right", "hind left", "hind right"
    tail: list[Capsule]
    spine: np.ndarray
    outward: np.ndarray  # (3,) the way the skin of the back faces
    head: np.ndarray
    head_radius: float


def build_skeleton(t: Traits, pose: str, rng: np.random.Generator) -> Skeleton:
    """Stand, sit or lie a dog with traits `t`; `pose` "portrait" and "behind" are standing or sitting dogs."""
    stance = rng.uniform(size=12)
    posture = {"portrait": "sitting", "behind": "sitting" if stance[0] < 0.45 else "standing"}.get(pose, pose)
    length = 0.62 + 0.5 * t.body_length
    leg = 0.16 + 0.42 * t.leg_length
    chest = 0.17 + 0.11 * t.chest_depth  # radius
    loin = chest * (1.0 - 0.42 * t.tuck_up)
    rump = chest * (0.95 - 0.22 * t.tuck_up)
    thick = 0.042 + 0.03 * t.leg_thickness
    if posture == "standing":
        top = leg + 1.85 * chest
        c = np.array([0.30 * length, 0, top - chest])
        m = np.array([-0.12 * length, 0, top - loin])
        r = np.array([-0.40 * length, 0, top - 0.02 - rump])
    elif posture == "sitting":
        lean = 0.42 + 0.2 * stance[1]
        r = np.array([-0.26 * length, 0, rump * 0.95])
        c = np.array([r[0] + lean * length, 0, max(leg + 0.95 * chest, rump + 0.28 * length)])
        m = 0.5 * (r + c) + np.array([-0.05, 0, 0.03])
    else:
        c = np.array([0.28 * length, 0, chest * 0.98])
        m = np.array([-0.12 * length, 0, loin])
        r = np.array([-0.40 * length, 0, rump * 0.95])
    trunk = [(c, m, chest, loin), (m, r, loin, rump)]
    front = c + chest * np.array([0.25, 0, -0.35] if posture == "sitting" else [0.45, 0, -0.05])
    trunk.append((c, front, chest, 0.78 * chest))

    head_radius = (0.134 + 0.075 * t.head_size) * (0.8 + 0.2 * chest / 0.22)
    reach = (0.13 if posture == "standing" else 0.07) + 0.22 * t.neck_length + 0.6 * head_radius
    rise = np.deg2rad({"standing": 38, "sitting": 58, "lying": 55}[posture] + 26 * stance[2])
    withers = c + np.array([0.35 * chest, 0, 0.45 * chest])
    head = withers + (reach + 0.25 * chest) * np.array([np.cos(rise), 0.12 * (stance[3] - 0.5), np.sin(rise)])
    neck = (withers, head, 0.68 * chest, 0.72 * head_radius)

    legs = _legs(posture, c, r, chest, rump, leg, thick, length, stance[4:8])
    tail = _tail(t, posture, r, rump, stance[8:])
    along = c - r
    out = np.array([-along[2], 0, along[0]]) / np.hypot(along[0], along[2])
    back = np.stack([c + out * chest, m + out * loin, r + out * rump])
    return Skeleton(trunk, neck, legs, tail, back, out, head, head_radius)


def _legs(posture, c, r, chest, rump, leg, thick, length, swing) -> dict[str, list[Capsule]]:
    legs = {}
    foot = thick * 0.85
    for side, sign in (("left", 1), ("right", -1)):
        step = 0.22 * leg * (swing[0 if sign > 0 else 1] - 0.5)
        hind_step = 0.22 * leg * (swing[2 if sign > 0 else 3] - 0.5)
        y, yr = sign * 0.55 * chest, sign * 0.6 * rump
        shoulder = np.array([c[0] + 0.1 * chest, y, c[2] - 0.1 * chest])
        hip = np.array([r[0], yr, r[2]])
        if posture == "lying":
            elbow = np.array([c[0] - 0.05, y * 1.15, thick])
            paw = np.array([c[0] + 0.1 + max(0.75 * leg, 0.26), y * 1.0, foot])
            front = [shoulder, elbow, paw]
            knee = np.array([r[0] + 0.24, yr * 1.45, rump * 0.75])
            hind = [hip, knee, np.array([r[0] + 0.02, yr * 1.6, foot]), np.array([r[0] + 0.30, yr * 1.6, foot])]
        else:
            paw = np.array([shoulder[0] + 0.02 + step, y, foot])
            elbow = np.array([shoulder[0] - 0.05, y, max(0.52 * (shoulder[2] + foot), leg * 0.85)])
            wrist = paw + np.array([-0.01, 0, 0.3 * leg])
            front = [shoulder, elbow, wrist, paw, paw + [0.055, 0, -0.2 * foot]]
            if posture == "sitting":
                knee = np.array([r[0] + 0.30 * length, yr * 1.25, rump * 1.0])
                heel = np.array([r[0] + 0.12 * length, yr * 1.35, foot])
                hind = [hip, knee, heel, heel + [0.22, 0, 0]]
            else:
                knee = np.array([hip[0] + 0.10 + 0.3 * hind_step, yr, 0.72 * leg])
                hock = np.array([hip[0] - 0.10 + hind_step, yr, 0.36 * leg])
                paw = np.array([hip[0] - 0.03 + hind_step, yr, foot])
                hind = [hip, knee, hock, paw, paw + [0.055, 0, -0.2 * foot]]
        widths = [1.75, 1.25, 0.95, 1.0, 0.9]
        legs[f"front {side}"] = _chain(front, [thick * w for w in widths])
        widths = [0.74 * rump / thick, 0.42 * rump / thick + 0.4, 0.95, 1.0, 0.9]
        legs[f"hind {side}"] = _chain(hind, [thick * w for w in widths])
    return legs


def _tail(t: Traits, posture: str, r, rump, chance) -> list[Capsule]:
    length = 0.05 + 0.62 * t.tail_length
    if t.tail_shape == "bobbed":
        length = 0.05 + 0.06 * t.tail_length
    start, turn = {
        "straight": (205 + 25 * chance[0], -35 - 25 * chance[1]),
        "sabre": (150 - 35 * chance[0], -25 - 35 * chance[1]),
        "curled": (112 + 15 * chance[0], -250 - 60 * chance[1]),
        "bobbed": (150, 0),
    }[t.tail_shape]
    if posture != "standing" and t.tail_shape in ("straight", "sabre"):
        start, turn = 195, -20 - 30 * chance[1]
    base_angle = 140 if posture == "standing" else 165
    base = r + 0.9 * rump * np.array([np.cos(np.deg2rad(base_angle)), 0, np.sin(np.deg2rad(base_angle))])
    n = 9 if t.tail_shape == "curled" else 6
    angle = np.deg2rad(start + turn * np.linspace(0, 1, n - 1))
    wag = (chance[2] - 0.5) * (0.5 if t.tail_shape != "curled" else 0.7)
    step = length / (n - 1) * np.stack([np.cos(angle), wag * np.ones(n - 1), np.sin(angle)], axis=1)
    line = np.vstack([base, base + np.cumsum(step, axis=0)])
    thickness = np.linspace(0.052, 0.028, n)
    line[:, 2] = np.maximum(line[:, 2], thickness)
    return _chain(list(line), list(thickness))


def _chain(points: list[np.ndarray], radii: list[float]) -> list[Capsule]:
    return [
        (np.asarray(p, float), np.asarray(q, float), float(a), float(b))
        for p, q, a, b in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=False)
    ]
