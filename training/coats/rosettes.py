"""Rosettes: where they sit and what shape they have. One animal's character, one flank's layout.

Sites are thrown as a Poisson disc of varying density (Bridson 2007 names the idea; here plain dart throwing), their
cells are a weighted Voronoi diagram (Worley 1996, F1 and F2), and each cell carries a ring whose thickness follows a
random Fourier series around it, so that rings break, thicken and lean differently at every site.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.coats.atlas import HEIGHT, WIDTH, Fur
from training.coats.noise import Float32, enlarge, smooth

_DARTS = 5_000
_WAVES = 5
_REACH = 1.7  # how far a site's cell is looked for, in radii


@dataclass(frozen=True)
class Character:
    """What both flanks of one animal share. Lengths in texels or, where said, in site radii."""

    spacing: float
    spread: float  # sites' sizes: standard deviation of the logarithm
    stretch: float  # along the body over around it
    lean: float  # radians
    gap: float  # fur between neighbouring rings, radii
    ring: float  # a ring's thickness, radii
    broken: float  # 0 whole rings, 1 mostly gaps
    dots: float  # mean number inside a ring
    between: float  # small spots between rings, share of the candidates
    ragged: float  # edges, texels
    inside: float  # how much darker the fur inside a ring is, 0 to 1
    solid: float  # share of filled rosettes on the flank


def draw_character(rng: np.random.Generator) -> Character:
    """An animal's character. The ranges are wide on purpose: they are what tells two animals apart at a glance."""
    return Character(
        spacing=float(np.exp(rng.uniform(np.log(40.0), np.log(74.0)))),
        spread=float(rng.uniform(0.06, 0.26)),
        stretch=float(rng.uniform(0.85, 1.5)),
        lean=float(rng.uniform(-0.6, 0.6)),
        gap=float(rng.uniform(0.07, 0.17)),
        ring=float(rng.uniform(0.2, 0.36)),
        broken=float(rng.uniform(0.05, 0.7)),
        dots=float(rng.uniform(0.0, 2.6)),
        between=float(rng.uniform(0.0, 0.7)),
        ragged=float(rng.uniform(3.0, 8.0)),
        inside=float(rng.uniform(0.1, 0.3)),
        solid=float(rng.uniform(0.0, 0.3) ** 1.5),
    )


@dataclass(frozen=True)
class Sites:
    """N rosettes: centre (N, 2) as x, y in texels, radius (N,) in texels, solid (N,) in [0, 1]."""

    centre: Float32
    radius: Float32
    solid: Float32


@dataclass(frozen=True)
class Cells:
    """(HEIGHT / 2, WIDTH / 2) maps: nearest site, -1 = none; depth inside its cell, radii, < 0 outside; angle, radians;
    seam, the way to the next cell, radii."""

    site: NDArray[np.int32]
    depth: Float32
    angle: Float32
    seam: Float32


def throw_sites(rng: np.random.Generator, nature: Character, fur: Fur) -> Sites:
    """Darts that keep their distance: a dart too near an earlier one is dropped."""
    places = rng.uniform((0.0, 0.0), (WIDTH, HEIGHT), (_DARTS, 2))
    column, row = places[:, 0].astype(np.intp), places[:, 1].astype(np.intp)
    darts = places.astype(np.float32)  # may round up to the edge itself, which is no texel
    size = nature.spacing * fur.scale[row, column] * np.exp(nature.spread * rng.standard_normal(_DARTS))
    size = size.astype(np.float32)
    x, y = _metric(darts[:, 0], darts[:, 1], nature)
    free = np.ones(_DARTS, dtype=np.bool_)
    kept = []
    for dart in range(_DARTS):
        if free[dart]:
            kept.append(dart)
            away = (x[dart:] - x[dart]) ** 2 + (y[dart:] - y[dart]) ** 2
            free[dart:] &= away > (0.5 * (size[dart:] + size[dart])) ** 2
    chosen, count = np.array(kept, dtype=np.intp), len(kept)
    filled = rng.random(count) < nature.solid
    solid = np.maximum(fur.solid[row[chosen], column[chosen]], filled).astype(np.float32)
    return Sites(darts[chosen], 0.62 * size[chosen], solid)


