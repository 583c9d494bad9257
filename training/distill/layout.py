"""The second teacher: where in a view edges of which direction lie. No network, and what pooled features lose."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.distill.config import LayoutConfig

_BATCH = 500
_EPSILON = 1e-8
_CONTRAST = 0.01  # of the cells around, below which a cell is not lifted any further


def layouts(views: NDArray[np.uint8], config: LayoutConfig) -> Tensor:
    """(N, side, side, 3) uint8 views -> (N, directions x cells x cells) unit vectors, float32."""
    parts = []
    for start in range(0, len(views), _BATCH):
        images = torch.from_numpy(np.array(views[start : start + _BATCH])).permute(0, 3, 1, 2).float() / 255.0
        images = F.interpolate(images, size=(config.side, config.side), mode="bilinear", antialias=True)
        parts.append(gradient_histograms(images, config))
    return torch.cat(parts)


def gradient_histograms(images: Tensor, config: LayoutConfig) -> Tensor:
    """(N, 3, H, W) in [0, 1] -> histograms of gradient directions in a grid of cells, weighted by gradient length.

    The square root tames strong edges; the whole vector is of unit length. Source: Dalal and Triggs 2005, "Histograms
    of Oriented Gradients for Human Detection"; its sharing among cells and directions, and its contrast taken from the
    cells around, only where the config says `soft`. The window over the whole view is ours.
    """
    grey = images.mean(dim=1, keepdim=True)
    across = F.pad(grey.diff(dim=3), (0, 1, 0, 0))
    down = F.pad(grey.diff(dim=2), (0, 0, 0, 1))
    length = (across.square() + down.square()).sqrt()
    turn = (torch.atan2(down, across) + math.pi) / (2 * math.pi) * config.directions
    side = images.shape[2] // config.cells
    found = torch.cat([_pooled(length * share, side, config) for share in _shares(turn, config)], dim=1)
    if config.soft:
        around = F.avg_pool2d(found.square().sum(dim=1, keepdim=True), 3, 1, 1, count_include_pad=False)
        found = found / (around.sqrt() + _CONTRAST)
    tamed = (found + _EPSILON).sqrt()
    if config.window is not None:
        tamed = tamed * _window(config.cells, *config.window)
    return F.normalize(tamed.flatten(1))


def _window(cells: int, down: float, across: float) -> Tensor:
    """(cells, cells): what each weighs, 0 to 1."""
    away = (2.0 * torch.arange(cells) + 1.0) / cells - 1.0
    return torch.exp(-(away / down).square() / 2.0)[:, None] * torch.exp(-(away / across).square() / 2.0)


def _shares(turn: Tensor, config: LayoutConfig) -> Iterator[Tensor]:
    """Of each direction in turn: how much a place with this turn, in directions, counts for it, 0 to 1."""
    count = config.directions
    for one in range(count):
        if config.soft:
            away = (turn - one - 0.5 + count / 2) % count - count / 2
            yield (1.0 - away.abs()).clamp(min=0)
        else:
            yield turn.long().clamp(0, count - 1) == one


def _pooled(lengths: Tensor, side: int, config: LayoutConfig) -> Tensor:
    """Means over cells of this side; soft ones are twice as wide and high and reach beyond the view."""
    if config.soft:
        return F.avg_pool2d(lengths, 2 * side, side, padding=side // 2)
    return F.avg_pool2d(lengths, side)
