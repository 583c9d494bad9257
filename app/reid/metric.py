"""Identity-balanced mAP: every photo asks, the others answer, every animal counts the same."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.reid.cores import available_cores

Float64 = NDArray[np.float64]
Index = NDArray[np.intp]
Steps = NDArray[np.int32]
Mask = NDArray[np.bool_]

# Blocks of queries stay in a core's cache.
_BLOCK_ENTRIES = 100_000
# Keys are twice the step of similarity, plus the relevance; the last one is for excluded entries.
_STEPS = 2**30 - 4
_EXCLUDED = 2**31 - 2
_LARGEST = 1e200
_SMALLEST = 1e-200


@dataclass(frozen=True)
class Evaluation:
    """What one ranking of N photos came to.

    id_map: mean over identities of the mean AP inside each, in [0, 1].
    rank1: mean over identities of the share of queries whose first answer is right, in [0, 1].
    queries: number of photos that could ask, that is, with another photo of their identity in their gallery.
    skipped: number of photos that could not.
    ties: number of places in all rankings that share their score with the place before them.
    identity_ap: mean AP of each identity that could ask.
    query_ap: (N,) AP of each photo, NaN where it could not ask.
    """

    id_map: float
    rank1: float
    queries: int
    skipped: int
    ties: int
    identity_ap: dict[str, float]
    query_ap: Float64


def average_precision(scores: Float64, relevant: Mask) -> float:
    """AP of one ranking, in [0, 1]: mean over the relevant entries of the precision at their rank; no cut-off.

    scores: (G,), higher is nearer; ties rank in the order given. relevant: (G,), at least one True.
    Source: Manning, Raghavan, Schütze 2008, "Introduction to Information Retrieval", eq. 8.8, for one query.
    """
    if not relevant.any():
        raise ValueError("AP needs at least one relevant entry")
    hits = relevant[np.argsort(-scores, kind="stable")]
    return float(np.mean(np.arange(1, hits.sum() + 1) / (np.flatnonzero(hits) + 1)))


def identity_balanced_map(
    similarity: Float64, identities: Sequence[str], *, within: Sequence[str] | None = None
) -> Evaluation:
    """Every photo against all others, itself excluded; AP averaged inside each identity, then over identities.

    similarity: (N, N), row i is what photo i thinks of each photo; any scale, higher is nearer, finite.
    identities: N names. within: N values; a photo's gallery is then the others with the same value.

    Raises:
        ValueError: shapes that do not fit, a NaN or an infinity, or no photo that could ask.
    """
    count = len(identities)
    if not count or similarity.shape != (count, count):
        raise ValueError(f"similarity is {similarity.shape}; {count} identities need ({count}, {count})")
    names, labels = np.unique(np.array(identities, dtype=object), return_inverse=True)
    groups = None if within is None else np.unique(np.array(within, dtype=object), return_inverse=True)[1]
    ranker = _Ranker(similarity, labels.astype(np.int32), groups)
    height = max(1, _BLOCK_ENTRIES // count)
    # numpy lets go of the interpreter while it sorts and compares, so threads share the work.
    with ThreadPoolExecutor(available_cores()) as pool:
        blocks = list(pool.map(ranker.rank, [slice(start, start + height) for start in range(0, count, height)]))
    query_ap, first = (np.concatenate([block[part] for block in blocks]) for part in (0, 1))
    return _balance(names, labels, query_ap, first, sum(block[2] for block in blocks))


def bootstrap_interval(
    identity_ap: dict[str, float], *, seed: int = 0, resamples: int = 2_000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the id-mAP when identities are drawn anew, with replacement.

    Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; identities are the units, because photos
    of one animal are not independent.
    """
    values = np.array(list(identity_ap.values()))
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class _Ranker:
    """Ranks blocks of queries. groups: a photo's gallery is the others of its group; None, all others."""

    similarity: Float64
    labels: Steps
    groups: Index | None

    def rank(self, rows: slice) -> tuple[Float64, Float64, int]:
        """AP of each row's photo, 1 where its first answer is right, NaN where it cannot ask; and the ties.

        Raises:
            ValueError: a NaN or an infinity.
        """
        block = self.similarity[rows].astype(np.float64, copy=False)
        wrong = self.labels != self.labels[rows, None]
        hits, crowded = _coarse_order(self._keys(block, wrong, rows))
        ties = 0
        if crowded.any():
            outside = self._outside(rows)
            relevant = ~wrong & ~outside
            hits[crowded], ties = _exact_order(block[crowded], relevant[crowded], outside[crowded])
        return (*_precision(hits), ties)

    def _keys(self, block: Float64, wrong: Mask, rows: slice) -> Steps:
        """(Q, N) integers to sort: the similarity in steps from the highest, doubled, odd where it is relevant."""
        high, low = float(block.max()), float(block.min())
        if not (low > -_LARGEST and high < _LARGEST):
            raise ValueError("similarity holds a NaN or an infinity")
        distance = high - block
        distance *= 2 * _STEPS / (high - low) if high - low > _SMALLEST else 0.0
        keys: Steps = distance.astype(np.int32)
        keys |= 1
        keys -= wrong
        if self.groups is None:
            np.fill_diagonal(keys[:, rows.start :], _EXCLUDED)
        else:
            keys[self._outside(rows)] = _EXCLUDED
        return keys

    def _outside(self, rows: slice) -> Mask:
        """(Q, N) what is not in a row's gallery: the photo itself, and other groups."""
        count = len(self.labels)
        if self.groups is None:
            outside = np.zeros((len(self.labels[rows]), count), dtype=np.bool_)
        else:
            outside = self.groups != self.groups[rows, None]
        np.fill_diagonal(outside[:, rows.start :], val=True)
        return outside


