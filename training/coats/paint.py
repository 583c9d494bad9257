"""One ribbon on the canvas: which pixels it covers, where on the coat they lie, how they are lit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.coats.atlas import Region
from training.coats.body import Ribbon
from training.coats.noise import Float32, Pixels
from training.coats.scene import Light

_EDGE = 0.9  # softness of the silhouette, pixels
_ALONG = np.linspace(0.0, 1.0, 1025, dtype=np.float32)
_STEP = 3  # side of the blocks that share a nearest point, pixels


@dataclass(frozen=True)
class Skin:
    """A coat made smaller for the scale it is seen at: `planes` (3, h, w), `shrink` texels of the atlas a texel."""

    planes: Pixels
    shrink: int

    def sample(self, column: Float32, row: Float32) -> Float32:
        """(3, N) colours at atlas places, bilinear."""
        height, width = self.planes.shape[1:]
        flat = self.planes.reshape(3, -1)
        x = np.clip((column + np.float32(0.5)) / self.shrink - 0.5, 0.0, width - 1.001).astype(np.float32)
        y = np.clip((row + np.float32(0.5)) / self.shrink - 0.5, 0.0, height - 1.001).astype(np.float32)
        left, top = np.floor(x), np.floor(y)
        right, down = x - left, y - top
        at = top.astype(np.intp) * width + left.astype(np.intp)
        upper = flat.take(at, axis=1) * (1 - right) + flat.take(at + 1, axis=1) * right
        at += width
        lower = flat.take(at, axis=1) * (1 - right) + flat.take(at + 1, axis=1) * right
        return np.asarray(upper + (lower - upper) * down, dtype=np.float32)


@dataclass(frozen=True)
class Canvas:
    """What is being painted: colour (3, H * W), cover (H * W,) in [0, 1] and the light that falls there (H * W,)."""

    colour: Float32
    cover: Float32
    shine: Float32
    width: int
    height: int


@dataclass(frozen=True)
class _Spots:
    """The N pixels under a ribbon: index, distance along (0 to 1), signed share across (-1 to 1), cover,
    normal (2, N), and how far a rounded end narrows the tube there (0 to 1)."""

    index: NDArray[np.intp]
    along: Float32
    across: Float32
    cover: Float32
    normal: Float32
    narrow: Float32


def paint(canvas: Canvas, skin: Skin, ribbon: Ribbon, light: Light, roll: float) -> None:
    """Paints one ribbon over what is there. `roll` in radians: positive looks down on the back."""
    spots = _cover(canvas, ribbon)
    if spots is None:
        return
    region = ribbon.region
    facing = np.sqrt(np.maximum(1.0 - spots.across**2, 0.0)).astype(np.float32)
    angle = np.arcsin(spots.across) + np.float32(roll)
    rest = region.radius(spots.along) * spots.narrow
    length = region.along / region.unit
    shifted = spots.along + np.float32(ribbon.slant / length) * facing * rest
    column, row = _texel(region, shifted, angle * rest)
    lit = _shade(light, spots, facing) * canvas.shine[spots.index] * np.float32(ribbon.dim)
    colour = skin.sample(column, row) * lit
    before, behind = canvas.colour.take(spots.index, axis=1), canvas.cover.take(spots.index)
    share = spots.cover
    if ribbon.fade:  # the root melts into the body, but not into the background
        share = share * (1.0 - behind * np.clip(1.0 - spots.along / np.float32(ribbon.fade), 0.0, 1.0))
    canvas.colour[:, spots.index] = before + (colour - before) * share
    canvas.cover[spots.index] = np.maximum(behind, spots.cover)


def _texel(region: Region, along: Float32, up: Float32) -> tuple[Float32, Float32]:
    """Place on the tube (share along; body units up around it) -> column and row on the atlas.

    What lies beyond the region is its mirror image: the coat goes on there, and a stretched edge would be streaks.
    """
    column = region.left + _mirror(along) * np.float32(region.along - 1)
    share = np.float32(0.5) - up * np.float32(region.unit / region.around)
    return column, region.top + _mirror(share) * np.float32(region.around - 1)


def _mirror(share: Float32) -> Float32:
    """Numbers around [0, 1] folded into it."""
    return np.asarray(np.clip(1.0 - np.abs(1.0 - np.abs(share)), 0.0, 1.0), dtype=np.float32)


def _shade(light: Light, spots: _Spots, facing: Float32) -> Float32:
    """Lambert's cosine law on a tube, over ambient light: about 1 where the light falls straight."""
    towards = np.sqrt(max(0.1, 1.0 - light.above**2 * 0.5))
    direct = facing * np.float32(towards) + spots.across * (
        spots.normal[0] * np.float32(light.side) - spots.normal[1] * np.float32(light.above)
    )
    rim = np.float32(0.72) + np.float32(0.28) * facing  # fur seen at a slant is darker
    return np.asarray((light.ambient + (1.1 - light.ambient) * np.maximum(direct, 0.0)) * rim, dtype=np.float32)


