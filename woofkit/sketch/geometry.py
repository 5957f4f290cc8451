"""Outlines in the plane: capsules (two circles and what lies between), fur along an edge, the view of a dog."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# A capsule in space: (start (3,), end (3,), radius at the start, radius at the end), in dog units.
Capsule = tuple[np.ndarray, np.ndarray, float, float]


@dataclass(frozen=True)
class View:
    """How the dog is looked at: parallel projection, then scale and shift to pixels.

    `azimuth` (radians): 0 looks to the right, pi to the left, pi/2 away from the viewer, -pi/2 at the viewer.
    `elevation` (radians): how far the eye is above the horizon.
    """

    azimuth: float
    elevation: float
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 3) (forward, left, up) to (N, 3): column and row in pixels, nearness in dog units."""
        matrix, offset = self._map
        return np.asarray(points, float).reshape(-1, 3) @ matrix + offset

    @cached_property
    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        """The projection as a matrix (3, 3), to be multiplied from the right, and an offset (3,)."""
        c, s = np.cos(self.azimuth), np.sin(self.azimuth)
        rise, dip = np.cos(self.elevation), np.sin(self.elevation)
        across, near, up = np.array([c, -s, 0.0]), np.array([-s, -c, 0.0]), np.array([0.0, 0.0, 1.0])
        row = up * rise - near * dip
        matrix = np.stack([self.scale * across, -self.scale * row, near], axis=1)
        return matrix, np.array([*self.shift, 0.0])


_ARC = np.linspace(0, 1, 9)


def capsule_outlines(p: np.ndarray, q: np.ndarray, rp: np.ndarray, rq: np.ndarray) -> np.ndarray:
    """Return the outlines (K, 18, 2) around circles at p (K, 2) of radius rp (K,) and at q of radius rq."""
    apart = q - p
    distance = np.sqrt((apart**2).sum(1)) + 1e-9
    heading = np.arctan2(apart[:, 1], apart[:, 0])
    # Where one circle holds the other, the angle is 0 or pi and the outline is the larger circle.
    open_angle = np.arccos(np.clip((rp - rq) / distance, -1, 1))
    back = (heading + open_angle)[:, None] + (2 * np.pi - 2 * open_angle)[:, None] * _ARC
    front = (heading - open_angle)[:, None] + (2 * open_angle)[:, None] * _ARC
    angle = np.concatenate([back, front], axis=1)
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    n = len(_ARC)
    rays[:, :n] *= rp[:, None, None]
    rays[:, n:] *= rq[:, None, None]
    rays[:, :n] += p[:, None]
    rays[:, n:] += q[:, None]
    return rays


def capsule_outline(p: np.ndarray, q: np.ndarray, rp: float, rq: float) -> np.ndarray:
    """Return the outline (18, 2) around the circle at p (radius rp) and the circle at q (radius rq)."""
    return capsule_outlines(
        np.asarray(p, float)[None, :2], np.asarray(q, float)[None, :2], np.array([rp]), np.array([rq])
    )[0]


def outlined(discs: list, color) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    """Return each projected capsule (end (2,), end (2,), radius, radius) as a marking: its outline and the colour."""
    ends = np.array([[*p, *q, a, b] for p, q, a, b in discs])
    return [(o, color) for o in capsule_outlines(ends[:, :2], ends[:, 2:4], ends[:, 4], ends[:, 5])]


def furry(
    outline: np.ndarray,
    length: float,
    spacing: float,
    hang: float,
    flow: tuple[float, float],
    rng: np.random.Generator,
    soft: bool = False,
) -> np.ndarray:
    """Return the outline (M, 2) with tufts: a tip every `spacing` pixels, about `length` pixels long.

    `hang` lengthens the tufts that point down; `flow` (2,) leans all of them one way;
    `soft` rounds them as in a fluffy coat.
    """
    closed = np.concatenate([outline, outline[:1]])
    steps = closed[1:] - closed[:-1]
    along = np.concatenate([[0], np.sqrt((steps * steps).sum(1)).cumsum()])
    lobes = max(4, int(along[-1] / max(spacing, 1.0)))
    jitter, grow = rng.uniform(-0.35, 0.35, 2 * lobes), rng.uniform(0, 1, 2 * lobes)
    at = (np.arange(2 * lobes) + jitter) * (along[-1] / (2 * lobes))
    points = np.stack([np.interp(at, along, closed[:, 0]), np.interp(at, along, closed[:, 1])], axis=1)
    normal = (np.concatenate([points[1:], points[:1]]) - np.concatenate([points[-1:], points[:-1]]))[:, ::-1] * [1, -1]
    normal /= np.sqrt((normal * normal).sum(1, keepdims=True)) + 1e-9
    if signed_area(points) < 0:
        normal = -normal
    down = np.maximum(normal[:, 1:], 0)
    lean = normal + np.array(flow)
    lean[:, 1:] += 1.2 * down * min(hang / max(length, 1e-6), 1.0)
    lean /= np.sqrt((lean * lean).sum(1, keepdims=True)) + 1e-9
    factor = np.empty((2 * lobes, 1))
    factor[::2, 0] = 0.6 + 0.55 * grow[::2]
    factor[1::2, 0] = -0.1 + 0.35 * grow[1::2]
    if hang > length:  # between two tips a hanging coat still reaches most of the way down
        factor[1::2] = np.maximum(factor[1::2], 0.72 * down[1::2])
    tufts = points + lean * ((length + hang * down * down) * factor)
    return smooth(tufts, 3) if soft else tufts


def signed_area(points: np.ndarray) -> float:
    """Return the area of a polygon (N, 2), positive when it runs clockwise on the screen (rows go down)."""
    x, y = points.T
    return float(0.5 * (x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]))


def smooth(points: np.ndarray, n: int = 6) -> np.ndarray:
    """Return a closed Catmull-Rom curve (N * n, 2) through the points (N, 2)."""
    t = (np.arange(n) / n)[:, None]
    a = np.concatenate([points[-1:], points[:-1]])[:, None]
    b = points[:, None]
    c = np.concatenate([points[1:], points[:1]])[:, None]
    d = np.concatenate([points[2:], points[:2]])[:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3)
    return curve.reshape(-1, 2)
