"""Where each part of the animal lies on a coat's texture, and what the fur is like there.

A texture is physical: one unit of body length is as many texels along the part as around it, so that a spot keeps its
shape on a thick thigh and on a thin paw. Body units: 1 is about the length from the tail's root to the nose.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.coats.noise import Float32, ramp

WIDTH, HEIGHT = 640, 648
_PROFILE = 512


@dataclass(frozen=True)
class Region:
    """A part's rectangle, texels: `along` columns from `left`, `around` rows from `top`; `unit` texels a body unit.

    `radii` is the part's thickness at rest, from its root to its tip, in body units.
    """

    left: int
    top: int
    along: int
    around: int
    unit: float
    radii: tuple[float, ...]

    def slices(self, coarse: int) -> tuple[slice, slice]:
        """Its rows and columns on an atlas made `coarse` times smaller: 1 or 2."""
        rows = slice(self.top // coarse, (self.top + self.around) // coarse)
        return rows, slice(self.left // coarse, (self.left + self.along) // coarse)

    @property
    def middle(self) -> float:
        """The row that faces the camera when the animal is seen from the side."""
        return self.top + self.around / 2

    def radius(self, place: Float32) -> Float32:
        """Thickness at rest at `place` (0 = root, 1 = tip), body units, ends not rounded."""
        step = np.clip(place * np.float32(_PROFILE - 1), 0, _PROFILE - 1).astype(np.int32)
        return np.asarray(_thickness(self.radii, _PROFILE).take(step), dtype=np.float32)

    def radius_at(self, places: int) -> Float32:
        """(places,) thickness at even steps from root to tip, body units."""
        return _thickness(self.radii, places)


@lru_cache(maxsize=64)
def _thickness(radii: tuple[float, ...], places: int) -> Float32:
    """Kept: a look-up costs a tenth of an interpolation."""
    knots = np.linspace(0.0, 1.0, len(radii))
    return np.interp(np.linspace(0.0, 1.0, places), knots, radii).astype(np.float32)


TORSO = Region(0, 0, 640, 440, 760.0, (0.09, 0.142, 0.158, 0.154, 0.156, 0.166, 0.170, 0.150, 0.118, 0.10))
FORE = Region(0, 440, 176, 160, 420.0, (0.095, 0.090, 0.072, 0.056, 0.046, 0.043, 0.050, 0.045))
HIND = Region(176, 440, 196, 160, 420.0, (0.120, 0.122, 0.104, 0.074, 0.050, 0.040, 0.042, 0.047, 0.040))
HEAD = Region(372, 440, 128, 160, 480.0, (0.088, 0.104, 0.108, 0.100, 0.084, 0.072, 0.066, 0.058))
EAR = Region(500, 440, 64, 64, 420.0, (0.030, 0.027, 0.020))
TAIL = Region(0, 600, 640, 48, 700.0, (0.030, 0.025, 0.023, 0.022, 0.022, 0.022, 0.020))
REGIONS = (TORSO, FORE, HIND, HEAD, EAR, TAIL)


@dataclass(frozen=True)
class Fur:
    """(HEIGHT, WIDTH) maps in [0, 1]: `scale` of the spots, `solid` = spot instead of ring, `pale` = belly white."""

    scale: Float32
    solid: Float32
    pale: Float32


@lru_cache(maxsize=1)
def fur() -> Fur:
    """The same for every jaguar: rings on the flank, spots on the legs, small ones on the head, a pale belly."""
    scale, solid, pale = (np.ones((HEIGHT, WIDTH), dtype=np.float32) * value for value in (0.4, 1.0, 0.0))
    maps = Fur(scale, solid, pale)
    _torso(maps)
    for leg in (FORE, HIND):
        _leg(maps, leg)
    _head(maps)
    _tail(maps)
    return maps


def _place(region: Region) -> tuple[tuple[slice, slice], Float32, Float32]:
    """A region's slices, how far along (0 to 1) and at what angle up from the side (radians), each (rows, columns)."""
    slices = slice(region.top, region.top + region.around), slice(region.left, region.left + region.along)
    along = np.linspace(0.0, 1.0, region.along, dtype=np.float32)
    up = (region.around / 2 - np.arange(region.around, dtype=np.float32)) / np.float32(region.unit)
    return slices, np.broadcast_to(along, (region.around, region.along)), up[:, None] / region.radius(along)


def _torso(maps: Fur) -> None:
    where, along, angle = _place(TORSO)
    neck, rump = ramp(along, 0.74, 0.92), ramp(along, 0.12, 0.0)
    spine, belly = ramp(angle, 1.15, 1.35), ramp(-angle, 0.8, 1.15)
    maps.scale[where] = (1.0 - 0.42 * neck) * (1.0 - 0.3 * rump) * (1.0 - 0.45 * spine) * (1.0 - 0.25 * belly)
    maps.solid[where] = np.maximum.reduce([0.75 * neck, 0.35 * rump, spine, belly])
    maps.pale[where] = ramp(-angle, 0.5, 1.3)


def _leg(maps: Fur, region: Region) -> None:
    where, along, _ = _place(region)
    maps.scale[where] = 0.44 - 0.26 * ramp(along, 0.1, 0.95)
    maps.solid[where] = ramp(along, 0.0, 0.25)
    maps.pale[where] = 0.6 * ramp(along, 0.25, 1.0)


def _head(maps: Fur) -> None:
    where, along, angle = _place(HEAD)
    maps.scale[where] = 0.24 - 0.1 * along
    maps.pale[where] = np.maximum(ramp(along, 0.62, 0.8), ramp(-angle, 0.3, 0.9))


def _tail(maps: Fur) -> None:
    where, along, _ = _place(TAIL)
    maps.scale[where] = 0.42
    maps.pale[where] = 0.4 * ramp(along, 0.3, 1.0)
