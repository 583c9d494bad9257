"""The layout of a view: gradients and cells as counted one pixel at a time, and what a config may not ask for."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.reid.errors import ConfigError
from training.config import load_config
from training.distill import DistillConfig
from training.distill.config import LayoutConfig, TeacherConfig
from training.distill.layout import gradient_histograms, layouts
from training.distill.targets import make_targets, part_whitened
from training.distill.teacher import Teacher

PLACES = (-0.75, -0.25, 0.25, 0.75)  # the middles of four cells, where the view reaches from -1 to 1


def edges(grey: NDArray[np.float32]) -> Iterator[tuple[int, int, float, float]]:
    """(16, 16) -> of every pixel its row, its column, the length of its gradient and its turn, 0 to 1."""
    for y in range(16):
        for x in range(16):
            across = grey[y, x + 1] - grey[y, x] if x < 15 else 0.0
            down = grey[y + 1, x] - grey[y, x] if y < 15 else 0.0
            yield y, x, math.hypot(across, down), (math.atan2(down, across) + math.pi) / (2 * math.pi)


def test_histograms_by_a_slow_loop() -> None:
    config = LayoutConfig(side=16, cells=2, directions=4)
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    counts = np.zeros((4, 2, 2))
    for y, x, length, turn in edges(image.mean(dim=0).numpy()):
        counts[min(3, int(turn * 4)), y // 8, x // 8] += length / 64
    wanted = np.sqrt(counts.ravel() + 1e-8)
    got = gradient_histograms(image[None], config)[0]
    np.testing.assert_allclose(got.numpy(), wanted / np.linalg.norm(wanted), rtol=1e-4, atol=1e-5)


def test_soft_histograms_by_a_slow_loop() -> None:
    """Cells of 8 pixels that look 4 beyond on each side; a direction shares with its two neighbours."""
    config = LayoutConfig(side=16, cells=2, directions=4, soft=True)
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    counts = np.zeros((4, 2, 2))
    for y, x, length, turn in edges(image.mean(dim=0).numpy()):
        below = turn * 4 - 0.5
        for row, column in itertools.product(range(2), range(2)):
            if -4 <= y - 8 * row < 12 and -4 <= x - 8 * column < 12:
                counts[math.floor(below) % 4, row, column] += length / 256 * (1 - below % 1)
                counts[math.ceil(below) % 4, row, column] += length / 256 * (below % 1)
    seen = counts / (math.sqrt((counts**2).sum() / 4) + 0.01)  # all four cells lie within one of each other
    wanted = np.sqrt(seen.ravel() + 1e-8)
    got = gradient_histograms(image[None], config)[0]
    np.testing.assert_allclose(got.numpy(), wanted / np.linalg.norm(wanted), rtol=1e-4, atol=1e-5)


def test_a_window_weighs_the_middle() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    plain = gradient_histograms(image, LayoutConfig(side=16, cells=4, directions=2)).numpy().reshape(2, 4, 4)
    window = LayoutConfig(side=16, cells=4, directions=2, window=(0.5, 2.0))
    weights = np.array([[math.exp(-((y / 0.5) ** 2) / 2 - (x / 2.0) ** 2 / 2) for x in PLACES] for y in PLACES])
    wanted = plain * weights / np.linalg.norm(plain * weights)
    np.testing.assert_allclose(gradient_histograms(image, window).numpy().reshape(2, 4, 4), wanted, rtol=1e-4)


def test_a_layout_knows_left_from_right_and_not_how_bright() -> None:
    config = LayoutConfig(weight=1.0, side=32, cells=4)
    views = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    views[0, :, 40:44] = 90
    views[1] = views[0, :, ::-1]
    views[2] = views[0] * 2
    found = layouts(views, config)
    assert found[0] @ found[2] > 0.99
    assert found[0] @ found[1] < 0.5


def test_the_target_holds_both_halves(teacher_file: Path, tmp_path: Path) -> None:
    views = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    teacher = Teacher(TeacherConfig(backbone="test_efficientnet", side=64, places=8), teacher_file)
    config = LayoutConfig(weight=2.0, side=32, cells=2)
    targets = make_targets(teacher, views, config, 16, tmp_path)
    torch.testing.assert_close(targets.pooled.norm(dim=1), torch.ones(60))
    ratio = targets.pooled[:, 8:].norm(dim=1) / targets.pooled[:, :8].norm(dim=1)
    torch.testing.assert_close(ratio, torch.full((60,), 2.0))
    placed = part_whitened(layouts(views, config), 8, 0.5)
    cosine = torch.nn.functional.cosine_similarity(targets.pooled[:, 8:], placed)
    torch.testing.assert_close(cosine, torch.ones(60))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layout.weight=1.0", "a mirrored view has another layout"),
        ("layout.cells=7", r"side \(128\) must be a multiple of cells \(7\)"),
        ("layout={soft=true,side=120}", r"side \(120\) over cells \(8\) must be even where soft cells overlap by half"),
        ("layout.window=[0.5,0]", "layout.window: Input should be greater than 0"),
    ],
)
def test_what_does_not_go_together_is_said(config: DistillConfig, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "distill.toml", [text], DistillConfig)
