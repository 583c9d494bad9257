"""Damaged, foreign and oversized files: always one of three errors, and never much memory."""

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.reid.errors import ImageError, PixelLimitError, UnsupportedFormatError
from app.reid.png import decode_plain_png
from app.reid.preprocess import decode_image, fit, to_array
from app.reid.spec import PreprocessSpec
from tests.fuzz.pngs import chunks, png

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]

SPEC = PreprocessSpec(size=16)
DAMAGED = "cub: the file is damaged or cut short"
# Pillow says of damaged metadata what it leaves out; the pixels are still what they were.
pillow_may_warn = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(scope="module")
def files(draw: Draw, encode: Encode) -> dict[str, bytes]:
    """Small files of every kind that is read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    colour, cut_out = draw(1, (50, 40)), draw(2, (50, 40), "RGBA")
    grey16 = Image.fromarray(np.arange(2_000, dtype=np.uint16).reshape(40, 50) * 32)
    more = {"save_all": True, "append_images": [draw(3, (50, 40), "RGBA")]}
    return {
        "jpeg": encode(colour, "JPEG", exif=exif),
        "progressive": encode(colour, "JPEG", progressive=True),
        "cmyk": encode(draw(4, (50, 40), "CMYK"), "JPEG"),
        "mpo": encode(colour, "MPO", save_all=True, append_images=[draw(5, (50, 40))]),
        "png": encode(cut_out, "PNG", exif=exif),
        "palette": encode(colour.quantize(16), "PNG", transparency=b"\x00\x80\xff"),
        "grey16": encode(grey16, "PNG"),
        "apng": encode(cut_out, "PNG", **more),
        "webp": encode(colour, "WEBP", exif=exif),
        "lossless": encode(cut_out, "WEBP", lossless=True),
        "animated": encode(cut_out, "WEBP", **more),
    }


KINDS = [
    "jpeg", "progressive", "cmyk", "mpo", "png", "palette", "grey16", "apng", "webp", "lossless", "animated",
]  # fmt: skip


@pillow_may_warn
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_refused_or_whole(files: dict[str, bytes], kind: str) -> None:
    """What is accepted lacks nothing of its (first) picture: only trailing bytes, metadata or later frames."""
    data = files[kind]
    whole = np.asarray(decode_image(data, SPEC))
    accepted, sentences = [], set()
    for length in [*range(1, 120), *range(120, len(data), 7), *range(max(120, len(data) - 40), len(data))]:
        try:
            picture = np.asarray(decode_image(data[:length], SPEC, name="cub"))
        except ImageError as error:
            sentences.add(str(error))
            continue
        np.testing.assert_array_equal(picture if picture.shape == whole.shape else picture.transpose(1, 0, 2), whole)
        accepted.append(length / len(data))
    assert sentences == {DAMAGED, "cub: not a JPEG, PNG or WebP file"}
    if kind in {"jpeg", "progressive", "cmyk"}:
        assert min(accepted, default=1) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_the_half_of_a_file_is_called_damaged(files: dict[str, bytes], kind: str) -> None:
    """`Image.verify()` does not notice this; decoding does. A quarter where the file holds more than one picture."""
    length = len(files[kind]) // (4 if kind in {"mpo", "apng", "animated"} else 2)
    with pytest.raises(ImageError, match=DAMAGED):
        decode_image(files[kind][:length], SPEC, name="cub")


@pillow_may_warn
@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_are_a_picture_or_an_image_error(files: dict[str, bytes], kind: str) -> None:
    """Five bytes changed, half of the times near the start, where headers are; some pieces cut out or put in."""
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(250):
        data = bytearray(files[kind])
        reach = len(data) if rng.random() < 0.5 else min(len(data), 150)
        for position in rng.integers(reach, size=rng.integers(1, 6)):
            data[position] = rng.integers(256)
        at = int(rng.integers(len(data)))
        if rng.random() < 0.2:
            del data[at : at + 20]
        elif rng.random() < 0.2:
            data[at:at] = rng.bytes(9)
        try:
            picture = decode_image(bytes(data), SPEC)
            assert picture.mode in {"RGB", "RGBA"}
            assert np.isfinite(to_array(fit(picture, SPEC), SPEC)).all()
        except ImageError:
            errors += 1
    assert errors > 0


def test_a_palette_picture_without_its_palette_is_damaged(draw: Draw, encode: Encode) -> None:
    """Pillow stops here at an assertion of its own."""
    data = encode(draw(1).quantize(16))
    without = re.sub(rb"....PLTE.{48}....", b"", data, flags=re.DOTALL)
    assert len(data) - len(without) == 60
    with pytest.raises(ImageError, match=DAMAGED):
        decode_image(without, SPEC, name="cub")


def test_text_that_unpacks_without_end_is_damage(draw: Draw, encode: Encode) -> None:
    """A PNG of a few kB with 5 MB of compressed comment: refused while the header is read."""
    comment = PngInfo()
    comment.add_text("comment", "x" * 5_000_000, zip=True)
    data = encode(draw(6), "PNG", pnginfo=comment)
    assert len(data) < 100_000
    with pytest.raises(ImageError, match=DAMAGED):
        decode_image(data, SPEC, name="cub")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000", "AVIF"])
def test_other_formats_are_refused_by_content(draw: Draw, encode: Encode, kind: str) -> None:
    with pytest.raises(UnsupportedFormatError, match="^cub: not a JPEG, PNG or WebP file$"):
        decode_image(encode(draw(7), kind), SPEC, name="cub")


@pytest.mark.parametrize(
    "data",
    [b"<!DOCTYPE html><html></html>", b"<svg/>", b"%PDF-1.7", b"PK\x03\x04", b"\0" * 64, b"x", b"RIFF\0\0\0\0AVI "],
)
def test_what_is_no_picture_is_an_unsupported_format(data: bytes) -> None:
    with pytest.raises(UnsupportedFormatError):
        decode_image(data, SPEC)


def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(ImageError, match="^cub: the file is empty$") as caught:
        decode_image(b"", SPEC, name="cub")
    assert not isinstance(caught.value, UnsupportedFormatError)


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x24\0\0\0WEBPVP8 "])
def test_a_supported_start_with_nothing_behind_it_is_damage(data: bytes) -> None:
    with pytest.raises(ImageError, match=DAMAGED) as caught:
        decode_image(data, SPEC, name="cub")
    assert not isinstance(caught.value, UnsupportedFormatError)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_pixel_limit_is_a_limit(draw: Draw, encode: Encode, kind: str) -> None:
    data = encode(draw(8, (60, 50)), kind)
    assert decode_image(data, SPEC, max_pixels=3_000).size == (60, 50)
    with pytest.raises(PixelLimitError, match="^cub: 60 x 50 = 3000 pixels; the limit is 2999$"):
        decode_image(data, SPEC, name="cub", max_pixels=2_999)


HUGE = """
import resource, struct, sys, zlib
from app.reid.errors import PixelLimitError
from app.reid.preprocess import decode_image
from app.reid.spec import PreprocessSpec

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 6, 0, 0, 0)
rows = zlib.compress(bytes(300_000), 9)
png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
jpeg = bytes.fromhex(sys.argv[1])
frame = jpeg.index(b"\\xff\\xc0")
jpeg = jpeg[: frame + 5] + struct.pack(">HH", 30_000, 30_000) + jpeg[frame + 9 :]
webp = bytes.fromhex(sys.argv[2])
webp = webp[:24] + (16_382).to_bytes(3, "little") * 2 + webp[30:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in (png, jpeg, webp):
    try:
        decode_image(data, PreprocessSpec())
    except PixelLimitError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_small_file_that_declares_a_huge_picture_costs_nothing(draw: Draw, encode: Encode) -> None:
    """900 and 268 megapixels in a few kB, refused on the header; peak memory measured in a process of its own.

    The WebP is an animation, whose first frame may be smaller than the canvas that it declares.
    """
    animation = encode(draw(9), "WEBP", save_all=True, append_images=[draw(10)])
    assert animation[12:16] == b"VP8X"
    command = [sys.executable, "-c", HUGE, encode(draw(9), "JPEG").hex(), animation.hex()]
    *sentences, growth = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sentences == [
        "image: 30000 x 30000 = 900000000 pixels; the limit is 50000000",
        "image: 30000 x 30000 = 900000000 pixels; the limit is 50000000",
        "image: 16383 x 16383 = 268402689 pixels; the limit is 50000000",
    ]
    assert int(growth) < 10_000, "kB"


def segment(marker: int, body: bytes) -> bytes:
    """A piece of a JPEG's header."""
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def in_front(jpeg: bytes, pieces: bytes) -> bytes:
    """The JPEG with more segments before all others."""
    return jpeg[:2] + pieces + jpeg[2:]


def deflated_without_end(start: bytes, repeats: int) -> bytes:
    """A zlib stream of `start` and `repeats` MiB of zeros, at 1 kB each, without its end."""
    packer = zlib.compressobj(9)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + (packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)) * repeats


