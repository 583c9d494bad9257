"""What `decode_image` promises of any bytes: an upright picture within the limits, or an ImageError.

    python -m tests.fuzz.promise runs/fuzz/crash-0a1b2c

Looks at what `make fuzz` found once more; atheris is not needed for it.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from app.reid.errors import ImageError
from app.reid.png import decode_plain_png
from app.reid.preprocess import decode_image, fit, to_array
from app.reid.spec import PreprocessSpec
from tests.fuzz.pngs import chunks, png

MAX_PIXELS = 200_000
_CRITICAL = frozenset((b"IHDR", b"IDAT", b"IEND"))
_TELLING = frozenset((b"PLTE", b"tRNS", b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"acTL", b"fcTL", b"fdAT"))


class BrokenPromiseError(Exception):
    """`decode_image` has not kept its word."""


def check(data: bytes) -> None:
    """Decodes a file as one of two kinds of bundle would. Raises BrokenPromiseError, or what should not be raised."""
    spec = PreprocessSpec(size=16, alpha="ignore" if len(data) % 2 else "composite")
    try:
        picture = decode_image(data, spec, max_pixels=MAX_PIXELS)
    except ImageError as error:
        if not str(error).startswith("image: "):
            raise BrokenPromiseError(f"a sentence that does not name the picture: {error}") from error
        return
    if picture.mode != "RGB" and (picture.mode != "RGBA" or spec.alpha == "ignore"):
        raise BrokenPromiseError(f"a picture of mode {picture.mode}")
    if not 0 < picture.width * picture.height <= MAX_PIXELS:
        raise BrokenPromiseError(f"a picture of {picture.size}")
    if not np.isfinite(to_array(fit(picture, spec), spec)).all():
        raise BrokenPromiseError("an array that is not finite")
    _check_plain(data)


def _check_plain(data: bytes) -> None:
    """What the fast path decodes has the pixels that Pillow gives it. Raises BrokenPromiseError.

    Pillow is not shown the metadata behind the picture, over which it may refuse a picture that is whole.
    """
    plain = decode_plain_png(data)
    if plain is None:
        return
    parts = list(chunks(data))
    if not _TELLING.isdisjoint(kind for kind, _ in parts):
        raise BrokenPromiseError("a plain PNG with something in it that may change the picture")
    with Image.open(io.BytesIO(png(part for part in parts if part[0] in _CRITICAL))) as image:
        image.load()
        if image.mode != plain.mode or image.tobytes() != plain.tobytes():
            raise BrokenPromiseError("a plain PNG with other pixels than Pillow's")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        check(Path(path).read_bytes())
        print(f"{path}: the promise is kept")
