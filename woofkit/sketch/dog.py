"""The whole dog: how it is framed, and its layers painted from the furthest to the nearest."""

from __future__ import annotations

import numpy as np

from woofkit.sketch.coat import Coat, piece, scaled
from woofkit.sketch.geometry import Capsule, View, outlined
from woofkit.sketch.head import Pose3D, draw_face, fringe_layer, head_layers
from woofkit.sketch.layers import Layer, Picture, paint, paint_details
from woofkit.sketch.skeleton import Skeleton
from woofkit.sketch.traits import Traits

COLLARS = ((186, 48, 44), (44, 92, 160), (50, 120, 76), (60, 52, 50), (208, 150, 40))


def dog_capsules(s: Skeleton) -> list[Capsule]:
    """Return every capsule of trunk, neck, legs and tail."""
    return [*s.trunk, s.neck, *(c for leg in s.legs.values() for c in leg), *s.tail]


def frame(
    t: Traits, s: Skeleton, coat: Coat, pose: str, size: int, rng: np.random.Generator
) -> tuple[View, tuple[float, float, float]]:
    """Choose the side, the distance and the place in the picture; return the view and the turn of the head."""
    chance = rng.uniform(size=9)
    facing_left = chance[0] < 0.5
    if pose == "behind":
        azimuth = np.pi / 2 + np.deg2rad(70) * (chance[1] - 0.5)
        yaw = np.deg2rad((chance[2] - 0.5) * 2 * 125)
    else:
        reach = 55 if pose == "portrait" else 38
        azimuth = np.deg2rad(-reach + (2 if pose == "portrait" else 1.7) * reach * chance[1] ** 1.2 * 0.75)
        if pose == "portrait":
            azimuth = np.deg2rad(-85 + 65 * chance[1])
        toward = -np.pi / 2 - azimuth  # the yaw at which the head looks at the viewer
        yaw = toward * np.clip(chance[2] * 1.15 - 0.1, 0, 1.05)
        yaw = float(np.clip(yaw, -np.deg2rad(95), np.deg2rad(95)))
    if facing_left:
        azimuth, yaw = np.pi - azimuth, -yaw
    view = View(float(azimuth), float(np.deg2rad(3 + 17 * chance[3])))
    turn = (float(yaw), float(np.deg2rad(-6 + 26 * chance[4])), float(np.deg2rad(24 * (chance[5] - 0.5))))

    capsules = dog_capsules(s)
    head = (s.head, s.head, 1.7 * s.head_radius, 1.7 * s.head_radius)
    if pose == "portrait":
        capsules = [s.neck, (s.neck[0], s.neck[0], 0.2, 0.2)]
    capsules = [*capsules, head]
    ends = view.project(np.array([c[:2] for c in capsules]))[:, :2]
    radii = np.array([c[2:] for c in capsules]).reshape(-1, 1)
    low, high = (ends - radii).min(0), (ends + radii).max(0)
    fill = (0.72 + 0.28 * chance[6]) * (0.90 + 0.16 * t.body_size) * (1.12 if pose == "portrait" else 1)
    scale = fill * size / float(max(high - low))
    slack = np.maximum(size - scale * (high - low), 0.08 * size)
    place = 0.5 * size + (chance[7:9] - 0.5) * slack * 0.9
    shift = place - scale * 0.5 * (low + high)
    return View(view.azimuth, view.elevation, scale, (float(shift[0]), float(shift[1]))), turn


