"""What the files themselves tell and the network's input no longer does: their size, and what is behind a cut-out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.reid.cores import available_cores
from app.reid.errors import quote
from app.reid.photos import PhotoFolder
from app.reid.preprocess import Pixels, decode_image, fit
from app.reid.spec import PreprocessSpec

CHUNK = 64


@dataclass(frozen=True)
class Original:
    """A photo's file, decoded whole.

    width, height: in pixels, upright. cut_out: (H, W, 4) and hidden: (H, W, 3), uint8 at the network's size, the
    photo with its mask and with everything that the mask hides; None for a photo without alpha.
    """

    width: int
    height: int
    cut_out: Pixels | None
    hidden: Pixels | None


def read_originals(
    folder: Path, filenames: Sequence[str], spec: PreprocessSpec
) -> Iterator[tuple[int, list[Original]]]:
    """The photos in chunks, each with the number of its first one, so that no more than a chunk is in memory.

    Raises:
        ImageError, LookupFailedError, OSError: a file has changed or gone since it was read first.
    """
    source = PhotoFolder(folder, label=str(folder))
    whole = spec.model_copy(update={"alpha": "composite", "jpeg_draft": False})
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(filenames), CHUNK):
            names = filenames[start : start + CHUNK]
            yield start, list(pool.map(lambda name: _read(source, name, whole), names))


def _read(source: PhotoFolder, name: str, spec: PreprocessSpec) -> Original:
    image = decode_image(source.find({name: 1})[name].read(), spec, name=quote(name))
    if image.mode != "RGBA":
        return Original(image.width, image.height, None, None)
    return Original(image.width, image.height, fit(image, spec), fit(image.convert("RGB"), spec))


def foreground_share(cut_out: Pixels) -> float:
    """(H, W, 4) -> the share of the frame that is not masked, in [0, 1]."""
    return float(np.mean(cut_out[:, :, 3]) / 255)
