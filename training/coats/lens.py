"""From light to bytes: exposure and colour, blur, motion, the sensor's noise, JPEG."""

from functools import lru_cache

import imagecodecs
import numpy as np
from PIL import Image, ImageFilter

from training.coats.noise import Float32, Pixels, smooth
from training.coats.scene import Light, Scene

RAW = 0.6  # painted colours are kept at this strength, so that highlights fit a byte
_GREY = np.array([0.35, 0.5, 0.15])
_BRIGHTEST = 1.3  # light that the tone curve still tells from more, 1 = white
_SHEET = 640  # side of the sheet of noise, pixels
_MOVES = 5  # places in which a moving picture is caught


def develop(colour: Float32, alpha: Float32, scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """(3, h, w) painted colours and (h, w) cover -> the photo, (height, width, 4), squashed to `size` (width, height).

    `rng` draws the noise.
    """
    light = scene.light
    raw = np.minimum(colour * np.float32(RAW), np.float32(255.0)).astype(np.uint8)
    cover = Image.fromarray((alpha * np.float32(255.0) + np.float32(0.5)).astype(np.uint8))
    picture = Image.merge("RGB", [Image.fromarray(plane) for plane in raw])
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        cover = cover.resize(size, Image.Resampling.BILINEAR)
    picture = picture.convert("RGB", _mixer(light)).point(_curve(light) * 3)
    blur = scene.blur * max(size)
    if blur > 0.25:
        picture = picture.filter(ImageFilter.BoxBlur(blur * 1.4))
    if scene.motion != (0.0, 0.0):
        picture = Image.fromarray(_moved(np.asarray(picture), scene.motion))
    picture = _noisy(picture, scene, rng)
    if scene.quality:
        picture = Image.fromarray(_squeezed(np.asarray(picture), scene.quality))
    return np.asarray(Image.merge("RGBA", (*picture.split(), cover)))


def _noisy(picture: Image.Image, scene: Scene, rng: np.random.Generator) -> Image.Image:
    """With the sensor's noise, the same in all colours; in clumps where the light was too little."""
    shape = picture.height, picture.width
    noise = _grain(rng, shape) * np.float32(scene.noise)
    if scene.light.kind in ("dusk", "infrared"):
        noise += smooth(rng, shape, (shape[0] // 3, shape[1] // 3)) * np.float32(scene.noise * 0.6)
    grain = noise.astype(np.int16)
    bands = []
    for band in picture.split():
        level = np.asarray(band) + grain
        np.maximum(level, 0, out=level)
        np.minimum(level, 255, out=level)
        bands.append(Image.fromarray(level.astype(np.uint8)))
    return Image.merge("RGB", bands)


def _grain(rng: np.random.Generator, shape: tuple[int, int]) -> Float32:
    """White noise of unit variance; a small photo's is a part of one large sheet, which is much faster."""
    if max(shape) > _SHEET // 2:
        return rng.standard_normal(shape, dtype=np.float32)
    top, left = rng.integers(0, _SHEET - np.array(shape))
    return _sheet()[top : top + shape[0], left : left + shape[1]]


@lru_cache(maxsize=1)
def _sheet() -> Float32:
    return np.random.default_rng(0).standard_normal((_SHEET, _SHEET), dtype=np.float32)


def _moved(pixels: Pixels, motion: tuple[float, float]) -> Pixels:
    """The mean of a few copies along a straight way; motion: shares of the longer side, right and down."""
    height, width = pixels.shape[:2]
    total = np.zeros(pixels.shape, dtype=np.uint16)
    edge = max(height, width)
    for share in np.linspace(-0.5, 0.5, _MOVES):
        right, down = round(float(share) * motion[0] * edge), round(float(share) * motion[1] * edge)
        total += np.roll(pixels, (down, right), axis=(0, 1))
    return (total // _MOVES).astype(np.uint8)


def _squeezed(pixels: Pixels, quality: int) -> Pixels:
    """What JPEG leaves of it, colour at half resolution."""
    data = imagecodecs.jpeg_encode(pixels, level=quality, subsampling="420")
    return np.asarray(imagecodecs.jpeg_decode(data), dtype=np.uint8)


def _mixer(light: Light) -> tuple[float, ...]:
    """Pillow's 3 x 4 matrix from raw bytes to places in the tone curve: cast, exposure and saturation in one."""
    cast = np.diag(np.array(light.cast) * light.exposure)
    grey = np.repeat((_GREY @ cast)[None], 3, axis=0)
    rows = (grey + (cast - grey) * light.saturation) / (RAW * _BRIGHTEST)
    return tuple(float(value) for row in rows for value in (*row, 0.0))


def _curve(light: Light) -> list[int]:
    """(256,) tone curve up to light of `_BRIGHTEST`: a shoulder instead of a hard white, then gamma."""
    level = np.arange(256, dtype=np.float64) * (_BRIGHTEST / 255.0)
    shoulder = np.where(level < 0.75, level, 0.75 + 0.25 * np.tanh((level - 0.75) / 0.25))
    return [int(value) for value in 255.0 * shoulder**light.gamma]
