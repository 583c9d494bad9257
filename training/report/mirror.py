"""The mirror test: a coat's two flanks are two patterns, so a photo's mirror image is no photo of the same flank."""

from dataclasses import dataclass

import numpy as np

from app.reid.metric import average_precision, identity_balanced_map
from app.reid.similarity import cosine_matrix, unit_interval
from training.data import Progress
from training.evaluate import Measured, embed_photos
from training.report.histogram import Histograms, Kind, describe
from training.report.values import Estimate, Float64, Unknown

SIDE = "side"


@dataclass(frozen=True)
class Flanks:
    """Retrieval inside one flank and across, id-mAP each; the same queries wherever both can be asked.

    same: the gallery holds the query's own flank. across: the other flank alone. mirrored: the other flank, mirrored.
    chance: across, with random scores. queries: how many asked across.
    """

    same: Estimate | Unknown
    across: Estimate
    mirrored: Estimate
    chance: float
    queries: int


@dataclass(frozen=True)
class Mirror:
    """Similarities of photos to their own mirror images.

    own: over the edges of the pair histograms. above_same: the share of photos more similar to their mirror image
    than the median pair of one animal. gallery_mirrored: id-mAP with every gallery photo mirrored.
    """

    own: Kind
    above_same: float
    gallery_mirrored: Estimate
    flanks: Flanks | Unknown


def measure_mirror(measured: Measured, histograms: Histograms, seed: int, progress: Progress | None = None) -> Mirror:
    """Embeds every photo mirrored and asks with the photos as they are. histograms: of the photos' own pairs."""
    prepared = [np.ascontiguousarray(pixels[:, ::-1]) for pixels in measured.photos.prepared]
    mirrored = embed_photos(measured.model.embedder, prepared, progress)
    crossed = unit_interval(cosine_matrix(measured.embeddings, mirrored))
    own = np.diagonal(crossed).copy()
    evaluation = identity_balanced_map(crossed, measured.photos.identities, within=measured.groups)
    return Mirror(
        own=describe(own, np.array(histograms.edges)),
        above_same=float(np.mean(own > histograms.same.median)),
        gallery_mirrored=Estimate.of_retrieval(evaluation, seed),
        flanks=_flanks(measured, crossed, seed),
    )


def by_identity(similarity: Float64, identities: list[str], inside: np.ndarray) -> dict[str, float]:
    """Mean AP of each identity, over its photos with another photo of it in their gallery.

    similarity: (N, N), row i is what photo i thinks of each. inside: (N, N), True where a photo is in row i's gallery;
    unlike the galleries of `identity_balanced_map`, these may be the photos of *another* group.
    """
    names = np.array(identities, dtype=object)
    values: dict[str, list[float]] = {}
    for row, scores in enumerate(similarity):
        gallery = inside[row]
        relevant = names[gallery] == names[row]
        if relevant.any():
            values.setdefault(identities[row], []).append(average_precision(scores[gallery], relevant))
    return {name: float(np.mean(found)) for name, found in values.items()}


def _flanks(measured: Measured, crossed: Float64, seed: int) -> Flanks | Unknown:
    photos = measured.photos
    if SIDE not in photos.columns:
        return Unknown(f"the table has no column `{SIDE}`, so which flank a photo shows is unknown")
    sides = np.array(photos.columns[SIDE])
    known = (sides != "")[:, None] & (sides != "")[None, :]
    inside = (sides[:, None] != sides[None, :]) & known
    across = by_identity(measured.similarity, photos.identities, inside)
    if not across:
        return Unknown("no animal was photographed from two sides")
    names = np.array(photos.identities, dtype=object)
    asks = (inside & (names[:, None] == names[None, :])).any(axis=1)
    own_side = (sides[:, None] == sides[None, :]) & known & asks[:, None]
    np.fill_diagonal(own_side, val=False)
    same = by_identity(measured.similarity, photos.identities, own_side)
    noise = np.random.default_rng(seed).random(measured.similarity.shape)
    return Flanks(
        same=Estimate.of_means(same, seed) if same else Unknown("none of them has another photo of the same flank"),
        across=Estimate.of_means(across, seed),
        mirrored=Estimate.of_means(by_identity(crossed, photos.identities, inside), seed),
        chance=float(np.mean(list(by_identity(noise, photos.identities, inside).values()))),
        queries=int(asks.sum()),
    )
