"""A Turing pattern on an endless plane, and how it is laid on the animal.

Skin patterns form where a short-range activator meets a long-range inhibitor (Turing 1952; Murray 1988, "How the
Leopard Gets Its Spots"). Near onset every such system obeys the Swift-Hohenberg equation (Swift and Hohenberg 1977),
`du/dt = r u - (1 + laplace)^2 u + g u^2 - u^3`: stripes for g = 0, spots for g > 0 (Cross and Hohenberg 1993). It is
solved on a periodic grid by a spectral scheme, the linear part implicit, and stopped while it is full of faults: where
stripes fork and spots are missing is what an animal is known by.
"""

from functools import lru_cache

import numpy as np

from training.coats.atlas import HEIGHT, REGIONS, WIDTH
from training.coats.noise import Float32, octaves, smooth

PLANE = 216  # grid places a side
WAVE = 9.0  # grid places a wavelength: 24 of them a side, about twice what a flank shows
_STEPS, _TIME_STEP, _DRIVE = 18, 1.5, 0.5
_STABLE = 2.0  # taken from the linear part and given to the other (Eyre 1998), so that long steps do not blow up
_FINER = 2  # the solution is read on a grid so many times finer


def turing(rng: np.random.Generator, *, quadratic: float, anisotropy: float) -> Float32:
    """(2 * PLANE, 2 * PLANE) of zero mean and unit variance, periodic, from noise by `rng`.

    quadratic: g, 0 stripes to 1.5 round spots. anisotropy: 0 any direction, 1 waves run along the columns' axis only,
    so that stripes stand upright.
    """
    linear, cells = _operator(round(anisotropy, 2))
    state = np.fft.rfft2(rng.standard_normal((PLANE, PLANE), dtype=np.float32) * np.float32(0.3))
    for _ in range(_STEPS):
        value = np.fft.irfft2(state, s=(PLANE, PLANE))
        push = value * (np.float32(_STABLE) + value * (np.float32(quadratic) - value))
        state = (state + np.float32(_TIME_STEP) * np.fft.rfft2(push)) * linear
    state *= cells
    fine = np.zeros((_FINER * PLANE, _FINER * PLANE // 2 + 1), dtype=np.complex64)
    half = PLANE // 2
    fine[:half, :half] = state[:half, :half]
    fine[-half + 1 :, :half] = state[-half + 1 :, :half]
    value = np.fft.irfft2(fine, s=(_FINER * PLANE, _FINER * PLANE)).astype(np.float32)
    return np.asarray((value - value.mean()) / max(float(value.std()), 1e-9), dtype=np.float32)


@lru_cache(maxsize=64)
def _operator(anisotropy: float) -> tuple[Float32, Float32]:
    """The implicit step's factor by wave number, and which waves are kept (the mean is none)."""
    down = np.fft.fftfreq(PLANE)[:, None] * WAVE
    across = np.fft.rfftfreq(PLANE)[None, :] * WAVE
    square = down**2 + across**2
    growth = _DRIVE - (1.0 - square) ** 2 - 2.0 * anisotropy * down**2
    kept = (square > 0.02).astype(np.float32)
    return (1.0 / (1.0 - _TIME_STEP * (growth - _STABLE))).astype(np.float32), kept


def lay(
    rng: np.random.Generator, plane: Float32, scale: Float32, *, spacing: float, lean: float, wander: float
) -> Float32:
    """A plane laid on the atlas at half resolution: (HEIGHT / 2, WIDTH / 2), values as in `plane`.

    scale: (HEIGHT / 2, WIDTH / 2) local size of the marks; spacing: texels a wavelength where it is 1; lean: radians;
    wander: how far marks are carried off by slow noise, wavelengths, which bends stripes and makes spots unequal.
    """
    out = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.float32)
    for region in REGIONS:
        where = region.slices(2)
        x, y = _coordinates(scale[where])
        x, y = np.cos(lean) * x + np.sin(lean) * y, np.cos(lean) * y - np.sin(lean) * x
        grid = np.float32(2.0 * _FINER * WAVE / spacing)
        cells = max(2, region.around // 110), max(2, region.along // 110)
        drift = np.float32(wander * WAVE * _FINER)
        start = rng.uniform(0.0, plane.shape[0], 2)
        x = x * grid + drift * octaves(rng, x.shape, cells, 2) + np.float32(start[0])
        y = y * grid + drift * smooth(rng, x.shape, cells) + np.float32(start[1])
        out[where] = _periodic(plane, y, x)
    return out


def _coordinates(scale: Float32) -> tuple[Float32, Float32]:
    """Along and around a region in half texels, counted slower where marks are large."""
    along = np.cumsum(1.0 / scale.mean(axis=0), dtype=np.float32)
    around = np.cumsum(1.0 / scale, axis=0, dtype=np.float32)
    around -= around[len(around) // 2].copy()
    return np.broadcast_to(along, scale.shape), around


def _periodic(plane: Float32, row: Float32, column: Float32) -> Float32:
    """Values at places of a periodic grid, bilinear."""
    side = plane.shape[0]
    top, left = np.floor(row), np.floor(column)
    down, right = row - top, column - left
    first, before = top.astype(np.intp) % side, left.astype(np.intp) % side
    last, after = (first + 1) % side, (before + 1) % side
    upper = plane[first, before] * (1 - right) + plane[first, after] * right
    lower = plane[last, before] * (1 - right) + plane[last, after] * right
    return np.asarray(upper + (lower - upper) * down, dtype=np.float32)
