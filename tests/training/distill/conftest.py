"""A folder of drawn pictures in two sources, a teacher of timm's smallest kind, and a config that takes seconds."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from training.config import load_config
from training.distill import DistillConfig

CONFIG = """\
seed = 3

[model]
backbone = "test_convnext"
embedding_dim = 16

[preprocess]
size = 64

[pictures]
views = 96
side = 64
held_out = 16

[pictures.sources]
photos = 2.0
stamps = 1.0

[teacher]
backbone = "test_efficientnet"
side = 64
places = 8

[learning]
steps = 6
batch = 16
sizes = [64]
warmup = 2
save_every = 3
"""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos`: four JPEGs; `stamps`: three PNG cut-outs, one broken file, one icon."""
    root = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    (root / "photos").mkdir()
    (root / "stamps" / "deep").mkdir(parents=True)
    for number in range(4):
        noise = chance.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240)).save(root / "photos" / f"{number}.jpg", quality=95)
    for number in range(3):
        noise = chance.integers(0, 256, (200, 200, 4), dtype=np.uint8)
        noise[:, :, 3] = 255
        noise[:20, :, 3] = 0
        Image.fromarray(noise).save(root / "stamps" / "deep" / f"{number}.png")
    (root / "stamps" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20_000))
    (root / "stamps" / "icon.png").write_bytes(b"\x89PNG")
    return root


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher's weights, classifier included, as a torch file under names of its own."""
    torch.manual_seed(1)
    weights = timm.create_model("test_efficientnet", num_classes=7).state_dict()
    renamed = {f"_{name}" if not name.startswith("classifier") else name: value for name, value in weights.items()}
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save(renamed, path)
    return path


@pytest.fixture
def config(tmp_path: Path) -> DistillConfig:
    """The config above, as read from a file."""
    file = tmp_path / "distill.toml"
    file.write_text(CONFIG)
    return load_config(file, [], DistillConfig)
