"""The fast path for plain PNG files: the pixels that Pillow gives, and hands off whatever is not plain."""

import io
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.reid import png as plain_png
from app.reid.errors import ImageError
from app.reid.png import decode_plain_png
from app.reid.preprocess import decode_image
from app.reid.spec import PreprocessSpec
from tests.fuzz.pngs import Chunk, chunks, png

SPECS = [PreprocessSpec(size=16, alpha=alpha) for alpha in ("composite", "ignore")]

Encode = Callable[..., bytes]
Draw = Callable[..., Image.Image]


def noise(mode: str, size: tuple[int, int] = (37, 23), seed: int = 0) -> Image.Image:
    """A picture of which every byte matters; hidden colour under alpha 0 among them."""
    shape = (size[1], size[0], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    if mode == "RGBA":
        pixels[::3, :, 3] = 0
    return Image.fromarray(pixels)


def pillow(data: bytes, spec: PreprocessSpec, monkeypatch: pytest.MonkeyPatch) -> Image.Image | str:
    """What `decode_image` makes of a file without the fast path: a picture, or the error's words."""
    with monkeypatch.context() as patch:
        patch.setattr("app.reid.preprocess.decode_plain_png", lambda _: None)
        return decoded(data, spec)


def decoded(data: bytes, spec: PreprocessSpec) -> Image.Image | str:
    try:
        return decode_image(data, spec)
    except ImageError as error:
        return str(error)


def assert_same(one: Image.Image | str | None, other: Image.Image | str) -> None:
    if isinstance(other, str):
        assert one == other
    else:
        assert isinstance(one, Image.Image)
        assert (one.mode, one.size) == (other.mode, other.size)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def assert_left_to_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch, *, readable: bool) -> None:
    """The fast path says nothing of the file, and `decode_image` says what Pillow alone would."""
    assert decode_plain_png(data) is None
    for spec in SPECS:
        expected = pillow(data, spec, monkeypatch)
        assert isinstance(expected, Image.Image) == readable, expected
        assert_same(decoded(data, spec), expected)


def around(data: bytes, before: Sequence[Chunk] = (), after: Sequence[Chunk] = ()) -> bytes:
    """A PNG file with more chunks before and behind the picture."""
    head, *middle, end = chunks(data)
    return png([head, *before, *middle, *after, end])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (37, 23), (256, 256)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_plain_files_have_the_pixels_that_went_in(
    encode: Encode, monkeypatch: pytest.MonkeyPatch, mode: str, size: tuple[int, int]
) -> None:
    picture = noise(mode, size)
    for options in ({}, {"compress_level": 0}, {"compress_level": 9}, {"optimize": True}):
        data = encode(picture, "PNG", **options)
        assert_same(decode_plain_png(data), picture)
        for spec in SPECS:
            assert_same(decoded(data, spec), pillow(data, spec, monkeypatch))


