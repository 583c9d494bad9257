"""From pairs to the two curves of `app.reid.calibration`. scikit-learn fits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from app.reid.calibration import Isotonic, Logistic
from training.pairs import Pairs

Float64 = NDArray[np.float64]
METHODS = ("logistic", "isotonic")

# Millions of pairs in steps of 1/16,384 of their range: finer than any two curves differ.
_STEPS = 16_384
# An isotonic fit on single pairs would follow each of them; on 1/200 of all, it follows what holds for many.
_GROUPS = 200
_MAX_ITERATIONS = 1_000


@dataclass(frozen=True, eq=False)
class Weighted:
    """What a curve is fitted on: K rising similarities, and how much of each kind of pair lies there.

    same, different: (K,) each sums to 0.5, so that both kinds weigh the same. floor: the smallest probability that so
    many identities can bear witness to.
    """

    similarity: Float64
    same: Float64
    different: Float64
    floor: float


def weigh(pairs: Pairs) -> Weighted:
    """Pairs of both kinds -> what curves are fitted on.

    The floor is Laplace's 1 / (n + 2) for n identities with a same pair: photos of one animal are one witness.
    """
    low, high = float(pairs.similarity.min()), float(pairs.similarity.max())
    step = (pairs.similarity - low) * ((_STEPS - 1) / max(high - low, 1e-12))
    place = np.round(step).astype(np.int32)
    same = np.bincount(place[pairs.same], minlength=_STEPS).astype(np.float64)
    different = np.bincount(place[~pairs.same], minlength=_STEPS).astype(np.float64)
    used = same + different > 0
    values: Float64 = low + np.arange(_STEPS, dtype=np.float64) * (max(high - low, 1e-12) / (_STEPS - 1))
    witnesses = len(np.unique(pairs.first[pairs.same]))
    return Weighted(
        values[used], 0.5 * same[used] / same.sum(), 0.5 * different[used] / different.sum(), 1 / (witnesses + 2)
    )


def fit_curve(method: str, weighted: Weighted) -> Logistic | Isotonic:
    """The curve of that method under which such pairs are likeliest."""
    return fit_logistic(weighted) if method == "logistic" else fit_isotonic(weighted)


def fit_logistic(weighted: Weighted) -> Logistic:
    """Log-odds in a straight line; level where a higher similarity would mean fewer same pairs.

    Targets are the floor and 1 - floor in place of 0 and 1, so that a perfect separation has a finite slope.
    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines", section 2.2.
    """
    centre, spread = float(weighted.similarity.mean()), float(weighted.similarity.std()) or 1.0
    scaled = ((weighted.similarity - centre) / spread)[:, None]
    floor = weighted.floor
    weight_same = weighted.same * (1 - floor) + weighted.different * floor
    weight_different = weighted.different * (1 - floor) + weighted.same * floor
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=_MAX_ITERATIONS)
    model.fit(
        np.concatenate([scaled, scaled]),
        np.repeat([1, 0], len(scaled)),
        sample_weight=np.concatenate([weight_same, weight_different]) * len(scaled),
    )
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        return Logistic(slope=0.0, intercept=0.0)
    return Logistic(slope=slope, intercept=float(model.intercept_[0]) - slope * centre)


def fit_isotonic(weighted: Weighted) -> Isotonic:
    """The best rising curve through groups of equal weight, a knot at the middle of each of its levels."""
    mass = weighted.same + weighted.different
    group = np.minimum((np.cumsum(mass) - mass / 2) * _GROUPS, _GROUPS - 1).astype(np.int64)
    weight = np.bincount(group, weights=mass)
    there = weight > 0
    middle = np.bincount(group, weights=mass * weighted.similarity)[there] / weight[there]
    share = np.bincount(group, weights=weighted.same)[there] / weight[there]
    level = IsotonicRegression(increasing=True).fit_transform(middle, share, sample_weight=weight[there])
    block = np.concatenate([[0], np.cumsum(np.diff(level) > 0)])
    heavy = np.bincount(block, weights=weight[there])
    knots = np.bincount(block, weights=weight[there] * middle) / heavy
    heights = np.bincount(block, weights=weight[there] * level) / heavy
    bounded = np.clip(heights, weighted.floor, 1 - weighted.floor)
    return Isotonic(similarities=tuple(knots.tolist()), probabilities=tuple(bounded.tolist()))
