"""Files that nobody's camera writes, and the network's answer to a picture told without the product's code."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.conftest import TINY_SPEC, tiny_forward

GREY, COLOUR = 0, 2
_BLOCK = 1 << 20


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(width: int, height: int, depth: int = 1, kind: int = GREY) -> bytes:
    """A complete and valid PNG of zeros, compressed as far as zlib goes."""
    samples = 3 if kind == COLOUR else 1
    size = height * (1 + (width * depth * samples + 7) // 8)
    squeeze = zlib.compressobj(9)
    pieces = [squeeze.compress(bytes(min(_BLOCK, size - start))) for start in range(0, size, _BLOCK)]
    pieces.append(squeeze.flush())
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", b"".join(pieces)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int, size: tuple[int, int], bands: int = 3) -> np.ndarray:
    """(h, w, bands) uint8, another for every seed; coarse, so that JPEG leaves it much as it is."""
    width, height = size
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, bands), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))[:height, :width]


def photo(seed: int, size: tuple[int, int] = (240, 160), kind: str = "JPEG") -> bytes:
    """A photo's bytes, another for every seed."""
    return encoded(Image.fromarray(noise(seed, size)), kind)


def tiny_answer(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 at the tiny bundle's size -> its embedding, by the definition of mean and deviation alone."""
    assert pixels.shape == (*TINY_SPEC.size, 3)
    scaled = pixels.astype(np.float64) / 255
    normal = (scaled - np.array(TINY_SPEC.mean)) / np.array(TINY_SPEC.std)
    return tiny_forward(normal.transpose(2, 0, 1)[None])[0]


def on_background(rgba: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 -> (h, w, 3) uint8: laid over the tiny bundle's background, in floating point."""
    alpha = rgba[..., 3:].astype(np.float64) / 255
    mixed = rgba[..., :3] * alpha + np.array(TINY_SPEC.background) * (1 - alpha)
    return np.floor(mixed + 0.5).astype(np.uint8)
