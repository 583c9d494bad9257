"""New individuals: whether the best match in a gallery tells that the animal is not in it."""

from dataclasses import dataclass

import numpy as np

from training.pairs import identity_draws
from training.report.histogram import Kind, common_edges, describe
from training.report.roc import auroc_of_masses
from training.report.values import Estimate, Float64, Index, Unknown, labels_of

DRAWS = 1_000


@dataclass(frozen=True)
class Novelty:
    """Every query asks twice: of the gallery as it is, and of the gallery without its own animal.

    auroc: how often the best match of a query whose animal is there is more similar than that of one whose animal is
    not; each animal counts the same. present, absent: the similarities of those best matches, over common bins.
    """

    auroc: Estimate
    queries: int
    edges: list[float]
    present: Kind
    absent: Kind


def measure_novelty(
    similarity: Float64, identities: list[str], groups: list[str] | None, seed: int
) -> Novelty | Unknown:
    """(N, N) similarities -> the figures; queries need their own animal and another one in their gallery."""
    labels = labels_of(identities)[1]
    present, absent = best_matches(similarity, labels, None if groups is None else labels_of(groups)[1])
    asks = np.isfinite(present) & np.isfinite(absent)
    if len(set(labels[asks])) < 2:
        return Unknown("fewer than two animals have both another photo of their own and a stranger in their gallery")
    here, gone = present[asks], absent[asks]
    edges = common_edges(np.concatenate([here, gone]))
    weights = _identity_weights(labels[asks], seed)
    areas = _areas(here, gone, weights)
    auroc = Estimate.of_draws(float(areas[0]), areas[1:])
    return Novelty(auroc, int(asks.sum()), edges.tolist(), describe(here, edges), describe(gone, edges))


def best_matches(similarity: Float64, labels: Index, groups: Index | None) -> tuple[Float64, Float64]:
    """(N,) each photo's best match over its gallery, itself excluded, and over the strangers in it alone.

    -infinity where the gallery has no photo of its own animal, or no stranger.
    """
    present, absent = np.empty(len(labels)), np.empty(len(labels))
    for row, scores in enumerate(similarity):
        inside = np.ones(len(labels), dtype=np.bool_) if groups is None else groups == groups[row]
        inside[row] = False
        own = labels == labels[row]
        stranger = np.max(scores, where=inside & ~own, initial=-np.inf)
        friend = np.max(scores, where=inside & own, initial=-np.inf)
        absent[row] = stranger
        present[row] = max(friend, stranger) if np.isfinite(friend) else -np.inf
    return present, absent


def _identity_weights(labels: Index, seed: int) -> Float64:
    """(1 + DRAWS, Q) the weight of each query: first with every identity once, then with identities drawn anew."""
    numbers, own, counts = np.unique(labels, return_inverse=True, return_counts=True)
    drawn = np.vstack([np.ones((1, len(numbers)), dtype=np.int64), identity_draws(len(numbers), DRAWS, seed)])
    return np.asarray((drawn / counts)[:, own])


def _areas(present: Float64, absent: Float64, weights: Float64) -> Float64:
    """(R,) AUROC for each row of weights (R, Q), exact: every distinct similarity is a bin of its own."""
    values, place = np.unique(np.concatenate([present, absent]), return_inverse=True)
    areas = []
    for row in weights:
        masses = [np.bincount(part, row, len(values))[None].astype(np.float64) for part in np.split(place, 2)]
        areas.append(auroc_of_masses(masses[0], masses[1])[0])
    return np.array(areas)
