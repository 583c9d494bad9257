"""photo(texture, rng): a cut-out of one animal, its background hidden under alpha 0."""

import numpy as np
from PIL import Image, ImageFilter

from training.coats.atlas import TORSO
from training.coats.backdrop import backdrop, dapples, plants
from training.coats.body import Ribbon, ribbons
from training.coats.coat import Flank
from training.coats.noise import Float32, Pixels, smooth
from training.coats.paint import Canvas, Skin, paint
from training.coats.scene import Camera, Light, Scene, draw_scene

_GREY = np.array([0.35, 0.5, 0.15])
_RAW = 0.6  # painted colours are kept at this strength, so that highlights fit a byte
_BRIGHTEST = 1.3  # light that the tone curve still tells from more, 1 = white


def photo(texture: Pixels, rng: np.random.Generator, *, size: tuple[int, int], flank: Flank = "right") -> Pixels:
    """A photo (height, width, 4) of a coat; `size` is width, height in pixels, at least 16 each.

    RGBA: alpha 255 on the animal with a soft edge, 0 around it, where the colour is that of the background. A right
    flank looks to the right, a left one to the left. Everything else is the generator's chance.
    """
    return render(texture, draw_scene(rng), rng, size=size, flank=flank)


def render(
    texture: Pixels, scene: Scene, rng: np.random.Generator, *, size: tuple[int, int], flank: Flank = "right"
) -> Pixels:
    """Like `photo`, of a given scene; `rng` draws the sensor's noise alone."""
    width, height = size
    still = np.random.default_rng(scene.seed)
    shape = height, width
    parts, scale = _frame(ribbons(scene.pose, scene.camera), scene.camera, size)
    shine = dapples(still, shape, scene.light.dapple)
    colour = _planes(backdrop(still, size)) * (shine * (1.0 - scene.light.falloff))
    canvas = Canvas(colour.reshape(3, -1), np.zeros(height * width, np.float32), shine.ravel(), width, height)
    skin = _shrink(texture, TORSO.unit / scale)
    for part in parts:
        paint(canvas, skin, part, scene.light, scene.camera.roll)
    alpha = canvas.cover.reshape(shape)
    for count, kept in ((scene.over, True), (scene.cut, False)):
        if count:
            alpha = _grow(still, colour, alpha, count, kept=kept)
    out = np.empty((*shape, 4), dtype=np.uint8)
    out[..., :3] = _develop(colour, scene, rng)
    out[..., 3] = alpha * 255.0 + 0.5
    return out if flank == "right" else np.ascontiguousarray(out[:, ::-1])


def _frame(parts: list[Ribbon], camera: Camera, size: tuple[int, int]) -> tuple[list[Ribbon], float]:
    """The ribbons in pixels, and pixels a body unit: the camera's window of the animal's box fills the picture."""
    cosine, sine = float(np.cos(camera.tilt)), float(np.sin(camera.tilt))
    turn = np.array([[cosine, sine], [-sine, cosine]], dtype=np.float32)
    turned = [part.moved(turn, np.zeros(2, np.float32), 1.0) for part in parts]
    boxes = np.array([part.box() for part in turned])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    whole = camera.window > 1.0
    reach = (high - low) * camera.window
    # The whole animal has to fit both ways; a part of it fills the picture both ways.
    scales = np.array(size) / reach
    scale = float(scales.min() if whole else scales.max())
    middle = low + (high - low) * np.array(camera.place)
    shift = (np.array(size) / 2 - middle * scale).astype(np.float32)
    return [part.moved(np.eye(2, dtype=np.float32), shift, scale) for part in turned], scale


def _shrink(texture: Pixels, texels: float) -> Skin:
    """The texture made smaller so that a pixel covers about one texel, averaged."""
    factor = int(np.clip(round(texels * 0.85), 1, 8))
    return Skin(_planes(Image.fromarray(texture).reduce(factor)), factor)


def _planes(picture: Image.Image) -> Pixels:
    """(3, rows, columns): arithmetic on whole planes is several times as fast as on pixels of three."""
    return np.stack([np.asarray(band) for band in picture.split()])


def _grow(rng: np.random.Generator, colour: Float32, alpha: Float32, count: int, *, kept: bool) -> Float32:
    """Plants in front of the animal, painted into `colour`; returns alpha, where they are kept or left out."""
    picture, cover = plants(rng, (alpha.shape[1], alpha.shape[0]), count)
    soft = np.asarray(cover.filter(ImageFilter.BoxBlur(0.6)), dtype=np.float32) * np.float32(1.0 / 255.0)
    where = np.flatnonzero(soft)
    flat, share = colour.reshape(3, -1), soft.ravel()[where]
    before = flat[:, where]
    flat[:, where] = before + (_planes(picture).reshape(3, -1)[:, where] - before) * share
    return alpha if kept else alpha * (1.0 - soft)


def _develop(colour: Float32, scene: Scene, rng: np.random.Generator) -> Pixels:
    """Light's colour, exposure, saturation and contrast, then lens blur and sensor noise: (H, W, 3) bytes."""
    light = scene.light
    shape = colour.shape[1], colour.shape[2]
    raw = np.minimum(colour * np.float32(_RAW), np.float32(255.0)).astype(np.uint8)
    picture = Image.merge("RGB", [Image.fromarray(plane) for plane in raw])
    picture = picture.convert("RGB", _mixer(light)).point(_curve(light) * 3)
    blur = scene.blur * max(shape)
    if blur > 0.25:
        picture = picture.filter(ImageFilter.BoxBlur(blur * 1.4))
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(scene.noise)
    if light.kind in ("dusk", "infrared"):
        noise += smooth(rng, shape, (shape[0] // 3, shape[1] // 3)) * np.float32(scene.noise * 0.6)
    grain = noise.astype(np.int16)
    return np.stack(
        [np.clip(band + grain, 0, 255) for band in _planes(picture)], axis=-1, dtype=np.uint8, casting="unsafe"
    )


def _mixer(light: Light) -> tuple[float, ...]:
    """Pillow's 3 x 4 matrix from raw bytes to places in the tone curve: cast, exposure and saturation in one."""
    cast = np.diag(np.array(light.cast) * light.exposure)
    grey = np.repeat((_GREY @ cast)[None], 3, axis=0)
    rows = (grey + (cast - grey) * light.saturation) / (_RAW * _BRIGHTEST)
    return tuple(float(value) for row in rows for value in (*row, 0.0))


def _curve(light: Light) -> list[int]:
    """(256,) tone curve up to light of `_BRIGHTEST`: a shoulder instead of a hard white, then gamma."""
    level = np.arange(256, dtype=np.float64) * (_BRIGHTEST / 255.0)
    shoulder = np.where(level < 0.75, level, 0.75 + 0.25 * np.tanh((level - 0.75) / 0.25))
    return [int(value) for value in 255.0 * shoulder**light.gamma]
