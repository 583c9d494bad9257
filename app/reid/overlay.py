"""Two photos side by side with what each of their places adds to the score laid over them, as a PNG."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from app.reid.explain import Explanation, Link, PhotoBox
from app.reid.preprocess import Pixels, composite
from app.reid.similarity import Float64, unit_interval
from app.reid.spec import PreprocessSpec

MAX_SIDE = 512
DEFAULT_OPACITY = 0.55

# Kenneth Moreland's cool-warm, from -1 (blue) over 0 (grey) to 1 (red): equal steps look equal, the middle is lightest,
# and the colour-blind can tell the ends apart. Source: Moreland 2009, "Diverging Color Maps for Scientific
# Visualization", its table of 33 sRGB values.
_COOL_WARM = np.array([
    (59, 76, 192), (68, 90, 204), (77, 104, 215), (87, 117, 225), (98, 130, 234), (108, 142, 241), (119, 154, 247),
    (130, 165, 251), (141, 176, 254), (152, 185, 255), (163, 194, 255), (174, 201, 253), (184, 208, 249),
    (194, 213, 244), (204, 217, 238), (213, 219, 230), (221, 221, 221), (229, 216, 209), (236, 211, 197),
    (241, 204, 185), (245, 196, 173), (247, 187, 160), (247, 177, 148), (247, 166, 135), (244, 154, 123),
    (241, 141, 111), (236, 127, 99), (229, 112, 88), (222, 96, 77), (213, 80, 66), (203, 62, 56), (192, 40, 47),
    (180, 4, 38),
], dtype=np.float64)  # fmt: skip

_GAP, _FOOTER, _MIN_WIDTH = 16, 40, 520
_BAR_WIDTH, _BAR_HEIGHT, _FONT_SIZE = 120, 12, 14
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
# Pillow's lines have hard edges; they are drawn so many times as large and then made small.
_FINE = 2
_MAX_LINE = 5


@dataclass(frozen=True)
class Panel:
    """A photo to draw on: `thumbnail` is RGB, at most 512 px a side; `box` is where it lies in its grid of places."""

    thumbnail: Image.Image
    box: PhotoBox


def thumbnail(picture: Image.Image, spec: PreprocessSpec) -> Image.Image:
    """An upright picture as `decode_image` gives it -> RGB, its longer side 512 px, on the spec's background."""
    scale = MAX_SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return Image.fromarray(composite(np.asarray(resized), spec))