def _coarse_order(keys: Steps) -> tuple[Mask, Mask]:
    """(Q, N) keys -> relevance in ranking order, and (Q,) whether two entries of a row share a step or are excluded.

    Such rows have no order yet. To sort integers that carry the relevance along is three times as fast as to sort
    similarities stably and to look up the relevance. Excluded entries rank behind all others. Sorts in place.
    """
    keys.sort(axis=1)
    shared = (keys[:, 1:] ^ keys[:, :-1]) < 2
    return (keys & 1).astype(np.bool_), np.asarray(shared.any(axis=1))


def _exact_order(similarity: Float64, relevant: Mask, outside: Mask) -> tuple[Mask, int]:
    """(Q, N) each -> relevance in the order of falling similarity, ties in the order given, and the number of ties."""
    distance = np.where(outside, np.inf, -similarity)
    order = np.argsort(distance, axis=1, kind="stable")
    ranked = np.take_along_axis(distance, order, axis=1)
    tied = (ranked[:, 1:] == ranked[:, :-1]) & np.isfinite(ranked[:, 1:])
    return np.take_along_axis(relevant, order, axis=1), int(np.count_nonzero(tied[relevant.any(axis=1)]))


def _precision(hits: Mask) -> tuple[Float64, Float64]:
    """(Q, N) relevance in ranking order -> (Q,) AP, and 1 where the first answer is right; NaN where none is."""
    query, place = np.divmod(np.flatnonzero(hits), hits.shape[1])
    positives = np.bincount(query, minlength=len(hits))
    nth = np.arange(len(query)) - np.repeat(np.cumsum(positives) - positives, positives)
    summed = np.bincount(query, weights=(nth + 1) / (place + 1), minlength=len(hits))
    asks = positives > 0
    return np.where(asks, summed / np.maximum(positives, 1), np.nan), np.where(asks, hits[:, 0], np.nan)


def _balance(names: NDArray[np.object_], labels: Index, query_ap: Float64, first: Float64, ties: int) -> Evaluation:
    asks = ~np.isnan(query_ap)
    if not asks.any():
        raise ValueError("no photo has another photo of its identity in its gallery")
    number = np.bincount(labels[asks], minlength=len(names))
    present = number > 0
    mean_ap = np.bincount(labels[asks], weights=query_ap[asks], minlength=len(names))[present] / number[present]
    mean_first = np.bincount(labels[asks], weights=first[asks], minlength=len(names))[present] / number[present]
    return Evaluation(
        id_map=float(mean_ap.mean()),
        rank1=float(mean_first.mean()),
        queries=int(asks.sum()),
        skipped=int((~asks).sum()),
        ties=ties,
        identity_ap={str(name): float(ap) for name, ap in zip(names[present], mean_ap, strict=True)},
        query_ap=query_ap,
    )