def paint_dog(picture: Picture, t: Traits, s: Skeleton, coat: Coat, view: View, turn, hair, faces) -> None:
    """Paint every part on the picture and its mask."""
    light = tuple(np.array([hair.uniform(-0.8, 0.8), -1.0]))
    flow_back = view.project(np.array([[0, 0, 0], [-1.0, 0, -0.6]]))[:, :2]
    flow = (flow_back[1] - flow_back[0]) / (np.hypot(*(flow_back[1] - flow_back[0])) + 1e-6) * 0.5

    def flat(capsules: list[Capsule], grow: float = 0.0):
        ends = view.project(np.array([c[:2] for c in capsules]))[:, :2].reshape(-1, 2, 2)
        return [
            (u, v, (c[2] + grow) * view.scale, (c[3] + grow) * view.scale)
            for (u, v), c in zip(ends, capsules, strict=True)
        ]

    def near(capsules: list[Capsule]) -> float:
        return float(view.project(np.array([c[:2] for c in capsules]))[:, 2].mean())

    pattern, white = _trunk_markings(t, s, coat, flat, view, hair)
    make = dict(light=light, flow=tuple(flow))
    if t.ruff < 0.5:
        white = white + _collar(s, flat, faces)
    layers = [
        piece(
            "body",
            near(s.trunk),
            flat([*s.trunk, s.neck], coat.bulk),
            coat.base,
            coat,
            view.scale,
            hair,
            markings=pattern + white,
            hairs=2.0,
            **make,
        )
    ]
    if t.ruff > 0.15:
        p, q, a, b = s.neck
        collar = [(p, p + 0.55 * (q - p), a * (1.0 + 0.35 * t.ruff), a * (0.75 + 0.35 * t.ruff))]
        # Seen from the front or the side, the ruff falls over the shoulders.
        collar_near = near(collar) if near(collar) < -0.15 else max(near(leg) for leg in s.legs.values()) + 0.1
        layers.append(
            piece(
                "body",
                collar_near,
                flat(collar, coat.bulk),
                scaled(coat.base, 1.05),
                coat,
                view.scale,
                hair,
                fur=1.2 + t.ruff,
                hang=0.6,
                hairs=0.8,
                rim=175,
                **make,
            )
        )
    for name, leg in s.legs.items():
        rear = name.startswith("hind")
        color = coat.marking if t.pattern == "mantle" and rear else coat.base
        marks = list(pattern) if rear else []
        marks += _socks(t, leg, coat, flat)
        upper = flat(leg[:1])[0]
        down = (upper[1] - upper[0]) / (np.hypot(*(upper[1] - upper[0])) + 1e-6)
        fade = upper[0] + np.outer([-0.3 * upper[2], 0.9 * upper[2]], down)
        layers.append(
            piece(
                "legs",
                near(leg) + 0.05 * np.sign(near(leg)),
                flat(leg, 0.4 * coat.bulk),
                color,
                coat,
                view.scale,
                hair,
                fur=0.45 + 0.6 * t.feathering,
                hang=0.25 + 0.4 * t.feathering,
                markings=marks,
                hairs=0.5,
                rim=165,
                merged=1,
                fade=fade,
                **make,
            )
        )
    layers.append(_tail_layer(t, s, coat, flat, near, view, hair, make))
    for layer in sorted(layers, key=lambda one: one.near):
        if layer.part == "body" and layer is layers[0]:
            paint(picture, layer)
            _draw_ridge(picture, t, s, coat, view, hair)
        else:
            paint(picture, layer)
    _paint_head(picture, t, s, coat, view, turn, light, hair, faces)


def _paint_head(picture: Picture, t, s, coat, view, turn, light, hair, faces) -> None:
    pose = Pose3D(view, s.head, s.head_radius, *turn)
    marked = t.pattern in ("patched", "mantle") and hair.uniform() < 0.8
    parts = head_layers(t, pose, coat, hair, light, marked)
    front = [p for p in parts if p.part == "ears" and p.near > pose.middle]
    for layer in parts:
        if not any(layer is ear for ear in front):
            paint(picture, layer)
    draw_face(picture, t, pose, faces)
    fringe = fringe_layer(t, pose, coat, hair, light)
    for layer in [*([fringe] if fringe else []), *front]:
        paint(picture, layer)


def _trunk_markings(t: Traits, s: Skeleton, coat: Coat, flat, view: View, rng) -> tuple[list, list]:
    """Return the pattern, which reaches down the legs, and the white of belly and chest, which does not."""
    marks, white = [], []
    chance = rng.uniform(size=(8, 4))
    # Markings are flat shapes cut to the trunk's outline: what would be on its far side must be left out.
    origin, back, ahead = view.project(np.stack([0 * s.outward, s.outward, [1.0, 0, 0]]))[:, 2]
    back, ahead = back - origin, ahead - origin  # how much back and breast face the viewer, -1 to 1
    if t.pattern == "saddle":
        drop = 0.45 + 0.6 * chance[0, 0]
        up = drop * (1 + 2 * max(0.0, -back - 0.1)) * s.outward
        saddle = [(p + a * up, q + b * up, a, b) for p, q, a, b in s.trunk[:2]]
        marks += outlined(flat(saddle, coat.bulk), coat.marking)
    elif t.pattern == "mantle":
        m, r, a, b = s.trunk[1]
        marks += outlined(flat([(m, r, a * 1.25, b * 1.6)], coat.bulk), coat.marking)
    elif t.pattern == "patched":
        patches = []
        for k in range(3 + int(3 * chance[7, 0])):
            p, q, a, b = s.trunk[k % 2]
            center = p + chance[k, 0] * (q - p) + [0, (2 * chance[k, 1] - 1) * a, 0.9 * a * (chance[k, 2] - 0.2)]
            r = 0.08 + 0.12 * chance[k, 3]
            patches.append((center, center + [-0.08, 0, 0.04], r, 0.8 * r))
        marks += outlined(flat(patches), coat.marking)
    if t.white > 0.15:
        low = 1.5 - 0.75 * t.white
        down = -low * s.outward
        belly = [(p + a * down, q + b * down, a, b) for p, q, a, b in s.trunk[:2] if back < 0.3]
        c, front, a, b = s.trunk[2]
        if ahead > -0.4:
            belly.append((front + [0.5 * b, 0, -0.3 * b], front + [0.45 * b, 0, 0.5 * b * t.white], 0.8 * b, 0.6 * b))
        white += outlined(flat(belly), coat.white) if belly else []
    return marks, white


