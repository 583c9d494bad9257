"""Pictures are shared out by weight, and views show what the pictures show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.reid.errors import DataError
from training.distill import DistillConfig
from training.distill.pictures import plan_pictures
from training.distill.views import cut_views


def test_each_source_gets_its_share_of_the_views(pictures: Path) -> None:
    planned = plan_pictures(pictures, {"photos": 2.0, "stamps": 1.0}, 96, seed=0)
    views = {
        source: sum(one.views for one in planned if one.name.startswith(source)) for source in ("photos", "stamps")
    }
    assert views == {"photos": 64, "stamps": 32}
    assert not any(one.name.endswith("icon.png") for one in planned)


def test_a_source_with_more_pictures_than_views_is_drawn_from(pictures: Path) -> None:
    planned = plan_pictures(pictures, {"photos": 1.0, "stamps": 1.0}, 4, seed=0)
    assert sorted(one.name.partition("/")[0] for one in planned) == ["photos"] * 2 + ["stamps"] * 2
    assert all(one.views == 1 for one in planned)


@pytest.mark.parametrize(("source", "said"), [("nowhere", "no folder nowhere"), ("empty", "no .jpg")])
def test_a_source_that_is_not_there_is_named(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        plan_pictures(tmp_path, {source: 1.0}, 10, seed=0)


def test_views_are_the_same_for_the_same_seed_and_broken_pictures_give_none(
    pictures: Path, config: DistillConfig, tmp_path: Path
) -> None:
    planned = plan_pictures(pictures, config.pictures.sources, config.pictures.views, config.seed)
    first = cut_views(planned, config.pictures, config.seed, tmp_path / "a.npy")
    again = cut_views(planned, config.pictures, config.seed, tmp_path / "b.npy")
    other = cut_views(planned, config.pictures, config.seed + 1, tmp_path / "c.npy")
    readable = sum(one.views for one in planned if "broken" not in one.name)
    assert first.shape == (readable, 64, 64, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(np.load(tmp_path / "a.npy"), first)
    assert first.reshape(len(first), -1).std(axis=1).min() >= 8


def test_a_cut_outs_hidden_colour_is_never_seen(config: DistillConfig, tmp_path: Path) -> None:
    """A stamp, red where it is opaque and green below its transparent half, on white alone: no green anywhere."""
    pixels = np.zeros((200, 200, 4), dtype=np.uint8)
    pixels[:, :100] = (255, 0, 0, 255)
    pixels[:, 100:] = (0, 255, 0, 0)
    pixels[::2, :100, 0] = np.random.default_rng(0).integers(100, 256, (100, 100), dtype=np.uint8)
    (tmp_path / "stamps").mkdir()
    file = tmp_path / "stamps" / "one.png"
    Image.fromarray(pixels).save(file, compress_level=0)
    planned = plan_pictures(tmp_path, {"stamps": 1.0}, 40, seed=0)
    settings = config.pictures.model_copy(update={"white": 1.0, "held_out": 1})
    views = cut_views(planned, settings, 0, tmp_path / "views.npy").astype(int)
    assert (views[..., 1] - views[..., 2]).max() <= 8, "green without blue comes from under the alpha"
    assert (views[..., 1].max(axis=(1, 2)) == 255).any(), "white was seen"


def test_too_few_views_say_so(pictures: Path, config: DistillConfig, tmp_path: Path) -> None:
    planned = plan_pictures(pictures, {"photos": 1.0}, 8, seed=0)
    with pytest.raises(DataError, match=r"gave 8 views; 16 of them only measure \(pictures.held_out\)"):
        cut_views(planned, config.pictures, 0, tmp_path / "views.npy")
