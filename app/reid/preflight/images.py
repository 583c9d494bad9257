"""The photos that `test.csv` names, in a folder: all there, no others beside them, and of which round."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from app.reid.errors import AmbiguousImageError, ImageError, LookupFailedError, quote
from app.reid.photos import FOLDERS, PhotoFile, PhotoFolder
from app.reid.preflight.findings import Finding, Severity, counted, places
from app.reid.preflight.rounds import HEADER_BYTES, Look, find_rounds, find_sizes, look_at, read_header
from app.reid.tables import PairTable

# A cut-out of 6 megapixels takes a sixth of a second to decode.
SAMPLE = 12
_TRAINING = FOLDERS[2:]


def check_images(test: PairTable, folder: Path, *, seed: int = 0) -> list[Finding]:
    """What is wrong with a folder's photos, and what they look like; a dozen are decoded, chosen by the seed."""
    found, findings = _find(test, folder)
    findings += _extra(found.values())
    headers = [(quote(name), read_header(_start(path))) for name, path in found.items()]
    findings += find_sizes(headers)
    looks, unreadable = _look_into(_sample([(quote(name), path) for name, path in found.items()], seed))
    training, _ = _look_into(_sample(_training(folder), seed))
    return [*findings, *unreadable, *find_rounds(looks, [look for _, look in training])]


def _find(test: PairTable, folder: Path) -> tuple[dict[str, Path], list[Finding]]:
    """The photos that are there, each file once with the first name that it goes by; and names that have none."""
    source = PhotoFolder(folder, "the folder")
    found: dict[str, Path] = {}
    taken: set[Path] = set()
    missing: list[str] = []
    unclear: list[str] = []
    for name, line in zip(test.names, test.first_lines.tolist(), strict=True):
        try:
            photo = source.find({name: line})[name]
        except AmbiguousImageError as error:
            unclear += error.problems
        except LookupFailedError as error:
            missing += error.problems
        else:
            if isinstance(photo, PhotoFile) and photo.path not in taken:
                taken.add(photo.path)
                found[name] = photo.path
    findings = []
    if missing:
        what = f"not in the folder: {counted(len(missing), 'photo')} of the {len(test.names):,} that test.csv names"
        advice = f"Name the folder that holds them, or that holds {', '.join(FOLDERS)} with them in it."
        findings.append(Finding(Severity.ERROR, "images-missing", what, advice, places(missing, str)))
    if unclear:
        what = f"two different files match: {counted(len(unclear), 'name')}"
        advice = "Keep one of the two: the folder seems to hold photos of two archives."
        findings.append(Finding(Severity.ERROR, "images-ambiguous", what, advice, places(unclear, str)))
    return found, findings


def _extra(found: Iterable[Path]) -> list[Finding]:
    """Other files of the same kinds beside the photos."""
    paths = set(found)
    suffixes = {path.suffix.lower() for path in paths}
    beside = [
        path
        for folder in sorted({path.parent for path in paths})
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and path.is_file() and path.resolve() not in paths
    ]
    if not beside:
        return []
    what = f"{counted(len(beside), 'photo')} beside them that test.csv does not name"
    advice = "Harmless, unless they are of another round: then the others may be as well."
    return [Finding(Severity.NOTE, "images-extra", what, advice, places(beside, lambda path: quote(path.name)))]


def _training(folder: Path) -> list[tuple[str, Path]]:
    """The photos to train on that lie below the same folder, if any do."""
    for name in _TRAINING:
        if (folder / name).is_dir():
            files = sorted(path for path in (folder / name).glob("*.png") if path.is_file())
            if files:
                return [(quote(path.name), path) for path in files]
    return []


def _sample(photos: list[tuple[str, Path]], seed: int) -> list[tuple[str, Path]]:
    if len(photos) <= SAMPLE:
        return photos
    return [photos[place] for place in np.sort(np.random.default_rng(seed).choice(len(photos), SAMPLE, replace=False))]


def _look_into(photos: list[tuple[str, Path]]) -> tuple[list[tuple[str, Look]], list[Finding]]:
    looks: list[tuple[str, Look]] = []
    broken: list[str] = []
    for name, path in photos:
        try:
            looks.append((name, look_at(path.read_bytes(), name)))
        except ImageError as error:
            broken.append(str(error))
        except OSError as error:
            broken.append(f"{name}: {(error.strerror or 'cannot be read').lower()}")
    if not broken:
        return looks, []
    what = f"cannot be read: {counted(len(broken), 'photo')} of {len(photos)} that were looked into"
    advice = "Unpack the archive again."
    return looks, [Finding(Severity.ERROR, "images-unreadable", what, advice, places(broken, str))]


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEADER_BYTES)
    except OSError:  # it counts as no PNG, and reading it whole says why
        return b""
