"""The dog in space: capsules for trunk, neck, legs and tail, and the place of the head, in each pose.

Coordinates are (forward, left, up) in dog units, the ground at up = 0; a middling dog is about 1 high.
"""

from typing import NamedTuple

import numpy as np

from woofkit.sketch.geometry import capsule
from woofkit.sketch.traits import Traits

POSES = ("standing", "sitting", "lying", "portrait", "behind")
UNSEEN_POSE = "bowing"  # the front lies, the rear stands; drawn only where it is asked for, so no model has learned it


class Skeleton(NamedTuple):
    """Where everything is: the capsules (K, 2, 4) of each part, the line of the back and the head's place and size."""

    trunk: np.ndarray  # chest to loin, loin to rump, chest to breast
    neck: np.ndarray
    legs: dict[str, np.ndarray]  # "front left", "front right", "hind left", "hind right"
    tail: np.ndarray
    spine: np.ndarray  # (3, 3) points
    outward: np.ndarray  # (3,) the way the skin of the back faces
    head: np.ndarray  # (3,)
    head_radius: float

    @property
    def capsules(self) -> np.ndarray:
        """The capsules of trunk, neck, legs and tail (K, 2, 4)."""
        return np.concatenate([self.trunk, self.neck, *self.legs.values(), self.tail])


def build_skeleton(t: Traits, pose: str, rng: np.random.Generator) -> Skeleton:
    """Stand, sit, lie or bow a dog with traits `t`; `pose` "portrait" and "behind" are standing or sitting dogs."""
    stance = rng.uniform(size=12)
    posture = {"portrait": "sitting", "behind": "sitting" if stance[0] < 0.45 else "standing"}.get(pose, pose)
    chest = 0.17 + 0.11 * t.chest_depth
    loin, rump = chest * (1.0 - 0.42 * t.tuck_up), chest * (0.95 - 0.22 * t.tuck_up)
    length, leg, thick = 0.62 + 0.5 * t.body_length, 0.16 + 0.42 * t.leg_length, 0.042 + 0.03 * t.leg_thickness

    breast = [0.45, 0, -0.05]
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
        breast = [0.25, 0, -0.35]
    elif posture == "bowing":
        c = np.array([0.28 * length, 0, chest * 0.98])
        r = np.array([-0.40 * length, 0, leg + 1.85 * chest - 0.02 - rump])
        m = 0.5 * (r + c) + np.array([0, 0, -0.02])
    else:
        c = np.array([0.28 * length, 0, chest * 0.98])
        m = np.array([-0.12 * length, 0, loin])
        r = np.array([-0.40 * length, 0, rump * 0.95])
    breast = capsule(c, c + chest * np.array(breast), chest, 0.78 * chest)
    trunk = np.array([capsule(c, m, chest, loin), capsule(m, r, loin, rump), breast])

    head_radius = (0.134 + 0.075 * t.head_size) * (0.8 + 0.2 * chest / 0.22)
    reach = (0.13 if posture == "standing" else 0.07) + 0.22 * t.neck_length + 0.6 * head_radius
    rise = np.deg2rad({"standing": 38, "sitting": 58, "lying": 55, "bowing": 48}[posture] + 26 * stance[2])
    withers = c + np.array([0.35 * chest, 0, 0.45 * chest])
    head = withers + (reach + 0.25 * chest) * np.array([np.cos(rise), 0.12 * (stance[3] - 0.5), np.sin(rise)])
    neck = capsule(withers, head, 0.68 * chest, 0.72 * head_radius)

    along = c - r
    outward = np.array([-along[2], 0, along[0]]) / np.hypot(along[0], along[2])
    spine = np.stack([c + outward * chest, m + outward * loin, r + outward * rump])
    legs = _legs(posture, trunk, (length, leg, thick), stance[4:8])
    tail = _tail(t, posture, trunk, stance[8:])
    return Skeleton(trunk, neck[None], legs, tail, spine, outward, head, head_radius)


