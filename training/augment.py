"""Random changes of a training photo: after `fit`, while alpha is still there, before compositing and `to_array`.

Colour changes touch colour alone; geometry moves colour and alpha together; then a cut-out may be laid on a drawn
background, which so shows through what was erased and beside what was moved. All chance comes from torch's global
generator, which `data.py` seeds for each draw.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from app.reid.errors import ConfigError
from app.reid.preprocess import Pixels
from app.reid.spec import PreprocessSpec
from training.background import Backgrounds, lay_on
from training.config import AugmentConfig


class Augmentation:
    """(H, W, 3 or 4) uint8 -> the same shape and type, changed by chance."""

    def __init__(self, config: AugmentConfig, spec: PreprocessSpec, photos: Sequence[Pixels] = ()) -> None:
        """Builds the transforms that the config does not turn off. photos: where backgrounds are taken from.

        Raises:
            ConfigError: backgrounds are to be replaced, and no photo has any alpha.
        """
        if config.background and not any(photo.shape[2] == 4 for photo in photos):
            raise ConfigError(
                f"augment.background = {config.background}: none of the {len(photos)} training photos is a cut-out"
                f' under preprocess.alpha = "{spec.alpha}", so that there is nothing to replace; set it to 0'
            )
        self._replaced = config.background
        self._backgrounds = Backgrounds(photos, spec)
        self._colour = _compose(_colour(config))
        self._spec = spec
        self._geometry = {3: _compose(_geometry(config, self._fill(3))), 4: _compose(_geometry(config, self._fill(4)))}

    def __call__(self, pixels: Pixels) -> Pixels:
        """One photo, changed."""
        beneath = self._draw_background(pixels)
        if self._colour is None and self._geometry[3] is None and beneath is None:
            return pixels
        image = torch.from_numpy(self._matted(pixels, beneath)).permute(2, 0, 1)
        if self._colour is not None:
            image = torch.cat([self._colour(image[:3]), image[3:]])
        geometry = self._geometry[image.shape[0]]
        changed: Tensor = image if geometry is None else geometry(image)
        pixels = np.ascontiguousarray(changed.permute(1, 2, 0).numpy())
        return pixels if beneath is None else lay_on(pixels, beneath)

    def _draw_background(self, pixels: Pixels) -> Pixels | None:
        """What a cut-out is laid on; None: on the spec's background, like all in the service."""
        if not self._replaced or pixels.shape[2] == 3 or float(torch.rand(())) >= self._replaced:
            return None
        return self._backgrounds.draw()

    def _fill(self, channels: int) -> list[float]:
        """What comes into view from outside the photo: the background, transparent where there is alpha."""
        return [float(value) for value in (*self._spec.background, 0)[:channels]]

    def _matted(self, pixels: Pixels, beneath: Pixels | None) -> Pixels:
        """Puts the background under fully transparent pixels, so that moving a cut-out blends in no hidden colour."""
        matted = pixels.copy()
        if pixels.shape[2] == 4:
            hidden = pixels[:, :, 3] == 0
            matted[hidden, :3] = self._spec.background if beneath is None else beneath[hidden]
        return matted


def _compose(transforms: list[v2.Transform]) -> v2.Transform | None:
    return v2.Compose(transforms) if transforms else None


def _colour(config: AugmentConfig) -> list[v2.Transform]:
    transforms: list[v2.Transform] = []
    if config.brightness or config.contrast or config.saturation:
        transforms.append(
            v2.ColorJitter(brightness=config.brightness, contrast=config.contrast, saturation=config.saturation)
        )
    if config.grey:
        transforms.append(v2.RandomGrayscale(config.grey))
    return transforms


def _geometry(config: AugmentConfig, fill: list[float]) -> list[v2.Transform]:
    bilinear = v2.InterpolationMode.BILINEAR
    transforms: list[v2.Transform] = []
    if config.rotate or config.translate or config.scale:
        affine = v2.RandomAffine(
            degrees=config.rotate,
            translate=(config.translate, config.translate),
            scale=(1 - config.scale, 1 + config.scale),
            interpolation=bilinear,
            fill=fill,
        )
        transforms.append(affine)
    if config.perspective:
        transforms.append(v2.RandomPerspective(config.perspective, interpolation=bilinear, fill=fill))
    if config.flip:
        transforms.append(v2.RandomHorizontalFlip(config.flip))
    if config.erase:
        transforms.append(v2.RandomErasing(config.erase, value=fill))
    return transforms
