"""A coat ready to be seen from any distance: the texture and smaller copies of it (mip-maps, Williams 1983)."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from training.coats.atlas import WIDTH
from training.coats.noise import Float32, Pixels

_COPIES = 4
_FINE = 0.9  # the step of a copy, in pixels, up to which its nearest texel will do


@dataclass(frozen=True)
class Level:
    """A copy: `planes` (3, h, w), `step` texels of the atlas a texel; `blend` = between four texels, else nearest."""

    planes: Pixels
    step: int
    blend: bool

    def sample(self, column: Float32, row: Float32) -> Float32:
        """(3, h, w) colours at atlas places (h, w)."""
        height, width = self.planes.shape[1:]
        flat = self.planes.reshape(3, -1)
        each, half = np.float32(1.0 / self.step), np.float32(0.5 / self.step - 0.5)
        if not self.blend:
            x = np.clip(column * each, 0.0, width - 1.0).astype(np.int32)
            y = np.clip(row * each, 0.0, height - 1.0).astype(np.int32)
            return np.asarray(flat.take(y * np.int32(width) + x, axis=1), dtype=np.float32)
        x = np.clip(column * each + half, 0.0, width - 1.001)
        y = np.clip(row * each + half, 0.0, height - 1.001)
        left, top = np.floor(x), np.floor(y)
        right, down = x - left, y - top
        at = (top * np.float32(width) + left).astype(np.int32)
        upper = flat.take(at, axis=1) * (1 - right) + flat.take(at + 1, axis=1) * right
        at += width
        lower = flat.take(at, axis=1) * (1 - right) + flat.take(at + 1, axis=1) * right
        return np.asarray(upper + (lower - upper) * down, dtype=np.float32)


class Skin:
    """The copies, finest first, each half the one before."""

    def __init__(self, texture: Pixels) -> None:
        """texture: (rows, columns, 3), the whole atlas or half of its rows and columns."""
        finest = WIDTH // texture.shape[1]
        picture = Image.fromarray(texture)
        self._copies = [(planes(picture), finest)]
        for copy in range(1, _COPIES):
            self._copies.append((planes(picture.reduce(1 << copy)), finest << copy))

    def seen(self, texels: float) -> Level:
        """The copy for a picture of whose pixels each covers so many texels of the atlas."""
        fine = [(copy, step) for copy, step in self._copies if step <= _FINE * texels]
        if fine:
            return Level(*fine[-1], blend=False)
        return Level(*self._copies[0], blend=True)


def planes(picture: Image.Image) -> Pixels:
    """(3, rows, columns): arithmetic on whole planes is several times as fast as on pixels of three."""
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
