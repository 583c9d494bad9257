"""The animal's shape: a pose and a camera -> ribbons in the picture, back to front.

Every part (torso, head, legs, tail, ears) is a bent tube: a middle line with a thickness. Seen by the camera it is a
ribbon, and a place in the ribbon knows where on the coat it lies.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.coats.atlas import EAR, FORE, HEAD, HIND, TAIL, TORSO, Region
from training.coats.noise import Float32
from training.coats.scene import Camera, Pose

_SAMPLES = 28
_EVEN = np.linspace(0.0, 1.0, _SAMPLES, dtype=np.float32)
_REACH = 0.84  # the torso's length, tail's root to the head's joint
_GROUND = -0.38

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

    def moved(self, turn: Float32, shift: Float32, scale: float) -> "Ribbon":
        """The same ribbon after `line @ turn * scale + shift`."""
        line = (self.line @ turn * np.float32(scale) + shift).astype(np.float32)
        return Ribbon(
            self.region, line, self.radius * np.float32(scale), self.slant, self.round, self.fade, self.dim
        )  # fmt: skip

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        low, high = self.line - self.radius[:, None], self.line + self.radius[:, None]
        return float(low[:, 0].min()), float(low[:, 1].min()), float(high[:, 0].max()), float(high[:, 1].max())


def ribbons(pose: Pose, camera: Camera) -> list[Ribbon]:
    """The parts back to front, facing right, in body units."""
    spine = _spine(pose)
    view = _View(camera)
    head, ears = _head(pose, spine, view)
    far = [_leg(pose, view, spine, number) for number in (3, 2)]
    near = [_leg(pose, view, spine, number) for number in (1, 0)]
    torso = view.see(TORSO, spine, pose.stout, round_=(0.16, 0.0))
    tail = view.see(TAIL, _tail(pose, spine), 1.0, round_=(0.0, 0.02))
    return [ears[0], *far, tail, torso, head, ears[1], *near] if pose.turn > 0 else [
        ears[0], *far, tail, head, torso, ears[1], *near
    ]  # fmt: skip


class _View:
    """Projects points of the body (x forward, y up, z to the camera) to the picture (x right, y down)."""

    def __init__(self, camera: Camera) -> None:
        self.cosine, self.sine = float(np.cos(camera.yaw)), float(np.sin(camera.yaw))
        self.depth = camera.depth
        self.above = float(np.sin(camera.roll))

    def see(
        self,
        region: Region,
        points: Float32,
        girth: float,
        *,
        round_: tuple[float, float],
        fade: float = 0.0,
        dim: float = 1.0,
    ) -> Ribbon:
        """A tube through (N, 3) points -> its ribbon."""
        curve = _curve(points)
        x, z = curve[:, 0] - _REACH / 2, curve[:, 2]
        away = x * self.sine + z * self.cosine
        near = 1.0 / (1.0 - self.depth * np.clip(away, -0.8, 0.8))
        line = np.stack([(x * self.cosine - z * self.sine) * near, (self.above * away - curve[:, 1]) * near], axis=-1)
        seen, run = line[-1] - line[0], float(away[-1] - away[0])
        slant = float(np.clip(run / max(float(np.hypot(*seen)), 0.05), -1.2, 1.2))
        radius = region.radius(_EVEN) * near * girth
        return Ribbon(region, line.astype(np.float32), radius.astype(np.float32), slant, round_, fade, dim)


def _curve(points: Float32) -> Float32:
    """(N, 3) corners -> (_SAMPLES, 3) points evenly along a smooth line with the same ends."""
    line = _smoother(len(points)) @ points
    steps = line[1:] - line[:-1]
    run = np.zeros(_SAMPLES)
    np.cumsum(np.sqrt(np.einsum("ij,ij->i", steps, steps)), out=run[1:])
    even = _EVEN * run[-1]
    return np.stack([np.interp(even, run, line[:, axis]) for axis in range(3)], axis=-1).astype(np.float32)


@lru_cache(maxsize=16)
def _smoother(corners: int) -> Float32:
    """(_SAMPLES, corners) weights: straight lines between the corners, then rounded, ends kept."""
    places = np.linspace(0.0, 1.0, corners)
    weights = np.stack([np.interp(_EVEN, places, unit) for unit in np.eye(corners)], axis=-1)
    for _ in range(4):
        weights[1:-1] = 0.25 * weights[:-2] + 0.5 * weights[1:-1] + 0.25 * weights[2:]
    return np.asarray(weights, dtype=np.float32)


def _spine(pose: Pose) -> Float32:
    """(12, 3) points from the tail's root to the head's joint."""
    along = np.linspace(0.0, 1.0, 12)
    rise = np.clip((along - 0.72) / 0.28, 0.0, 1.0) ** 1.4
    height = -pose.sag * np.sin(np.pi * along) + (0.02 + pose.neck) * rise - 0.01
    depth = pose.curl * (along - 0.45) ** 2 * 0.6
    return np.stack([_REACH * along, height - pose.crouch * 0.3, depth], axis=-1).astype(np.float32)


def _leg(pose: Pose, view: _View, spine: Float32, number: int) -> Ribbon:
    """0 near fore, 1 near hind, 2 far fore, 3 far hind."""
    fore, far = number % 2 == 0, number > 1
    shape = np.array(_FORE if fore else _HIND, dtype=np.float32)
    root = _SHOULDER if fore else _HIP
    middle = [float(np.interp(root, spine[:, 0], spine[:, axis])) for axis in (1, 2)]
    swing = pose.stride[number]
    down = np.maximum(-shape[:, 1], 0.0) / 0.36
    knee = np.sin(np.pi * np.clip(down, 0.0, 1.0)) * (pose.crouch * (0.5 if fore else -0.5))
    x = root + shape[:, 0] + 0.33 * np.tan(swing) * down - knee
    y = middle[0] - 0.03 + shape[:, 1] * (1.0 - 0.75 * pose.crouch) + 0.05 * abs(swing) * down
    side = np.float32(-0.085 if far else 0.075)
    points = np.stack([x, y, np.full_like(x, middle[1] + side)], axis=-1).astype(np.float32)
    region = FORE if fore else HIND
    return view.see(
        region, points, pose.stout, round_=(0.2, 0.07), fade=0.0 if far else 0.32, dim=0.62 if far else 1.0
    )  # fmt: skip


def _tail(pose: Pose, spine: Float32) -> Float32:
    angle, total = pose.tail
    heading = np.pi - angle * 0.9 + total * np.linspace(0.0, 1.0, 9) ** 1.5
    steps = 0.052 * np.stack([np.cos(heading), np.sin(heading), np.full(9, 0.1 * np.sin(total))], axis=-1)
    start = spine[0] + np.array([0.03, 0.03, 0.0])
    points = start + np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    points[:, 1] = np.maximum(points[:, 1], _GROUND + 0.03)
    return np.asarray(points, dtype=np.float32)


def _head(pose: Pose, spine: Float32, view: _View) -> tuple[Ribbon, list[Ribbon]]:
    """The head, and the ears: far one first."""
    heading = float(np.arctan2(*(spine[-1] - spine[-3])[[1, 0]])) * 0.5 + pose.nod
    forward = np.array([np.cos(heading) * np.cos(pose.turn), np.sin(heading) * np.cos(pose.turn), np.sin(pose.turn)])
    up = np.array([-np.sin(heading), np.cos(heading), 0.0])
    across = np.cross(forward, up)
    root = spine[-1] + np.array([-0.035, 0.012, 0.0]) - 0.03 * forward
    points = np.stack([root + forward * reach for reach in (0.0, 0.09, 0.18, 0.265)]).astype(np.float32)
    head = view.see(HEAD, points, 1.0, round_=(0.3, 0.22))
    ears = []
    for side in (-1.0, 1.0):
        base = root + 0.05 * forward + 0.074 * up + 0.04 * side * across * np.sign(across[2] + 1e-6)
        tip = base + 0.04 * up - 0.012 * forward
        ears.append(view.see(EAR, np.stack([base, tip]).astype(np.float32), 1.0, round_=(0.3, 0.5)))
    return head, ears
