"""One ribbon on the canvas: which pixels it covers, where on the coat they lie, how they are lit.

Everything is computed on whole rectangles: arithmetic on pixels that come to nothing costs less than picking the others
out. In thick ribbons it is computed at every other pixel and interpolated, colours apart.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from training.coats.atlas import Region
from training.coats.body import Ribbon
from training.coats.noise import Float32
from training.coats.scene import Light
from training.coats.skin import Level

_EDGE = 0.9  # softness of the silhouette, pixels
_FINE = 256  # steps along a ribbon at which its thickness is known
_BLOCK = 3  # side of the blocks that share a nearest point of the line, in places of the grid
_THICK = 7.0  # pixels of radius from which on every other pixel will do


@dataclass(frozen=True)
class Canvas:
    """What is being painted: colour (3, H, W), cover (H, W) in [0, 1] and the light that falls there (H, W)."""

    colour: Float32
    cover: Float32
    shine: Float32


class Bent(NamedTuple):
    """A ribbon with its line's mean step, unit tangents (2, K) and curvature (K,), > 0 where it bends to the back."""

    ribbon: Ribbon
    run: float
    tangent: Float32
    bend: Float32


class _Grid(NamedTuple):
    """Places every `step` pixels from (top, left): blocks down and across; and the rectangle of pixels they are for."""

    top: int
    left: int
    height: int
    width: int
    step: int
    down: int
    across: int


class _Places(NamedTuple):
    """By place: share along the ribbon (beyond 0 and 1 outside), pixels off its line, up towards the back;
    the line's direction there, right and down."""

    along: Float32
    off: Float32
    right: Float32
    below: Float32


def bent(ribbons: list[Ribbon]) -> list[Bent]:
    """How the lines of ribbons run, of all at once; they have equally many points."""
    lines = np.stack([ribbon.line for ribbon in ribbons]).transpose(0, 2, 1)
    slope = _slope(lines)
    length = np.maximum(np.hypot(slope[:, 0], slope[:, 1]), 1e-3)
    tangent = (slope / length[:, None]).astype(np.float32)
    turn = _slope(tangent)
    bend = (turn[:, 1] * tangent[:, 0] - turn[:, 0] * tangent[:, 1]) / length
    runs = length.mean(axis=1).tolist()
    return [Bent(*facts) for facts in zip(ribbons, runs, tangent, bend, strict=True)]


def paint(canvas: Canvas, level: Level, part: Bent, light: Light, roll: float) -> None:
    """Paints one ribbon over what is there. `roll` in radians: positive looks down on the back."""
    ribbon = part.ribbon
    grid = _grid(canvas, ribbon)
    if grid is None:
        return
    column, row, lit, inside = _finer(_fields(part, _places(part, grid), light, roll), grid)
    cover = np.minimum(np.maximum(inside * np.float32(1.0 / _EDGE) + np.float32(0.5), 0.0), 1.0)
    if not cover.any():
        return
    where = slice(grid.top, grid.top + grid.height), slice(grid.left, grid.left + grid.width)
    behind, share = canvas.cover[where], cover
    if ribbon.fade:  # the root melts into the body, but not into the background
        far = (column - np.float32(ribbon.region.left)) * np.float32(1.0 / (ribbon.fade * ribbon.region.along))
        share = cover * (1.0 - behind * np.maximum(1.0 - far, 0.0))
    new = level.sample(column, row)
    new *= lit * canvas.shine[where]
    before = canvas.colour[:, where[0], where[1]]
    new -= before
    new *= share
    before += new
    np.maximum(behind, cover, out=behind)


