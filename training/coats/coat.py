"""coat(seed, identity, flank): one flank of one invented jaguar, as a texture."""

from typing import Literal

import numpy as np

from training.coats.atlas import EAR, HEAD, HEIGHT, TAIL, WIDTH, Fur, Region, fur
from training.coats.noise import Float32, Pixels, octaves, ramp
from training.coats.rosettes import divide, draw_character, ink, throw_sites

Flank = Literal["left", "right"]
FLANKS: tuple[Flank, Flank] = ("left", "right")


def _colour(red: float, green: float, blue: float) -> Float32:
    """(3, 1, 1), to be spread over planes."""
    return np.array([red, green, blue], dtype=np.float32).reshape(3, 1, 1)


# Mean colours of fur in daylight. Between animals they move by a few levels only: colour is to be no shortcut.
_BACK = _colour(186.0, 128.0, 66.0)
_SIDE = _colour(208.0, 156.0, 92.0)
_BELLY = _colour(238.0, 226.0, 206.0)
_INK = _colour(24.0, 17.0, 13.0)
_TAWNY = _colour(0.75, 1.0, 1.3)  # the fur inside a ring loses more blue than red
_OWN_HUE = 2.5


def coat(seed: int, identity: int, flank: Flank) -> Pixels:
    """(HEIGHT, WIDTH, 3) texture, head to the right; `training.coats.atlas` says which part lies where.

    The same three arguments give the same bytes. Both flanks share the animal's character (size, thickness, breaks
    and density of its rosettes) and nothing of the layout.
    """
    own = np.random.default_rng((seed, 1, identity))
    nature = draw_character(own)
    hue = _colour(*own.normal(0.0, _OWN_HUE, 3))
    rng = np.random.default_rng((seed, 2, identity, FLANKS.index(flank)))
    maps = fur()
    sites = throw_sites(rng, nature, maps)
    cells = divide(rng, nature, sites)
    dark, inside = ink(rng, nature, sites, cells)
    _bands(rng, dark)
    base = _base(rng, maps) + hue
    base *= 1.0 - (nature.inside * inside * (1.0 - maps.pale)) * _TAWNY
    colour = base + (_INK - base) * (0.96 * dark)
    _face(colour)
    colour *= 1.0 + 0.05 * octaves(rng, (HEIGHT, WIDTH), (160, 160), 2)
    return np.stack(list(np.clip(colour, 0.0, 255.0).astype(np.uint8)), axis=-1)


def _base(rng: np.random.Generator, maps: Fur) -> Float32:
    """(3, HEIGHT, WIDTH) fur without ink: darker along the back, white below, in soft patches."""
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None] * np.ones((1, WIDTH), dtype=np.float32)
    back = ramp(rows, 150.0, 40.0)
    patches = 1.0 + 0.04 * octaves(rng, (HEIGHT, WIDTH), (5, 5), 3)
    colour = _SIDE + (_BACK - _SIDE) * back
    colour = colour + (_BELLY - colour) * maps.pale
    return np.asarray(colour * patches, dtype=np.float32)


def _bands(rng: np.random.Generator, dark: Float32) -> None:
    """Rings around the tail's last third, a black tip."""
    where = slice(TAIL.top, TAIL.top + TAIL.around)
    along = np.linspace(0.0, 1.0, TAIL.along, dtype=np.float32)
    wave = np.sin(along * float(rng.uniform(50.0, 80.0)) + float(rng.uniform(0.0, 6.0))) - 0.1
    bands = np.maximum(ramp(wave, 0.0, 0.4) * ramp(along, 0.5, 0.65), ramp(along, 0.94, 0.96))
    dark[where] = np.maximum(dark[where] * ramp(along, 0.62, 0.55), bands)


def _face(colour: Float32) -> None:
    """Eye, nose, mouth line and the black back of the ear, as every jaguar has them."""
    _ellipse(colour, HEAD, (0.50, 0.26), (0.055, 0.055), (30.0, 22.0, 16.0))
    _ellipse(colour, HEAD, (0.51, 0.26), (0.030, 0.032), (196.0, 160.0, 60.0))
    _ellipse(colour, HEAD, (0.51, 0.26), (0.014, 0.016), (8.0, 8.0, 8.0))
    _ellipse(colour, HEAD, (0.97, 0.12), (0.07, 0.07), (60.0, 38.0, 34.0))
    _ellipse(colour, HEAD, (0.86, -0.13), (0.16, 0.014), (40.0, 28.0, 24.0))
    ear = colour[:, EAR.top : EAR.top + EAR.around, EAR.left : EAR.left + EAR.along]
    ear[:] = _colour(34.0, 26.0, 22.0)
    _ellipse(colour, EAR, (0.45, 0.0), (0.3, 0.2), (150.0, 118.0, 84.0))


def _ellipse(
    colour: Float32,
    region: Region,
    centre: tuple[float, float],
    reach: tuple[float, float],
    paint: tuple[float, float, float],
) -> None:
    """Paints an ellipse; centre and reach are shares of the region: along from the root, up from the middle row."""
    around, beside = slice(region.top, region.top + region.around), slice(region.left, region.left + region.along)
    rows, columns = np.mgrid[around, beside].astype(np.float32)
    along = ((columns - region.left) / region.along - centre[0]) / reach[0]
    up = ((region.middle - rows) / region.around - centre[1]) / reach[1]
    inside = ramp(np.asarray(along * along + up * up, dtype=np.float32), 1.15, 0.85)
    part = colour[:, around, beside]
    part += (_colour(*paint) - part) * inside
