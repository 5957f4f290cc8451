"""The view of a dog, and shapes in the plane: capsules (two circles and what lies between) and smooth curves.

A capsule in space is two balls: an array (2, 4) of forward, left, up and radius, in dog units. In the picture it is a
"disc", two circles: an array (2, 3) of column, row and radius, in pixels. K of them are (K, 2, 4) and (K, 2, 3).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


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

    def flat(self, capsules: np.ndarray, grow: float = 0.0) -> np.ndarray:
        """Map capsules (K, 2, 4) to discs (K, 2, 3); `grow` (dog units) thickens them first."""
        ends = self.project(capsules[..., :3])[:, :2].reshape(-1, 2, 2)
        return np.concatenate([ends, (capsules[..., 3:] + grow) * self.scale], axis=2)

    def near(self, capsules: np.ndarray) -> float:
        """Return how near capsules (K, 2, 4) are in the mean, in dog units."""
        return float(self.project(capsules[..., :3])[:, 2].mean())

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


def capsule(p: np.ndarray, q: np.ndarray, rp: float, rq: float) -> np.ndarray:
    """Return the capsule (2, 4) from p (3,) with radius rp to q (3,) with radius rq."""
    return np.array([[*p, rp], [*q, rq]])


def capsule_outlines(discs: np.ndarray) -> np.ndarray:
    """Return the outlines (K, 18, 2) of discs (K, 2, 3)."""
    centers, radii = discs[..., :2], discs[..., 2]
    apart = centers[:, 1] - centers[:, 0]
    distance = np.sqrt((apart**2).sum(1)) + 1e-9
    heading = np.arctan2(apart[:, 1], apart[:, 0])
    # Where one circle holds the other, the angle is 0 or pi and the outline is the larger circle.
    open_angle = np.arccos(np.clip((radii[:, 0] - radii[:, 1]) / distance, -1, 1))
    back = (heading + open_angle)[:, None] + (2 * np.pi - 2 * open_angle)[:, None] * _ARC
    front = (heading - open_angle)[:, None] + (2 * open_angle)[:, None] * _ARC
    angle = np.concatenate([back, front], axis=1)
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    return np.repeat(centers, len(_ARC), axis=1) + rays * np.repeat(radii, len(_ARC), axis=1)[:, :, None]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (N, 2) at length 1."""
    return vectors / (np.sqrt((vectors * vectors).sum(1, keepdims=True)) + 1e-9)


def neighbours(points: np.ndarray, step: int) -> np.ndarray:
    """Return the point `step` further along a closed line, for each of the points (N, 2)."""
    return points.take(np.arange(step, len(points) + step), axis=0, mode="wrap")


def smooth(points: np.ndarray, n: int = 6) -> np.ndarray:
    """Return a closed Catmull-Rom curve (N * n, 2) through the points (N, 2)."""
    t = (np.arange(n) / n)[:, None]
    a, b, c, d = (neighbours(points, step)[:, None] for step in (-1, 0, 1, 2))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3)
    return curve.reshape(-1, 2)
