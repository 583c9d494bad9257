"""The configs that ship: each builds all that it names, around a network that is small enough to try."""

import math
from pathlib import Path

import pytest
import timm
import torch

from app.reid.errors import ConfigError
from training.config import load_config
from training.data import load_photos
from training.size_schedule import size_at
from training.split import split_photos
from training.train import Trainer

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
RECIPES = ["convnext_atto.toml", "convnext_small_224.toml", "convnext_base_384.toml"]
TINY = [
    "model.backbone=test_convnext", "model.embedding_dim=32", "model.pretrained=none", "preprocess.size=96",
    "sampler.identities=3", "split.burst_distance=0", "compute.device=cpu", "compute.workers=0",
]  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains(name, herd):
    config = load_config(CONFIGS / name, TINY)
    photos = load_photos(herd, config.preprocess)
    trainer = Trainer(config, photos, split_photos(photos, config.split, config.preprocess, config.seed))
    losses = [trainer.run_step(*batch) for batch in trainer.loader(0, 2)]
    assert all(math.isfinite(loss) for loss in losses)
    assert (trainer.progress.updates, trainer.progress.skipped) == (2, 0)
    assert trainer.evaluate().id_map > 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_needs_and_fits_the_competition(name):
    text, config = (CONFIGS / name).read_text(), load_config(CONFIGS / name)
    words = " ".join(line.removeprefix("#").strip() for line in text.partition("seed =")[0].splitlines())
    assert "Needs one GPU" in words or "CPU cores in minutes" in words
    assert timm.is_model(config.model.backbone)
    assert config.sampler.identities <= 24  # a fold of the competition's 31 identities still fills a batch
    pictures = config.optim.epochs * config.sampler.steps * config.sampler.identities * config.sampler.photos
    assert "photos" not in words or "GPU" not in words or f"{pictures:,} photos" in words


def test_weights_named_are_weights_that_timm_has():
    for name in RECIPES:
        model = load_config(CONFIGS / name).model
        assert model.pretrained == "model_store/default" or timm.is_model_pretrained(model.backbone)


def test_the_large_recipe_grows_to_full_size_and_wants_a_gpu(herd):
    config = load_config(CONFIGS / "convnext_base_384.toml")
    total = config.optim.epochs * config.sampler.steps
    assert size_at(config.size_schedule, config.preprocess.size, 0, total) == (224, 224)
    assert size_at(config.size_schedule, config.preprocess.size, total // 2, total) == (384, 384)
    if not torch.cuda.is_available():
        tiny = load_config(CONFIGS / "convnext_base_384.toml", [*TINY[:-2], "compute.workers=0"])
        photos = load_photos(herd, tiny.preprocess)
        with pytest.raises(ConfigError, match="torch finds no GPU here"):
            Trainer(tiny, photos, split_photos(photos, tiny.split, tiny.preprocess, 0))
