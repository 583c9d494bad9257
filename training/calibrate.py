"""What a bundle's similarities mean, learnt and measured on animals that it was not trained on (design section 8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from app.reid.calibration import Calibration, Isotonic, Logistic
from training.curves import METHODS, fit_curve, weigh
from training.pairs import Pairs, pairs_of
from training.reliability import balanced_log_loss, reliability
from training.thresholds import find_thresholds

Float64 = NDArray[np.float64]
Figures = dict[str, JsonValue]

# Parts that the identities are dealt into: three to fit on, one to choose by, one to measure on, each in its turn.
PARTS = 5
# Three identities a part, and 1 % and 5 % of something.
MIN_IDENTITIES, MIN_PAIRS = 15, 100


@dataclass(frozen=True)
class Fitted:
    """A curve on all pairs, its thresholds `same` and `different`, and figures on identities it was not fitted on."""

    curve: Logistic | Isotonic
    thresholds: tuple[float, float]
    figures: Figures

    @property
    def helps(self) -> bool:
        """Whether it is surely better than to say the same of every pair."""
        low, _ = cast(list[float], self.figures["log_loss_gain_interval"])
        return low > 0


@dataclass(frozen=True)
class TooFew:
    """Why there is nothing to fit or to measure on."""

    reason: str


def calibration_figures(
    similarity: Float64, identities: Sequence[str], *, within: Sequence[str] | None = None, seed: int = 0
) -> Figures:
    """(N, N) similarities of photos that the model was not trained on -> how far probabilities can be trusted.

    {"ece", "ece_interval", "log_loss", "log_loss_constant", "log_loss_gain", "log_loss_gain_interval", "prior",
    "method", "bins", "thresholds", "pairs", "identities"}, or {"reason"} where there are too few identities.
    """
    fitted = fit_calibration(similarity, identities, within=within, seed=seed)
    return {"reason": fitted.reason} if isinstance(fitted, TooFew) else fitted.figures


def fit_calibration(
    similarity: Float64, identities: Sequence[str], *, within: Sequence[str] | None = None, seed: int = 0
) -> Fitted | TooFew:
    """(N, N) similarities of N photos -> a curve and its figures.

    Identities are dealt into 5 parts. In turn, both methods are fitted on three of them, the one with the lower
    log-loss on the fourth is fitted on four, and says what it thinks of pairs inside the fifth: no identity is judged
    by what was fitted or chosen on it, and all are judged. The curve that is kept is fitted on all, by the method that
    had the lower log-loss on the fourths. within: N values; pairs are of photos with the same one.
    """
    pairs, names = pairs_of(similarity, identities, within=within)
    parts = deal(pairs, len(names), seed)
    reason = _too_few(pairs, parts)
    if reason:
        return TooFew(reason)
    judged = [_judge(pairs, parts, turn, seed) for turn in range(PARTS)]
    scores = np.sum([judgement.scores for judgement in judged], axis=0)
    method = METHODS[int(np.argmin(scores))]
    asked = [judgement.pairs for judgement in judged]
    together = Pairs(
        np.concatenate([some.similarity for some in asked]),
        np.concatenate([some.first for some in asked]),
        np.concatenate([some.second for some in asked]),
    )
    probability = np.concatenate([judgement.probability for judgement in judged])
    curve, thresholds = fit_curve(method, weigh(pairs)), find_thresholds(pairs, seed)
    figures: Figures = {
        **reliability(together, probability, len(names), seed=seed),
        "prior": 0.5,
        "method": method,
        "thresholds": _threshold_figures(thresholds, judged, together),
        "pairs": len(together),
        "same_pairs": int(together.same.sum()),
        "identities": len(names),
    }
    return Fitted(curve, thresholds, figures)


def deal(pairs: Pairs, identities: int, seed: int) -> NDArray[np.int64]:
    """(I,) the part of each identity: those with as many same pairs are dealt out in turn, by chance among equals."""
    own = np.bincount(pairs.first[pairs.same], minlength=identities)
    shuffled = np.random.default_rng((seed, 5)).permutation(identities)
    order = shuffled[np.argsort(-own[shuffled], kind="stable")]
    parts = np.empty(identities, dtype=np.int64)
    rounds = np.arange(identities) // PARTS
    there = np.arange(identities) % PARTS
    parts[order] = np.where(rounds % 2 == 0, there, PARTS - 1 - there)  # back and forth, so that none is always first
    return parts


@dataclass(frozen=True, eq=False)
class _Judgement:
    """One turn: the pairs inside one part, what is said of them, its thresholds, and the methods' log-losses before."""

    pairs: Pairs
    probability: Float64
    thresholds: tuple[float, float]
    scores: tuple[float, ...]


def _judge(pairs: Pairs, parts: NDArray[np.int64], turn: int, seed: int) -> _Judgement:
    asked, choosing = parts == turn, parts == (turn + 1) % PARTS
    fitting, second = weigh(pairs.inside(~asked & ~choosing)), pairs.inside(choosing)
    scores = tuple(
        balanced_log_loss(_probability(fit_curve(method, fitting), second.similarity), second.same)
        for method in METHODS
    )
    rest = pairs.inside(~asked)
    curve = fit_curve(METHODS[int(np.argmin(scores))], weigh(rest))
    third = pairs.inside(asked)
    return _Judgement(third, _probability(curve, third.similarity), find_thresholds(rest, seed), scores)


def _probability(curve: Logistic | Isotonic, similarity: Float64) -> Float64:
    return Calibration.fitted("0" * 12, curve, (1.0, 0.0), {}).probability(similarity)


def _threshold_figures(thresholds: tuple[float, float], judged: list[_Judgement], together: Pairs) -> JsonValue:
    """The thresholds that are kept; and how those found without a part did on it, over all parts."""
    reached = np.concatenate([turn.pairs.similarity >= turn.thresholds[0] for turn in judged])
    below = np.concatenate([turn.pairs.similarity <= turn.thresholds[1] for turn in judged]) & ~reached
    same = together.same
    return {
        "same": thresholds[0],
        "different": thresholds[1],
        "false_match_rate": float(reached[~same].mean()),
        "false_non_match_rate": float(below[same].mean()),
        "same_called_same": float(reached[same].mean()),
        "different_called_different": float(below[~same].mean()),
    }


def _too_few(pairs: Pairs, parts: NDArray[np.int64]) -> str:
    """Why these pairs are too few; empty where they are not."""
    same = pairs.same
    owners, own, others = len(np.unique(pairs.first[same])), int(same.sum()), int((~same).sum())
    if owners < MIN_IDENTITIES or min(own, others) < MIN_PAIRS:
        return (
            f"too few: {owners} identities with two photos to compare, {own} same and {others} different pairs;"
            f" {MIN_IDENTITIES} identities and {MIN_PAIRS} pairs of either kind are needed"
        )
    inside = [pairs.inside(parts == part).same for part in range(PARTS)]
    if any(kinds.all() or not kinds.any() for kinds in inside):
        return f"too few: of {PARTS} parts of the identities, one lacks same or different pairs to compare"
    return ""
