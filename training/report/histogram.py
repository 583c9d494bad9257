"""How similar same and different pairs are."""

from dataclasses import dataclass

import numpy as np

from training.pairs import Pairs
from training.report.values import Float64

BINS = 60


@dataclass(frozen=True)
class Kind:
    """One kind of similarity: how many, their mean and quantiles, and the share of them in each bin."""

    count: int
    mean: float
    q05: float
    median: float
    q95: float
    shares: list[float]


@dataclass(frozen=True)
class Histograms:
    """Same and different pairs over common bins. edges: BINS + 1 similarities, rising."""

    edges: list[float]
    same: Kind
    different: Kind


def common_edges(values: Float64) -> Float64:
    """BINS + 1 edges, rising, that hold all the values, of which there is at least one."""
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1e-6, BINS + 1)


def describe(values: Float64, edges: Float64) -> Kind:
    """(M,) values, at least one -> their figures; those beyond the outer edges count in the outer bins."""
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    shares = (counts / len(values)).tolist()
    return Kind(len(values), float(values.mean()), float(low), float(middle), float(high), shares)


def compare_pairs(pairs: Pairs) -> Histograms:
    """The histograms; there must be pairs of both kinds."""
    edges = common_edges(pairs.similarity)
    same, different = (describe(pairs.similarities(same=kind), edges) for kind in (True, False))
    return Histograms(edges.tolist(), same, different)
