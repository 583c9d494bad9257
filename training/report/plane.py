"""The embeddings in a plane: their first two principal components."""

from dataclasses import dataclass

import numpy as np

from app.reid.similarity import Float32
from training.report.values import Float64


@dataclass(frozen=True)
class Plane:
    """x, y: of each of N photos. explained: the share of the embeddings' variance along x and along y."""

    x: list[float]
    y: list[float]
    explained: tuple[float, float]


def project(embeddings: Float32) -> Plane:
    """(N, D) embeddings -> the plane in which they spread the most; signs are fixed by the largest entry.

    Source: Pearson 1901; Jolliffe 2002, "Principal Component Analysis", section 3.1.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    places = centred @ axes
    if places.shape[1] == 1:  # an embedding of one number
        places, values = np.pad(places, ((0, 0), (0, 1))), np.concatenate([[0.0], values])
    total = float(values.sum())
    shares = [max(float(value), 0.0) / total if total > 0 else 0.0 for value in (values[-1], values[-2])]
    return Plane(_rounded(places[:, 0]), _rounded(places[:, 1]), (shares[0], shares[1]))


def _rounded(values: Float64) -> list[float]:
    return [round(float(value), 4) for value in values]