def _legs(posture: str, trunk: np.ndarray, sizes: tuple[float, ...], swing: np.ndarray) -> dict[str, np.ndarray]:
    """Return the legs under a trunk (3, 2, 4); `swing` (4,) says how far each has stepped.

    `sizes` are the length of the trunk, the length of a leg and its thickness.
    """
    length, leg, thick = sizes
    (*c, chest), (*r, rump) = trunk[0, 0], trunk[1, 1]
    foot = thick * 0.85
    front_radii = thick * np.array([1.75, 1.25, 0.95, 1.0, 0.9])
    hind_radii = thick * np.array([0.74 * rump / thick, 0.42 * rump / thick + 0.4, 0.95, 1.0, 0.9])
    toe = np.array([0.055, 0, -0.2 * foot])
    legs = {}
    for i, (side, sign) in enumerate((("left", 1), ("right", -1))):
        step, hind_step = 0.22 * leg * (swing[[i, i + 2]] - 0.5)
        y, yr = sign * 0.55 * chest, sign * 0.6 * rump
        shoulder, hip = np.array([c[0] + 0.1 * chest, y, c[2] - 0.1 * chest]), np.array([r[0], yr, r[2]])
        if posture in ("lying", "bowing"):
            front = [shoulder, (c[0] - 0.05, y * 1.15, thick), (c[0] + 0.1 + max(0.75 * leg, 0.26), y, foot)]
        else:
            paw = np.array([shoulder[0] + 0.02 + step, y, foot])
            elbow = (shoulder[0] - 0.05, y, max(0.52 * (shoulder[2] + foot), leg * 0.85))
            front = [shoulder, elbow, paw + [-0.01, 0, 0.3 * leg], paw, paw + toe]
        if posture == "lying":
            knee, heel = (r[0] + 0.24, yr * 1.45, rump * 0.75), (r[0] + 0.02, yr * 1.6, foot)
            hind = [hip, knee, heel, (r[0] + 0.30, yr * 1.6, foot)]
        elif posture == "sitting":
            heel = np.array([r[0] + 0.12 * length, yr * 1.35, foot])
            hind = [hip, (r[0] + 0.30 * length, yr * 1.25, rump), heel, heel + [0.22, 0, 0]]
        else:
            knee = (hip[0] + 0.10 + 0.3 * hind_step, yr, 0.72 * leg)
            hock = (hip[0] - 0.10 + hind_step, yr, 0.36 * leg)
            paw = np.array([hip[0] - 0.03 + hind_step, yr, foot])
            hind = [hip, knee, hock, paw, paw + toe]
        legs[f"front {side}"] = _chain(front, front_radii)
        legs[f"hind {side}"] = _chain(hind, hind_radii)
    return legs


def _tail(t: Traits, posture: str, trunk: np.ndarray, chance: np.ndarray) -> np.ndarray:
    curled = t.tail_shape == "curled"
    length = 0.05 + (0.06 if t.tail_shape == "bobbed" else 0.62) * t.tail_length
    start, turn = {  # degrees, from straight ahead over straight up
        "straight": (205 + 25 * chance[0], -35 - 25 * chance[1]),
        "sabre": (150 - 35 * chance[0], -25 - 35 * chance[1]),
        "curled": (112 + 15 * chance[0], -250 - 60 * chance[1]),
        "bobbed": (150, 0),
    }[t.tail_shape]
    upright = posture in ("standing", "bowing")  # behind
    if not upright and t.tail_shape in ("straight", "sabre"):
        start, turn = 195, -20 - 30 * chance[1]
    root = np.deg2rad(140 if upright else 165)
    base = trunk[1, 1, :3] + 0.9 * trunk[1, 1, 3] * np.array([np.cos(root), 0, np.sin(root)])
    n = 9 if curled else 6
    angle = np.deg2rad(start + turn * np.linspace(0, 1, n - 1))
    wag = (chance[2] - 0.5) * (0.7 if curled else 0.5)
    step = length / (n - 1) * np.stack([np.cos(angle), wag * np.ones(n - 1), np.sin(angle)], axis=1)
    line = np.vstack([base, base + np.cumsum(step, axis=0)])
    radii = np.linspace(0.052, 0.028, n)
    line[:, 2] = np.maximum(line[:, 2], radii)
    return _chain(line, radii)


def _chain(points: np.ndarray | list, radii: np.ndarray) -> np.ndarray:
    """Return the capsules (N - 1, 2, 4) along N points; there may be more radii than points."""
    joints = np.hstack([points, radii[: len(points), None]])
    return np.stack([joints[:-1], joints[1:]], axis=1)
