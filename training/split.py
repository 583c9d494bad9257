"""Which photos train and which validate: random, burst-disjoint or identity-disjoint (design section 8)."""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.reid.errors import DataError
from app.reid.preprocess import composite
from app.reid.spec import PreprocessSpec
from app.reid.tables import FILENAME
from training.config import Protocol, SplitConfig
from training.data import PhotoSet

Part = Literal["train", "validation"]

SPLIT_COLUMNS = (FILENAME, "sha256", "part", "protocol")
ENCOUNTER, RECORDED_AT = "encounter", "recorded_at"


@dataclass(frozen=True)
class Split:
    """The part of each photo, in the photos' order, and the protocol that drew it."""

    protocol: Protocol
    parts: list[Part]

    def rows(self, part: Part) -> list[int]:
        """Numbers of the photos in one part."""
        return [row for row, value in enumerate(self.parts) if value == part]

    @property
    def fingerprint(self) -> str:
        """sha256 over the protocol and the parts in the photos' order."""
        return hashlib.sha256(" ".join((self.protocol, *self.parts)).encode()).hexdigest()

    def to_csv(self, photos: PhotoSet) -> str:
        """`split.csv`: filename, sha256, part, protocol."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(SPLIT_COLUMNS)
        writer.writerows(zip(photos.filenames, photos.sha256, self.parts, [self.protocol] * len(photos), strict=True))
        return buffer.getvalue()


def split_photos(photos: PhotoSet, config: SplitConfig, spec: PreprocessSpec, seed: int) -> Split:
    """Divides the photos by the config's protocol; the same photos, config and seed give the same split.

    Raises:
        DataError: too few identities or photos to validate on.
    """
    chance = np.random.default_rng((seed, 3))
    groups = find_groups(photos, config, spec)
    if config.protocol == "identity":
        validation = _draw_identities(groups, config.validation, chance)
    else:
        validation = _draw_stratified(groups, photos.identities, config.validation, chance)
    split = Split(config.protocol, ["validation" if row in validation else "train" for row in range(len(photos))])
    check_split(split, photos)
    return split


def find_groups(photos: PhotoSet, config: SplitConfig, spec: PreprocessSpec) -> list[list[int]]:
    """The photos that no split under the config's protocol takes apart, as groups of their numbers."""
    if config.protocol == "identity":
        return by_identity(photos)
    if config.protocol == "burst":
        return find_bursts(photos, config, spec)
    return [[row] for row in range(len(photos))]


def find_bursts(photos: PhotoSet, config: SplitConfig, spec: PreprocessSpec) -> list[list[int]]:
    """Groups of photos that show one moment of one animal.

    Two photos of an identity belong together if their perceptual hashes (Zauner 2010, 64 bits) differ in at most
    `burst_distance` bits, if they share a non-empty `encounter`, or if `recorded_at` is at most `burst_seconds` apart.
    """
    hashes = np.array(
        [imagehash.phash(Image.fromarray(composite(pixels, spec))).hash.ravel() for pixels in photos.prepared]
    )
    encounters = photos.columns.get(ENCOUNTER)
    times = [_parse_time(value) for value in photos.columns.get(RECORDED_AT, [""] * len(photos))]
    bursts: list[list[int]] = []
    for rows in by_identity(photos):
        near = (hashes[rows][:, None] != hashes[rows][None]).sum(axis=2) <= config.burst_distance
        if encounters is not None:
            near |= _same_value([encounters[row] for row in rows])
        near |= _close_in_time([times[row] for row in rows], config.burst_seconds)
        bursts += [[rows[position] for position in members] for members in _components(near)]
    return bursts


def burst_numbers(photos: PhotoSet, config: SplitConfig, spec: PreprocessSpec) -> list[int]:
    """The number of each photo's burst, in the photos' order, as `find_bursts` groups them."""
    number = {row: burst for burst, rows in enumerate(find_bursts(photos, config, spec)) for row in rows}
    return [number[row] for row in range(len(photos))]


def by_identity(photos: PhotoSet) -> list[list[int]]:
    """Numbers of the photos of each identity, identities in the order of their names."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, identity in enumerate(photos.identities):
        groups[identity].append(row)
    return [groups[identity] for identity in sorted(groups)]


def _draw_identities(groups: list[list[int]], share: float, chance: np.random.Generator) -> set[int]:
    """Whole identities with at least two photos, until the share of all photos is reached."""
    wanted = share * sum(len(group) for group in groups)
    validation: set[int] = set()
    for number in chance.permutation(len(groups)):
        if len(groups[number]) >= 2 and len(validation) + len(groups[number]) / 2 <= wanted:
            validation.update(groups[number])
    return validation


def _draw_stratified(
    groups: list[list[int]], identities: Sequence[str], share: float, chance: np.random.Generator
) -> set[int]:
    """From each identity whole groups, as near as can be to its share of photos; one group at least stays to train on.

    Fractions of a photo are carried from one identity to the next, so that the whole validation part has its share.
    """
    by_identity: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups:
        by_identity[identities[group[0]]].append(group)
    validation: set[int] = set()
    owed = 0.0
    for identity in chance.permutation(sorted(by_identity)):
        own = by_identity[identity]
        owed += share * sum(len(group) for group in own)
        for number in chance.permutation(len(own))[1:]:
            if len(own[number]) / 2 <= owed:
                validation.update(own[number])
                owed -= len(own[number])
    return validation


def check_split(split: Split, photos: PhotoSet) -> None:
    """Whether a split leaves something to train on and something to measure on. Raises DataError."""
    validation = [photos.identities[row] for row in split.rows("validation")]
    train = {photos.identities[row] for row in split.rows("train")}
    counts = np.unique(np.asarray(validation, dtype=object).astype(str), return_counts=True)[1]
    if not len(counts) or counts.max() < 2:
        raise DataError(
            f"the {split.protocol} split leaves no identity with two validation photos to measure on;"
            " more photos an identity, a larger split.validation or another split.protocol would"
        )
    if len(train) < 2:
        raise DataError(f"the {split.protocol} split leaves {len(train)} identity to train on; two are needed")


def _parse_time(value: str) -> float | None:
    """Seconds of a YYYYMMDDhhmmss time; None where it is empty.

    Raises:
        DataError: another form.
    """
    if not value:
        return None
    try:
        return datetime.strptime(value + "+0000", "%Y%m%d%H%M%S%z").timestamp()
    except ValueError as error:
        raise DataError(f"{RECORDED_AT} {value!r} is not of the form YYYYMMDDhhmmss") from error


def _same_value(values: Sequence[str]) -> NDArray[np.bool_]:
    array = np.array(values)
    return np.asarray((array[:, None] == array[None]) & (array != "")[:, None])


def _close_in_time(times: Sequence[float | None], seconds: float) -> NDArray[np.bool_]:
    known = np.array([np.nan if time is None else time for time in times])
    return np.asarray(np.abs(known[:, None] - known[None]) <= seconds)  # a NaN is close to nothing


def _components(near: NDArray[np.bool_]) -> list[list[int]]:
    """Connected components of a symmetric relation, each in ascending order."""
    left = set(range(len(near)))
    components = []
    while left:
        frontier = members = {min(left)}
        while frontier:
            reached = set(np.flatnonzero(near[sorted(frontier)].any(axis=0)).tolist())
            frontier = reached - members
            members = members | frontier
        components.append(sorted(members))
        left -= members
    return components
