"""Case 4: every way to write down the same pixels, and formats that are not read."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.reliability.pictures import encoded, noise, on_background, tiny_answer

WIDTH, HEIGHT = 48, 32
ORIENTATION = 0x0112
# EXIF: how the upright picture must have been turned before it was stored, so that the tag turns it back.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, 3),
}
COLOUR, CUT_OUT = noise(11, (WIDTH, HEIGHT)), noise(12, (WIDTH, HEIGHT), 4)


def embedding(server, data: bytes) -> np.ndarray:
    response = server.post("/embed", files=[("images", ("photo", data))])
    assert response.status_code == 200, response.text
    return np.array(response.json()["embeddings"][0]["embedding"])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_case_04_exif(server, orientation, kind, seen):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](COLOUR))
    assert stored.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}[kind]
    found = embedding(server, encoded(Image.fromarray(stored), kind, exif=exif, **options))
    cosine = float(found @ tiny_answer(COLOUR))
    assert cosine >= (0.999 if kind == "JPEG" else 0.999999)
    if orientation == 8:
        seen(f"8 turns of {kind}: cosine of the last {cosine:.7f}")


def cmyk() -> tuple[bytes, np.ndarray]:
    """A CMYK JPEG. Its colours by the definition: what is left of white after ink and black."""
    data = encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=100)
    inks = np.asarray(Image.open(io.BytesIO(data))).astype(np.float64)
    return data, np.floor((255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255 + 0.5).astype(np.uint8)


def grey16() -> tuple[bytes, np.ndarray]:
    wide = (COLOUR[..., 0].astype(np.uint16) << 8) + COLOUR[..., 1]
    eight = np.floor(wide / 65_535 * 255 + 0.5).astype(np.uint8)
    return encoded(Image.fromarray(wide)), np.repeat(eight[..., None], 3, axis=2)


def grey_alpha() -> tuple[bytes, np.ndarray]:
    grey, alpha = CUT_OUT[..., 0], CUT_OUT[..., 3]
    return encoded(Image.fromarray(np.stack([grey, alpha], axis=2), "LA")), on_background(
        np.stack([grey, grey, grey, alpha], axis=2)
    )


def palette() -> tuple[bytes, np.ndarray]:
    """Three colours, of which the second is transparent."""
    colours = np.array([[10, 20, 30], [0, 255, 0], [200, 100, 50]], dtype=np.uint8)
    index = COLOUR[..., 0] % 3
    picture = Image.fromarray(index, "P")
    picture.putpalette(colours.tobytes())
    rgba = np.concatenate([colours[index], np.where(index == 1, 0, 255)[..., None].astype(np.uint8)], axis=2)
    return encoded(picture, transparency=1), on_background(rgba)


def one_bit() -> tuple[bytes, np.ndarray]:
    black = COLOUR[..., 0] > 127
    return encoded(Image.fromarray(black)), np.repeat((black * 255).astype(np.uint8)[..., None], 3, axis=2)


def rgba() -> tuple[bytes, np.ndarray]:
    return encoded(Image.fromarray(CUT_OUT)), on_background(CUT_OUT)


def rgba_webp() -> tuple[bytes, np.ndarray]:
    return encoded(Image.fromarray(CUT_OUT), "WEBP", lossless=True, exact=True), on_background(CUT_OUT)


def apng() -> tuple[bytes, np.ndarray]:
    more = [Image.fromarray(noise(seed, (WIDTH, HEIGHT))) for seed in (21, 22)]
    return encoded(Image.fromarray(COLOUR), save_all=True, append_images=more), COLOUR


def animated_webp() -> tuple[bytes, np.ndarray]:
    more = [Image.fromarray(noise(seed, (WIDTH, HEIGHT))) for seed in (21, 22)]
    return encoded(Image.fromarray(COLOUR), "WEBP", save_all=True, append_images=more, lossless=True), COLOUR


MODES = {
    make.__name__: make for make in (cmyk, grey16, grey_alpha, palette, one_bit, rgba, rgba_webp, apng, animated_webp)
}


@pytest.mark.parametrize("mode", MODES)
def test_case_04_mode(server, mode, seen):
    """Against the pixels told by hand: CMYK and alpha may be one step of 255 off where two ways of rounding differ."""
    data, pixels = MODES[mode]()
    wanted = tiny_answer(pixels)
    cosine = float(embedding(server, data) @ wanted)
    assert cosine >= 0.99999
    assert float(tiny_answer(noise(21, (WIDTH, HEIGHT))) @ wanted) < 0.999, "the test cannot tell right from wrong"
    seen(f"{mode} cosine {cosine:.7f}")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000", "AVIF"])
def test_case_04_other_formats(server, kind, seen):
    response = server.post("/embed", files=[("images", ("photo.jpg", encoded(Image.fromarray(COLOUR), kind)))])
    assert response.status_code == 415, response.text
    assert response.json()["type"].endswith(":unsupported-format")
    seen(f"GIF, BMP, TIFF, ICO, PPM, TGA, JPEG 2000, AVIF, SVG, PDF: {response.status_code}")


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n", struct.pack("<64x")])
def test_case_04_no_picture(server, data):
    assert server.post("/embed", files=[("images", ("photo.jpg", data))]).status_code == 415
