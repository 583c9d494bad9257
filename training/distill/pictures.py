"""Pictures of anything below a folder, source by source, and how many views each gives."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.reid.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MIN_BYTES = 12_000  # below lie icons


@dataclass(frozen=True)
class Picture:
    """One file: its name below the folder of pictures (the first part is the source), and how many views it gives."""

    path: Path
    name: str
    views: int

    def sha256(self) -> str:
        """Of its bytes."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def plan_pictures(folder: Path, weights: Mapping[str, float], views: int, seed: int) -> list[Picture]:
    """Every picture of the sources with its number of views, in a fixed order that mixes the sources.

    A source with more pictures than it shall give views is drawn from.

    Raises:
        DataError: a source has no folder or no picture.
    """
    total = sum(weights.values())
    planned: list[Picture] = []
    for number, source in enumerate(sorted(weights)):
        found = _find(folder, source)
        wanted = max(1, round(views * weights[source] / total))
        chance = np.random.default_rng((seed, number))
        if wanted < len(found):
            found = [found[row] for row in np.sort(chance.permutation(len(found))[:wanted])]
        each = max(1, round(wanted / len(found)))
        planned += [Picture(path, path.relative_to(folder).as_posix(), each) for path in found]
    return [planned[row] for row in np.random.default_rng((seed, len(weights))).permutation(len(planned))]


def _find(folder: Path, source: str) -> list[Path]:
    root = folder / source
    if not root.is_dir():
        raise DataError(f"--pictures {folder}: there is no folder {source}; pictures.sources names it")
    found = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not path.is_symlink()
        and path.stat().st_size >= MIN_BYTES
    ]
    if not found:
        raise DataError(f"{root}: no {', '.join(SUFFIXES)} file of at least {MIN_BYTES} bytes")
    return found
