"""All that chance decides about a photo but the coat: pose, camera, light, lens, plants."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Lighting = Literal["day", "shade", "dusk", "flash", "infrared"]
Triple = tuple[float, float, float]

_LIGHTINGS: tuple[Lighting, ...] = ("day", "shade", "dusk", "flash", "infrared")
_LIGHT_STEPS = (0.36, 0.6, 0.74, 0.86)  # shares of 0.36, 0.24, 0.14, 0.12 and 0.14
_WHOLE_SHARE = 0.6  # photos that show the whole animal; the others are cut to a part of the flank
_JPEG_SHARE = 0.5
_FAR_SHARE = 0.2  # of these, the animal is small and anywhere in the picture


@dataclass(frozen=True)
class Pose:
    """Angles in radians, lengths in body units (1 = about the tail's root to the nose)."""

    sag: float  # how far the back hangs (+) or arches (-)
    curl: float  # sideways bend of the spine, seen as depth
    neck: float  # how far the neck rises
    nod: float  # the head's angle to the neck, up positive
    turn: float  # the head turned to or from the camera
    stride: tuple[float, float, float, float]  # near fore, near hind, far fore, far hind
    crouch: float  # 0 standing, 0.4 low to the ground
    tail: tuple[float, float]  # angle at the root, curl to the tip
    stout: float  # girth, 1 = as in the atlas


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and what it frames; window in shares of the animal's box, 1 = all of it."""

    yaw: float  # radians; 0 is side on, positive shows the animal coming nearer
    roll: float  # radians; positive looks down on the back
    tilt: float  # radians in the picture's plane
    depth: float  # strength of perspective, 0 to 0.8
    window: float
    place: tuple[float, float]  # the window's middle, shares of the box


@dataclass(frozen=True)
class Light:
    """Multipliers of colour; `side` and `above` say where the light comes from, the rest of 1 from the camera."""

    kind: Lighting
    side: float
    above: float
    ambient: float
    cast: Triple  # colour of the light
    exposure: float
    saturation: float
    gamma: float
    dapple: float  # strength of leaf shadows
    falloff: float  # how much darker the background is
    spot: float  # a lamp's cone: how much light is lost at the picture's edge
    aim: tuple[float, float]  # the cone's middle, -1 to 1 across and down


@dataclass(frozen=True)
class Scene:
    """One moment in front of one camera. `seed` fixes background and plants, so that a burst shares them."""

    seed: int
    pose: Pose
    camera: Camera
    light: Light
    blur: float  # share of the picture's longer side, standard deviation
    motion: tuple[float, float]  # the way that the picture moves in the exposure, right and down; shares as for blur
    noise: float  # grey levels, standard deviation
    quality: int  # of JPEG, 1 to 100; 0 = none
    cut: int  # leaves in front of the animal that the cut-out leaves out
    over: int  # leaves in front of the animal that the cut-out kept


def draw_scene(rng: np.random.Generator) -> Scene:
    """A scene by chance. Its colours range far wider than those of two animals' fur (design section 12)."""
    light = _light(rng)
    dim = {"day": 1.0, "shade": 1.3, "dusk": 2.0, "flash": 1.2, "infrared": 1.8}[light.kind]
    plants = rng.random()
    return Scene(
        seed=int(rng.integers(2**31)),
        pose=_pose(rng),
        camera=_camera(rng),
        light=light,
        blur=min(0.0035, float(rng.exponential(0.0006)) * dim),
        motion=_motion(rng, light.kind),
        noise=float(rng.uniform(0.8, 4.0)) * dim,
        quality=int(rng.integers(20, 96)) if rng.random() < _JPEG_SHARE else 0,
        cut=int(rng.integers(2, 22)) if plants < 0.35 else 0,
        over=int(rng.integers(2, 22)) if plants > 0.65 else 0,
    )


def nudge(scene: Scene, rng: np.random.Generator) -> Scene:
    """The next frame of a burst: the animal moved a little, the camera and the plants did not."""
    pose = scene.pose
    step = rng.normal(0.0, 0.05, 4)
    moved = replace(
        pose,
        sag=pose.sag + float(rng.normal(0.0, 0.004)),
        neck=pose.neck + float(rng.normal(0.0, 0.008)),
        nod=pose.nod + float(rng.normal(0.0, 0.06)),
        turn=pose.turn + float(rng.normal(0.0, 0.06)),
        stride=(
            pose.stride[0] + float(step[0]),
            pose.stride[1] + float(step[1]),
            pose.stride[2] + float(step[2]),
            pose.stride[3] + float(step[3]),
        ),
        tail=(pose.tail[0] + float(rng.normal(0.0, 0.06)), pose.tail[1] + float(rng.normal(0.0, 0.15))),
    )
    camera = replace(
        scene.camera,
        yaw=scene.camera.yaw + float(rng.normal(0.0, 0.02)),
        place=(
            scene.camera.place[0] + float(rng.normal(0.0, 0.012)),
            scene.camera.place[1] + float(rng.normal(0.0, 0.008)),
        ),
    )
    light = replace(scene.light, exposure=scene.light.exposure * float(np.exp(rng.normal(0.0, 0.02))))
    return replace(scene, pose=moved, camera=camera, light=light)


def _motion(rng: np.random.Generator, kind: Lighting) -> tuple[float, float]:
    """Mostly none; longer and more often where light is scarce. Animals move along, cameras shake anyhow."""
    if rng.random() > {"day": 0.08, "shade": 0.15, "dusk": 0.35, "flash": 0.1, "infrared": 0.35}[kind]:
        return 0.0, 0.0
    way = float(rng.uniform(0.006, 0.028))
    angle = float(rng.normal(0.0, 0.6))
    return way * float(np.cos(angle)), way * float(np.sin(angle))


def _pose(rng: np.random.Generator) -> Pose:
    pace = rng.uniform(-0.34, 0.34)
    swing = pace * np.array([1.0, -0.8, -1.0, 0.8]) + rng.normal(0.0, 0.07, 4)
    return Pose(
        sag=float(rng.normal(0.012, 0.02)),
        curl=float(rng.normal(0.0, 0.25)),
        neck=float(rng.uniform(-0.07, 0.09)),
        nod=float(rng.normal(-0.3, 0.25)),
        turn=float(np.clip(rng.normal(0.0, 0.35), -0.7, 0.7)),
        stride=(float(swing[0]), float(swing[1]), float(swing[2]), float(swing[3])),
        crouch=float(rng.uniform(0.15, 0.42)) if rng.random() < 0.22 else float(rng.uniform(0.0, 0.08)),
        tail=(float(rng.uniform(-1.5, -0.3)), float(rng.normal(0.3, 1.1))),
        stout=float(rng.uniform(0.9, 1.12)),
    )


def _camera(rng: np.random.Generator) -> Camera:
    whole = rng.random() < _WHOLE_SHARE
    far = whole and rng.random() < _FAR_SHARE
    window = rng.uniform(*((1.15, 1.8) if far else (1.01, 1.16))) if whole else rng.uniform(0.42, 0.95)
    spread = (0.12 if far else 0.01) if whole else 0.10
    return Camera(
        yaw=float(np.clip(rng.normal(0.0, 0.36), -0.85, 0.85)),
        roll=float(rng.normal(0.12, 0.2)),
        tilt=float(rng.normal(0.0, 0.07)),
        depth=float(rng.uniform(0.05, 0.6)),
        window=float(window),
        # A part is taken from the flank: the middle of the box is at 0.5, the flank lies ahead of and above it.
        place=(
            float(rng.normal(0.5 if whole else 0.56, spread)),
            float(rng.normal(0.5 if whole else 0.34, 0.6 * spread)),
        ),
    )


def _light(rng: np.random.Generator) -> Light:
    kind = _LIGHTINGS[int(np.searchsorted(_LIGHT_STEPS, rng.random()))]
    lamp = kind in ("flash", "infrared")
    side, above, ambient = {
        "day": (0.5, 0.75, 0.55),
        "shade": (0.25, 0.45, 0.8),
        "dusk": (0.6, 0.3, 0.7),
        "flash": (0.1, 0.1, 0.35),
        "infrared": (0.1, 0.1, 0.45),
    }[kind]
    exposure = {"day": 1.1, "shade": 0.92, "dusk": 0.72, "flash": 1.1, "infrared": 1.05}[kind]
    saturation = {"day": 1.0, "shade": 0.85, "dusk": 0.75, "flash": 0.9, "infrared": 0.0}[kind]
    return Light(
        kind=kind,
        side=float(rng.normal(0.0, side)),
        above=float(abs(rng.normal(above, 0.2))),
        ambient=float(np.clip(rng.normal(ambient, 0.1), 0.25, 0.95)),
        cast=_cast(rng, kind),
        exposure=max(0.5, exposure * float(np.exp(rng.normal(0.0, 0.2)))),
        saturation=saturation * float(rng.uniform(0.6, 1.15)),
        gamma=float(np.exp(rng.normal(0.0, 0.14))),
        dapple=float(rng.uniform(0.0, 0.65)) if kind == "day" else float(rng.uniform(0.0, 0.2)),
        falloff=float(rng.uniform(0.4, 0.85)) if lamp else float(rng.uniform(0.0, 0.3)),
        spot=float(rng.uniform(0.1, 1.4)) if lamp else float(rng.uniform(0.0, 0.2)),
        aim=(float(rng.normal(0.0, 0.3)), float(rng.normal(0.0, 0.25))),
    )


def _cast(rng: np.random.Generator, kind: Lighting) -> Triple:
    """The light's colour: warm to cold along one axis, green (under leaves) to magenta along the other."""
    warm = {"day": 0.0, "shade": -0.06, "dusk": 0.0, "flash": 0.0, "infrared": 0.0}[kind]
    heat = float(rng.normal(warm, 0.17 if kind == "dusk" else 0.12))
    green = float(rng.normal(0.0, 0.045))
    return float(np.exp(heat)), float(np.exp(green)), float(np.exp(-heat))
