"""What a cut-out can be laid on in training, so that nothing is learnt from what lies around an animal.

A cut-out's own hidden colour is never shown, and neither is another's: all is taken from what photos show. All chance
comes from torch's global generator, which `data.py` seeds for each draw.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter

from app.reid.preprocess import Pixels, composite
from app.reid.spec import PreprocessSpec

BLUR = 1 / 16  # of the longer side: no coat can be read through it
_COARSEST, _FINEST = 2, 24  # squares of noise along a side


class Backgrounds:
    """Draws one of: a colour that another photo shows, another photo blurred, or smooth noise; each as often."""

    def __init__(self, photos: Sequence[Pixels], spec: PreprocessSpec) -> None:
        """photos: (H, W, 3 or 4) uint8, at least one, as `fit` gives them."""
        self._photos, self._spec = photos, spec
        self._kinds: tuple[Callable[[], Pixels], ...] = (self._colour, self._blurred, self._noise)

    def draw(self) -> Pixels:
        """(H, W, 3) uint8 at the spec's size."""
        return self._kinds[_below(len(self._kinds))]()

    def _colour(self) -> Pixels:
        photo = self._photo()
        shown = composite(photo, self._spec)[_visible(photo)]
        return self._plain(shown[_below(len(shown))] if len(shown) else self._spec.background)

    def _blurred(self) -> Pixels:
        photo = self._photo()
        picture, visible = composite(photo, self._spec), _visible(photo)
        if not visible.any():
            return self._plain(self._spec.background)
        picture[~visible] = picture[visible].mean(axis=0)
        radius = BLUR * max(picture.shape[:2])
        return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))

    def _noise(self) -> Pixels:
        squares = _COARSEST + _below(_FINEST - _COARSEST + 1)
        coarse = torch.randint(256, (squares, squares, 3), dtype=torch.uint8).numpy()
        height, width = self._spec.size
        return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    def _plain(self, colour: Sequence[int]) -> Pixels:
        return np.full((*self._spec.size, 3), colour, dtype=np.uint8)

    def _photo(self) -> Pixels:
        return self._photos[_below(len(self._photos))]


def lay_on(cutout: Pixels, background: Pixels) -> Pixels:
    """(H, W, 4) on (H, W, 3) -> (H, W, 4) without a transparent part. Source: Porter and Duff 1984, `over`."""
    colour, alpha = Image.fromarray(cutout[:, :, :3]), Image.fromarray(cutout[:, :, 3])
    mixed = Image.composite(colour, Image.fromarray(background), alpha)
    return np.dstack([np.array(mixed), np.full(cutout.shape[:2], 255, dtype=np.uint8)])


def _visible(photo: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """(H, W): where a photo shows anything."""
    alpha = photo[:, :, 3] if photo.shape[2] == 4 else np.full(photo.shape[:2], 255, dtype=np.uint8)
    return np.asarray(alpha > 0)


def _below(limit: int) -> int:
    """A whole number from 0 to `limit` - 1, each as often."""
    return int(torch.randint(limit, ()))
