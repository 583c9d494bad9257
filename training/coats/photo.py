"""photo(animal, rng): a cut-out of one animal, its background hidden under alpha 0."""

from dataclasses import replace

import numpy as np
from PIL import ImageFilter

from training.coats.animal import Animal
from training.coats.atlas import TORSO
from training.coats.backdrop import backdrop, dapples, plants
from training.coats.body import Ribbon, face, ribbons
from training.coats.coat import Flank
from training.coats.lens import develop
from training.coats.noise import Float32, Pixels
from training.coats.paint import Canvas, bent, paint
from training.coats.scene import Camera, Light, Scene, draw_scene
from training.coats.skin import planes


def photo(subject: Animal, rng: np.random.Generator, *, size: tuple[int, int], flank: Flank = "right") -> Pixels:
    """A photo (height, width, 4) of an animal; `size` is width, height in pixels, at least 16 each.

    RGBA: alpha 255 on the animal with a soft edge, 0 around it, where the colour is that of the background. A right
    flank looks to the right, a left one to the left. Everything else is the generator's chance.
    """
    return render(subject, draw_scene(rng), rng, size=size, flank=flank)


def render(
    subject: Animal,
    scene: Scene,
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    flank: Flank = "right",
    behind: Pixels | None = None,
    squash: tuple[int, int] | None = None,
) -> Pixels:
    """Like `photo`, of a given scene; `rng` draws the sensor's noise alone.

    behind: (3, height, width), a background in white light; without one, the scene's own is drawn.
    squash: the (width, height) to which the photo of `size` is brought, whatever that does to its proportions.
    """
    width, height = size
    still = np.random.default_rng(scene.seed)
    shape = height, width
    body = face(scene.pose, scene.camera) if subject.face else ribbons(scene.pose, scene.camera, subject.build)
    parts, scale = _frame(body, scene.camera, size)
    shine = _shine(still, shape, scene.light)
    around = planes(backdrop(still, size)) if behind is None else behind
    colour = around * (shine * np.float32(1.0 - scene.light.falloff))
    canvas = Canvas(colour, np.zeros(shape, np.float32), shine)
    level = subject.skin.seen(TORSO.unit / scale)
    for ribbon in bent(parts):
        paint(canvas, level, ribbon, scene.light, scene.camera.roll)
    alpha = canvas.cover
    for count, kept in ((scene.over, True), (scene.cut, False)):
        if count:
            alpha = _grow(still, colour, alpha, count, kept=kept)
    out = develop(colour, alpha, scene, squash or size, rng)
    return out if flank == "right" else _mirrored(out)


def _mirrored(photo: Pixels) -> Pixels:
    """Left for right; a pixel moves as one number, which is ten times as fast as four."""
    return np.ascontiguousarray(photo.view(np.uint32)[:, ::-1]).view(np.uint8)


def _shine(rng: np.random.Generator, shape: tuple[int, int], light: Light) -> Float32:
    """(rows, columns) light that falls there: between leaves, and for a lamp at the camera less towards the edges."""
    shine = dapples(rng, shape, light.dapple)
    if light.spot:
        down = np.linspace(-1.0, 1.0, shape[0], dtype=np.float32)[:, None] - np.float32(light.aim[1])
        across = np.linspace(-1.0, 1.0, shape[1], dtype=np.float32) - np.float32(light.aim[0])
        shine = shine * (np.float32(1.0 + 0.4 * light.spot) / (1.0 + np.float32(light.spot) * (down**2 + across**2)))
    return np.asarray(shine, dtype=np.float32)


def _frame(parts: list[Ribbon], camera: Camera, size: tuple[int, int]) -> tuple[list[Ribbon], float]:
    """The ribbons in pixels, and pixels a body unit: the camera's window of the animal's box fills the picture."""
    cosine, sine = float(np.cos(camera.tilt)), float(np.sin(camera.tilt))
    turn = np.array([[cosine, sine], [-sine, cosine]], dtype=np.float32)
    lines, radii = np.stack([part.line for part in parts]) @ turn, np.stack([part.radius for part in parts])
    low, high = (lines - radii[..., None]).min(axis=(0, 1)), (lines + radii[..., None]).max(axis=(0, 1))
    # The whole animal has to fit both ways; a part of it fills the picture both ways.
    scales = np.array(size) / ((high - low) * camera.window)
    scale = float(scales.min() if camera.window > 1.0 else scales.max())
    middle = low + (high - low) * np.array(camera.place)
    lines, radii = lines * np.float32(scale) + (np.array(size) / 2 - middle * scale).astype(np.float32), radii * scale
    framed = [
        replace(part, line=line, radius=radius)
        for part, line, radius in zip(parts, lines, radii.astype(np.float32), strict=True)
    ]
    return framed, scale


def _grow(rng: np.random.Generator, colour: Float32, alpha: Float32, count: int, *, kept: bool) -> Float32:
    """Plants in front of the animal, painted into `colour`; returns alpha, where they are kept or left out."""
    picture, cover = plants(rng, (alpha.shape[1], alpha.shape[0]), count)
    soft = np.asarray(cover.filter(ImageFilter.BoxBlur(0.6))) * np.float32(1.0 / 255.0)
    for number, band in enumerate(picture.split()):
        colour[number] += (np.asarray(band) - colour[number]) * soft
    return alpha if kept else alpha * (1.0 - soft)