def many_scans(scans: int) -> bytes:
    """A progressive grey JPEG of 3,000 x 3,000, each scan of it but the first empty."""
    tables = segment(0xDB, bytes([0, *[1] * 64])) + segment(0xC2, bytes.fromhex("08 0bb8 0bb8 01 01 11 00"))
    codes = b"".join(segment(0xC4, bytes([kind, 1, *[0] * 15, 0])) for kind in (0x00, 0x10))
    first = segment(0xDA, bytes.fromhex("01 01 00 00 00 00")) + b"\0"
    return b"\xff\xd8" + tables + codes + first + segment(0xDA, bytes.fromhex("01 01 00 01 3f 00")) * (scans - 1)


COSTLY = """
import resource, sys
from pathlib import Path
from app.reid.errors import ImageError
from app.reid.preprocess import decode_image
from app.reid.spec import PreprocessSpec

def kibibytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

decode_image(Path(sys.argv[1]).read_bytes(), PreprocessSpec(size=16))  # whatever is loaded late
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for path in sys.argv[1:]:
    data = Path(path).read_bytes()
    before = kibibytes()
    try:
        said = str(decode_image(data, PreprocessSpec(size=16)).size)
    except ImageError as error:
        said = str(error)
    print(said if kibibytes() - before < 16_384 else f"{kibibytes() - before} KiB")
"""


