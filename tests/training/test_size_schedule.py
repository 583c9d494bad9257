import numpy as np
import pytest
import torch
from PIL import Image

from app.reid.errors import ConfigError
from training.config import SizeSchedule
from training.data import load_photos
from training.size_schedule import resize_batch, size_at
from training.split import split_photos
from training.state import RunFolder
from training.train import Trainer, Watcher


def sides(full, total, **values):
    return [size_at(SizeSchedule(**values), full, step, total) for step in range(total)]


def test_it_grows_by_whole_strides_and_ends_at_full_size():
    grown = sides((224, 224), 100, start=0.5, full_at=0.6)
    assert grown[0] == (96, 96)  # half of 224 is 112, no multiple of 32
    assert grown[59] == (192, 192)
    assert set(grown[60:]) == {(224, 224)}
    assert grown == sorted(grown)
    assert {side for side, _ in grown} == {96, 128, 160, 192, 224}
    # by hand: 160 px is reached where 0.5 + 0.5 t / 60 = 160 / 224, at t = 25.7
    assert (grown[25], grown[26]) == ((128, 128), (160, 160))


def test_off_is_full_size_throughout():
    assert set(sides((97, 200), 10)) == {(97, 200)}


def test_sides_keep_their_ratio_as_strides_allow_and_are_never_larger_than_full():
    assert sides((128, 256), 10, start=0.5)[0] == (64, 128)
    assert sides((20, 256), 10, start=0.3)[0] == (20, 64)


def test_a_smaller_picture_is_what_pillow_makes_of_it():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    expected = np.array(Image.fromarray(pixels).resize((48, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    small = resize_batch(torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32)), (32, 48))
    assert np.abs(small[0].numpy() - expected).max() < 1.5  # Pillow rounds after each of two passes
    whole = torch.rand(1, 3, 8, 8)
    assert resize_batch(whole, (8, 8)) is whole


@pytest.fixture(scope="module")
def config(make_config):
    return make_config("preprocess.size=96", "size_schedule.start=0.4", "size_schedule.full_at=0.5")


@pytest.fixture(scope="module")
def photos(config, herd):
    return load_photos(herd, config.preprocess)


def test_a_run_trains_on_smaller_pictures_first_and_is_measured_on_full_ones(tmp_path, config, photos):
    trainer = Trainer(config, photos, split_photos(photos, config.split, config.preprocess, config.seed))
    seen, measured = [], []
    trainer.model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    trainer.average.model.backbone.register_forward_pre_hook(
        lambda _, inputs: measured.append(tuple(inputs[0].shape[2:]))
    )
    run = RunFolder(tmp_path)
    run.start(resume=False)
    trainer.fit(run, Watcher())
    assert seen == [(32, 32), (32, 32), (64, 64), (64, 64), *[(96, 96)] * 4]
    assert set(measured) == {(96, 96)}
    assert len(run.metrics()) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size_schedule.start=0", "--set size_schedule.start: Input should be greater than 0"),
        ("size_schedule.start=1.5", "--set size_schedule.start: Input should be less than or equal to 1"),
        ("size_schedule.full_at=1", "--set size_schedule.full_at: Input should be less than 1"),
        ("size_schedule.stages=4", "--set size_schedule.stages: unknown key"),
    ],
)
def test_schedules_that_cannot_be_are_refused(make_config, override, message):
    with pytest.raises(ConfigError, match=message):
        make_config(override)
