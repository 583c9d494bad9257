"""What the student shall say of every view: the teacher's answers, computed once and kept on the disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from app.reid.errors import DataError
from training.distill.config import LayoutConfig, TeacherConfig
from training.distill.layout import layouts
from training.distill.teacher import Teacher

POOLED, PLACES, MIDDLE = "pooled.npy", "places.npy", "middle.npy"
BATCH = 32
_FITTED_ON = 2_000  # views on which the directions of the maps are found
_EPSILON = 1e-6


@dataclass(frozen=True)
class Targets:
    """Of N views. pooled: (N, D) float32 unit vectors. places: (N, P, h, w), middle: (N, C, 2h, 2w), both float16 on
    the disk and of about unit variance."""

    pooled: Tensor
    places: NDArray[np.float16]
    middle: NDArray[np.float16]


def make_targets(
    teacher: Teacher,
    views: NDArray[np.uint8],
    layout: LayoutConfig,
    width: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Targets:
    """Shows all views to the teacher; `width` is the student's embedding, D. Files are written to `folder`.

    What `read_targets` gives afterwards is the same.

    Raises:
        DataError: fewer views than numbers in a target, or the disk is full.
    """
    if len(views) <= width:
        raise DataError(f"{len(views)} views; the {width} directions of the teacher's space take more than that")
    directions = _directions(teacher, views[: min(len(views), _FITTED_ON)])
    pooled, places, middle = [], None, None
    try:
        for start in range(0, len(views), BATCH):
            seen, last = teacher.look(views[start : start + BATCH])
            reduced = directions.reduce(last).numpy().astype(np.float16)
            seen_half = directions.scale(seen).numpy().astype(np.float16)
            if places is None or middle is None:
                places = _array(folder / PLACES, len(views), reduced.shape)
                middle = _array(folder / MIDDLE, len(views), seen_half.shape)
            places[start : start + BATCH], middle[start : start + BATCH] = reduced, seen_half
            pooled.append(generalised_mean(last, teacher.config.gem))
            if progress:
                progress(min(len(views), start + BATCH), len(views))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}; the teacher's maps take some 45 kB a view") from error
    np.save(folder / POOLED, _pooled_target(torch.cat(pooled), teacher.config, views, layout, width).numpy())
    return read_targets(folder)


def _pooled_target(
    vectors: Tensor, config: TeacherConfig, views: NDArray[np.uint8], layout: LayoutConfig, width: int
) -> Tensor:
    """(N, D) unit vectors: the teacher's directions, and in the second half those of the layout if it has a weight."""
    if not layout.weight:
        return part_whitened(vectors, width, config.whiten)
    half = width // 2
    seen = part_whitened(vectors, width - half, config.whiten)
    placed = part_whitened(layouts(views, layout), half, layout.whiten)
    return torch.nn.functional.normalize(torch.cat([seen, layout.weight * placed], dim=1))


def read_targets(folder: Path) -> Targets:
    """What `make_targets` has written."""
    pooled = torch.from_numpy(np.load(folder / POOLED))
    return Targets(pooled, np.load(folder / PLACES, mmap_mode="r"), np.load(folder / MIDDLE, mmap_mode="r"))


def generalised_mean(maps: Tensor, power: float) -> Tensor:
    """(N, C, h, w) -> (N, C). Source: Radenovic et al. 2018, "Fine-tuning CNN Image Retrieval with No Human
    Annotation", eq. 1."""
    return maps.clamp(min=_EPSILON).pow(power).mean(dim=(2, 3)).pow(1.0 / power)


def part_whitened(vectors: Tensor, width: int, power: float) -> Tensor:
    """(N, C) -> (N, D) unit vectors: centred, turned into their D principal directions, each divided by its standard
    deviation to this power."""
    centred = vectors - vectors.mean(dim=0)
    _, lengths, directions = torch.linalg.svd(centred, full_matrices=False)
    deviations = lengths[:width] / len(vectors) ** 0.5
    turned = centred @ directions[:width].T / deviations.clamp(min=_EPSILON).pow(power)
    if turned.shape[1] < width:
        turned = torch.nn.functional.pad(turned, (0, width - turned.shape[1]))
    return torch.nn.functional.normalize(turned)


@dataclass(frozen=True)
class _Directions:
    mean: Tensor
    directions: Tensor
    deviation: Tensor
    middle_mean: Tensor
    middle_deviation: Tensor

    def reduce(self, last: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, P, h, w)."""
        centred = last - self.mean[:, None, None]
        return torch.einsum("nchw,cp->nphw", centred, self.directions) / self.deviation

    def scale(self, middle: Tensor) -> Tensor:
        """(N, C, h, w), each channel with mean 0 and standard deviation 1."""
        return (middle - self.middle_mean[:, None, None]) / self.middle_deviation[:, None, None]


def _directions(teacher: Teacher, views: NDArray[np.uint8]) -> _Directions:
    seen = [teacher.look(views[start : start + BATCH]) for start in range(0, len(views), BATCH)]
    middle = torch.cat([one.transpose(0, 1).flatten(1) for one, _ in seen], dim=1)
    last = torch.cat([one.transpose(0, 1).flatten(1) for _, one in seen], dim=1).T
    mean = last.mean(dim=0)
    centred = last - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    directions = vectors.flip(1)[:, : teacher.config.places]
    return _Directions(
        mean,
        directions,
        (centred @ directions).std().clamp(min=_EPSILON),
        middle.mean(dim=1),
        middle.std(dim=1).clamp(min=1e-3),
    )


def _array(file: Path, rows: int, shape: tuple[int, ...]) -> NDArray[np.float16]:
    return open_memmap(file, mode="w+", dtype=np.float16, shape=(rows, *shape[1:]))
