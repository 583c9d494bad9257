"""coat(seed, identity, flank): one flank of one invented animal, as a texture."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from training.coats.atlas import EAR, HEAD, HEIGHT, Region, fur
from training.coats.noise import Float32, Pixels, octaves, ramp
from training.coats.pattern import pattern
from training.coats.species import Kind, Species, species

Flank = Literal["left", "right"]
FLANKS: tuple[Flank, Flank] = ("left", "right")

_OWN_HUE = 2.5  # grey levels. Between animals of a species colours move by this only: colour is to be no shortcut
_TAWNY = np.array([0.75, 1.0, 1.3], dtype=np.float32).reshape(3, 1, 1)  # inside a ring fur loses more blue than red


def coat(
    seed: int, identity: int, flank: Flank, *, kinds: Sequence[Kind] = ("rosettes",), alike: int = 1, detail: int = 2
) -> Pixels:
    """(HEIGHT, WIDTH, 3) texture, head to the right; `training.coats.atlas` says which part lies where.

    The same arguments give the same bytes. `alike` identities in a row are of one species and share its statistics;
    both flanks share the animal's colour and nothing of the layout. `detail` 1 makes half the rows and columns.
    """
    kind = species(seed, identity // alike, kinds)
    hue = np.random.default_rng((seed, 8, identity)).normal(0.0, _OWN_HUE, (3, 1, 1)).astype(np.float32)
    rng = np.random.default_rng((seed, 2, identity, FLANKS.index(flank)))
    dark, inside = pattern(rng, kind, detail)
    pale = fur().pale if detail == 2 else fur().pale[::2, ::2]
    base = _base(rng, kind, pale) + hue
    if kind.kind == "rosettes":
        base *= 1.0 - (np.float32(kind.character.inside) * inside * (1.0 - pale)) * _TAWNY
    base += (_colour(kind.ink) - base) * (np.float32(0.96 * kind.marks.strength) * dark)
    _face(base, detail)
    base *= 1.0 + np.float32(0.05) * octaves(rng, pale.shape, (80 * detail, 80 * detail), 2)
    return np.stack(list(np.clip(base, 0.0, 255.0).astype(np.uint8)), axis=-1)


def _colour(colour: tuple[float, float, float]) -> Float32:
    """(3, 1, 1), to be spread over planes."""
    return np.array(colour, dtype=np.float32).reshape(3, 1, 1)


def _base(rng: np.random.Generator, kind: Species, pale: Float32) -> Float32:
    """(3, rows, columns) fur without marks: the back's colour above, the belly's below, in soft patches."""
    row = np.linspace(0.0, HEIGHT, pale.shape[0], dtype=np.float32)[:, None]
    side = _colour(kind.side)
    colour = side + (_colour(kind.back) - side) * ramp(row, 150.0, 40.0)
    colour = colour + (_colour(kind.belly) - colour) * (np.float32(kind.pale) * pale)
    return np.asarray(colour * (1.0 + np.float32(0.04) * octaves(rng, pale.shape, (5, 5), 3)), dtype=np.float32)


def _face(colour: Float32, detail: int) -> None:
    """Eye, nose, mouth line and the dark back of the ear."""
    _ellipse(colour, HEAD, detail, (0.50, 0.26), (0.055, 0.055), (30.0, 22.0, 16.0))
    _ellipse(colour, HEAD, detail, (0.51, 0.26), (0.030, 0.032), (196.0, 160.0, 60.0))
    _ellipse(colour, HEAD, detail, (0.51, 0.26), (0.014, 0.016), (8.0, 8.0, 8.0))
    _ellipse(colour, HEAD, detail, (0.97, 0.12), (0.07, 0.07), (60.0, 38.0, 34.0))
    _ellipse(colour, HEAD, detail, (0.86, -0.13), (0.16, 0.014), (40.0, 28.0, 24.0))
    colour[(slice(None), *EAR.slices(3 - detail))] *= 0.45
    _ellipse(colour, EAR, detail, (0.45, 0.0), (0.3, 0.2), (150.0, 118.0, 84.0))


def _ellipse(
    colour: Float32,
    region: Region,
    detail: int,
    centre: tuple[float, float],
    reach: tuple[float, float],
    paint: tuple[float, float, float],
) -> None:
    """Paints an ellipse; centre and reach are shares of the region: along from the root, up from the middle row."""
    part = colour[(slice(None), *region.slices(3 - detail))]
    rows, columns = part.shape[1:]
    along = (np.arange(columns, dtype=np.float32) / columns - centre[0]) / reach[0]
    up = ((0.5 - np.arange(rows, dtype=np.float32) / rows)[:, None] - centre[1]) / reach[1]
    inside = ramp(np.asarray(along * along + up * up, dtype=np.float32), 1.15, 0.85)
    part += (_colour(paint) - part) * inside
