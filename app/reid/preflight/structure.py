"""Do a submission's scores carry structure, or could they as well have been drawn?

Similarities of real photos agree: two photos that are both like the same third ones are like each other. Chance does
not. The statistic is Pearson's correlation, over pairs of photos, of

    r(i, j)   the pair's score, both directions' mean, less what its two photos have in common with all others
              (the least-squares fit of m + a(i) + a(j)), and
    sum over k of r(i, k) r(k, j), k other than i and j

so that no score stands on both sides. For independent scores it is 0, give or take sqrt(2 / (n (n - 1))) for n photos.

Measured over 371 photos: numpy's uniform numbers -0.012 to 0.010, and the competition's sample_submission.csv 0.003.
The shipped model 0.90 on drawn photos, 0.90 to 0.91 on nyala and 0.95 to 0.96 on cows; one trained on nyala 0.94 to
0.95; all the same to 0.001 with four decimals. Ranks instead of scores 0.89 to 0.95; a perfect answer of zeros and
ones 0.96; embeddings drawn at random 0.65. The same scores shuffled, over all or inside each query, 0.02 at most
either way; moved by one row, -0.20 to 0.09. Distances handed in for similarities, -0.90 to -0.95. With noise of three
times their own deviation added, real scores fall to 0.16 to 0.37. Six times 200 subsets of 30 photos: 0.81 or more;
shuffled, 0.23 at the 99th percentile.
"""

from dataclasses import dataclass

import numpy as np

from app.reid.preflight.findings import Finding, Severity
from app.reid.preflight.scores import Scores
from app.reid.similarity import Float64

# Below it scores look random: far above chance and far below what embeddings were seen to reach.
MIN_AGREEMENT = 0.3
# With fewer photos chance reaches it too.
MIN_PHOTOS = 30
# Time grows with the cube; so many, drawn by a fixed seed, tell enough.
MAX_PHOTOS = 400
_SHUFFLES = 9
_MIN_PRESENT = 0.8
_NOTHING = 1e-9


@dataclass(frozen=True)
class Structure:
    """agreement: the statistic, in [-1, 1]. by_chance: its largest size among nine shuffles of the same scores."""

    photos: int
    agreement: float
    by_chance: float


def measure(scores: Scores, *, seed: int = 0) -> Structure | None:
    """How far the scores agree with each other; None where they are too few, too sparse or all the same to tell."""
    matrix = _matrix(scores, np.random.default_rng(seed))
    if matrix is None or np.nanmin(matrix) == np.nanmax(matrix):
        return None
    upper = np.triu_indices(len(matrix), 1)
    values, rng = matrix[upper], np.random.default_rng((seed, 1))
    chances = []
    for _ in range(_SHUFFLES):
        shuffled = np.full_like(matrix, np.nan)
        shuffled[upper] = rng.permutation(values)
        shuffled.T[upper] = shuffled[upper]
        chances.append(abs(agreement(shuffled)))
    return Structure(len(matrix), agreement(matrix), max(chances))


def agreement(matrix: Float64) -> float:
    """The statistic, in [-1, 1]; 0 where the fit leaves nothing.

    matrix: (n, n) symmetric scores, NaN on the diagonal and for the few pairs that have none.
    """
    present = np.isfinite(matrix)
    values = np.where(present, matrix, 0.0)
    # The normal equations of a(i) + a(j), which takes m in: regular as soon as three photos have all their pairs.
    own = np.linalg.solve(np.diag(present.sum(axis=1)) + present, values.sum(axis=1))
    rest = np.where(present, values - own[:, None] - own[None, :], 0.0)
    pairs = np.triu(present, 1)
    direct, by_others = rest[pairs], (rest @ rest)[pairs]
    if np.ptp(direct) <= _NOTHING * np.ptp(values[pairs]):
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):  # where the others say the same of all pairs, they say nothing
        return float(np.nan_to_num(np.corrcoef(direct, by_others)[0, 1]))


def find_randomness(scores: Scores, in_file_order: Scores | None = None) -> tuple[Structure | None, list[Finding]]:
    """What was measured, and a finding where scores look random or upside down.

    in_file_order: the scores as they stand, whatever their row_ids say, where the two differ.
    """
    structure = measure(scores)
    if structure is None:
        return None, _cannot_tell(scores)
    limit = max(MIN_AGREEMENT, structure.by_chance)
    if structure.agreement >= limit:
        return structure, []
    told = (
        f"(agreement {structure.agreement:.3f}; the same scores shuffled reach {structure.by_chance:.3f}, embeddings"
        " 0.6 and more)"
    )
    if structure.agreement <= -limit:
        what = f"the scores look upside down: photos that are alike score low {told}"
        advice = "These may be distances: the similarity falls where the distance grows, for example 1 - distance."
        return structure, [Finding(Severity.ERROR, "inverted", what, advice)]
    advice = (
        "They rank like chance, about 0.04: this may be sample_submission.csv, the output of an untrained head, or"
        " right scores in wrong rows. Join scores and rows by the two photos' names."
    )
    in_order = measure(in_file_order) if in_file_order is not None else None
    if in_order is not None and in_order.agreement >= max(MIN_AGREEMENT, in_order.by_chance):
        advice = (
            f"In the order in which they stand they agree ({in_order.agreement:.3f}): the row_ids are on wrong rows."
            " Number the rows again, in test.csv's order."
        )
    what = f"this looks random: the scores carry no structure {told}"
    return structure, [Finding(Severity.ERROR, "random", what, advice)]


def _cannot_tell(scores: Scores) -> list[Finding]:
    values = scores.values[scores.known]
    if not len(values) or np.ptp(values) == 0:
        return []  # which is told as what it is
    what = "whether the scores look random cannot be told: too few photos, or pairs of them"
    advice = f"It takes {MIN_PHOTOS} photos and {_MIN_PRESENT:.0%} of their pairs."
    return [Finding(Severity.NOTE, "structure-unknown", what, advice)]


def _matrix(scores: Scores, rng: np.random.Generator) -> Float64 | None:
    """(n, n) the mean of a pair's scores, n photos at most; None where photos are too few or pairs too sparse."""
    names = len(scores.test.names)
    chosen = np.sort(rng.choice(names, MAX_PHOTOS, replace=False)) if names > MAX_PHOTOS else np.arange(names)
    place = np.full(names, -1)
    place[chosen] = np.arange(len(chosen))
    known = scores.known
    query, gallery = place[scores.test.query[known]], place[scores.test.gallery[known]]
    kept = (query >= 0) & (gallery >= 0) & (query != gallery)
    sums, counts = np.zeros((2, len(chosen), len(chosen)))
    for rows, columns in ((query[kept], gallery[kept]), (gallery[kept], query[kept])):
        np.add.at(sums, (rows, columns), scores.values[known][kept])
        np.add.at(counts, (rows, columns), 1)
    if len(chosen) < MIN_PHOTOS or (counts > 0).sum() < _MIN_PRESENT * len(chosen) * (len(chosen) - 1):
        return None
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)
