"""From a map of features to one vector, where timm's average is not what is wanted."""

import torch
from torch import Tensor, nn

GRID = (2, 2)
"""Rows and columns of cells that `Grid` takes the means of."""


class GeM(nn.Module):
    """Generalised mean over places: `(mean of max(x, 1e-6) ** p) ** (1 / p)`; p is learnt and starts at 3.

    p = 1 is the mean of what is positive, large p comes near the maximum. Source: Radenović et al. 2018, "Fine-tuning
    CNN Image Retrieval with No Human Annotation", eq. 3.
    """

    def __init__(self, *, flatten: bool) -> None:
        """flatten: whether the pooled vectors come as (N, C) and not as (N, C, 1, 1)."""
        super().__init__()
        self.p = nn.Parameter(torch.tensor([3.0]))
        self._flatten = flatten

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, 1, 1) or (N, C), float32: powers of small numbers are lost in fewer bits."""
        positive = features.float().clamp(min=1e-6)
        pooled = positive.pow(self.p).mean(dim=(2, 3), keepdim=True).pow(1.0 / self.p)
        return pooled.flatten(1) if self._flatten else pooled


class Grid(nn.Module):
    """The means of `GRID` cells of the map, side by side: what lies where in the picture is kept.

    Source: Lazebnik et al. 2006, "Beyond Bags of Features: Spatial Pyramid Matching", its second level; a part of the
    network's own for re-ID: Sun et al. 2018, "Beyond Part Models".
    """

    def __init__(self, *, flatten: bool) -> None:
        """flatten: whether the cells of a channel come side by side, and not as a map."""
        super().__init__()
        self._flatten = flatten

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, *GRID) or (N, C * cells)."""
        shares = cell_shares(GRID, features.shape[2], features.shape[3]).to(features)
        pooled = torch.einsum("nchw,ijhw->ncij", features, shares)
        return pooled.flatten(1) if self._flatten else pooled


def cell_shares(grid: tuple[int, int], height: int, width: int) -> Tensor:
    """(*grid, height, width): what each place of a map adds to the mean of each cell; a cell's shares add up to 1.

    Cells are as large as each other, and share the places on their border where the grid does not divide the map.
    """
    rows, columns = (_shares(cells, length) for cells, length in zip(grid, (height, width), strict=True))
    return rows[:, None, :, None] * columns[None, :, None, :]


def _shares(cells: int, length: int) -> Tensor:
    """(cells, length) float64: of places 0 to length - 1 that each cell covers, in equal parts of the whole."""
    starts = torch.arange(cells, dtype=torch.float64)[:, None] * length / cells
    places = torch.arange(length, dtype=torch.float64)
    covered = (torch.minimum(places + 1, starts + length / cells) - torch.maximum(places, starts)).clamp(min=0)
    return covered / covered.sum(dim=1, keepdim=True)
