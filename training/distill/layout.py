"""The second teacher: where in a view edges of which direction lie. No network, and what pooled features lose."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.distill.config import LayoutConfig

_BATCH = 500
_EPSILON = 1e-8


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
    of Oriented Gradients for Human Detection", without its overlapping blocks.
    """
    grey = images.mean(dim=1, keepdim=True)
    across = F.pad(grey.diff(dim=3), (0, 1, 0, 0))
    down = F.pad(grey.diff(dim=2), (0, 0, 0, 1))
    length = (across.square() + down.square()).sqrt()
    turn = (torch.atan2(down, across) + math.pi) / (2 * math.pi)
    direction = (turn * config.directions).long().clamp(0, config.directions - 1)
    cell = images.shape[2] // config.cells, images.shape[3] // config.cells
    found = [F.avg_pool2d(length * (direction == one), cell) for one in range(config.directions)]
    return F.normalize((torch.cat(found, dim=1).flatten(1) + _EPSILON).sqrt())
