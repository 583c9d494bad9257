import numpy as np
import pytest
import torch

from app.reid.preprocess import to_array
from app.reid.spec import PreprocessSpec
from training.augment import Augmentation
from training.config import AugmentConfig

OFF = dict.fromkeys(
    ("brightness", "contrast", "saturation", "grey", "rotate", "translate", "scale", "perspective", "erase", "flip"),
    0.0,
)
SPEC = PreprocessSpec(size=32, background=(10, 200, 30))


def pixels(channels=3):
    chance = np.random.default_rng(0)
    image = chance.integers(0, 256, (32, 32, channels), dtype=np.uint8)
    if channels == 4:
        image[:, :, 3] = 0
        image[8:24, 8:24, 3] = 255
    return image


def augment(image, seed=0, **values):
    torch.manual_seed(seed)
    return Augmentation(AugmentConfig(**{**OFF, **values}), SPEC)(image)


def test_all_off_is_the_photo_itself():
    image = pixels()
    assert augment(image) is image


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", [name for name in OFF if name not in {"grey", "erase", "flip"}])
def test_each_change_changes_and_keeps_shape_and_input(name, channels):
    image = pixels(channels)
    before = image.copy()
    changed = augment(image, **{name: 30.0 if name == "rotate" else 0.5})
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)
    assert np.array_equal(image, before)


def test_flip_mirrors_and_grey_takes_the_colour():
    image = pixels()
    assert np.array_equal(augment(image, flip=1.0), image[:, ::-1])
    grey = augment(image, grey=1.0)
    assert np.array_equal(grey[:, :, 0], grey[:, :, 1])
    assert np.array_equal(grey[:, :, 1], grey[:, :, 2])


def test_what_is_erased_or_comes_into_view_is_background():
    erased = augment(pixels(), erase=1.0)
    gone = (erased == (10, 200, 30)).all(axis=2)
    assert 0.015 * 1024 < gone.sum() < 0.35 * 1024
    shifted = augment(pixels(), translate=0.5, seed=3)
    assert (shifted == (10, 200, 30)).all(axis=2).sum() > 50


def test_colour_leaves_alpha_alone_and_geometry_moves_it():
    image = pixels(4)
    assert np.array_equal(augment(image, brightness=0.5)[:, :, 3], image[:, :, 3])
    assert not np.array_equal(augment(image, rotate=45.0)[:, :, 3], image[:, :, 3])


def test_hidden_colour_never_shows():
    """A cut-out and the same cut-out over another hidden colour come out the same, edges included."""
    image = pixels(4)
    other = image.copy()
    other[image[:, :, 3] == 0, :3] = 255
    values = {"rotate": 30.0, "scale": 0.3, "translate": 0.2, "erase": 0.5}
    for seed in range(5):
        one, two = augment(image, seed, **values), augment(other, seed, **values)
        assert np.array_equal(to_array(one, SPEC), to_array(two, SPEC))


def test_chance_is_the_generator():
    first = augment(pixels(), 1, rotate=30.0, brightness=0.3)
    assert np.array_equal(first, augment(pixels(), 1, rotate=30.0, brightness=0.3))
    assert not np.array_equal(first, augment(pixels(), 2, rotate=30.0, brightness=0.3))
