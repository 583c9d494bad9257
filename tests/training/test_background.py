import numpy as np
import pytest
import torch
from PIL import Image

from app.reid.errors import ConfigError
from app.reid.preprocess import to_array
from app.reid.spec import PreprocessSpec
from training.augment import Augmentation
from training.background import Backgrounds, lay_on
from training.config import AugmentConfig
from training.data import TrainingBatches, load_photos
from training.sampler import Draw

SPEC = PreprocessSpec(size=32, background=(10, 200, 30))
OFF = dict.fromkeys(AugmentConfig.model_fields, 0.0)
MOVED = {"rotate": 30.0, "scale": 0.3, "translate": 0.2, "erase": 0.5, "brightness": 0.3}
INSIDE = (slice(8, 24), slice(8, 24))


def cutout(seed=0, hidden=None):
    """A square of noise in the middle, half-transparent in its first row, with another colour hidden around it."""
    chance = np.random.default_rng(seed)
    image = chance.integers(60, 190, (32, 32, 4), dtype=np.uint8)
    image[:, :, 3] = 0
    image[INSIDE][:, :, 3] = 255
    image[8, 8:24, 3] = 128
    if hidden is not None:
        image[image[:, :, 3] == 0, :3] = hidden
    return image


def augment(image, photos, seed, **values):
    torch.manual_seed(seed)
    return Augmentation(AugmentConfig(**{**OFF, "background": 1.0, **values}), SPEC, photos)(image)


def test_over_by_the_formula():
    image, below = cutout(), np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    laid = lay_on(image, below)
    share = image[:, :, 3:].astype(float) / 255
    expected = image[:, :, :3] * share + below * (1 - share)
    assert np.abs(laid[:, :, :3] - expected).max() <= 0.51
    assert (laid[:, :, 3] == 255).all()


def test_the_animal_stays_and_its_surroundings_change():
    image = cutout()
    surroundings = set()
    for seed in range(40):
        changed = augment(image, [cutout(1), cutout(2)], seed)
        assert changed.shape == (32, 32, 4)
        assert np.array_equal(changed[9:24, 8:24], image[9:24, 8:24])
        assert (changed[:, :, 3] == 255).all()
        surroundings.add(changed[:8].tobytes())
    assert len(surroundings) > 20


@pytest.mark.parametrize("values", [{}, MOVED], ids=["alone", "with all else"])
def test_no_hidden_colour_ever_shows(values):
    """Neither the cut-out's own nor that of the photo which lends its background: change both, and nothing changes."""
    for seed in range(60):
        shown = [
            augment(cutout(0, hidden), [cutout(1, hidden), cutout(2, hidden)], seed, **values)
            for hidden in ((255, 0, 255), (0, 255, 0))
        ]
        assert np.array_equal(to_array(shown[0], SPEC), to_array(shown[1], SPEC))


def test_the_usual_background_is_gone_at_edges_and_in_corners_too():
    """On black photos over a green background nothing turns green: no rim around the animal, no erased rectangle."""
    black = np.zeros((32, 32, 4), dtype=np.uint8)
    black[INSIDE][:, :, 3] = 255
    torch.manual_seed(0)
    augmentation = Augmentation(AugmentConfig(**{**OFF, "background": 1.0, **MOVED}), SPEC, [black])
    augmentation._backgrounds._kinds = augmentation._backgrounds._kinds[:2]  # noise has colours of its own
    assert max(int(augmentation(black)[:, :, :3].max()) for _ in range(60)) == 0


def test_kinds_of_background():
    torch.manual_seed(0)
    photos = [cutout(1, (255, 0, 255))]
    colour, blurred, noise = Backgrounds(photos, SPEC)._kinds
    seen = {tuple(colour()[3, 5]) for _ in range(50)}
    shown = {tuple(value) for value in photos[0][photos[0][:, :, 3] == 255][:, :3]}
    assert len(seen) > 20
    assert len(seen & shown) > 0.8 * len(seen)  # the others are from the half-transparent row
    assert all(len(np.unique(colour().reshape(-1, 3), axis=0)) == 1 for _ in range(5))
    smooth = blurred()
    assert smooth.std(axis=(0, 1)).max() < 0.35 * photos[0][INSIDE][:, :, :3].std(axis=(0, 1)).min()
    assert noise().std() > 30
    assert noise().shape == smooth.shape == colour().shape == (32, 32, 3)


def test_photos_that_show_nothing_lend_the_usual_background():
    empty = np.full((32, 32, 4), 77, dtype=np.uint8)
    empty[:, :, 3] = 0
    colour, blurred, _ = Backgrounds([empty], SPEC)._kinds
    for draw in (colour, blurred):
        assert (draw() == (10, 200, 30)).all()


def test_a_share_of_the_photos_is_changed_and_chance_is_the_generator():
    image, photos = cutout(), [cutout(1)]
    changed = [augment(image, photos, seed, background=0.3) is not image for seed in range(300)]
    assert 60 <= sum(changed) <= 120
    assert np.array_equal(augment(image, photos, 4), augment(image, photos, 4))
    assert augment(image[:, :, :3], photos, 0).shape == (32, 32, 3)


def test_nothing_to_replace_is_said():
    with pytest.raises(ConfigError, match=r"augment.background = 0.3: none of the 1 training photos is a cut-out"):
        Augmentation(AugmentConfig(background=0.3), SPEC, [cutout()[:, :, :3]])


def test_draws_of_a_data_set_of_cut_outs(tmp_path, make_herd, make_config):
    """Through the loader: a function of seed and number, and other surroundings than the service would show."""
    folder = make_herd(tmp_path / "cutouts", identities=2, photos=2)
    for path in (folder / "train").glob("*.png"):
        picture = Image.open(path).convert("RGBA")
        mask = Image.new("L", picture.size)
        mask.paste(255, (14, 10, 42, 30))
        picture.putalpha(mask)
        picture.save(path)
    photos = load_photos(folder, SPEC)
    augmentation = Augmentation(AugmentConfig(**{**OFF, "background": 1.0}), SPEC, photos.prepared)
    data = TrainingBatches(photos, [0, 0, 1, 1], SPEC, augmentation, 4)
    image = data[Draw(1, 3)][0]
    torch.rand(2)
    assert torch.equal(image, data[Draw(1, 3)][0])
    usual = torch.from_numpy(to_array(photos.prepared[1], SPEC))
    assert torch.equal(image[:, 12:20, 12:20], usual[:, 12:20, 12:20])
    assert not torch.equal(image[:, :4], usual[:, :4])
