"""What is around the animal: foliage, ground, sky, light through leaves, and plants in front of it."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.coats.noise import Float32, enlarge, octaves, ramp

# Dark, middle and light colour of what grows and of what lies on the ground, by habitat.
_HABITATS = (
    (((18, 30, 14), (58, 88, 40), (140, 168, 84)), ((44, 34, 22), (98, 78, 52), (156, 134, 96))),  # forest
    (((52, 50, 22), (128, 118, 58), (206, 190, 116)), ((70, 56, 30), (150, 128, 76), (214, 192, 132))),  # dry grass
    (((20, 36, 30), (66, 94, 70), (146, 166, 130)), ((50, 46, 40), (110, 102, 90), (176, 168, 150))),  # river bank
    (((30, 26, 16), (84, 70, 44), (150, 128, 88)), ((36, 28, 18), (86, 68, 44), (142, 116, 80))),  # dry forest
)
_SKY = np.array([214.0, 226.0, 236.0], dtype=np.float32)
Colour = tuple[int, int, int]


def backdrop(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A background of `size` (width, height), RGB, in white light, out of focus as a camera leaves it."""
    half = max(8, size[0] // 2), max(8, size[1] // 2)
    small = max(8, size[0] // 4), max(8, size[1] // 4)
    leaves, ground = _HABITATS[int(rng.integers(len(_HABITATS)))]
    shape = small[1], small[0]
    tone = octaves(rng, shape, (3, 4), 4)
    down = np.linspace(0.0, 1.0, shape[0], dtype=np.float32)[:, None]
    height = np.asarray(down + 0.08 * octaves(rng, shape, (2, 3), 2), dtype=np.float32)
    horizon = float(rng.uniform(0.45, 0.95))
    low = ramp(height, horizon - 0.06, horizon + 0.06)[..., None]
    colour = _shades(tone, leaves) * (1.0 - low) + _shades(tone, ground) * low
    sky = ramp(tone - 2.6 * height, float(rng.uniform(0.2, 2.2)), 3.0)[..., None] * (1.0 - low)
    colour += (_SKY - colour) * sky
    soft = Image.fromarray(np.clip(colour, 6.0, 255.0).astype(np.uint8))
    picture = soft.resize(half, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(picture)
    _bokeh(rng, pen, half, leaves)
    for _ in range(int(rng.integers(8, 50))):
        pen.polygon(_blade(rng, half, horizon), fill=_mix(rng, leaves if rng.random() < 0.7 else ground))
    blurred = picture.filter(ImageFilter.BoxBlur(float(rng.exponential(0.006)) * half[0]))
    return blurred.resize(size, Image.Resampling.BILINEAR)


def dapples(rng: np.random.Generator, shape: tuple[int, int], strength: float) -> Float32:
    """(rows, columns) light between leaves, mean about 1: 1 - strength in their shadow."""
    coarse = max(8, shape[0] // 4), max(8, shape[1] // 4)
    pattern = ramp(octaves(rng, coarse, (4, 6), 2), -0.5, 0.3)
    return enlarge(np.asarray(1.0 + strength * (pattern - 0.6), dtype=np.float32), shape)


def plants(rng: np.random.Generator, size: tuple[int, int], count: int) -> tuple[Image.Image, Image.Image]:
    """`count` blades and leaves in front of the animal: their colours (RGB) and their cover (L), of `size`."""
    colours, cover = Image.new("RGB", size), Image.new("L", size)
    pens = ImageDraw.Draw(colours), ImageDraw.Draw(cover)
    leaves = _HABITATS[int(rng.integers(len(_HABITATS)))][0]
    for _ in range(count):
        blade = _blade(rng, size, 1.0)
        pens[0].polygon(blade, fill=_mix(rng, leaves))
        pens[1].polygon(blade, fill=255)
    return colours, cover


def _shades(tone: Float32, palette: tuple[Colour, Colour, Colour]) -> Float32:
    """Noise of unit variance -> (rows, columns, 3) between a palette's dark, middle and light."""
    knots = np.array(palette, dtype=np.float32)
    place = np.linspace(-2.0, 2.0, 64)
    table = np.stack([np.interp(place, (-1.8, 0.0, 1.8), knots[:, band]) for band in range(3)], axis=-1)
    step = np.clip((tone + 2.0) * 16.0, 0, 63).astype(np.intp)
    return np.asarray(table.astype(np.float32)[step])


def _bokeh(
    rng: np.random.Generator, pen: ImageDraw.ImageDraw, size: tuple[int, int], palette: tuple[Colour, Colour, Colour]
) -> None:
    """Leaves and gaps far out of focus: discs."""
    for _ in range(int(rng.integers(0, 40))):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1]) * 0.8
        radius = rng.uniform(0.01, 0.045) * size[0]
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_mix(rng, palette))


def _blade(rng: np.random.Generator, size: tuple[int, int], horizon: float) -> list[tuple[float, float]]:
    """A blade of grass or a long leaf: three points at its foot, its bend and its tip, made thick."""
    width, height = size
    foot = rng.uniform(-0.1, 1.1) * width, height * rng.uniform(min(horizon, 0.9), 1.15)
    reach = height * rng.uniform(0.15, 0.75)
    lean = rng.normal(0.0, 0.35)
    bend = foot[0] + 0.45 * lean * reach, foot[1] - 0.55 * reach
    tip = foot[0] + (lean + rng.normal(0.0, 0.25)) * reach, foot[1] - reach
    thick = max(0.6, width * rng.uniform(0.002, 0.013))
    return [(foot[0] - thick / 2, foot[1]), (bend[0] - thick, bend[1]), tip, (bend[0] + thick, bend[1]),
            (foot[0] + thick / 2, foot[1])]  # fmt: skip


def _mix(rng: np.random.Generator, palette: tuple[Colour, Colour, Colour]) -> Colour:
    """A colour between a palette's dark and light."""
    share = float(rng.beta(1.6, 1.6)) * 2.0
    first, second = palette[int(share)], palette[min(2, int(share) + 1)]
    part = share - int(share)
    red, green, blue = (int(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return red, green, blue
