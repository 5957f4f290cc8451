"""Outlines in the plane: capsules (two circles and what lies between), fur along an edge, the view of a dog."""

from __future__ import annotations

from dataclasses import dataclass

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
        points = np.atleast_2d(points)
        c, s = np.cos(self.azimuth), np.sin(self.azimuth)
        across = points[:, 0] * c - points[:, 1] * s
        near = -points[:, 0] * s - points[:, 1] * c
        up = points[:, 2] * np.cos(self.elevation) - near * np.sin(self.elevation)
        column = self.shift[0] + self.scale * across
        row = self.shift[1] - self.scale * up
        return np.stack([column, row, near], axis=1)


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
    closed = np.vstack([outline, outline[:1]])
    steps = np.hypot(*np.diff(closed, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    lobes = max(4, int(along[-1] / max(spacing, 1.0)))
    at = (np.arange(2 * lobes) + rng.uniform(-0.35, 0.35, 2 * lobes)) * along[-1] / (2 * lobes)
    at = np.clip(at, 0, along[-1])
    points = np.empty((2 * lobes, 2))
    points[:, 0], points[:, 1] = np.interp(at, along, closed[:, 0]), np.interp(at, along, closed[:, 1])
    tangent = np.empty_like(points)
    tangent[1:-1] = points[2:] - points[:-2]
    tangent[0], tangent[-1] = points[1] - points[-1], points[0] - points[-2]
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
    normal /= np.hypot(*normal.T)[:, None] + 1e-9
    if signed_area(points) < 0:
        normal = -normal
    down = np.clip(normal[:, 1:], 0, 1)
    lean = normal + np.array(flow)
    lean[:, 1:] += 1.2 * down * min(hang / max(length, 1e-6), 1.0)
    lean /= np.hypot(*lean.T)[:, None] + 1e-9
    reach = length + hang * down**2
    tip = np.arange(2 * lobes) % 2 == 0
    factor = np.where(tip, rng.uniform(0.6, 1.15, 2 * lobes), rng.uniform(-0.1, 0.25, 2 * lobes))[:, None]
    # Between two tips a hanging coat still reaches most of the way down.
    factor = np.where(tip[:, None], factor, np.maximum(factor, 0.72 * down * (hang > length)))
    tufts = points + lean * reach * factor
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
