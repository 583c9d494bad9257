"""From which similarity on a pair is called the same, and up to which different, so that it also holds for others."""

import numpy as np
from numpy.typing import NDArray

from app.reid.calibration import FALSE_MATCH_RATE, FALSE_NON_MATCH_RATE
from training.pairs import Pairs, identity_draws

Float64 = NDArray[np.float64]
Index = NDArray[np.intp]

DRAWS = 200
CONFIDENCE = 0.95
# Of different pairs, the most similar: a draw of identities in which 1 % lies deeper does not set the threshold.
_TAIL = 0.1


def find_thresholds(pairs: Pairs, seed: int) -> tuple[float, float]:
    """Pairs of both kinds -> `same` and `different` of a calibration, see there.

    Photos of one animal stand or fall together, so the rates of some animals are not those of others. Identities are
    drawn anew, with replacement, and the thresholds are those that keep the rates in 95 % of the draws, and on the
    pairs as they are. Where the two would cross, either promise is kept in between, and both are the middle.

    Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; of identities and not of pairs: Bolle,
    Ratha and Pankanti 2004, "Error Analysis of Pattern Recognition Systems: the Subsets Bootstrap".
    """
    first, second, identities = _numbered(pairs)
    times = np.vstack([np.ones((1, identities)), identity_draws(identities, DRAWS, (seed, 7))]).astype(np.float64)
    kind = pairs.same
    own = first[kind]
    total = times @ np.bincount(own, minlength=identities)
    different = -_cut(-pairs.similarity[kind], times, total * FALSE_NON_MATCH_RATE, own)

    left, right, similarity = first[~kind], second[~kind], pairs.similarity[~kind]
    mutual = np.bincount(left * identities + right, minlength=identities**2).reshape(identities, identities)
    total = ((times @ mutual) * times).sum(axis=1)
    kept = min(len(similarity), int(_TAIL * len(similarity)) + 1)
    top = np.argpartition(similarity, len(similarity) - kept)[len(similarity) - kept :]
    same = _cut(similarity[top], times, total * FALSE_MATCH_RATE, left[top], right[top])
    if different > same:  # any threshold from `same` to `different` keeps both
        same = different = (same + different) / 2
    return same, different


def _cut(values: Float64, times: Float64, allowed: Float64, *owners: Index) -> float:
    """The lowest threshold that no more weight than `allowed` (R,) reaches, in the first row and in 95 % of all.

    values: (M,). times: (R, I) how often each identity counts; a pair's weight is the product over its `owners`, (M,)
    each.
    """
    order = np.argsort(-values, kind="stable")
    values, owners = values[order], tuple(owner[order] for owner in owners)
    cuts = np.empty(len(times))
    for draw, counts in enumerate(times):
        weight = counts[owners[0]]
        for owner in owners[1:]:
            weight = weight * counts[owner]
        beyond = int(np.searchsorted(np.cumsum(weight), allowed[draw] + 1e-9, side="right"))
        cuts[draw] = np.nextafter(values[min(beyond, len(values) - 1)], np.inf)
    return float(max(cuts[0], np.quantile(cuts, CONFIDENCE, method="higher")))


def _numbered(pairs: Pairs) -> tuple[Index, Index, int]:
    """The pairs' identities, numbered without gaps, and how many there are."""
    most = int(max(pairs.first.max(), pairs.second.max())) + 1
    there = np.bincount(pairs.first, minlength=most) + np.bincount(pairs.second, minlength=most) > 0
    number = np.cumsum(there) - 1
    return number[pairs.first], number[pairs.second], int(there.sum())
