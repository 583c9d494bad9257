"""The photos of a data set that may judge a bundle: of animals that it was not trained on, where there are enough."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.reid.embedder import LoadedModel, load_model
from app.reid.errors import DataError
from training.data import PhotoSet, Progress, load_photos
from training.evaluate import read_split

UNSEEN = "identities that the model was not trained on"
KNOWN = "photos that the model was not trained on, of identities that it was: new animals will do worse"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Photos, the model that they judge, the fingerprint of the data set that they come from, and whose they are.

    whose: `UNSEEN` or `KNOWN`.
    """

    model: LoadedModel
    photos: PhotoSet
    fingerprint: str
    whose: str


def load_held_out(
    bundle: Path, data: Path, *, identities: int, most: int, seed: int = 0, progress: Progress | None = None
) -> HeldOut:
    """What a bundle's `split.csv` leaves of a data set; a photo that is there twice, by content, counts once.

    identities: how many, with two photos each, are enough; where there are fewer, photos of identities that the model
    was trained on join them, as long as it was not trained on the photos themselves. most: of more photos, so many are
    drawn.

    Raises:
        BundleError, DataError, TableError: as the readers say; all photos were trained on.
    """
    model = load_model(bundle, calibrated=False)
    parts = read_split(bundle).parts
    photos = load_photos(data, model.manifest.preprocess, progress)
    rows, whose = choose_rows(photos, parts, identities)
    drawn = np.random.default_rng((seed, 7)).permutation(rows)[:most]
    return HeldOut(model, photos.part(sorted(drawn.tolist())), photos.fingerprint, whose)


def choose_rows(photos: PhotoSet, parts: dict[str, str], identities: int) -> tuple[list[int], str]:
    """The photos to judge by, and whose they are; parts: of each photo in the split, by sha256.

    Raises:
        DataError: all photos were trained on.
    """
    first = {digest: row for row, digest in reversed(list(enumerate(photos.sha256)))}
    trained = {
        name for name, digest in zip(photos.identities, photos.sha256, strict=True) if parts.get(digest) == "train"
    }
    fresh = sorted(row for digest, row in first.items() if parts.get(digest) != "train")
    if not fresh:
        raise DataError(f"all {len(photos)} photos were trained on; there is nothing to judge by")
    unseen = [row for row in fresh if photos.identities[row] not in trained]
    if len(unseen) == len(fresh) or _pairable(photos, unseen) >= identities:
        return unseen, UNSEEN
    return fresh, KNOWN


def _pairable(photos: PhotoSet, rows: list[int]) -> int:
    """How many identities have two of these photos."""
    counts = np.unique(np.array([photos.identities[row] for row in rows], dtype=str), return_counts=True)[1]
    return int((counts >= 2).sum())