def _collar(s: Skeleton, flat, rng) -> list:
    """Return a collar around every third neck, whatever the breed."""
    worn, at, shade = rng.uniform() < 0.35, rng.uniform(0.3, 0.42), COLLARS[rng.integers(len(COLLARS))]
    p, q, a, b = s.neck
    band = [(p + (at + d) * (q - p), p + (at + d + 0.02) * (q - p), *(2 * [1.3 * max(a, b)])) for d in (0, 0.1)]
    lower, upper = flat(band)
    side = np.array([-(upper[0] - lower[0])[1], (upper[0] - lower[0])[0]])
    side = side / (np.hypot(*side) + 1e-6) * lower[2]
    ring = np.array([lower[0] - side, lower[0] + side, upper[0] + side, upper[0] - side])
    return [(ring, shade)] if worn else []


def _socks(t: Traits, leg: list[Capsule], coat: Coat, flat) -> list:
    if t.white < 0.1:
        return []
    high = 1.15 * t.white * len(leg)  # how many capsules from the foot up are white
    socks = []
    for k, (p, q, a, b) in enumerate(reversed(leg)):
        share = float(np.clip(high - k, 0, 1))
        if share > 0:
            socks.append((q + share * (p - q), q, 1.3 * a, 1.3 * b))
    return outlined(flat(socks), coat.white)


def _tail_layer(t, s, coat, flat, near, view, rng, make) -> Layer:
    color = coat.marking if t.pattern in ("saddle", "mantle", "patched") else coat.base
    marks = []
    if t.tail_tip > 0.1:
        last = s.tail[-max(1, int(round(len(s.tail) * 0.75 * t.tail_tip))) :]
        marks = outlined(flat(last, 0.2), coat.white)
    plume = 0.3 * coat.bulk + 0.045 * t.feathering * (0.4 + t.tail_length)
    bias = 0.12 if t.tail_shape == "curled" else -0.02
    return piece(
        "tail",
        near(s.tail) + bias,
        flat(s.tail, plume),
        color,
        coat,
        view.scale,
        rng,
        fur=0.5 + 0.9 * t.feathering,
        hang=0.3 + 0.6 * t.feathering,
        markings=marks,
        hairs=0.5,
        rim=160,
        **make,
    )


def _draw_ridge(picture: Picture, t: Traits, s: Skeleton, coat: Coat, view: View, rng) -> None:
    """Paint the stripe of hair along the back, inside the trunk: darker, with its hairs standing."""
    facing = view.project(np.stack([s.outward, 0 * s.outward]))[:, 2]
    seen = (facing[0] - facing[1]) * np.cos(view.elevation) + s.outward[2] * np.sin(view.elevation)
    if t.ridge < 0.15 or seen < 0:
        return
    dark = scaled(coat.base, 1 - 0.42 * t.ridge)
    line = np.concatenate([np.linspace(a, b, 7) for a, b in zip(s.spine[:-1], s.spine[1:], strict=True)])
    middle = view.project(line - 0.035 * s.outward)[:, :2]
    width = np.interp(np.arange(len(line)), [0, 2, len(line) - 1], [0.026, 0.040, 0.012])
    width *= view.scale * (0.5 + 0.5 * t.ridge)
    stripe = zip(middle[:-1], middle[1:], width[:-1], width[1:], strict=True)
    details = [(outline, color, 255) for outline, color in outlined(list(stripe), dark)]
    lean = rng.uniform(-0.5, 0.5, len(line))
    for p, a, x in zip(middle, width, lean, strict=True):  # hairs that stand up
        details.append((p + np.array([[-0.35 * a, 0], [x * a, -1.5 * a], [0.35 * a, 0]]), scaled(dark, 0.75), 255))
    paint_details(picture, "body", details)
