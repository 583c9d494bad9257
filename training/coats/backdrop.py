"""What is around the animal: trees, bushes, ground, sky, walls; light through leaves; plants in front of it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.coats.noise import Float32, enlarge, octaves, ramp

Colour = tuple[int, int, int]
Palette = tuple[Colour, Colour, Colour]
_LARGEST = 420  # pixels; larger backdrops are drawn at this size and enlarged, as they are out of focus anyway


@dataclass(frozen=True)
class _Habitat:
    """Dark, middle and light colour of what grows and of what lies on the ground; how much of what there is, 0 to 1."""

    leaves: Palette
    ground: Palette
    bushes: float
    trunks: float
    stones: float
    grass: float


_HABITATS = (
    _Habitat(((18, 30, 14), (58, 88, 40), (140, 168, 84)), ((44, 34, 22), (98, 78, 52), (156, 134, 96)),
             0.9, 0.8, 0.3, 0.6),  # forest
    _Habitat(((52, 50, 22), (128, 118, 58), (206, 190, 116)), ((70, 56, 30), (150, 128, 76), (214, 192, 132)),
             0.4, 0.2, 0.2, 1.0),  # dry grass
    _Habitat(((20, 36, 30), (66, 94, 70), (146, 166, 130)), ((50, 46, 40), (110, 102, 90), (176, 168, 150)),
             0.5, 0.3, 1.0, 0.4),  # river bank
    _Habitat(((30, 26, 16), (84, 70, 44), (150, 128, 88)), ((36, 28, 18), (86, 68, 44), (142, 116, 80)),
             0.7, 1.0, 0.5, 0.3),  # dry forest
    _Habitat(((46, 50, 36), (112, 112, 84), (170, 166, 132)), ((120, 106, 90), (172, 156, 138), (222, 208, 190)),
             0.6, 0.3, 0.6, 0.2),  # bush by a water hole
    _Habitat(((26, 44, 20), (78, 120, 46), (160, 190, 96)), ((48, 66, 26), (98, 128, 56), (164, 182, 104)),
             0.3, 0.2, 0.1, 0.9),  # pasture
    _Habitat(((60, 58, 56), (116, 112, 106), (190, 186, 178)), ((64, 60, 54), (124, 116, 106), (186, 178, 166)),
             0.1, 0.0, 0.2, 0.1),  # yard
)  # fmt: skip
_SKY = np.array([214.0, 226.0, 236.0], dtype=np.float32)


def backdrop(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A background of `size` (width, height), RGB, in white light, more or less out of focus."""
    shrink = min(1.0, _LARGEST / max(size))
    drawn = max(16, round(size[0] * shrink)), max(16, round(size[1] * shrink))
    habitat = _HABITATS[int(rng.integers(len(_HABITATS)))]
    horizon = float(rng.uniform(0.2, 0.95))
    picture = _land(rng, drawn, habitat, horizon)
    if rng.random() < habitat.trunks:
        _trunks(rng, picture, habitat, horizon)
    if rng.random() < 0.15:
        _wall(rng, picture, habitat, horizon)
    picture = _defocused(rng, picture, 0.012)
    if rng.random() < habitat.bushes:
        _leaves(rng, picture, habitat.leaves, horizon)
    if rng.random() < habitat.stones:
        _stones(rng, picture, habitat.ground, horizon)
    if rng.random() < habitat.grass:
        pen = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(8, 90))):
            pen.polygon(
                _blade(rng, drawn, horizon), fill=_mix(rng, habitat.leaves if rng.random() < 0.7 else habitat.ground)
            )
    picture = _detailed(rng, _defocused(rng, picture, 0.006))
    return picture if drawn == size else picture.resize(size, Image.Resampling.BILINEAR)


