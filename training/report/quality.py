"""Whether bad photos explain bad answers: sharpness, size and the animal's share of the frame against AP."""

from dataclasses import dataclass

import numpy as np

from app.reid.preprocess import Pixels, composite
from app.reid.spec import PreprocessSpec
from training.explanation import spearman
from training.pairs import identity_draws
from training.report.values import Estimate, Float64, Unknown, labels_of

DRAWS = 300
_FEWEST = 10
# ITU-R BT.601, as Pillow's mode L.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Facts:
    """What is known of N photos; NaN where it is not.

    sharpness: variance of the Laplacian of the grey picture that the network sees, 0 to 255 a pixel. megapixels: of
    the file. foreground: share of the frame that the mask keeps, in [0, 1].
    """

    sharpness: Float64
    megapixels: Float64
    foreground: Float64


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of a fact with the AP of the queries, in [-1, 1]."""

    rho: Estimate
    queries: int


@dataclass(frozen=True)
class Quality:
    """Each fact's correlation with AP, or why there is none."""

    sharpness: Correlation | Unknown
    megapixels: Correlation | Unknown
    foreground: Correlation | Unknown


def sharpness(pixels: Pixels, spec: PreprocessSpec) -> float:
    """(H, W, 3 or 4) uint8 -> the variance of its Laplacian; of a cut-out inside the mask only, NaN if nothing is.

    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", measure LAP4.
    """
    grey = composite(pixels, spec) @ _LUMA
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    if pixels.shape[2] == 3:
        return float(laplacian.var())
    opaque = pixels[:, :, 3] == 255
    whole = opaque[:-2, 1:-1] & opaque[2:, 1:-1] & opaque[1:-1, :-2] & opaque[1:-1, 2:] & opaque[1:-1, 1:-1]
    return float(laplacian[whole].var()) if whole.any() else float("nan")


def measure_quality(facts: Facts, query_ap: Float64, identities: list[str], seed: int) -> Quality:
    """The correlations over the photos that could ask; identities are drawn anew for the intervals."""
    labels = labels_of(identities)[1]

    def correlate(values: Float64, what: str) -> Correlation | Unknown:
        known = np.isfinite(values) & np.isfinite(query_ap)
        if known.sum() < _FEWEST:
            return Unknown(f"{what} is known for {int(known.sum())} queries; {_FEWEST} are needed")
        if np.ptp(values[known]) == 0:
            return Unknown(f"{what} is the same for all queries")
        rho = spearman(values[known], query_ap[known])
        draws = _rho_draws(values[known], query_ap[known], labels[known], seed)
        return Correlation(Estimate.of_draws(rho, draws), int(known.sum()))

    return Quality(
        correlate(facts.sharpness, "sharpness"),
        correlate(facts.megapixels, "the size"),
        correlate(facts.foreground, "the animal's share of the frame"),
    )


def _rho_draws(values: Float64, query_ap: Float64, labels: np.ndarray, seed: int) -> Float64:
    numbers, own = np.unique(labels, return_inverse=True)
    draws = []
    for drawn in identity_draws(len(numbers), DRAWS, seed):
        rows = np.repeat(np.arange(len(own)), drawn[own])
        draws.append(spearman(values[rows], query_ap[rows]) if len(rows) else np.nan)
    return np.array(draws)
