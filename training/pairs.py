"""Pairs of photos for whoever asks what a similarity means: how alike, whose, and of which animals by chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pairs:
    """M unordered pairs of photos: (M,) similarities in [0, 1], and (M,) numbers of the first and second identity."""

    similarity: Float64
    first: Labels
    second: Labels

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.similarity)

    @property
    def same(self) -> Mask:
        """(M,) whether a pair shows one identity."""
        return np.asarray(self.first == self.second)

    def inside(self, members: Mask) -> "Pairs":
        """Those pairs of which both identities are members; members: (I,), by identity number."""
        keep = members[self.first] & members[self.second]
        return Pairs(self.similarity[keep], self.first[keep], self.second[keep])

    def similarities(self, *, same: bool) -> Float64:
        """Of one kind of pair."""
        return np.asarray(self.similarity[self.same == same])


def pairs_of(
    similarity: Float64, identities: Sequence[str], *, within: Sequence[str] | None = None
) -> tuple[Pairs, list[str]]:
    """(N, N) symmetric similarities in [0, 1] of N photos -> each pair once, and the names behind the numbers.

    within: N values; both photos of a pair have the same one.

    Raises:
        ValueError: shapes that do not fit.
    """
    count = len(identities)
    if similarity.shape != (count, count):
        raise ValueError(f"similarity is {similarity.shape}; {count} identities need ({count}, {count})")
    names, labels = np.unique(np.array(identities, dtype=str), return_inverse=True)
    chosen = np.triu(np.ones((count, count), dtype=np.bool_), k=1)
    if within is not None:
        groups = np.array(within, dtype=str)
        chosen &= groups[:, None] == groups
    rows, columns = np.nonzero(chosen)
    numbers = labels.astype(np.int32)
    return Pairs(similarity[rows, columns], numbers[rows], numbers[columns]), names.tolist()


def identity_draws(identities: int, draws: int, seed: int | tuple[int, ...]) -> NDArray[np.int64]:
    """(draws, identities) how often each identity comes in a sample of as many, drawn with replacement.

    Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife".
    """
    chance = np.random.default_rng(seed)
    return chance.multinomial(identities, np.full(identities, 1 / identities), size=draws)
