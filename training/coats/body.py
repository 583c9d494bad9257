"""The animal's shape: a pose and a camera -> ribbons in the picture, back to front.

Every part (torso, head, legs, tail, ears) is a bent tube: a middle line with a thickness. Seen by the camera it is a
ribbon, and a place in the ribbon knows where on the coat it lies.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.coats.atlas import EAR, FORE, HEAD, HIND, TAIL, TORSO, Region
from training.coats.form import JAGUAR, Build
from training.coats.noise import Float32
from training.coats.scene import Camera, Pose

_SAMPLES = 28
_EVEN = np.linspace(0.0, 1.0, _SAMPLES, dtype=np.float32)
_REACH = 0.84  # the torso's length, tail's root to the head's joint
_GROUND = -0.38
_FACE = 0.66  # a face's length

# Side views in body units, x forward from the tail's root, y up from the torso's middle line.
_FORE = ((0.0, 0.02), (-0.015, -0.09), (-0.01, -0.18), (0.005, -0.27), (0.0, -0.345), (0.045, -0.36))
_HIND = ((0.0, 0.02), (0.02, -0.07), (0.035, -0.15), (-0.035, -0.245), (-0.02, -0.345), (0.03, -0.36))
_SHOULDER, _HIP = 0.63, 0.115


@dataclass(frozen=True)
class Ribbon:
    """A tube as the camera sees it. `line` (K, 2) x right, y down; `radius` (K,); both in body units or in pixels.

    `slant` is the tangent of the tube's angle to the picture's plane, `round` how much of each end is rounded off
    (share of the length), `fade` how much of its root melts into what lies behind, `dim` its brightness.
    """

    region: Region
    line: Float32
    radius: Float32
    slant: float = 0.0
    round: tuple[float, float] = (0.0, 0.0)
    fade: float = 0.0
    dim: float = 1.0

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        low, high = self.line - self.radius[:, None], self.line + self.radius[:, None]
        return *low.min(axis=0).tolist(), *high.max(axis=0).tolist()


def ribbons(pose: Pose, camera: Camera, build: Build = JAGUAR) -> list[Ribbon]:
    """The parts back to front, facing right, in body units."""
    spine = _spine(pose, build)
    head, ears = _head(pose, spine, build)
    far = [_leg(pose, spine, number, build) for number in (3, 2)]
    near = [_leg(pose, spine, number, build) for number in (1, 0)]
    torso = _Tube(TORSO, spine, build.girth * np.float32(pose.stout), (0.16, 0.0))
    tail = _Tube(TAIL, _tail(pose, spine, build), build.brush, (0.0, 0.02))
    middle = [torso, head] if pose.turn > 0 else [head, torso]
    return _seen([ears[0], *far, tail, *middle, ears[1], *near], camera)


def face(pose: Pose, camera: Camera) -> list[Ribbon]:
    """A face from the front, forehead up, in body units: the middle of the torso's coat on one upright tube."""
    bend = 0.08 * pose.curl
    points = np.array(
        [[_REACH / 2 + bend * s * (1.0 - s), 0.3 - _FACE * s, 0.12 * s] for s in np.linspace(0.0, 1.0, 8)], np.float32
    )
    width = np.interp(_EVEN, (0.0, 0.3, 0.62, 0.85, 1.0), (1.12, 1.2, 0.92, 0.86, 0.9)).astype(np.float32)
    ears = []
    for side in (-1.0, 1.0):
        root = points[1] + np.array([0.13 * side, 0.0, -0.05], dtype=np.float32)
        tip = root + np.array([0.15 * side, 0.05 + 0.1 * pose.nod, -0.05], dtype=np.float32)
        ears.append(_Tube(EAR, np.stack([root, tip]).astype(np.float32), 1.7, (0.3, 0.5)))
    return _seen([*ears, _Tube(TORSO, points, width * np.float32(pose.stout), (0.22, 0.14))], camera)


@dataclass(frozen=True)
class _Tube:
    """A part in the body's space: (N, 3) corners, x forward from the tail's root, y up, z to the camera."""

    region: Region
    corners: Float32
    girth: Float32 | float = 1.0
    round: tuple[float, float] = (0.0, 0.0)
    fade: float = 0.0
    dim: float = 1.0


def _seen(tubes: list[_Tube], camera: Camera) -> list[Ribbon]:
    """Tubes projected to the picture (x right, y down), all at once."""
    curves = _even(np.stack([_smoother(len(tube.corners)) @ tube.corners for tube in tubes]))
    cosine, sine = np.float32(np.cos(camera.yaw)), np.float32(np.sin(camera.yaw))
    x, z = curves[..., 0] - np.float32(_REACH / 2), curves[..., 2]
    away = x * sine + z * cosine
    near = 1.0 / (1.0 - np.float32(camera.depth) * np.minimum(np.maximum(away, -0.8), 0.8))
    across, down = (x * cosine - z * sine) * near, (np.float32(np.sin(camera.roll)) * away - curves[..., 1]) * near
    lines = np.stack([across, down], axis=-1)
    length = np.maximum(np.hypot(across[:, -1] - across[:, 0], down[:, -1] - down[:, 0]), 0.05)
    slants = np.clip((away[:, -1] - away[:, 0]) / length, -1.2, 1.2)
    radii = np.stack([tube.region.radius_at(_SAMPLES) * tube.girth for tube in tubes]) * near
    return [
        Ribbon(tube.region, line, radius, float(slant), tube.round, tube.fade, tube.dim)
        for tube, line, radius, slant in zip(tubes, lines, radii.astype(np.float32), slants, strict=True)
    ]


