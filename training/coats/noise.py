"""Smooth chance: grids of random numbers, enlarged. The stuff that coats, leaves and light are made of."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def smooth(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Float32:
    """(rows, columns) of about normal numbers that vary over `cells` grid places down and across."""
    rows, columns = max(2, cells[0]), max(2, cells[1])
    return enlarge(rng.standard_normal((rows, columns), dtype=np.float32), shape)


def octaves(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], count: int) -> Float32:
    """(rows, columns) of about unit variance: `count` layers, each twice as fine and 0.6 times as strong."""
    total = np.zeros(shape, dtype=np.float32)
    power = 0.0
    for octave in range(count):
        total += smooth(rng, shape, (cells[0] << octave, cells[1] << octave)) * np.float32(0.6**octave)
        power += 0.36**octave * 0.6  # a bicubic enlargement keeps about 0.6 of a grid's variance
    return total / np.float32(np.sqrt(power))


def enlarge(grid: Float32, shape: tuple[int, int]) -> Float32:
    """A grid -> (rows, columns), bicubic."""
    return np.asarray(Image.fromarray(grid).resize(shape[::-1], Image.Resampling.BICUBIC), dtype=np.float32)


def ramp(values: Float32, low: float, high: float) -> Float32:
    """0 at `low`, 1 at `high`, smooth between and flat beyond; `low` may be the larger."""
    place = np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return np.asarray(place * place * (3.0 - 2.0 * place), dtype=np.float32)