def diverging(values: Float64) -> Pixels:
    """Values in [-1, 1], of any shape -> the same shape with 3 channels, uint8 sRGB: blue, grey at 0, red."""
    steps = np.linspace(-1.0, 1.0, len(_COOL_WARM))
    channels = [np.interp(values, steps, _COOL_WARM[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def draw_overlay(explanation: Explanation, query: Panel, gallery: Panel, *, opacity: float = DEFAULT_OPACITY) -> bytes:
    """An explanation over its two photos -> a PNG: both maps on one scale, symmetric around 0, and the links.

    A place's colour fills its cell, since nothing finer is known. Padding is not shown, nor links that end in it.
    opacity: of the maps, 0 to 1.

    Raises:
        ValueError: the opacity is out of range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be 0 to 1, not {opacity}")
    scale = explanation.largest or 1.0  # two maps of zeros are grey all over
    covered = [
        _cover(panel, values / scale, opacity)
        for panel, values in ((query, explanation.query), (gallery, explanation.gallery))
    ]
    tallest = max(part.height for part in covered)
    width = max(_MIN_WIDTH, sum(part.width for part in covered) + _GAP)
    canvas = Image.new("RGB", (width, tallest + _FOOTER), _PAPER)
    left = (width - sum(part.width for part in covered) - _GAP) // 2
    corners = []
    for part in covered:
        corners.append((left, (tallest - part.height) // 2))
        canvas.paste(part, corners[-1])
        left += part.width + _GAP
    ends = [_Placed(panel, corner) for panel, corner in zip((query, gallery), corners, strict=True)]
    canvas = _draw_links(canvas, explanation.links, ends[0], ends[1])
    _draw_footer(canvas, explanation, tallest)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class _Placed:
    """A panel with its upper left corner on the canvas."""

    panel: Panel
    corner: tuple[int, int]

    def point(self, place: tuple[int, int]) -> tuple[float, float] | None:
        """A place's middle on the canvas, in pixels; None in padding."""
        centre = self.panel.box.centre(place)
        if centre is None:
            return None
        (x, y), (left, top), (width, height) = centre, self.corner, self.panel.thumbnail.size
        return left + x * width, top + y * height


def _cover(panel: Panel, values: Float64, opacity: float) -> Image.Image:
    """A photo under its map; values: (h, w) in [-1, 1]."""
    width, height = panel.thumbnail.size
    box, shape = panel.box, values.shape
    rows, columns = _cells(box.top, box.bottom, height, shape[0]), _cells(box.left, box.right, width, shape[1])
    colour = Image.fromarray(diverging(values)[rows[:, None], columns])
    return Image.blend(panel.thumbnail, colour, opacity)


def _cells(first: float, last: float, pixels: int, count: int) -> NDArray[np.intp]:
    """(pixels,) the cell under the middle of each pixel of a photo that reaches from `first` to `last`, in cells."""
    middles = first + (np.arange(pixels) + 0.5) * ((last - first) / pixels)
    return np.asarray(np.clip(np.floor(middles), 0, count - 1).astype(np.intp))


def _draw_links(canvas: Image.Image, links: tuple[Link, ...], query: _Placed, gallery: _Placed) -> Image.Image:
    """Lines between places: the stronger the wider, red where a pair adds to the score and blue where it takes away."""
    if not links:
        return canvas
    layer = Image.new("RGBA", (canvas.width * _FINE, canvas.height * _FINE))
    pen = ImageDraw.Draw(layer)
    strongest = max(abs(link.value) for link in links) or 1.0
    for link in reversed(links):  # the strongest on top
        ends = [query.point(link.query), gallery.point(link.gallery)]
        points = [(x * _FINE, y * _FINE) for x, y in (end for end in ends if end is not None)]
        if len(points) < 2:
            continue
        width = max(1, round(_MAX_LINE * abs(link.value) / strongest))
        colour = tuple(diverging(np.sign(np.float64(link.value))[None])[0].tolist())
        for ink, extra in ((_PAPER, 2), (colour, 0)):
            pen.line(points, fill=(*ink, 230), width=(width + extra) * _FINE)
            for x, y in points:
                radius = (width / 2 + 2 + extra / 2) * _FINE
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*ink, 230))
    layer = layer.resize(canvas.size, Image.Resampling.BOX)
    return Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB")


def _draw_footer(canvas: Image.Image, explanation: Explanation, top: int) -> None:
    """The cosine, the similarity, and what the colours stand for."""
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_FONT_SIZE)
    middle = top + _FOOTER // 2
    similarity = unit_interval(np.array([explanation.cosine]))[0]
    pen.text(
        (8, middle), f"similarity {similarity:.4f}   cosine {explanation.cosine:.4f}", _INK, font=font, anchor="lm"
    )
    bar = Image.fromarray(np.tile(diverging(np.linspace(-1.0, 1.0, _BAR_WIDTH)), (_BAR_HEIGHT, 1, 1)))
    label = f"{explanation.largest:.4f}"
    right = canvas.width - 8
    pen.text((right, middle), f"+{label}", _INK, font=font, anchor="rm")
    left = right - round(pen.textlength(f"+{label}", font=font)) - 6 - _BAR_WIDTH
    canvas.paste(bar, (left, middle - _BAR_HEIGHT // 2))
    pen.text((left - 6, middle), f"-{label}", _INK, font=font, anchor="rm")