def test_no_small_file_takes_minutes_or_memory(tmp_path: Path, draw: Draw, encode: Encode) -> None:
    """Each of these once took minutes, or hundreds of MB; together they may take 20 s of CPU, and need half of one."""
    jpeg, plain = encode(draw(1, (50, 40)), "JPEG"), encode(draw(1, (50, 40)))
    header, pixels, end = chunks(plain)
    rows = zlib.decompress(pixels[1])
    many, many_known = png([(b"prVt", b"")])[8:] * 1_000_000, png([(b"sBIT", b"")])[8:] * 1_000_000
    start, middle, last = png([header]), png([pixels])[8:], png([end])[8:]
    damaged = "image: the file is damaged or cut short"
    files = {
        plain: "(50, 40)",
        in_front(jpeg, segment(0xE1, b"Exif\0\0" + bytes(50)) * 200_000): damaged,  # joined one by one
        in_front(jpeg, segment(0xFE, b"") * 2_000_000): damaged,  # each one kept
        in_front(jpeg, b"\xff\x00" * 4_000_000): damaged,
        many_scans(100_000): "image: more than 500 scans in a JPEG; save it again, in any image editor",
        start + many + middle + last: damaged,
        start + middle + many + last: damaged,
        start + middle + many_known + last: damaged,
        png([header, (b"IDAT", deflated_without_end(rows, 20_000)), end]): "(50, 40)",  # 20 GB behind the last row
        png([header, (b"iCCP", b"a\0\0" + deflated_without_end(b"", 1_000)), pixels, end]): damaged,
    }
    paths = [tmp_path / str(number) for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    done = subprocess.run([sys.executable, "-c", COSTLY, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, list(files.values())), done.stderr


def test_files_in_many_pieces_are_read(draw: Draw, encode: Encode) -> None:
    """240 more segments before the picture, as many scans as are allowed, and a chunk for every row of a PNG."""
    jpeg = encode(draw(1, (50, 40)), "JPEG")
    plain = encode(draw(1, (50, 40)))
    header, (_, body), end = chunks(plain)
    rows = [(b"IDAT", body[start : start + 1]) for start in range(len(body))]
    assert len(rows) > 3_000
    for data, same in (
        (in_front(jpeg, segment(0xE2, b"ICC_PROFILE\0\1\1") * 240), jpeg),
        (png([header, *rows, end]), plain),
        (png([header, *rows, (b"tEXt", b"a\0b"), end]), plain),  # by Pillow alone
    ):
        np.testing.assert_array_equal(decode_image(data, SPEC), decode_image(same, SPEC))
    whole = PreprocessSpec(size=16, jpeg_draft=False)
    assert decode_image(many_scans(500) + b"\xff\xd9", whole).size == (3_000, 3_000)


def test_a_second_header_is_never_left_to_the_fast_path(draw: Draw, encode: Encode) -> None:
    """Pillow goes by the last header before the picture, others by the first, and the limit by what Pillow says."""
    header, pixels, end = chunks(encode(draw(1, (50, 40))))
    huge = header[0], (30_000).to_bytes(4, "big") * 2 + header[1][8:]
    for parts in ([huge, header, pixels, end], [header, huge, pixels, end], [header, pixels, huge, end]):
        assert decode_plain_png(png(parts)) is None
    with pytest.raises(PixelLimitError):
        decode_image(png([header, huge, pixels, end]), SPEC)
    bad = header[0], header[1][:11] + b"\7\0"
    with pytest.raises(ImageError, match=DAMAGED):
        decode_image(png([header, pixels, bad, end]), SPEC, name="cub")


def test_pillows_remarks_on_metadata_are_not_collected(tmp_path: Path, draw: Draw, encode: Encode) -> None:
    """60,000 tags that point nowhere: Python would print every warning, and keep it for as long as it runs."""
    tags = b"".join(struct.pack("<HHII", tag, 1, 2_000_000_000, 0) for tag in range(60_000))
    exif = b"II*\0" + struct.pack("<IH", 8, 60_000) + tags + bytes(4)
    header, pixels, end = chunks(encode(draw(1, (50, 40))))
    (tmp_path / "0").write_bytes(png([header, (b"eXIf", exif), pixels, end]))
    kept = "\nfrom PIL import TiffImagePlugin as tiff\nprint(len(vars(tiff).get('__warningregistry__', ())) < 9)"
    done = subprocess.run(
        [sys.executable, "-c", COSTLY + kept, tmp_path / "0"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("(50, 40)\nTrue\n", "")


def test_a_jpeg_of_very_many_scans_is_refused(draw: Draw, encode: Encode) -> None:
    """Each scan costs a pass over all pixels; 501 more headers of one than a picture needs are enough to see it."""
    data = encode(draw(1, (50, 40)), "JPEG")
    start = data.index(b"\xff\xda")
    scan = data[start : start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")]
    with pytest.raises(ImageError, match="more than 500 scans"):
        decode_image(data[:start] + scan * 501 + data[start:], SPEC, name="cub")
