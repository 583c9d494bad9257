"""decode_image -> fit -> to_array: the one road from a file's bytes to the network's input, for training and service.

Pillow and numpy, and imagecodecs for plain PNG files. The only place of the project that opens a picture.
"""

import io
import re
import struct
import warnings
import zlib
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from app.reid.errors import ImageError, PixelLimitError, UnsupportedFormatError
from app.reid.png import decode_plain_png
from app.reid.spec import PreprocessSpec

Pixels = NDArray[np.uint8]
Float32 = NDArray[np.float32]

FORMATS = ("JPEG", "PNG", "WEBP")
_JPEG = frozenset({"JPEG", "MPO"})  # what Pillow calls them
DEFAULT_MAX_PIXELS = 50_000_000

# Pillow's own limit warns at one size and raises at another; here the limit is an argument, checked on the header.
Image.MAX_IMAGE_PIXELS = None
# It warns of every damaged piece of metadata, up to 65,535 in one file, and Python keeps each warning it has shown.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Pillow walks a file's segments one by one, in Python, and joins some in quadratic time: a few MB made of nothing else
# would take minutes. A segment is 3 or 4 reads. No camera writes hundreds before the picture begins; behind that point
# PNG files may hold one for every row.
_HEADER_READS, _PICTURE_READS = 1_024, 100_000
# Every scan of a JPEG goes over the whole picture and may take 10 bytes of file; progressive photos have about 10.
_MAX_SCANS, _SCAN = 500, re.compile(b"\xff\xda")

_ORIENTATION_TAG = 0x0112
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
_FILTER = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_DRAFT_FACTOR = 3
# What Pillow's readers raise on damaged files.
_DAMAGE = (
    ArithmeticError, AssertionError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    struct.error, zlib.error,
)  # fmt: skip


def decode_image(
    data: bytes, spec: PreprocessSpec, *, name: str = "image", max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """A file's bytes -> an upright picture of mode RGB or RGBA; of an animation, the first frame.

    `name` is what errors call the picture, and is expected to be quoted already if a stranger chose it.

    Raises:
        UnsupportedFormatError: the content is neither JPEG, PNG nor WebP.
        PixelLimitError: the header declares more than `max_pixels`; nothing was decoded.
        ImageError: damaged, cut short or empty.
    """
    image = _open(data, name)
    width, height = image.size
    if width * height > max_pixels:
        raise PixelLimitError(f"{name}: {width} x {height} = {width * height} pixels; the limit is {max_pixels}")
    if image.format in _JPEG and next(islice(_SCAN.finditer(data), _MAX_SCANS, None), None):
        raise ImageError(f"{name}: more than {_MAX_SCANS} scans in a JPEG; save it again, in any image editor")
    try:
        if image.format == "PNG" and (plain := decode_plain_png(data)) is not None:
            return plain.convert("RGB") if spec.alpha == "ignore" else plain
        if spec.jpeg_draft and image.format in _JPEG:
            _draft(image, spec)
        image.load()
        orientation = _orientation(image)
        colour = _to_colour(image, spec)
        return colour.transpose(_TURN[orientation]) if orientation in _TURN else colour
    except _DAMAGE as error:
        raise ImageError(f"{name}: the file is damaged or cut short") from error


def fit(image: Image.Image, spec: PreprocessSpec) -> Pixels:
    """A picture of mode RGB or RGBA -> (H, W, 3 or 4) uint8 at the spec's size, alpha kept where there is any.

    Pillow premultiplies for RGBA, so that hidden colour does not bleed in at the edge of a cut-out.
    """
    height, width = spec.size
    inner = fitted_size(image.size, spec)
    resized = image.resize(inner, _FILTER[spec.interpolation])
    if inner != (width, height):
        padding = spec.background if resized.mode == "RGB" else (*spec.background, 0)
        canvas = Image.new(resized.mode, (width, height), padding)
        canvas.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        resized = canvas
    return np.array(resized)


def fitted_size(size: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """Width and height in pixels that a picture of this width and height is resized to, padding not counted."""
    height, width = spec.size
    if spec.fit == "squash":
        return width, height
    scale = min(width / size[0], height / size[1])
    return max(1, min(width, round(size[0] * scale))), max(1, min(height, round(size[1] * scale)))


def composite(fitted: Pixels, spec: PreprocessSpec) -> Pixels:
    """(H, W, 3 or 4) uint8 -> (H, W, 3) uint8: a cut-out laid on the spec's background, rounded to the nearest.

    Source: Porter and Duff 1984, "Compositing Digital Images", the operator `over` on an opaque background.
    """
    if fitted.shape[2] == 3:
        return fitted
    alpha = fitted[:, :, 3:].astype(np.uint32)
    background = np.array(spec.background, dtype=np.uint32)
    mixed = fitted[:, :, :3] * alpha + background * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def to_array(fitted: Pixels, spec: PreprocessSpec) -> Float32:
    """(H, W, 3 or 4) uint8 -> the network's input: (3, H, W) float32, composited and normalised."""
    colour = composite(fitted, spec)
    scale = (1.0 / (255.0 * np.array(spec.std))).astype(np.float32)
    shift = (np.array(spec.mean) / np.array(spec.std)).astype(np.float32)
    return np.ascontiguousarray((colour * scale - shift).transpose(2, 0, 1))


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ImageError(f"{name}: the file is empty")
    file = _PatientFile(data)
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        if _looks_supported(data):
            raise ImageError(f"{name}: the file is damaged or cut short") from error
        raise UnsupportedFormatError(f"{name}: not a JPEG, PNG or WebP file") from error
    except _DAMAGE as error:
        raise ImageError(f"{name}: the file is damaged or cut short") from error
    file.reads_left = _PICTURE_READS
    return image


class _PatientFile(io.BytesIO):
    """A file that can be read so many times and no more, which counts as damage."""

    reads_left = _HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise OSError("the file is in too many pieces")
        return super().read(size)


def _looks_supported(data: bytes) -> bool:
    """Whether the first bytes are a supported format's, so that a broken header is called damage and not a format."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return webp or data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def _draft(image: Image.Image, spec: PreprocessSpec) -> None:
    """Lets libjpeg decode at a fraction, as long as 3 times the target is left on both sides."""
    width, height = image.size
    sideways = _orientation(image) in _SIDEWAYS
    target = fitted_size((height, width) if sideways else (width, height), spec)
    if sideways:
        target = target[::-1]
    image.draft(image.mode, (target[0] * _DRAFT_FACTOR, target[1] * _DRAFT_FACTOR))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Metadata that cannot be read says nothing of the pixels and counts as upright."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) else 1


def _to_colour(image: Image.Image, spec: PreprocessSpec) -> Image.Image:
    """Any mode that the three formats have -> RGB, or RGBA where there is alpha and the spec wants it."""
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return rgba.convert("RGB") if spec.alpha == "ignore" else rgba


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bit, 65535 to 255. `Image.convert` clips everything above 255 to white."""
    wide = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((np.minimum(wide, 65_535) + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    grey.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
    return grey