def divide(rng: np.random.Generator, nature: Character, sites: Sites) -> Cells:
    """The weighted Voronoi cells of the sites, with ragged edges, at every other texel."""
    shape = (HEIGHT // 2, WIDTH // 2)
    rows, columns = np.mgrid[:HEIGHT:2, :WIDTH:2].astype(np.float32)
    for coarse, share in ((26, 1.0), (80, 0.45)):
        columns += nature.ragged * share * smooth(rng, shape, (coarse, coarse))
        rows += nature.ragged * share * smooth(rng, shape, (coarse, coarse))
    x, y = _metric(columns, rows, nature)
    middle_x, middle_y = _metric(sites.centre[:, 0], sites.centre[:, 1], nature)
    first, second = np.full(shape, 81.0, dtype=np.float32), np.full(shape, 81.0, dtype=np.float32)
    nearest = np.full(shape, -1, dtype=np.int32)
    for number, (site, radius) in enumerate(zip(sites.centre, sites.radius, strict=True)):
        window = _window(site, _REACH * radius * max(nature.stretch, 1.0) + 2 * nature.ragged, 2)
        away = (x[window] - middle_x[number]) ** 2 + (y[window] - middle_y[number]) ** 2
        away *= np.float32(1.0 / radius**2)
        np.minimum(second[window], np.maximum(away, first[window]), out=second[window])
        np.copyto(nearest[window], np.int32(number), where=away < first[window])
        np.minimum(first[window], away, out=first[window])
    inner, outer = np.sqrt(first), np.sqrt(second)
    seam = (0.5 * (outer - inner)).astype(np.float32)
    depth = np.minimum(np.float32(0.98) - inner, seam)
    angle = np.arctan2(y - middle_y.take(nearest), x - middle_x.take(nearest))
    return Cells(nearest, depth, angle.astype(np.float32), seam)


def ink(
    rng: np.random.Generator, nature: Character, sites: Sites, cells: Cells, detail: int
) -> tuple[Float32, Float32]:
    """Ink in [0, 1] and inside in [0, 1], which says how far a place is enclosed by its ring.

    Both (HEIGHT, WIDTH) at `detail` 2, half of that at 1.
    """
    thick = nature.ring * _around(rng, nature, sites, cells)
    radius = sites.radius.take(cells.site)
    solid = sites.solid.take(cells.site)
    start = nature.gap * (1.0 + 0.9 * solid)
    outer = cells.depth - start
    ring = np.minimum(outer, thick - outer)
    spot = np.where(solid > 0.5, outer, ring)
    inside = np.where(cells.site >= 0, np.clip(outer * radius / 3.0, 0.0, 1.0), 0.0)
    dark = _sharp(spot * radius, detail)
    _dot(rng, nature, sites, dark)
    _sprinkle(rng, nature, sites, cells, dark)
    return dark, inside.astype(np.float32) if detail == 1 else enlarge(inside.astype(np.float32), (HEIGHT, WIDTH))


def patches(nature: Character, sites: Sites, cells: Cells, detail: int) -> Float32:
    """Whole cells, inked, with light seams between them: a giraffe's coat. Shapes as `ink`'s."""
    return _sharp((cells.seam - nature.gap) * sites.radius.take(cells.site), detail)


def _sharp(depth: Float32, detail: int) -> Float32:
    """Depth inside the ink, texels, at every other texel -> ink in [0, 1] with an edge as wide as two texels."""
    depth = np.maximum(depth, -20.0).astype(np.float32)
    if detail == 2:
        depth = enlarge(depth, (HEIGHT, WIDTH))
    return np.asarray(np.clip(depth * np.float32(detail / 3.2) + np.float32(0.5), 0.0, 1.0), dtype=np.float32)


def _metric(x: Float32, y: Float32, nature: Character) -> tuple[Float32, Float32]:
    """Texels -> the plane in which this animal's rosettes are round."""
    cosine, sine = np.float32(np.cos(nature.lean)), np.float32(np.sin(nature.lean))
    root = np.float32(np.sqrt(nature.stretch))
    along, around = (cosine * x + sine * y) / root, (cosine * y - sine * x) * root
    return along.astype(np.float32, copy=False), around.astype(np.float32, copy=False)


def _around(rng: np.random.Generator, nature: Character, sites: Sites, cells: Cells) -> Float32:
    """A ring's relative thickness by angle: a Fourier series for each site; where it is negative, the ring is open."""
    count = len(sites.radius)
    strength = rng.standard_normal((count, _WAVES)).astype(np.float32) * np.array(
        [0.5, 0.6, 0.6, 0.45, 0.3], np.float32
    )
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, _WAVES)).astype(np.float32)
    total = np.full(cells.angle.shape, 1.15 - 0.45 * nature.broken, dtype=np.float32)
    for wave in range(_WAVES):
        swing = np.cos((wave + 1) * cells.angle + phase[:, wave].take(cells.site))
        total += np.float32(0.35 + 0.75 * nature.broken) * strength[:, wave].take(cells.site) * swing
    return np.minimum(total, 1.7)


