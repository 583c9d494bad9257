"""Small valid files of every kind that `decode_image` meets, made by Pillow, or by hand where Pillow has no way to."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.fuzz.pngs import Chunk, png

SIZE = (11, 9)
# Start and step of Adam7's passes, across and down. Source: PNG specification, third edition, section 8.1.
_PASSES = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))


def drawn_png(pixels: np.ndarray, colour: int, *, interlaced: bool = False, extra: Iterable[Chunk] = ()) -> bytes:
    """(H, W, bands) uint8 or uint16 -> a PNG file, written by hand: Pillow writes neither Adam7 nor 16-bit colour."""
    height, width, _ = pixels.shape
    wide = pixels.astype(pixels.dtype.newbyteorder(">"))
    parts = [wide[y0::dy, x0::dx] for x0, dx, y0, dy in _PASSES] if interlaced else [wide]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, colour, 0, 0, interlaced)
    return png([(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def seeds() -> dict[str, bytes]:
    """Names -> files, each of some hundred bytes."""
    return _png_seeds() | _jpeg_seeds() | _webp_seeds()


def _picture(mode: str) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(bands).integers(0, 256, (SIZE[1], SIZE[0], bands), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(values[:, :, band]) for band in range(bands)])


def _encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _png_seeds() -> dict[str, bytes]:
    colour, cut_out = _picture("RGB"), _picture("RGBA")
    grey16 = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE[::-1]) * 600
    told = PngInfo()
    told.add_text("comment", "x" * 40, zip=True)
    told.add_itxt("title", "y" * 40, zip=True)
    plain = ((b"gAMA", struct.pack(">I", 45_455)), (b"sBIT", b"\5\6\5"), (b"bKGD", bytes(6)), (b"tIME", bytes(7)))
    pages = {"save_all": True, "append_images": [_picture("RGBA").rotate(180)], "duration": 50}
    return {
        "rgb.png": _encode(colour, "PNG"),
        "rgba.png": _encode(cut_out, "PNG", dpi=(72, 72), icc_profile=b"\0" * 128),
        "plain.png": drawn_png(np.asarray(colour), 2, extra=plain),
        "l.png": _encode(_picture("L"), "PNG"),
        "la.png": _encode(_picture("LA"), "PNG"),
        "1.png": _encode(_picture("L").convert("1"), "PNG", transparency=1),
        "p.png": _encode(colour.quantize(16), "PNG", transparency=b"\x00\x80\xff"),
        "grey16.png": _encode(Image.fromarray(grey16), "PNG"),
        "grey16-clear.png": _encode(Image.fromarray(grey16), "PNG", transparency=600),
        "rgb-clear.png": _encode(colour, "PNG", transparency=colour.getpixel((0, 0))),
        "rgb16.png": drawn_png(np.stack([grey16] * 3, axis=2), 2),
        "rgba16.png": drawn_png(np.stack([grey16] * 4, axis=2), 6),
        "adam7.png": drawn_png(np.asarray(cut_out), 6, interlaced=True),
        "adam7-16.png": drawn_png(grey16[:, :, None], 0, interlaced=True),
        "turned.png": _encode(colour, "PNG", exif=_turned()),
        "told.png": _encode(colour, "PNG", pnginfo=told),
        "apng.png": _encode(cut_out, "PNG", **pages),
        "apng-default.png": _encode(cut_out, "PNG", default_image=True, **pages),
    }


def _jpeg_seeds() -> dict[str, bytes]:
    colour = _picture("RGB")
    return {
        "rgb.jpg": _encode(colour, "JPEG", exif=_turned(), quality=50),
        "progressive.jpg": _encode(colour, "JPEG", progressive=True, comment=b"cub"),
        "grey.jpg": _encode(_picture("L"), "JPEG"),
        "cmyk.jpg": _encode(_picture("CMYK"), "JPEG"),
        "mpo.jpg": _encode(colour, "MPO", save_all=True, append_images=[colour.rotate(180)]),
        "large.jpg": _encode(colour.resize((90, 80)), "JPEG", quality=20),  # draft scaling sets in
    }


def _webp_seeds() -> dict[str, bytes]:
    colour, cut_out = _picture("RGB"), _picture("RGBA")
    return {
        "rgb.webp": _encode(colour, "WEBP", exif=_turned(), icc_profile=b"\0" * 128),
        "rgba.webp": _encode(cut_out, "WEBP"),
        "lossless.webp": _encode(cut_out, "WEBP", lossless=True),
        "animated.webp": _encode(cut_out, "WEBP", save_all=True, append_images=[cut_out.rotate(180)], duration=50),
    }
