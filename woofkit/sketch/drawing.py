"""Draw one dog: traits, skeleton, layers, scene, photograph."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from woofkit.sketch.camera import photograph
from woofkit.sketch.coat import build_coat
from woofkit.sketch.dog import Dog, frame, paint_dog
from woofkit.sketch.layers import FULL_LIGHT, Picture
from woofkit.sketch.litter import individual
from woofkit.sketch.scene import PLACES, UNSEEN_PLACE, draw_background, draw_occluders, draw_shadow
from woofkit.sketch.skeleton import POSES, UNSEEN_POSE, build_skeleton
from woofkit.sketch.traits import Traits

POSE_SHARES = (0.36, 0.20, 0.16, 0.16, 0.12)  # of POSES


class Drawing(NamedTuple):
    """A drawn photograph: `image` (size, size, 3) uint8, `mask` (size, size) uint8 of `PARTS`, the pose's name."""

    image: np.ndarray
    mask: np.ndarray
    pose: str


def code_hash() -> str:
    """sha256 of the code that draws: where it differs, drawings may."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@cache
def drawing_hash(traits: Traits, **asked: Any) -> bytes:
    """sha256 of a drawing's pixels; a process draws it once, however many runs ask for the same images."""
    return hashlib.sha256(draw_dog(traits, **asked).image.tobytes()).digest()


def pose_of(seed: int, index: int) -> str:
    """The pose in which `draw_dog` draws the dog number `index` of the stream `seed`, without drawing it."""
    return _choose_pose(np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index]).spawn(1)[0])))


def _choose_pose(posing: np.random.Generator) -> str:
    return POSES[int(posing.choice(len(POSES), p=POSE_SHARES))]


def draw_dog(
    traits: Traits, *, seed: int, index: int, size: int = 224, pose: str | None = None, place: str | None = None
) -> Drawing:
    """Draw the dog number `index` of the stream `seed`, always the same bytes for the same arguments.

    Pose, place, light and the dog's own nature depend on (seed, index) only, so the same pair with one
    trait replaced is the same photograph of a different dog. `pose` asks for one of `POSES` or for
    `UNSEEN_POSE`, `place` for one of `PLACES` or for `UNSEEN_PLACE`; all else stays as it would be.

    Raises:
        ValueError: a negative seed or index, a size below 16 pixels, an unknown pose or place.
        TypeError: traits that are no `Traits`.
    """
    if not isinstance(traits, Traits):
        raise TypeError(f"traits must be a Traits, not {type(traits).__name__}")
    for name, value, low in (("seed", seed, 0), ("index", index, 0), ("size", size, 16)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < low:
            raise ValueError(f"{name}={value!r} is not allowed: a whole number of at least {low}")
    for name, value, known in (("pose", pose, (*POSES, UNSEEN_POSE)), ("place", place, (*PLACES, UNSEEN_PLACE))):
        if value is not None and value not in known:
            raise ValueError(f"{name}={value!r} is not allowed: one of {', '.join(known)}")
    # One stream per concern: a trait that changes how many numbers one of them takes does not touch the others.
    streams = np.random.SeedSequence([int(seed), int(index)]).spawn(7)
    posing, nature, hair, faces, around, front, lens = (np.random.Generator(np.random.Philox(s)) for s in streams)

    drawn_pose = _choose_pose(posing)
    pose = pose or drawn_pose
    traits = individual(traits, nature)
    coat = build_coat(traits, nature)
    skeleton = build_skeleton(traits, pose, posing)
    view, turn = frame(traits, skeleton, pose, size, posing)

    ground = float(np.clip(view.project(np.zeros(3))[0, 1] / size - around.uniform(0.08, 0.45), 0.12, 0.9))
    drawn_place = PLACES[around.integers(len(PLACES))]
    background = draw_background(size, place or drawn_place, ground, around)
    feet = view.project(skeleton.capsules[:, 0, :3] * [1, 1, 0])
    spread = 0.5 * float(np.ptp(feet[:, 0])) + 0.12 * view.scale
    draw_shadow(background, np.array([feet[:, 0].mean(), feet[:, 1].mean()]), spread, around)

    picture = Picture(background, Image.new("L", (size, size), FULL_LIGHT), np.zeros((size, size), np.uint8))
    paint_dog(picture, Dog(traits, skeleton, coat, view, turn), hair, faces)
    draw_occluders(picture, float(feet[:, 1].max()), front)
    return Drawing(photograph(picture.colors, picture.shading, lens), picture.mask, pose)