def _dot(rng: np.random.Generator, nature: Character, sites: Sites, dark: Float32) -> None:
    """Dots inside the rings."""
    for number in np.flatnonzero(sites.solid <= 0.5):
        for _ in range(rng.poisson(nature.dots)):
            offset = rng.normal(0.0, 0.22, 2) * sites.radius[number]
            _stamp(dark, sites.centre[number] + offset, sites.radius[number] * rng.uniform(0.07, 0.15), rng)


def _sprinkle(rng: np.random.Generator, nature: Character, sites: Sites, cells: Cells, dark: Float32) -> None:
    """Small spots where the cells leave room."""
    for x, y in rng.uniform((0.0, 0.0), (WIDTH, HEIGHT), (int(900 * nature.between), 2)):
        site = cells.site[int(y) // 2, int(x) // 2]
        if site >= 0 and cells.depth[int(y) // 2, int(x) // 2] < 0.04:
            _stamp(dark, np.array([x, y]), sites.radius[site] * rng.uniform(0.06, 0.14), rng)


def _stamp(dark: Float32, centre: NDArray[np.floating], radius: float, rng: np.random.Generator) -> None:
    """An elliptic dot, soft over a texel."""
    coarse = HEIGHT // dark.shape[0]
    window = _window(centre, 1.6 * radius + 2, coarse)
    rows, columns = np.mgrid[window].astype(np.float32) * np.float32(coarse)
    turn, squeeze = rng.uniform(0.0, np.pi), rng.uniform(0.65, 1.0)
    x, y = columns - centre[0], rows - centre[1]
    long, short = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / squeeze
    dot = np.clip((radius - np.hypot(long, short)) / 1.5 + 0.5, 0.0, 1.0).astype(np.float32)
    dark[window] = np.maximum(dark[window], dot)


def _window(centre: NDArray[np.floating], reach: float, coarse: int) -> tuple[slice, slice]:
    """The texels within `reach` of a centre, clipped to the texture, which is `coarse` times smaller than the atlas."""
    left, top = max(0, int(centre[0] - reach) // coarse), max(0, int(centre[1] - reach) // coarse)
    right, bottom = (min(WIDTH, int(centre[0] + reach) + 1), min(HEIGHT, int(centre[1] + reach) + 1))
    return slice(top, max(top, bottom // coarse)), slice(left, max(left, right // coarse))
