"""Where one flank of one animal is marked: the pattern of its species, in a layout of its own."""

from typing import NamedTuple

import numpy as np

from training.coats.atlas import EAR, HEIGHT, TAIL, WIDTH, Fur, fur
from training.coats.noise import Float32, enlarge, octaves, ramp
from training.coats.rosettes import divide, ink, patches, throw_sites
from training.coats.species import Species
from training.coats.turing import lay, turing

_SOFT = 11.0  # wavelengths of a field with unit variance over this: texels that a mark's edge is wide


class Pattern(NamedTuple):
    """(HEIGHT, WIDTH) maps, or half of both: marks in [0, 1], and how far a place is enclosed by a ring, [0, 1]."""

    dark: Float32
    inside: Float32


def pattern(rng: np.random.Generator, kind: Species, detail: int) -> Pattern:
    """One flank's marks at `detail` 2 (whole atlas) or 1 (half its rows and columns)."""
    maps = fur()
    if kind.kind == "rosettes":
        sites = throw_sites(rng, kind.character, maps)
        cells = divide(rng, kind.character, sites)
        dark, inside = ink(rng, kind.character, sites, cells, detail)
    elif kind.kind == "reticulated":
        sites = throw_sites(rng, kind.character, _uniform(maps, kind))
        dark = patches(kind.character, sites, divide(rng, kind.character, sites), detail)
        inside = np.zeros_like(dark)
    else:
        dark = _field(rng, kind, maps, detail)
        inside = np.zeros_like(dark)
    if kind.form == "cat":
        _bands(rng, dark, detail)
    else:
        dark[EAR.slices(3 - detail)] = 0.0
    return Pattern(dark, inside)


def _uniform(maps: Fur, kind: Species) -> Fur:
    """Patches of more even size than a jaguar's, and larger: the character's spacing is that of rosettes."""
    scale = maps.scale ** np.float32(1.0 - 0.8 * kind.marks.even) * np.float32(
        kind.marks.spacing / kind.character.spacing
    )
    return Fur(scale.astype(np.float32), np.zeros_like(maps.solid), maps.pale)


def _field(rng: np.random.Generator, kind: Species, maps: Fur, detail: int) -> Float32:
    """Marks where a field exceeds a threshold: a Turing pattern's, or for blotches that of coarse noise."""
    marks = kind.marks
    scale = np.maximum(maps.scale[::2, ::2], 0.3) ** np.float32(1.0 - marks.even)
    shape = HEIGHT // 2, WIDTH // 2
    if kind.kind == "blotches":
        cells = max(2, round(HEIGHT / marks.spacing)), max(2, round(WIDTH / marks.spacing))
        field = octaves(rng, shape, cells, 3)
        threshold = np.float32(np.quantile(field[:220:4, ::4], 1.0 - marks.cover))
    else:
        plane = turing(rng, quadratic=marks.quadratic, anisotropy=marks.anisotropy)
        threshold = np.float32(np.quantile(plane[::3, ::3], 1.0 - marks.cover))
        field = lay(rng, plane, scale, spacing=marks.spacing, lean=marks.lean, wander=marks.wander)
        field += np.float32(marks.broken) * octaves(rng, shape, (4, 4), 2)
    field += np.float32(marks.ragged) * octaves(rng, shape, (70, 70), 2)
    edge = np.float32(marks.spacing / _SOFT) * scale
    value = (field - threshold) * edge
    if detail == 2:
        value = enlarge(value.astype(np.float32), (HEIGHT, WIDTH))
    return np.asarray(np.clip(value + np.float32(0.5), 0.0, 1.0), dtype=np.float32)


def _bands(rng: np.random.Generator, dark: Float32, detail: int) -> None:
    """Rings around a cat's tail's last third, a black tip."""
    where = TAIL.slices(3 - detail)
    along = np.linspace(0.0, 1.0, dark[where].shape[1], dtype=np.float32)
    wave = np.sin(along * float(rng.uniform(50.0, 80.0)) + float(rng.uniform(0.0, 6.0))) - 0.1
    bands = np.maximum(ramp(wave, 0.0, 0.4) * ramp(along, 0.5, 0.65), ramp(along, 0.94, 0.96))
    dark[where] = np.maximum(dark[where] * ramp(along, 0.62, 0.55), bands)