def dapples(rng: np.random.Generator, shape: tuple[int, int], strength: float) -> Float32:
    """(rows, columns) light between leaves, mean about 1: 1 - strength in their shadow."""
    coarse = max(8, shape[0] // 6), max(8, shape[1] // 6)
    pattern = ramp(octaves(rng, coarse, (4, 6), 2), -0.5, 0.3)
    return enlarge(np.asarray(1.0 + strength * (pattern - 0.6), dtype=np.float32), shape)


def plants(rng: np.random.Generator, size: tuple[int, int], count: int) -> tuple[Image.Image, Image.Image]:
    """`count` blades and leaves in front of the animal: their colours (RGB) and their cover (L), of `size`."""
    colours, cover = Image.new("RGB", size), Image.new("L", size)
    pens = ImageDraw.Draw(colours), ImageDraw.Draw(cover)
    leaves = _HABITATS[int(rng.integers(len(_HABITATS)))].leaves
    for _ in range(count):
        blade = _blade(rng, size, 1.0)
        pens[0].polygon(blade, fill=_mix(rng, leaves))
        pens[1].polygon(blade, fill=255)
    return colours, cover


def _land(rng: np.random.Generator, size: tuple[int, int], habitat: _Habitat, horizon: float) -> Image.Image:
    """Ground, thicket and sky: patches of noise, flatter the nearer the horizon."""
    shape = max(8, size[1] // 2), max(8, size[0] // 2)
    tone = octaves(rng, shape, (3, 4), 5)
    soil = octaves(rng, shape, (int(rng.integers(3, 9)), 3), 5)
    down = np.linspace(0.0, 1.0, shape[0], dtype=np.float32)[:, None]
    height = np.asarray(down + 0.06 * octaves(rng, shape, (2, 4), 3), dtype=np.float32)
    low = ramp(height, horizon - 0.03, horizon + 0.03)[..., None]
    colour = _shades(tone, habitat.leaves) * (1.0 - low) + _shades(soil * 0.8 + 0.3, habitat.ground) * low
    sky = ramp(tone - 2.6 * height, float(rng.uniform(-0.6, 2.2)), 3.0)[..., None] * (1.0 - low)
    colour += (_SKY - colour) * sky
    soft = Image.fromarray(np.clip(colour, 6.0, 255.0).astype(np.uint8))
    return soft.resize(size, Image.Resampling.BILINEAR)


def _defocused(rng: np.random.Generator, picture: Image.Image, scale: float) -> Image.Image:
    """Blurred by a radius of about `scale` of the width, mostly less."""
    return picture.filter(ImageFilter.BoxBlur(float(rng.exponential(0.5 * scale)) * picture.width))


def _detailed(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """With texture at all sizes, as natural pictures have it: amplitude falls as 1 / frequency (Field 1987)."""
    strength = float(rng.uniform(0.0, 0.2))
    shape = picture.height, picture.width
    texture = np.float32(1.0) + np.float32(strength) * octaves(rng, shape, (10, 12), 4)
    colour = np.asarray(picture) * texture[..., None]
    return Image.fromarray(np.minimum(np.maximum(colour, 4.0), 255.0).astype(np.uint8))


def _trunks(rng: np.random.Generator, picture: Image.Image, habitat: _Habitat, horizon: float) -> None:
    """Stems and branches, darker than the leaves, some lying."""
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    for _ in range(int(rng.integers(1, 8))):
        thick = width * float(rng.exponential(0.018) + 0.004)
        x, lean = float(rng.uniform(0.0, width)), float(rng.normal(0.0, 0.25 if rng.random() < 0.7 else 1.2))
        foot = height * min(1.0, horizon + float(rng.uniform(-0.05, 0.2)))
        top = foot - height * float(rng.uniform(0.3, 1.2))
        shade = _mix(rng, (habitat.leaves[0], habitat.ground[0], habitat.ground[1]))
        shift = lean * (foot - top)
        pen.polygon([(x - thick, foot), (x + shift - 0.6 * thick, top), (x + shift + 0.6 * thick, top),
                     (x + thick, foot)], fill=shade)  # fmt: skip
        pen.line(
            [(x + 0.6 * thick, foot), (x + shift + 0.3 * thick, top)], fill=habitat.ground[1], width=int(thick / 3)
        )


def _wall(rng: np.random.Generator, picture: Image.Image, habitat: _Habitat, horizon: float) -> None:
    """Boards, bars or a fence."""
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    step, thick = width * float(rng.uniform(0.04, 0.25)), float(rng.uniform(0.1, 0.9))
    upright = rng.random() < 0.6
    length = width if upright else height * horizon
    for place in np.arange(-step, length, step):
        box = (
            (place, 0.0, place + thick * step, height * horizon)
            if upright
            else (0.0, place, width, place + thick * step)
        )
        pen.rectangle(box, fill=_mix(rng, habitat.ground))


def _leaves(rng: np.random.Generator, picture: Image.Image, palette: Palette, horizon: float) -> None:
    """Clumps of leaves: many small ellipses, dark below and light above in each clump."""
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    for _ in range(int(rng.integers(2, 9))):
        count = int(rng.integers(20, 120))
        middle = rng.uniform(0.0, width), height * rng.uniform(0.0, min(1.0, horizon + 0.15))
        reach = width * rng.uniform(0.06, 0.28, 2)
        places = rng.standard_normal((count, 2)) * 0.5
        sizes = width * rng.uniform(0.004, 0.018) * np.exp(rng.normal(0.0, 0.3, (count, 2)))
        light = np.clip(0.45 - 0.25 * places[:, 1] + rng.normal(0.0, 0.22, count), 0.0, 0.999)
        for (across, down), (wide, high), tone in zip(places.tolist(), sizes.tolist(), light.tolist(), strict=True):
            x, y = middle[0] + across * reach[0], middle[1] + down * reach[1]
            pen.ellipse((x - wide, y - high, x + wide, y + high), fill=_between(palette, tone))


def _stones(rng: np.random.Generator, picture: Image.Image, palette: Palette, horizon: float) -> None:
    """Stones on the ground, each over its shadow."""
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    for y in np.sort(rng.uniform(horizon, 1.05, int(rng.integers(4, 60)))).tolist():
        near = 0.3 + (y - horizon) / max(0.1, 1.05 - horizon)
        wide, x = width * float(rng.exponential(0.012) + 0.004) * near, float(rng.uniform(0.0, width))
        high = wide * float(rng.uniform(0.4, 0.9))
        top = y * height - high
        pen.ellipse((x - wide, top + 0.5 * high, x + 1.2 * wide, y * height + 0.7 * high), fill=palette[0])
        pen.ellipse((x - wide, top, x + wide, y * height + 0.5 * high), fill=_mix(rng, palette))


def _shades(tone: Float32, palette: Palette) -> Float32:
    """Noise of unit variance -> (rows, columns, 3) between a palette's dark, middle and light."""
    knots = np.array(palette, dtype=np.float32)
    place = np.linspace(-2.0, 2.0, 64)
    table = np.stack([np.interp(place, (-1.8, 0.0, 1.8), knots[:, band]) for band in range(3)], axis=-1)
    step = np.clip((tone + 2.0) * 16.0, 0, 63).astype(np.intp)
    return np.asarray(table.astype(np.float32)[step])


def _blade(rng: np.random.Generator, size: tuple[int, int], horizon: float) -> list[tuple[float, float]]:
    """A blade of grass or a long leaf: three points at its foot, its bend and its tip, made thick."""
    width, height = size
    chance = rng.random(5).tolist()
    foot = (1.2 * chance[0] - 0.1) * width, height * (min(horizon, 0.9) + (1.15 - min(horizon, 0.9)) * chance[1])
    reach = height * (0.15 + 0.6 * chance[2])
    lean, tilt = (rng.standard_normal(2) * (0.35, 0.25)).tolist()
    bend = foot[0] + 0.45 * lean * reach, foot[1] - 0.55 * reach
    tip = foot[0] + (lean + tilt) * reach, foot[1] - reach
    thick = max(0.6, width * (0.002 + 0.011 * chance[3]))
    return [(foot[0] - thick / 2, foot[1]), (bend[0] - thick, bend[1]), tip, (bend[0] + thick, bend[1]),
            (foot[0] + thick / 2, foot[1])]  # fmt: skip


def _mix(rng: np.random.Generator, palette: Palette) -> Colour:
    """A colour between a palette's dark and light."""
    return _between(palette, float(rng.beta(1.6, 1.6)))


def _between(palette: Palette, share: float) -> Colour:
    """0 a palette's dark colour, 0.5 its middle, just below 1 its light one."""
    place = min(share, 0.999) * 2.0
    first, second = palette[int(place)], palette[min(2, int(place) + 1)]
    part = place - int(place)
    red, green, blue = (int(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return red, green, blue