def _cover(canvas: Canvas, ribbon: Ribbon) -> _Spots | None:
    """The pixels under a ribbon, or None where it lies outside the canvas."""
    rows, columns, nearest = _near(canvas, ribbon)
    if not len(rows):
        return None
    line = ribbon.line
    step, tangent, bend = _frame(line)
    dx = columns.astype(np.float32) - line[:, 0].take(nearest)
    dy = rows.astype(np.float32) - line[:, 1].take(nearest)
    tx, ty = tangent[:, 0].take(nearest), tangent[:, 1].take(nearest)
    off = dx * ty - dy * tx  # positive on the back's side of a line that runs right
    ahead = (dx * tx + dy * ty) / (step * np.maximum(1.0 + bend.take(nearest) * off, 0.3))
    along = (nearest.astype(np.float32) + ahead) * np.float32(1.0 / (len(line) - 1))
    thick, narrow = _profile(ribbon)
    radius = thick.take(np.clip(along * 1024 + 1, 0, 1026).astype(np.intp))
    inside = radius - np.abs(off)
    some = np.flatnonzero((inside > np.float32(-0.5 * _EDGE)) & (radius > 0.3))
    along = np.clip(along[some], 0.0, 1.0)
    return _Spots(
        index=rows[some] * canvas.width + columns[some],
        along=along,
        across=np.clip(off[some] / radius[some], -0.999, 0.999),
        cover=np.clip(inside[some] / np.float32(_EDGE) + 0.5, 0.0, 1.0),
        normal=np.stack([ty[some], -tx[some]]),
        narrow=narrow.take((along * 1024).astype(np.intp)),
    )


def _near(canvas: Canvas, ribbon: Ribbon) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Pixels that may lie under a ribbon: row, column and the nearest of the line's points, each (N,).

    Blocks of `_STEP` pixels share a nearest point; `_cover` corrects for what that leaves.
    """
    left, top, right, bottom = ribbon.box()
    first_row, first_column = max(0, int(top) - 1), max(0, int(left) - 1)
    height = max(0, min(canvas.height, int(bottom) + 2) - first_row)
    width = max(0, min(canvas.width, int(right) + 2) - first_column)
    down, across = np.arange(height), np.arange(width)
    y = first_row + _STEP * np.arange(-(-height // _STEP), dtype=np.float32) + _STEP // 2
    x = first_column + _STEP * np.arange(-(-width // _STEP), dtype=np.float32) + _STEP // 2
    away = ((y - ribbon.line[:, 1:]) ** 2)[:, :, None] + ((x - ribbon.line[:, :1]) ** 2)[:, None, :]
    nearest = away.argmin(axis=0)
    close = away.min(axis=0) < (1.2 * ribbon.radius.max() + _STEP) ** 2
    rows, columns = np.nonzero(close[down // _STEP][:, across // _STEP])
    return rows + first_row, columns + first_column, nearest[rows // _STEP, columns // _STEP]


def _frame(line: Float32) -> tuple[np.float32, Float32, Float32]:
    """A line's mean step, unit tangents (K, 2) and curvature (K,), positive where it bends towards the back."""
    slope = _slope(line)
    length = np.maximum(np.hypot(slope[:, 0], slope[:, 1]), 1e-3)
    tangent = (slope / length[:, None]).astype(np.float32)
    turn = _slope(tangent)
    bend = (turn[:, 1] * tangent[:, 0] - turn[:, 0] * tangent[:, 1]) / length
    return np.float32(length.mean()), tangent, bend.astype(np.float32)


def _slope(line: Float32) -> Float32:
    """Central differences along (K, 2), one-sided at the ends."""
    slope = np.empty_like(line)
    slope[1:-1] = 0.5 * (line[2:] - line[:-2])
    slope[0], slope[-1] = line[1] - line[0], line[-1] - line[-2]
    return slope


def _profile(ribbon: Ribbon) -> tuple[Float32, Float32]:
    """(1027,) thickness at steps of 1/1024 along a ribbon, 0 before and beyond; (1027,) how far its ends narrow it."""
    narrow = np.ones(len(_ALONG), dtype=np.float32)
    for share, place in zip(ribbon.round, (_ALONG, _ALONG[::-1]), strict=True):
        if share:
            narrow *= np.sqrt(1.0 - np.clip(1.0 - place / np.float32(share), 0.0, 1.0) ** 2)
    thick = np.zeros(len(_ALONG) + 2, dtype=np.float32)
    thick[1:-1] = np.interp(_ALONG, np.linspace(0.0, 1.0, len(ribbon.radius)), ribbon.radius) * narrow
    return thick, narrow