def _even(curves: Float32) -> Float32:
    """(T, K, 3) lines -> the same with even steps along each, ends kept."""
    steps = curves[:, 1:] - curves[:, :-1]
    run = np.zeros(curves.shape[:2], dtype=np.float32)
    np.cumsum(np.sqrt(np.einsum("tki,tki->tk", steps, steps)), axis=1, out=run[:, 1:])
    wanted = _EVEN * run[:, -1:]
    before = (run[:, None, 1:-1] <= wanted[:, :, None]).sum(axis=-1)
    row = np.arange(len(curves))[:, None]
    share = (wanted - run[row, before]) / np.maximum(run[row, before + 1] - run[row, before], 1e-6)
    return np.asarray(curves[row, before] + steps[row, before] * np.minimum(share, 1.0)[..., None], dtype=np.float32)


@lru_cache(maxsize=16)
def _smoother(corners: int) -> Float32:
    """(_SAMPLES, corners) weights: straight lines between the corners, then rounded, ends kept."""
    places = np.linspace(0.0, 1.0, corners)
    weights = np.stack([np.interp(_EVEN, places, unit) for unit in np.eye(corners)], axis=-1)
    for _ in range(4):
        weights[1:-1] = 0.25 * weights[:-2] + 0.5 * weights[1:-1] + 0.25 * weights[2:]
    return np.asarray(weights, dtype=np.float32)


def _spine(pose: Pose, build: Build) -> Float32:
    """(12, 3) points from the tail's root to the head's joint."""
    along = np.linspace(0.0, 1.0, 12)
    rise = np.clip((along - 0.72) / 0.28, 0.0, 1.0) ** 1.4
    grazes = build.hooves and pose.crouch > 0.1
    neck = pose.neck - 0.3 if grazes else pose.neck + build.lift
    height = -pose.sag * np.sin(np.pi * along) + (0.02 + neck) * rise - 0.01
    depth = pose.curl * (along - 0.45) ** 2 * 0.6
    sunk = 0.0 if build.hooves else pose.crouch * 0.3
    return np.stack([_REACH * along, height - sunk, depth], axis=-1).astype(np.float32)


def _leg(pose: Pose, spine: Float32, number: int, build: Build) -> _Tube:
    """0 near fore, 1 near hind, 2 far fore, 3 far hind."""
    fore, far = number % 2 == 0, number > 1
    shape = np.array(_FORE if fore else _HIND, dtype=np.float32)
    root = _SHOULDER if fore else _HIP
    middle = [float(np.interp(root, spine[:, 0], spine[:, axis])) for axis in (1, 2)]
    swing = pose.stride[number]
    crouch = 0.0 if build.hooves else pose.crouch
    down = np.maximum(-shape[:, 1], 0.0) / 0.36
    knee = np.sin(np.pi * np.clip(down, 0.0, 1.0)) * (crouch * (0.5 if fore else -0.5))
    x = root + shape[:, 0] + 0.33 * build.leg * np.tan(swing) * down - knee
    y = middle[0] - 0.03 + shape[:, 1] * (build.leg * (1.0 - 0.75 * crouch)) + 0.05 * abs(swing) * down
    side = np.float32(-0.085 if far else 0.075)
    points = np.stack([x, y, np.full_like(x, middle[1] + side)], axis=-1).astype(np.float32)
    # A thigh stays as thick as the body is; below, the leg is the build's.
    girth = 1.0 + (build.limb - 1.0) * np.clip(_EVEN * 2.4, 0.0, 1.0)
    return _Tube(
        FORE if fore else HIND, points, girth.astype(np.float32) * np.float32(pose.stout),
        (0.2, 0.07), fade=0.0 if far else 0.32, dim=0.62 if far else 1.0,
    )  # fmt: skip


def _tail(pose: Pose, spine: Float32, build: Build) -> Float32:
    angle, total = pose.tail
    heading = np.pi - angle * 0.9 + total * np.linspace(0.0, 1.0, 9) ** 1.5
    steps = 0.052 * build.tail * np.stack([np.cos(heading), np.sin(heading), np.full(9, 0.1 * np.sin(total))], axis=-1)
    start = spine[0] + np.array([0.03, 0.03, 0.0])
    points = start + np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    points[:, 1] = np.maximum(points[:, 1], _GROUND * build.leg + 0.03)
    return np.asarray(points, dtype=np.float32)


def _head(pose: Pose, spine: Float32, build: Build) -> tuple[_Tube, list[_Tube]]:
    """The head, and the ears: far one first."""
    heading = float(np.arctan2(*(spine[-1] - spine[-3])[[1, 0]])) * 0.5 + pose.nod
    forward = np.array([np.cos(heading) * np.cos(pose.turn), np.sin(heading) * np.cos(pose.turn), np.sin(pose.turn)])
    up = np.array([-np.sin(heading), np.cos(heading), 0.0])
    across = np.cross(forward, up)
    size = build.head
    root = spine[-1] + np.array([-0.035, 0.012, 0.0]) - 0.03 * forward
    long = size * (1.15 if build.hooves else 1.0)
    points = np.stack([root + forward * (long * reach) for reach in (0.0, 0.09, 0.18, 0.265)]).astype(np.float32)
    head = _Tube(HEAD, points, size, (0.3, 0.22))
    ears = []
    for side in (-1.0, 1.0):
        base = root + size * (0.05 * forward + 0.074 * up + 0.04 * side * across * np.sign(across[2] + 1e-6))
        tip = base + build.ear * (0.04 * up - 0.012 * forward)
        ears.append(_Tube(EAR, np.stack([base, tip]).astype(np.float32), size, (0.3, 0.5)))
    return head, ears
