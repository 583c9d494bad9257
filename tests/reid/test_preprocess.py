"""From a file's bytes to the network's input, with values by hand. Damage is in `test_preprocess_damage.py`."""

import io
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.reid.embedder import load_model
from app.reid.preprocess import composite, decode_image, fit, fitted_size, to_array
from app.reid.spec import PreprocessSpec
from tests.conftest import TINY_SPEC, tiny_forward

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]

PLAIN = PreprocessSpec()
ORIENTATION = 0x0112
# How pixels are stored so that a viewer that turns them by the EXIF value shows the upright picture (EXIF 2.3, 4.6.4A).
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright.swapaxes(0, 1), 2),
    8: lambda upright: np.rot90(upright, -1),
}


def png(width: int, depth: int, colour_type: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of one row, written by hand."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in body)


def pixels(data: bytes, spec: PreprocessSpec = PLAIN) -> np.ndarray:
    return np.asarray(decode_image(data, spec))


def turned(upright: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(upright)))), exif


class TestOrientation:
    @pytest.mark.parametrize("orientation", STORED)
    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_the_picture_stands_upright(self, draw: Draw, encode: Encode, orientation: int, mode: str) -> None:
        upright = draw(1, mode=mode)
        stored, exif = turned(upright, orientation)
        for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
            np.testing.assert_array_equal(pixels(encode(stored, kind, exif=exif, **options)), np.asarray(upright))

    @pytest.mark.parametrize(("kind", "size"), [("PNG", (120, 80)), ("JPEG", (120, 80)), ("JPEG", (800, 500))])
    def test_eight_orientations_of_one_photo_give_one_embedding(
        self, draw: Draw, encode: Encode, tiny_bundle: Path, kind: str, size: tuple[int, int]
    ) -> None:
        """The large JPEG is decoded at a fraction, which must be chosen for the turned picture."""
        embedder = load_model(tiny_bundle).embedder
        options = {"quality": 95} if kind == "JPEG" else {}
        files = []
        for orientation in STORED:
            stored, exif = turned(draw(2, size), orientation)
            files.append(encode(stored, kind, exif=exif, **options))
        embeddings = np.stack([embedder.embed(data) for data in files])
        assert (embeddings @ embeddings.T).min() >= 0.999
        assert embedder.embed(encode(draw(3, size), kind, **options)) @ embeddings[0] < 0.9
        decoded = {decode_image(data, embedder.spec).size for data in files}
        assert decoded == ({(200, 125)} if size == (800, 500) else {size})

    def test_xmp_is_believed_where_exif_says_nothing(self, draw: Draw, encode: Encode) -> None:
        upright = draw(4)
        stored, _ = turned(upright, 8)
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
        np.testing.assert_array_equal(pixels(encode(stored, "WEBP", lossless=True, xmp=xmp)), np.asarray(upright))

    @pytest.mark.parametrize("value", [0, 9, 65_535])
    def test_a_value_that_is_no_orientation_turns_nothing(self, draw: Draw, encode: Encode, value: int) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = value
        np.testing.assert_array_equal(pixels(encode(draw(5), exif=exif)), np.asarray(draw(5)))

    def test_a_value_of_another_type_turns_nothing(self, draw: Draw, encode: Encode) -> None:
        """The letter 6 where a number belongs: one entry, of type ASCII and length 2."""
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHI", ORIENTATION, 2, 2) + b"6\0\0\0" + bytes(4)
        np.testing.assert_array_equal(pixels(encode(draw(5), exif=exif)), np.asarray(draw(5)))

    def test_metadata_that_cannot_be_read_turns_nothing(self) -> None:
        profile = (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 2\nno hex"))
        assert pixels(png(1, 8, 2, b"\x01\x02\x03", profile)).tolist() == [[[1, 2, 3]]]


class TestModes:
    """Values by hand, one row of pixels each."""

    def test_grey(self) -> None:
        assert pixels(png(2, 8, 0, b"\x05\xa0")).tolist() == [[[5, 5, 5], [160, 160, 160]]]

    def test_one_bit(self) -> None:
        assert pixels(png(4, 1, 0, b"\xa0")).tolist() == [[[255] * 3, [0] * 3, [255] * 3, [0] * 3]]

    def test_sixteen_bit_grey_is_scaled_and_not_clipped(self) -> None:
        """v / 257 to the nearest: 128 is the last that rounds to 0, and everything above 255 used to be white."""
        values = [0, 128, 129, 255, 256, 32_768, 65_406, 65_407, 65_535]
        expected = [round(Fraction(value, 257)) for value in values]
        assert expected == [0, 0, 1, 1, 1, 128, 254, 255, 255]
        row = struct.pack(f">{len(values)}H", *values)
        assert pixels(png(len(values), 16, 0, row)).tolist() == [[[value] * 3 for value in expected]]

    def test_sixteen_bit_grey_with_a_transparent_value(self) -> None:
        row = struct.pack(">3H", 32_767, 32_768, 65_535)
        data = png(3, 16, 0, row, (b"tRNS", struct.pack(">H", 32_768)))
        assert pixels(data).tolist() == [[[127, 127, 127, 255], [128, 128, 128, 0], [255, 255, 255, 255]]]
        assert pixels(data, PreprocessSpec(alpha="ignore")).tolist() == [[[127] * 3, [128] * 3, [255] * 3]]

    def test_sixteen_bit_colour(self) -> None:
        assert pixels(png(1, 16, 2, struct.pack(">3H", 0x80FF, 0, 65_535))).tolist() == [[[128, 0, 255]]]

    def test_grey_with_alpha(self) -> None:
        assert pixels(png(2, 8, 4, b"\x07\xff\x08\x00")).tolist() == [[[7, 7, 7, 255], [8, 8, 8, 0]]]

    def test_a_transparent_colour(self) -> None:
        data = png(2, 8, 2, b"\x01\x02\x03\x04\x05\x06", (b"tRNS", struct.pack(">3H", 1, 2, 3)))
        assert pixels(data).tolist() == [[[1, 2, 3, 0], [4, 5, 6, 255]]]
        assert pixels(data, PreprocessSpec(alpha="ignore")).tolist() == [[[1, 2, 3], [4, 5, 6]]]

    def test_a_palette(self) -> None:
        palette = (b"PLTE", bytes([9, 8, 7, 6, 5, 4]))
        assert pixels(png(2, 8, 3, b"\x00\x01", palette)).tolist() == [[[9, 8, 7], [6, 5, 4]]]
        half = png(2, 8, 3, b"\x00\x01", palette, (b"tRNS", b"\x80"))
        assert pixels(half).tolist() == [[[9, 8, 7, 128], [6, 5, 4, 255]]]
        assert pixels(half, PreprocessSpec(alpha="ignore")).tolist() == [[[9, 8, 7], [6, 5, 4]]]
        hidden = png(2, 8, 3, b"\x00\x01", palette, (b"tRNS", b"\xff\x00"))
        assert pixels(hidden).tolist() == [[[9, 8, 7, 255], [6, 5, 4, 0]]]

    def test_cmyk(self, draw: Draw, encode: Encode) -> None:
        """Ink as Pillow writes it: red is (255 - cyan) less the black, and so on; JPEG changes a little."""
        ink = draw(6, mode="CMYK")
        cyan, magenta, yellow, black = np.moveaxis(np.asarray(ink).astype(float), 2, 0)
        light = np.stack([(255 - plane) * (255 - black) / 255 for plane in (cyan, magenta, yellow)], axis=2)
        decoded = pixels(encode(ink, "JPEG", quality=95))
        assert decoded.shape == (80, 120, 3)
        assert np.abs(decoded - light).mean() < 2

    def test_webp_with_alpha_keeps_it(self, draw: Draw, encode: Encode) -> None:
        picture = draw(7, mode="RGBA")
        np.testing.assert_array_equal(pixels(encode(picture, "WEBP", lossless=True, exact=True)), np.asarray(picture))

    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
    def test_of_an_animation_the_first_frame(self, draw: Draw, encode: Encode, kind: str, options: dict) -> None:
        frames = [draw(seed) for seed in (8, 9, 10)]
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
        assert Image.open(io.BytesIO(data)).n_frames == 3
        np.testing.assert_array_equal(pixels(data)[:, :, :3], np.asarray(frames[0]))

    def test_of_several_pictures_in_a_jpeg_the_first(self, draw: Draw, encode: Encode) -> None:
        data = encode(draw(11), "MPO", save_all=True, append_images=[draw(12)], quality=95)
        assert Image.open(io.BytesIO(data)).format == "MPO"
        assert np.abs(pixels(data).astype(int) - np.asarray(draw(11))).mean() < 2
        large = encode(draw(11, (1600, 1400)), "MPO", save_all=True, append_images=[draw(12)])
        assert decode_image(large, PLAIN).size == (800, 700)


class TestHiddenColour:
    """The competition's cut-outs: what lies under alpha = 0 is the background in round 1 and black in round 2."""

    @staticmethod
    def cut_outs(draw: Draw) -> tuple[Image.Image, Image.Image]:
        animal = np.asarray(draw(20, (160, 120))).copy()
        alpha = np.zeros((120, 160, 1), dtype=np.uint8)
        alpha[30:90, 40:120] = 255
        black = np.where(alpha > 0, animal, 0).astype(np.uint8)
        return Image.fromarray(np.dstack([animal, alpha])), Image.fromarray(np.dstack([black, alpha]))

    @pytest.mark.parametrize("shape", ["squash", "pad"])
    def test_composite_does_not_see_it(self, draw: Draw, encode: Encode, shape: str) -> None:
        spec = PreprocessSpec(size=48, fit=shape)
        first, second = (to_array(fit(decode_image(encode(c), spec), spec), spec) for c in self.cut_outs(draw))
        np.testing.assert_array_equal(first, second)

    def test_ignore_shows_it(self, draw: Draw, encode: Encode) -> None:
        spec = PreprocessSpec(size=48, alpha="ignore")
        first, second = (fit(decode_image(encode(c), spec), spec) for c in self.cut_outs(draw))
        assert first.shape == second.shape == (48, 48, 3)
        assert np.abs(first.astype(int) - second).mean() > 20
        assert second[0, 0].tolist() == [0, 0, 0]

    def test_it_does_not_bleed_in_at_the_edge(self) -> None:
        """A white animal in a hidden red: every visible pixel stays white after resizing."""
        picture = np.zeros((64, 64, 4), dtype=np.uint8)
        picture[:, :, 0] = 255
        picture[16:48, 16:48] = 255
        fitted = fit(Image.fromarray(picture), PreprocessSpec(size=(23, 23)))
        assert fitted[fitted[:, :, 3] > 8][:, :3].min() >= 250


class TestFit:
    def test_squash_fills_the_frame(self) -> None:
        left_red = np.zeros((10, 40, 3), dtype=np.uint8)
        left_red[:, :20, 0] = 255
        fitted = fit(Image.fromarray(left_red), PreprocessSpec(size=(32, 64), interpolation="bilinear"))
        assert fitted.shape == (32, 64, 3)
        assert (fitted[:, :28, 0] == 255).all()
        assert (fitted[:, 36:, 0] == 0).all()

    @pytest.mark.parametrize(
        ("size", "inner", "top", "left"),
        [
            ((100, 50), (64, 32), 16, 0),
            ((50, 100), (32, 64), 0, 16),
            ((99, 50), (64, 32), 16, 0),
            ((70, 66), (64, 60), 2, 0),
        ],
    )
    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_pad_keeps_the_shape_in_the_middle(
        self, size: tuple[int, int], inner: tuple[int, int], top: int, left: int, mode: str
    ) -> None:
        spec = PreprocessSpec(size=64, fit="pad", background=(10, 20, 30))
        assert fitted_size(size, spec) == inner
        fitted = fit(Image.new(mode, size, (200, 100, 50) if mode == "RGB" else (200, 100, 50, 255)), spec)
        expected = np.full((64, 64, 3), (10, 20, 30))
        expected[top : top + inner[1], left : left + inner[0]] = 200, 100, 50
        np.testing.assert_array_equal(composite(fitted, spec), expected)
        if mode == "RGBA":
            assert np.unique(fitted[:top, :, 3]).tolist() in ([], [0])

    def test_pad_of_the_frames_own_shape_has_no_padding(self) -> None:
        spec = PreprocessSpec(size=(32, 48), fit="pad")
        assert (fit(Image.new("RGB", (96, 64), (1, 2, 3)), spec) == (1, 2, 3)).all()

    @pytest.mark.parametrize(("size", "inner"), [((1000, 1), (64, 1)), ((1, 1000), (1, 64)), ((937, 100), (64, 7))])
    def test_pad_of_extreme_shapes_leaves_at_least_a_pixel(self, size: tuple[int, int], inner: tuple[int, int]) -> None:
        assert fitted_size(size, PreprocessSpec(size=64, fit="pad")) == inner

    @given(st.tuples(st.integers(1, 9_000), st.integers(1, 9_000)), st.integers(16, 512), st.integers(16, 512))
    def test_pad_fills_one_side_and_keeps_the_aspect_ratio(
        self, size: tuple[int, int], height: int, width: int
    ) -> None:
        inner = fitted_size(size, PreprocessSpec(size=(height, width), fit="pad"))
        assert inner[0] == width or inner[1] == height
        scale = min(Fraction(width, size[0]), Fraction(height, size[1]))
        assert all(
            abs(got - max(1, scale * side)) <= Fraction(501, 1000) for got, side in zip(inner, size, strict=True)
        )

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
    def test_the_filter_is_the_one_asked_for(self, draw: Draw, interpolation: str) -> None:
        picture = draw(13)
        expected = picture.resize((48, 32), getattr(Image.Resampling, interpolation.upper()))
        fitted = fit(picture, PreprocessSpec(size=(32, 48), interpolation=interpolation))
        np.testing.assert_array_equal(fitted, np.asarray(expected))


class TestComposite:
    def test_every_alpha_and_colour_is_rounded_to_the_nearest(self) -> None:
        colours, alphas = np.meshgrid(np.arange(256), np.arange(256))
        fitted = np.dstack([colours, colours, colours, alphas]).astype(np.uint8)
        mixed = composite(fitted, PreprocessSpec(background=(0, 100, 255)))
        for channel, background in enumerate((0, 100, 255)):
            exact = (colours * alphas + background * (255 - alphas)) / 255
            np.testing.assert_array_equal(mixed[:, :, channel], np.rint(exact))

    def test_agrees_with_pillow(self, draw: Draw) -> None:
        picture = draw(14, mode="RGBA")
        below = Image.new("RGBA", picture.size, (200, 120, 40, 255))
        expected = np.asarray(Image.alpha_composite(below, picture).convert("RGB")).astype(int)
        mixed = composite(np.asarray(picture), PreprocessSpec(background=(200, 120, 40)))
        assert np.abs(mixed - expected).max() <= 1

    def test_an_opaque_picture_is_itself(self, draw: Draw) -> None:
        opaque = np.asarray(draw(15))
        np.testing.assert_array_equal(composite(opaque, PLAIN), opaque)
        np.testing.assert_array_equal(composite(np.dstack([opaque, np.full((80, 120), 255, np.uint8)]), PLAIN), opaque)


def test_to_array_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    spec = PreprocessSpec(mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
    fitted = np.zeros((2, 3, 3), dtype=np.uint8)
    fitted[1, 2] = 255, 51, 0
    array = to_array(fitted, spec)
    assert (array.dtype, array.shape, array.flags.c_contiguous) == (np.float32, (3, 2, 3), True)
    np.testing.assert_allclose(array[:, 1, 2], [1.0, -1.0, -3.0], atol=1e-6)
    np.testing.assert_allclose(array[:, 0, 0], [-1.0, -2.0, -3.0], atol=1e-6)


class TestDraft:
    @pytest.mark.parametrize(
        ("source", "decoded"),
        [
            ((383, 384), (383, 384)),  # 1/2 would leave less than 3 x 64
            ((384, 384), (192, 192)),
            ((384, 5_000), (192, 2_500)),
            ((767, 900), (384, 450)),
            ((768, 900), (192, 225)),
            ((1_536, 1_536), (192, 192)),
            ((6_400, 3_200), (800, 400)),
        ],
    )
    def test_a_jpeg_keeps_three_times_the_target_on_both_sides(
        self, encode: Encode, source: tuple[int, int], decoded: tuple[int, int]
    ) -> None:
        data = encode(Image.new("RGB", source, (9, 99, 199)), "JPEG")
        assert decode_image(data, PreprocessSpec(size=64)).size == decoded
        assert decode_image(data, PreprocessSpec(size=64, jpeg_draft=False)).size == source

    def test_with_padding_the_inner_size_is_the_target(self, encode: Encode) -> None:
        """800 x 200 into 64 x 64 is 64 x 16: a quarter leaves 200 x 50, at least 3 times that."""
        data = encode(Image.new("RGB", (800, 200)), "JPEG")
        assert decode_image(data, PreprocessSpec(size=64, fit="pad")).size == (200, 50)
        assert decode_image(data, PreprocessSpec(size=64)).size == (800, 200)

    def test_turned_pictures_count_their_sides_as_they_will_stand(self, encode: Encode) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        data = encode(Image.new("RGB", (1_200, 400)), "JPEG", exif=exif)
        assert decode_image(data, PreprocessSpec(size=(192, 64))).size == (200, 600)
        assert decode_image(data, PreprocessSpec(size=(64, 192))).size == (400, 1_200)

    def test_only_jpeg_is_drafted(self, draw: Draw, encode: Encode) -> None:
        for kind in ("PNG", "WEBP"):
            assert decode_image(encode(draw(16, (800, 800)), kind), PreprocessSpec(size=16)).size == (800, 800)

    def test_on_real_photos_it_changes_next_to_nothing(self, shared_data: Callable[[str], Path]) -> None:
        """Cosine of the embeddings of a drafted and of a full decode; two different photos have about 0.5."""
        photos = sorted(shared_data("nyala/train").iterdir())[:60]
        full = TINY_SPEC.model_copy(update={"jpeg_draft": False})
        cosines = []
        for photo in photos:
            drafted, whole = (decode_image(photo.read_bytes(), spec) for spec in (TINY_SPEC, full))
            if drafted.size != whole.size:
                first, second = tiny_forward(np.stack([to_array(fit(p, full), full) for p in (drafted, whole)]))
                cosines.append(first @ second)
        assert len(cosines) >= 30
        assert min(cosines) >= 0.999