def _grid(canvas: Canvas, ribbon: Ribbon) -> _Grid | None:
    """The part of the canvas that a ribbon may touch, or None where it lies outside."""
    left, top, right, bottom = ribbon.box()
    rows, columns = canvas.cover.shape
    first_row, first_column = max(0, int(top) - 1), max(0, int(left) - 1)
    height, width = min(rows, int(bottom) + 2) - first_row, min(columns, int(right) + 2) - first_column
    if height <= 0 or width <= 0:
        return None
    step = 2 if float(ribbon.radius.max()) > _THICK else 1
    side = step * _BLOCK
    return _Grid(first_row, first_column, height, width, step, -(-height // side), -(-width // side))


def _places(part: Bent, grid: _Grid) -> _Places:
    """Where the places of a grid lie on a ribbon; blocks share the line's nearest point, and its bend corrects that."""
    line, (tx, ty) = part.ribbon.line, part.tangent
    side = grid.step * _BLOCK
    y = grid.top + side * np.arange(grid.down, dtype=np.float32) + np.float32((side - 1) / 2)
    x = grid.left + side * np.arange(grid.across, dtype=np.float32) + np.float32((side - 1) / 2)
    away = ((y - line[:, 1:]) ** 2)[:, :, None] + ((x - line[:, :1]) ** 2)[:, None, :]
    nearest = away.argmin(axis=0)
    table = np.stack([tx, ty, line[:, 0] * ty - line[:, 1] * tx, line[:, 0] * tx + line[:, 1] * ty, part.bend])
    tx, ty, aside, before, bend = table.take(nearest, axis=1)[:, :, None, :, None]
    rows, columns = _BLOCK * grid.down, _BLOCK * grid.across
    half = np.float32((grid.step - 1) / 2)
    y = (grid.top + half + grid.step * np.arange(rows, dtype=np.float32)).reshape(grid.down, _BLOCK, 1, 1)
    x = (grid.left + half + grid.step * np.arange(columns, dtype=np.float32)).reshape(1, 1, grid.across, _BLOCK)
    off = x * ty - y * tx - aside
    ahead = (x * tx + y * ty - before) / np.maximum(np.float32(1.0) + bend * off, np.float32(0.3))
    along = ahead * np.float32(1.0 / (part.run * (len(line) - 1)))
    along += (nearest * np.float32(1.0 / (len(line) - 1))).astype(np.float32)[:, None, :, None]
    shape = rows, columns
    whole = off.shape
    right, below = np.broadcast_to(tx, whole).reshape(shape), np.broadcast_to(ty, whole).reshape(shape)
    return _Places(along.reshape(shape), off.reshape(shape), right, below)


def _fields(part: Bent, places: _Places, light: Light, roll: float) -> Float32:
    """(4, rows, columns): the atlas's column and row, the light, and pixels inside the silhouette."""
    ribbon = part.ribbon
    region = ribbon.region
    thick, narrow = _profile(ribbon)
    along = np.minimum(np.maximum(places.along, 0.0), 1.0)
    step = (along * np.float32(_FINE)).astype(np.intp)
    radius = thick.take(step)
    length = part.run * (len(ribbon.line) - 1)
    end = np.float32(0.5 * length) - np.abs(places.along - np.float32(0.5)) * np.float32(length)
    out = np.empty((4, *along.shape), dtype=np.float32)
    np.minimum(radius - np.abs(places.off), end, out=out[3])
    across = np.minimum(np.maximum(places.off / np.maximum(radius, np.float32(0.5)), -0.999), 0.999)
    facing = np.sqrt(1.0 - across * across)
    rest = region.radius(along) * narrow.take(step)
    moved = along + np.float32(ribbon.slant * region.unit / region.along) * facing * rest
    out[0], out[1] = _texel(region, moved, (np.arcsin(across) + np.float32(roll)) * rest)
    out[2] = _shade(light, places, across, facing) * np.float32(ribbon.dim)
    return out


def _finer(fields: Float32, grid: _Grid) -> Float32:
    """Fields at every `step` pixels -> at every pixel of the rectangle."""
    if grid.step == 1:
        return fields[:, : grid.height, : grid.width]
    count, rows, columns = fields.shape
    quarter = np.float32(0.25)
    tall = np.empty((count, 2 * rows, columns), dtype=np.float32)
    change = (fields[:, 1:] - fields[:, :-1]) * quarter
    tall[:, 0], tall[:, -1] = fields[:, 0], fields[:, -1]
    np.add(fields[:, :-1], change, out=tall[:, 1:-1:2])
    np.subtract(fields[:, 1:], change, out=tall[:, 2::2])
    tall = tall[:, : grid.height]
    out = np.empty((count, grid.height, 2 * columns), dtype=np.float32)
    change = (tall[..., 1:] - tall[..., :-1]) * quarter
    out[..., 0], out[..., -1] = tall[..., 0], tall[..., -1]
    np.add(tall[..., :-1], change, out=out[..., 1:-1:2])
    np.subtract(tall[..., 1:], change, out=out[..., 2::2])
    return out[..., : grid.width]


def _texel(region: Region, along: Float32, up: Float32) -> tuple[Float32, Float32]:
    """Place on the tube (share along; body units up around it) -> column and row on the atlas.

    What lies beyond the region is its mirror image: the coat goes on there, and a stretched edge would be streaks.
    """
    column = region.left + _mirror(along) * np.float32(region.along - 1)
    share = np.float32(0.5) - up * np.float32(region.unit / region.around)
    return column, region.top + _mirror(share) * np.float32(region.around - 1)


def _mirror(share: Float32) -> Float32:
    """Numbers around [0, 1] folded into it."""
    return np.asarray(np.maximum(1.0 - np.abs(1.0 - np.abs(share)), 0.0), dtype=np.float32)


def _shade(light: Light, places: _Places, across: Float32, facing: Float32) -> Float32:
    """Lambert's cosine law on a tube, over ambient light: about 1 where the light falls straight."""
    towards = np.float32(np.sqrt(max(0.1, 1.0 - light.above**2 * 0.5)))
    direct = facing * towards + across * (
        places.below * np.float32(light.side) + places.right * np.float32(light.above)
    )
    rim = np.float32(0.72) + np.float32(0.28) * facing  # fur seen at a slant is darker
    ambient = np.float32(light.ambient)
    return np.asarray((ambient + (np.float32(1.1) - ambient) * np.maximum(direct, 0.0)) * rim, dtype=np.float32)


def _slope(lines: Float32) -> Float32:
    """Central differences along the last axis, one-sided at the ends."""
    slope = np.empty_like(lines)
    slope[..., 1:-1] = 0.5 * (lines[..., 2:] - lines[..., :-2])
    slope[..., 0], slope[..., -1] = lines[..., 1] - lines[..., 0], lines[..., -1] - lines[..., -2]
    return slope


def _profile(ribbon: Ribbon) -> tuple[Float32, Float32]:
    """(_FINE + 1,) thickness at even steps along a ribbon, and how far its ends narrow it there."""
    narrow = _narrow(ribbon.round)
    return (_between(len(ribbon.radius)) @ ribbon.radius) * narrow, narrow


@lru_cache(maxsize=16)
def _narrow(ends: tuple[float, float]) -> Float32:
    place = np.linspace(0.0, 1.0, _FINE + 1)
    narrow = np.ones(_FINE + 1)
    for share, away in zip(ends, (place, 1.0 - place), strict=True):
        if share:
            narrow *= np.sqrt(1.0 - np.clip(1.0 - away / share, 0.0, 1.0) ** 2)
    return narrow.astype(np.float32)


@lru_cache(maxsize=4)
def _between(points: int) -> Float32:
    """(_FINE + 1, points) weights of linear interpolation."""
    places, knots = np.linspace(0.0, 1.0, _FINE + 1), np.linspace(0.0, 1.0, points)
    return np.stack([np.interp(places, knots, unit) for unit in np.eye(points)], axis=-1).astype(np.float32)
