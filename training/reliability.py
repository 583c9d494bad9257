"""How far probabilities can be trusted: calibration error and log-loss, with intervals over identities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from training.pairs import Pairs, identity_draws

Float64 = NDArray[np.float64]

BINS = 15
RESAMPLES = 1_000
# Of a predictor that always says 0.5, which is the best constant while both kinds of pair weigh the same.
CONSTANT_LOG_LOSS = float(np.log(2))


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the pairs of each identity, and of each two identities, by bin.

    same: (3, I, B), different: (3, I, I, B): number of pairs, sum of probabilities, sum of log-losses in nats.
    """

    same: Float64
    different: Float64

    def drawn(self, times: Float64) -> tuple[Float64, Float64]:
        """(R, I) how often each identity counts -> (3, R, B) sums over same, and over different pairs."""
        same = np.einsum("ri,kib->krb", times, self.same)
        count = times.shape[1]
        flat = self.different.transpose(1, 0, 2, 3).reshape(count, -1)
        halfway = (times @ flat).reshape(len(times), 3, count, -1)
        return same, np.einsum("rkjb,rj->krb", halfway, times)


def log_losses(probability: Float64, same: NDArray[np.bool_]) -> Float64:
    """(M,) nats: minus the logarithm of what was said of what turned out to be so; 36 at most, for float64's sake."""
    return -np.log(np.maximum(np.where(same, probability, 1 - probability), np.finfo(np.float64).eps))


def balanced_log_loss(probability: Float64, same: NDArray[np.bool_]) -> float:
    """Mean log-loss in nats where both kinds of pair weigh the same."""
    losses = log_losses(probability, same)
    return float((losses[same].mean() + losses[~same].mean()) / 2)


def equal_mass_bins(probability: Float64, same: NDArray[np.bool_], bins: int = BINS) -> NDArray[np.int64]:
    """(M,) the bin of each pair: rising in probability, of equal weight, equal probabilities always together."""
    weight = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
    order = np.argsort(probability, kind="stable")
    reached = np.cumsum(weight[order])
    edges = probability[order][np.searchsorted(reached, np.arange(1, bins) / bins)]
    return np.searchsorted(edges, probability, side="left")


def reliability(pairs: Pairs, probability: Float64, identities: int, *, seed: int) -> dict[str, JsonValue]:
    """Figures of (M,) probabilities, said of pairs of both kinds, each kind weighing one half.

    ece: mean distance of what was said and what was so, over 15 bins of equal weight (Naeini et al. 2015; equal mass:
    Nguyen and O'Connor 2015). log_loss: in nats. log_loss_gain: the share by which it is below the constant's.
    The intervals hold 95 % of what comes out when identities are drawn anew (Efron 1979). A small sample's ECE is
    never 0, and its interval sits above it: each resample has the sample's noise once more.
    """
    sums = _sum_up(pairs, probability, identities)
    whole = _figures(sums, np.ones((1, identities)))
    drawn = identity_draws(identities, RESAMPLES, (seed, 6)).astype(np.float64)
    ece, loss = _figures(sums, drawn)
    gain = 1 - loss / CONSTANT_LOG_LOSS
    return {
        "ece": float(whole[0][0]),
        "ece_interval": _interval(ece),
        "log_loss": float(whole[1][0]),
        "log_loss_constant": CONSTANT_LOG_LOSS,
        "log_loss_gain": float(1 - whole[1][0] / CONSTANT_LOG_LOSS),
        "log_loss_gain_interval": _interval(gain),
        "bins": _bins(sums),
    }


def _sum_up(pairs: Pairs, probability: Float64, identities: int) -> _Sums:
    same = pairs.same
    bins = equal_mass_bins(probability, same)
    values = np.stack([np.ones(len(pairs)), probability, log_losses(probability, same)])
    own = pairs.first[same].astype(np.int64) * BINS + bins[same]
    both = (pairs.first[~same].astype(np.int64) * identities + pairs.second[~same]) * BINS + bins[~same]
    totals = [np.bincount(own, row[same], identities * BINS) for row in values]
    mutual = [np.bincount(both, row[~same], identities**2 * BINS) for row in values]
    return _Sums(
        np.stack(totals).astype(np.float64).reshape(3, identities, BINS),
        np.stack(mutual).astype(np.float64).reshape(3, identities, identities, BINS),
    )


def _figures(sums: _Sums, times: Float64) -> tuple[Float64, Float64]:
    """(R,) ECE and (R,) log-loss, for (R, I) numbers of times that each identity counts."""
    same, different = sums.drawn(times)
    weight_same = 0.5 / same[0].sum(axis=1, keepdims=True)
    weight_different = 0.5 / different[0].sum(axis=1, keepdims=True)
    said = weight_same * same[1] + weight_different * different[1]
    losses = weight_same * same[2] + weight_different * different[2]
    return np.abs(weight_same * same[0] - said).sum(axis=1), losses.sum(axis=1)


def _bins(sums: _Sums) -> list[JsonValue]:
    """What was said and what was so, bin by bin; bins that nothing fell into are left out."""
    same, different = sums.same.sum(axis=1), sums.different.sum(axis=(1, 2))
    same, different = 0.5 * same / same[0].sum(), 0.5 * different / different[0].sum()
    weight = same[0] + different[0]
    return [
        {
            "predicted": float((same[1, place] + different[1, place]) / weight[place]),
            "observed": float(same[0, place] / weight[place]),
            "weight": float(weight[place]),
        }
        for place in np.flatnonzero(weight > 0)
    ]


def _interval(values: Float64) -> list[JsonValue]:
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]
