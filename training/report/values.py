"""What a section of the report says: a figure with its interval, or why there is none."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.reid.metric import Evaluation, bootstrap_interval

Float64 = NDArray[np.float64]
Index = NDArray[np.intp]

LEVEL = 0.95


@dataclass(frozen=True)
class Unknown:
    """A figure that cannot be had honestly, and the reason."""

    reason: str


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval when identities are drawn anew; None where too few are there to draw from."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of_retrieval(cls, evaluation: Evaluation, seed: int) -> Self:
        """The id-mAP of an evaluation."""
        return cls.of_means(evaluation.identity_ap, seed)

    @classmethod
    def of_means(cls, by_identity: dict[str, float], seed: int) -> Self:
        """The mean over identities of a figure that each has."""
        value = float(np.mean(list(by_identity.values())))
        if len(by_identity) < 2:
            return cls(value, None, None)
        return cls(value, *bootstrap_interval(by_identity, seed=seed))

    @classmethod
    def of_draws(cls, value: float, draws: Float64) -> Self:
        """A figure and what it came to in each draw of identities; draws that gave none are NaN and left out."""
        known = draws[np.isfinite(draws)]
        if len(known) < len(draws) / 2:
            return cls(value, None, None)
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(value, float(low), float(high))


def labels_of(identities: list[str]) -> tuple[list[str], Index]:
    """The distinct names in order, and the number of each photo's."""
    names, labels = np.unique(np.array(identities, dtype=object), return_inverse=True)
    return [str(name) for name in names], labels
