"""Same or different: the ROC over all pairs, its area, and the thresholds of the two promised error rates."""

from dataclasses import dataclass

import numpy as np

from app.reid.calibration import FALSE_MATCH_RATE, FALSE_NON_MATCH_RATE
from training.pairs import Pairs, identity_draws
from training.report.values import Estimate, Float64

DRAWS = 200
_CURVE_POINTS = 160
_BINS = 512


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold of similarity, and the error rates of calling every pair at or above it the same animal."""

    threshold: float
    false_match_rate: float
    false_non_match_rate: float


@dataclass(frozen=True)
class Roc:
    """The ROC of all pairs.

    auroc: how often a same pair is more similar than a different one. false_match, true_match: the curve's points,
    rising. fmr_1: the lowest threshold with a false-match rate of at most 1 %. fnmr_5: the highest with a
    false-non-match rate of at most 5 %. equal_error: where the two rates meet.
    """

    auroc: Estimate
    false_match: list[float]
    true_match: list[float]
    fmr_1: OperatingPoint
    fnmr_5: OperatingPoint
    equal_error: OperatingPoint


def auroc(positive: Float64, negative: Float64) -> float:
    """How often a positive is above a negative, ties counted half: in [0, 1].

    Source: Mann and Whitney 1947; Hanley and McNeil 1982, "The Meaning and Use of the Area under a ROC Curve".
    """
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left").astype(np.float64)
    below += np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(ordered)))


def auroc_of_masses(positive: Float64, negative: Float64) -> Float64:
    """(R, B) weights of positives and negatives on B rising values -> (R,) areas; NaN where one kind is missing."""
    below = np.cumsum(negative, axis=1) - negative / 2
    total = positive.sum(axis=1) * negative.sum(axis=1)
    wins = (positive * below).sum(axis=1)
    return np.asarray(np.divide(wins, total, out=np.full(len(total), np.nan), where=total > 0))


def measure_roc(pairs: Pairs, identities: int, seed: int) -> Roc:
    """The ROC of pairs of both kinds, among so many identities."""
    same, different = np.sort(pairs.similarities(same=True)), np.sort(pairs.similarities(same=False))
    # From here to the top, at most so many different pairs may be wrong; a threshold just above the next one keeps it.
    allowed = int(FALSE_MATCH_RATE * len(different))
    fmr_1 = float(np.nextafter(different[len(different) - allowed - 1], np.inf))
    fnmr_5 = float(same[int(FALSE_NON_MATCH_RATE * len(same))])
    rates = np.unique(np.concatenate([[0.0], np.geomspace(1 / len(different), 1, _CURVE_POINTS)]))
    cuts = [_cut(different, float(rate)) for rate in rates]
    points = [_at(same, different, cut) for cut in cuts]
    value = auroc(same, different)
    return Roc(
        auroc=Estimate.of_draws(value, _auroc_draws(pairs, identities, seed)),
        false_match=[point.false_match_rate for point in points],
        true_match=[1 - point.false_non_match_rate for point in points],
        fmr_1=_at(same, different, fmr_1),
        fnmr_5=_at(same, different, fnmr_5),
        equal_error=_equal_error(same, different),
    )


def _at(same: Float64, different: Float64, threshold: float) -> OperatingPoint:
    """Both rates at a threshold; the similarities are sorted."""
    matched = len(different) - int(np.searchsorted(different, threshold, "left"))
    missed = int(np.searchsorted(same, threshold, "left"))
    return OperatingPoint(threshold, matched / len(different), missed / len(same))


def _cut(different: Float64, rate: float) -> float:
    """The lowest threshold that so large a share of different pairs reaches, at most."""
    allowed = min(len(different), int(rate * len(different) + 1e-9))
    return float(np.nextafter(different[-allowed - 1], np.inf)) if allowed < len(different) else float(different[0])


def _equal_error(same: Float64, different: Float64) -> OperatingPoint:
    """Where the rates cross, found among the similarities of same pairs, at which alone the misses change."""
    missed = np.searchsorted(same, same, "left") / len(same)
    matched = 1 - np.searchsorted(different, same, "left") / len(different)
    return _at(same, different, float(same[int(np.argmin(np.abs(missed - matched)))]))


def _auroc_draws(pairs: Pairs, identities: int, seed: int) -> Float64:
    """(DRAWS,) areas when identities are drawn anew; a pair of two counts as often as both of them together.

    Similarities are put into bins first, which moves the area by less than the interval is wide by far.
    """
    low, high = float(pairs.similarity.min()), float(pairs.similarity.max())
    scale = (_BINS - 1) / (high - low) if high > low else 0.0
    couples = pairs.first.astype(np.intp) * identities + pairs.second
    keys = couples * _BINS + ((pairs.similarity - low) * scale).astype(np.intp)
    keys, counts = np.unique(keys, return_counts=True)
    couple, place = np.divmod(keys, _BINS)
    first, second = np.divmod(couple, identities)
    same = first == second
    areas = []
    for drawn in identity_draws(identities, DRAWS, seed):
        weight = counts * drawn[first] * np.where(same, 1, drawn[second])
        masses = [np.bincount(place[kind], weight[kind], _BINS)[None].astype(np.float64) for kind in (same, ~same)]
        areas.append(auroc_of_masses(masses[0], masses[1])[0])
    return np.array(areas)
