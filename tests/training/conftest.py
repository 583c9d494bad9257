"""A herd that trains in seconds: six animals, six photos each, and a config for timm's smallest ConvNeXt."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import TrainConfig, load_config
from training.data import PhotoSet, load_photos

CONFIG = """\
seed = 5

[model]
backbone = "test_convnext"
embedding_dim = 32
drop_path = 0.1

[preprocess]
size = 32

[split]
validation = 0.4

[sampler]
identities = 3
photos = 2
steps = 4

[optim]
epochs = 2
warmup_epochs = 1
"""

torch.set_num_threads(1)  # networks this small lose time to every further thread


def write_herd(folder: Path, *, identities: int = 6, photos: int = 6, seed: int = 0) -> Path:
    """A folder with `train.csv` and photos in `train/`; each animal is its own coarse pattern under changing light."""
    (folder / "train").mkdir(parents=True)
    rows = ["filename,ground_truth,side"]
    chance = np.random.default_rng(seed)
    for identity in range(identities):
        coat = chance.integers(0, 200, (5, 7, 3))
        for photo in range(photos):
            name = f"animal{identity}_{photo}.png"
            noisy = np.clip(coat + chance.integers(0, 55) + chance.integers(0, 12, coat.shape), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).resize((56, 40)).save(folder / "train" / name)
            rows.append(f"{name},animal {identity},{'left' if photo % 2 else 'right'}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The herd's folder. Read-only."""
    return write_herd(tmp_path_factory.mktemp("data") / "herd")


@pytest.fixture(scope="session")
def make_herd() -> Callable[..., Path]:
    """`write_herd`, for tests that want another one."""
    return write_herd


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The herd's config as a file."""
    path = tmp_path_factory.mktemp("config") / "herd.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def make_config(config_file: Path) -> Callable[..., TrainConfig]:
    """`make_config("optim.epochs=3", ...)`: the herd's config with overrides."""
    return lambda *overrides: load_config(config_file, overrides)


@pytest.fixture(scope="session")
def herd_photos(herd: Path, make_config: Callable[..., TrainConfig]) -> PhotoSet:
    """The herd, decoded."""
    return load_photos(herd, make_config().preprocess)