@pytest.mark.parametrize("filtered", range(5))
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_row_filter_is_undone(monkeypatch: pytest.MonkeyPatch, mode: str, filtered: int) -> None:
    """Rows written with each filter of the format by hand; filter 4 is Paeth's."""
    width, height, depth = 19, 11, len(mode)
    rows = np.random.default_rng(filtered).integers(0, 256, (height, width * depth), dtype=np.uint8)
    raw = b"".join(bytes([filtered]) + row.tobytes() for row in rows)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2 if depth == 3 else 6, 0, 0, 0])
    data = png([(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")])
    picture = decode_plain_png(data)
    assert_same(picture, pillow(data, SPECS[0], monkeypatch))
    if filtered == 0:
        np.testing.assert_array_equal(np.asarray(picture).reshape(height, -1), rows)


HARMLESS = {
    "gAMA": (100_000).to_bytes(4, "big"),  # a gamma that would change much, were it applied
    "cHRM": b"".join(value.to_bytes(4, "big") for value in (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    "sRGB": b"\x00",
    "iCCP": b"name\x00\x00" + zlib.compress(bytes(200)),
    "pHYs": bytes.fromhex("00000b1300000b1301"),
    "tIME": bytes.fromhex("07ea0b180e0000"),
    "bKGD": bytes.fromhex("00ff00000080"),
    "sBIT": b"\x05\x05\x05\x05",
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_chunks_that_change_no_pixel_change_none(encode: Encode, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for mode in ("RGB", "RGBA"):
        body = HARMLESS[kind][: len(mode)] if kind == "sBIT" else HARMLESS[kind]
        data = around(encode(noise(mode), "PNG"), before=[(kind.encode(), body)])
        assert_same(decode_plain_png(data), noise(mode))
        assert_same(decoded(data, SPECS[0]), pillow(data, SPECS[0], monkeypatch))


def test_a_picture_in_many_pieces_and_bytes_behind_the_end(encode: Encode) -> None:
    head, *middle, end = chunks(encode(noise("RGBA"), "PNG"))
    body = b"".join(part for _, part in middle)
    pieces = [(b"IDAT", body[start : start + 7]) for start in range(0, len(body), 7)]
    assert_same(decode_plain_png(png([head, (b"IDAT", b""), *pieces, (b"IDAT", b""), end])), noise("RGBA"))
    assert_same(decode_plain_png(png([head, *pieces, end]) + b"something else"), noise("RGBA"))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def text(compressed: bool, international: bool) -> PngInfo:
    info = PngInfo()
    add = info.add_itxt if international else info.add_text
    add("Comment", "a cat", zip=compressed)
    return info


@pytest.mark.parametrize("kind", ["P", "PA", "1", "L", "LA", "I;16", "rgb48", "rgba64"])
def test_other_colours_are_left_to_pillow(
    draw: Draw, encode: Encode, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    colour, deep = draw(1), {"rgb48": (2, 3), "rgba64": (6, 4)}
    if kind in deep:  # Pillow writes none
        number, bands = deep[kind]
        rows = np.random.default_rng(1).integers(0, 256, (7, 1 + 5 * bands * 2), dtype=np.uint8)
        rows[:, 0] = 0
        header = (5).to_bytes(4, "big") + (7).to_bytes(4, "big") + bytes([16, number, 0, 0, 0])
        data = png([(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")])
    elif kind == "I;16":
        data = encode(Image.fromarray(np.arange(2_000, dtype=np.uint16).reshape(40, 50) * 32))
    elif kind == "PA":
        data = encode(colour.quantize(16), "PNG", transparency=b"\x00\x80\xff")
    else:
        data = encode(colour.quantize(16) if kind == "P" else colour.convert(kind))
    assert_left_to_pillow(data, monkeypatch, readable=True)


def animated(encode: Encode, *, hidden: bool) -> bytes:
    frames = [noise("RGBA", seed=seed) for seed in (1, 2)]
    return encode(noise("RGBA"), "PNG", save_all=True, default_image=hidden, append_images=frames)


# Coloured files of 8 bits with something in them that matters.
MATTERS: dict[str, Callable[[Encode], bytes]] = {
    "transparent colour": lambda encode: encode(noise("RGB"), "PNG", transparency=(1, 2, 3)),
    "palette beside the colours": lambda encode: around(encode(noise("RGB")), before=[(b"PLTE", bytes(range(30)))]),
    "orientation": lambda encode: encode(noise("RGB"), "PNG", exif=exif(6)),
    "orientation at the end": lambda encode: around(encode(noise("RGB")), after=[(b"eXIf", exif(6).tobytes()[6:])]),
    "animation": lambda encode: animated(encode, hidden=False),
    "animation that hides its first frame": lambda encode: animated(encode, hidden=True),
    "unknown chunk": lambda encode: around(encode(noise("RGB")), before=[(b"prVt", b"private")]),
    "text": lambda encode: encode(noise("RGB"), "PNG", pnginfo=text(False, False)),
    "packed text": lambda encode: encode(noise("RGB"), "PNG", pnginfo=text(True, False)),
    "international text": lambda encode: encode(noise("RGB"), "PNG", pnginfo=text(False, True)),
    "packed international text": lambda encode: encode(noise("RGB"), "PNG", pnginfo=text(True, True)),
}


@pytest.mark.parametrize("kind", MATTERS)
def test_what_may_change_the_picture_is_left_to_pillow(
    encode: Encode, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    assert_left_to_pillow(MATTERS[kind](encode), monkeypatch, readable=True)


def test_an_interlaced_file_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam7 by hand: seven pictures of 1, 1, 1, 2, 2, 4, 4 columns and rows of an 8 x 8 one."""
    pixels = np.asarray(noise("RGB", (8, 8)))
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    raw = b"".join(
        b"\x00" + row.tobytes() for top, down, left, right in passes for row in pixels[top::down, left::right]
    )
    header = (8).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 1])
    data = png([(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")])
    assert_left_to_pillow(data, monkeypatch, readable=True)
    assert_same(decoded(data, SPECS[0]), Image.fromarray(pixels))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_file_cut_short_is_left_to_pillow_which_refuses_it(
    encode: Encode, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    data = encode(noise(mode), "PNG")
    for length in [*range(60), *range(60, len(data) - 12, 97), *range(len(data) - 12, len(data))]:
        assert decode_plain_png(data[:length]) is None
        assert_same(decoded(data[:length], SPECS[0]), pillow(data[:length], SPECS[0], monkeypatch))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def test_wrong_checksums_are_what_pillow_makes_of_them(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow looks at those before the picture, and not at the picture's own."""
    data = around(encode(noise("RGB"), "PNG"), before=[(b"pHYs", HARMLESS["pHYs"])])
    start, ends = 8, {}
    for kind, body in chunks(data):
        start += 12 + len(body)
        ends[kind] = start
    assert_left_to_pillow(flipped(data, ends[b"IHDR"] - 1), monkeypatch, readable=False)
    for kind, readable in ((b"pHYs", False), (b"IDAT", True), (b"IEND", True)):
        changed = flipped(data, ends[kind] - 1)
        for spec in SPECS:
            assert_same(decoded(changed, spec), pillow(changed, spec, monkeypatch))
        assert isinstance(decoded(changed, SPECS[0]), Image.Image) == readable


@pytest.mark.parametrize("damage", ["short", "nothing", "no zlib", "wrong sum", "bad filter"])
def test_damaged_pixels_are_left_to_pillow(encode: Encode, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    head, _, end = chunks(encode(noise("RGB"), "PNG"))
    raw = b"".join(b"\x00" + row.tobytes() for row in np.asarray(noise("RGB")))
    packed = {
        "short": zlib.compress(raw[:-40]),
        "nothing": b"",
        "no zlib": raw,
        "wrong sum": flipped(zlib.compress(raw), -1 % len(zlib.compress(raw))),
        "bad filter": zlib.compress(b"\x09" + raw[1:]),
    }[damage]
    data = png([head, (b"IDAT", packed), end])
    assert decode_plain_png(data) is None
    assert_same(decoded(data, SPECS[0]), pillow(data, SPECS[0], monkeypatch))
    assert isinstance(decoded(data, SPECS[0]), str)


def test_two_headers_are_not_taken_for_one(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller has limited the size that Pillow read, which may be that of the second."""
    parts = list(chunks(encode(noise("RGB"), "PNG")))
    huge = (50_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    for headers in ([(b"IHDR", huge), parts[0]], [parts[0], (b"IHDR", huge)]):
        data = png([*headers, *parts[1:]])
        assert decode_plain_png(data) is None
        assert_same(decoded(data, SPECS[0]), pillow(data, SPECS[0], monkeypatch))


def test_a_file_of_very_many_chunks_is_left_to_pillow(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    head, *middle, end = chunks(encode(noise("RGB"), "PNG"))
    for count, plain in ((50, True), (101, False)):
        monkeypatch.setattr(plain_png, "_MAX_CHUNKS", 100)
        data = png([head, *middle, *[(b"IDAT", b"")] * count, end])
        assert (decode_plain_png(data) is not None) == plain
        assert_same(decoded(data, SPECS[0]), noise("RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP"])
def test_other_formats_are_none_of_its_business(encode: Encode, kind: str) -> None:
    assert decode_plain_png(encode(noise("RGB"), kind)) is None
    assert decode_plain_png(b"") is None


def test_a_decoder_that_disagrees_about_the_kind_of_picture_is_not_trusted(
    encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(noise("RGB"), "PNG")
    for odd in (np.zeros((23, 37), np.uint8), np.zeros((23, 37, 4), np.uint8), np.zeros((23, 37, 3), np.uint16)):
        monkeypatch.setattr(plain_png, "spng_decode", lambda _, odd=odd: odd)
        assert decode_plain_png(data) is None


@settings(max_examples=200, deadline=None)
@given(
    mode=st.sampled_from(["RGB", "RGBA"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3),
    mend=st.booleans(),
)
def test_whatever_is_taken_for_plain_is_what_pillow_makes_of_it(
    mode: str, flips: list[tuple[float, int]], mend: bool
) -> None:
    """A few bytes of a good file are others, with or without the checksums that go with them."""
    buffer = io.BytesIO()
    noise(mode, (9, 7)).save(buffer, "PNG", compress_level=0)
    data = bytearray(buffer.getvalue())
    for place, value in flips:
        data[33 + int(place * (len(data) - 33))] ^= value  # the header stays: its size was limited before
    changed = png(chunks(bytes(data))) if mend else bytes(data)
    picture = decode_plain_png(changed)
    if picture is not None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            assert_same(picture, pillow(changed, SPECS[0], monkeypatch))
