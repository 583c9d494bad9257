"""Reliability: whether probabilities made from these similarities mean what they say."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.calibrate import calibration_figures
from training.evaluate import Measured
from training.pairs import Pairs
from training.reliability import reliability
from training.report.values import Estimate, Unknown


@dataclass(frozen=True)
class Bin:
    """Pairs of about one probability: what was said, the share that was so, and their share of all pairs."""

    predicted: float
    observed: float
    weight: float


@dataclass(frozen=True)
class Reliability:
    """Probabilities at a prior of 0.5. gain: the share by which the log-loss is below that of always saying 0.5."""

    method: str
    ece: Estimate
    log_loss: float
    gain: Estimate
    bins: list[Bin]


@dataclass(frozen=True)
class Trust:
    """fresh: curves fitted and judged on different animals of these photos. shipped: the bundle's own calibration.

    version: of the bundle's calibration. same, different: its thresholds.
    """

    fresh: Reliability | Unknown
    shipped: Reliability | Unknown
    version: str | None
    same: float | None
    different: float | None


def measure_trust(measured: Measured, pairs: Pairs, identities: int, seed: int) -> Trust:
    """Both, on pairs of both kinds."""
    found = calibration_figures(measured.similarity, measured.photos.identities, within=measured.groups, seed=seed)
    fresh = _told(found, str(found.get("method")))
    scale = measured.model.scale
    if scale is None:
        return Trust(fresh, Unknown("the bundle is not calibrated, and answers no probabilities"), None, None, None)
    calibration = scale.calibration
    bound = np.finfo(np.float64).eps  # a probability of 0 that turns out wrong would cost infinitely much
    probability = np.clip(calibration.probability(pairs.similarity, 0.5), bound, 1 - bound)
    figures = reliability(pairs, probability, identities, seed=seed)
    shipped = _told(figures, calibration.method)
    return Trust(fresh, shipped, calibration.version, calibration.same, calibration.different)


def _told(figures: dict[str, Any], method: str) -> Reliability | Unknown:
    if "reason" in figures:
        return Unknown(str(figures["reason"]))
    return Reliability(
        method=method,
        ece=Estimate(figures["ece"], *figures["ece_interval"]),
        log_loss=figures["log_loss"],
        gain=Estimate(figures["log_loss_gain"], *figures["log_loss_gain_interval"]),
        bins=[Bin(**found) for found in figures["bins"]],
    )
