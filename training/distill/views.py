"""Views: small cut-outs of pictures, square, of many scales and shapes; kept in one file on the disk."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from app.reid.cores import available_cores
from app.reid.errors import DataError, ImageError
from app.reid.preprocess import Pixels, decode_image
from app.reid.spec import PreprocessSpec
from training.distill.config import PicturesConfig
from training.distill.pictures import Picture

_LARGE = 400_000  # pixels; of a smaller picture a view shows a quarter at least
_SMALL_AREA = 0.25
_ASPECT = 1.43  # of a view's sides, either way
_MIN_SIDE = 64  # pixels of a picture that a view shows, before it is resized
_MAX_SIDE = 2_400  # larger pictures are shrunk first
_FLAT = 8.0  # standard deviation over all values below which a view shows nothing
_COVER = 0.25  # share of a cut-out's view that must not be transparent
_ATTEMPTS = 3

_SPEC = PreprocessSpec(jpeg_draft=False)


def cut_views(
    pictures: Sequence[Picture],
    config: PicturesConfig,
    seed: int,
    file: Path,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Cuts all views and writes them to `file`, a NumPy array (N, side, side, 3) uint8 in a mixed order; returns it.

    Pictures that cannot be read, are smaller than a view or show nothing give none; so N is about `config.views`.

    Raises:
        DataError: fewer than two batches' worth of views came of it, or the disk is full.
    """
    views = []
    cut = partial(_cut, config=config, seed=seed)
    with ProcessPoolExecutor(available_cores()) as pool:
        for done, got in enumerate(pool.map(cut, range(len(pictures)), pictures, chunksize=4), start=1):
            views += got
            if progress:
                progress(done, len(pictures))
    if len(views) <= config.held_out:
        raise DataError(
            f"{len(pictures)} pictures gave {len(views)} views; {config.held_out} of them only measure"
            " (pictures.held_out), so nothing is left to learn from"
        )
    order = np.random.default_rng((seed, len(views))).permutation(len(views))
    try:
        kept = open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(views), config.side, config.side, 3))
        for row, source in enumerate(order):
            kept[row] = views[source]
        kept.flush()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}; the views take {len(views) * config.side**2 * 3} bytes") from error
    return kept


def _cut(number: int, picture: Picture, config: PicturesConfig, seed: int) -> list[Pixels]:
    """The views of one picture, as a function of the seed and its number alone."""
    chance = np.random.default_rng((seed, number))
    try:
        image = decode_image(picture.path.read_bytes(), _SPEC, name=picture.name)
    except (ImageError, OSError):
        return []
    if max(image.size) > _MAX_SIDE:
        scale = _MAX_SIDE / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
    views: list[Pixels] = []
    for _ in range(picture.views * _ATTEMPTS):
        if len(views) == picture.views:
            break
        view = _one(image, config, chance)
        if view is not None:
            views.append(view)
    return views


def _one(image: Image.Image, config: PicturesConfig, chance: np.random.Generator) -> Pixels | None:
    pixels = image.width * image.height
    least = config.area if pixels > _LARGE else max(config.area, _SMALL_AREA)
    area = pixels * math.exp(chance.uniform(math.log(least), 0.0))
    aspect = math.exp(chance.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
    width = min(image.width, round(math.sqrt(area * aspect)))
    height = min(image.height, round(math.sqrt(area / aspect)))
    if min(width, height) < _MIN_SIDE:
        return None
    left, top = int(chance.integers(image.width - width + 1)), int(chance.integers(image.height - height + 1))
    box = (left, top, left + width, top + height)
    view = image.resize((config.side, config.side), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    if view.mode == "RGBA":
        if (np.asarray(view)[:, :, 3] > 127).mean() < _COVER:
            return None
        white = chance.random() < config.white
        colour = (255, 255, 255) if white else tuple(int(value) for value in chance.integers(256, size=3))
        canvas = Image.new("RGBA", view.size, (*colour, 255))
        canvas.alpha_composite(view)
        view = canvas.convert("RGB")
    array = np.array(view)
    return array if array.std() >= _FLAT else None
