"""Background reliance: what is left of the score when the background is changed, and when it is all there is.

Source of the question: Beery, Van Horn, Perona 2018, "Recognition in Terra Incognita".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from app.reid.embedder import Embedder
from app.reid.errors import DataError
from app.reid.preprocess import Pixels
from app.reid.similarity import Float32
from training.evaluate import Measured, rank_photos
from training.report.originals import Original, foreground_share
from training.report.values import Estimate, Unknown

# A mask that keeps less or more than this is no cut-out.
_LEAST, _MOST = 0.02, 0.98
# Hidden colours that differ by no more than this are paint, not a place.
_FLAT = 12

Change = Callable[[Pixels, Pixels], Pixels]


@dataclass(frozen=True)
class Variant:
    """One way to show the photos, and the id-mAP then. real: whether it needs the true background under the mask."""

    name: str
    says: str
    id_map: Estimate | Unknown


@dataclass(frozen=True)
class Background:
    """The variants over the cut-outs; photos: how many there are, hidden: in how many the true background is kept."""

    photos: int
    hidden: int
    variants: list[Variant]


def _mask(cut_out: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return cut_out[:, :, 3:].astype(np.float64) / 255


def lay(front: Pixels, back: Pixels, cut_out: Pixels) -> Pixels:
    """(H, W, 3) the front where the mask is, the back elsewhere, mixed in between."""
    mask = _mask(cut_out)
    return np.rint(front * mask + back * (1 - mask)).astype(np.uint8)


def _real(_cut_out: Pixels, hidden: Pixels) -> Pixels:
    return hidden


def _blurred(cut_out: Pixels, hidden: Pixels) -> Pixels:
    """The animal sharp on its own background, blurred by an eighth of the shorter side."""
    radius = min(hidden.shape[:2]) / 8
    return lay(hidden, np.asarray(Image.fromarray(hidden).filter(ImageFilter.GaussianBlur(radius))), cut_out)


def _black(cut_out: Pixels, hidden: Pixels) -> Pixels:
    return lay(hidden, np.zeros_like(hidden), cut_out)


def _alone(cut_out: Pixels, hidden: Pixels) -> Pixels:
    """The background, the animal painted over with the background's mean colour."""
    outside = 1 - _mask(cut_out)
    mean = (hidden * outside).sum(axis=(0, 1)) / max(float(outside.sum()), 1e-9)
    return lay(np.broadcast_to(np.rint(mean).astype(np.uint8), hidden.shape), hidden, cut_out)


def _outline(cut_out: Pixels, hidden: Pixels) -> Pixels:
    return lay(np.full_like(hidden, 128), np.full_like(hidden, 255), cut_out)


# Name, what it says, how it is painted, whether the true background must be there.
VARIANTS: Mapping[str, tuple[str, Change, bool]] = {
    "black": ("the animal on black", _black, False),
    "real": ("the animal on its true background", _real, True),
    "blurred": ("the animal on its true background, blurred", _blurred, True),
    "alone": ("the background alone, the animal painted over", _alone, True),
    "outline": ("the outline alone: a grey shape on white", _outline, False),
}


@dataclass
class Collected:
    """The cut-outs' embeddings in each variant, gathered chunk by chunk. rows: their numbers among the photos."""

    embedder: Embedder
    rows: list[int] = field(default_factory=list)
    hidden: int = 0
    parts: dict[str, list[Float32]] = field(default_factory=dict)

    def add(self, start: int, originals: list[Original]) -> None:
        """One more chunk, whose first photo has this number."""
        found = [(start + place, o.cut_out, o.hidden) for place, o in enumerate(originals)]
        kept = [(row, cut, hidden) for row, cut, hidden in found if cut is not None and hidden is not None]
        kept = [one for one in kept if _LEAST <= foreground_share(one[1]) <= _MOST]
        if not kept:
            return
        self.rows += [row for row, _, _ in kept]
        self.hidden += sum(_shows_a_place(cut, hidden) for _, cut, hidden in kept)
        for name, (_, change, _) in VARIANTS.items():
            pictures = [change(cut, hidden) for _, cut, hidden in kept]
            self.parts.setdefault(name, []).append(self.embedder.embed_prepared(pictures))


def _shows_a_place(cut_out: Pixels, hidden: Pixels) -> bool:
    """Whether the colours under the mask are more than one paint."""
    under = hidden[cut_out[:, :, 3] == 0]
    return bool(len(under)) and bool(np.ptp(under, axis=0).max() > _FLAT)


def measure_background(measured: Measured, collected: Collected, seed: int) -> Background | Unknown:
    """The id-mAP over the cut-outs as the bundle shows them and in each variant, queries and gallery changed alike."""
    rows, total = collected.rows, len(measured.photos)
    if measured.photos.source is None:
        return Unknown("the photos' files are not at hand")
    if not rows:
        return Unknown(
            f"none of the {total} photos is a cut-out with a mask (alpha), so nobody can tell its animal from its"
            " background: how far the score leans on the background is unknown"
        )
    plain = measured.embeddings[rows]
    variants = [Variant("as served", "as the bundle shows it to the network", _score(measured, rows, plain, seed))]
    needed = len(rows) / 2
    for name, (says, _, real) in VARIANTS.items():
        if real and collected.hidden < needed:
            reason = f"{len(rows) - collected.hidden} of {len(rows)} cut-outs have one plain colour under their mask"
            variants.append(Variant(name, says, Unknown(f"{reason}: the true background is not in the files")))
        else:
            score = _score(measured, rows, np.concatenate(collected.parts[name]), seed)
            variants.append(Variant(name, says, score))
    return Background(len(rows), collected.hidden, variants)


def _score(measured: Measured, rows: list[int], embeddings: Float32, seed: int) -> Estimate | Unknown:
    identities = [measured.photos.identities[row] for row in rows]
    groups = None if measured.groups is None else [measured.groups[row] for row in rows]
    try:
        return Estimate.of_retrieval(rank_photos(embeddings, identities, groups)[1], seed)
    except DataError as error:
        return Unknown(str(error))
