"""Photos with names: read and decoded once, kept in memory at the network's size, drawn in batches."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from app.reid.cores import available_cores
from app.reid.errors import DataError, ImageError, LookupFailedError, quote
from app.reid.photos import PhotoFolder
from app.reid.preprocess import Pixels, decode_image, fit, to_array
from app.reid.spec import PreprocessSpec
from app.reid.tables import FILENAME, IDENTITY, Table, read_train
from training.augment import Augmentation
from training.sampler import Draw

TRAIN_CSV = "train.csv"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PhotoSet:
    """N photos. prepared: (H, W, 3 or 4) uint8 each, decoded and fitted; columns: everything that `train.csv` holds.

    source: the folder that they were read from; None if they were not.
    """

    filenames: list[str]
    identities: list[str]
    columns: dict[str, list[str]]
    sha256: list[str]
    prepared: list[Pixels]
    source: Path | None = None

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.filenames)

    @property
    def fingerprint(self) -> str:
        """sha256 over names, identities and file contents, whatever their order."""
        lines = sorted("\0".join(facts) for facts in zip(self.filenames, self.identities, self.sha256, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def part(self, rows: Sequence[int]) -> "PhotoSet":
        """The photos with these numbers, in this order."""
        return PhotoSet(
            [self.filenames[row] for row in rows],
            [self.identities[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in self.columns.items()},
            [self.sha256[row] for row in rows],
            [self.prepared[row] for row in rows],
            self.source,
        )

    def column(self, name: str) -> list[str]:
        """A column's values. Raises DataError, naming the columns that are there."""
        if name not in self.columns:
            raise DataError(f"{TRAIN_CSV} has no column {quote(name)}; it has {', '.join(self.columns)}")
        return self.columns[name]


def load_photos(folder: Path, spec: PreprocessSpec, progress: Progress | None = None) -> PhotoSet:
    """A folder with `train.csv` and its photos, bare or in `train/` or `train/train/` -> all of them, decoded.

    Raises:
        DataError: no such folder or table, or photos that are missing or unreadable; all of them are listed.
        TableError: the table breaks its contract.
    """
    try:
        table = read_train((folder / TRAIN_CSV).read_bytes())
    except OSError as error:
        raise DataError(f"{folder / TRAIN_CSV}: {error.strerror}; --data names the folder that holds it") from error
    source = PhotoFolder(folder, label=str(folder))
    problems: list[str] = []
    hashes: list[str] = []
    prepared: list[Pixels] = []

    def read(row: int) -> tuple[str, Pixels] | str:
        return _read_one(source, table, row, spec)

    with ThreadPoolExecutor(available_cores()) as pool:
        for done, answer in enumerate(pool.map(read, range(len(table.rows))), start=1):
            if isinstance(answer, str):
                problems.append(answer)
            else:
                hashes.append(answer[0])
                prepared.append(answer[1])
            if progress:
                progress(done, len(table.rows))
    if problems:
        raise DataError(f"{len(problems)} of the {len(table.rows)} photos in {TRAIN_CSV} cannot be used", problems)
    columns = {name: table.column(name) for name in table.columns}
    return PhotoSet(columns[FILENAME], columns[IDENTITY], columns, hashes, prepared, folder)


def _read_one(source: PhotoFolder, table: Table, row: int, spec: PreprocessSpec) -> tuple[str, Pixels] | str:
    """A photo's sha256 and pixels, or what is wrong with it."""
    name, line = table.rows[row][table.columns.index(FILENAME)], table.lines[row]
    try:
        data = source.find({name: line})[name].read()
        return hashlib.sha256(data).hexdigest(), fit(decode_image(data, spec, name=quote(name)), spec)
    except LookupFailedError as error:
        return f"{error.problems[0]}: {error.summary}"
    except (ImageError, OSError) as error:
        return f"line {line}: {error}"


def check_trainable(identities: Sequence[str]) -> None:
    """Whether anything can be learnt from these names.

    Raises:
        DataError: one identity only, or none with two photos.
    """
    counts = np.unique(np.asarray(identities, dtype=object).astype(str), return_counts=True)[1]
    if len(counts) < 2:
        raise DataError(f"{TRAIN_CSV} names one identity only; telling apart takes at least two")
    if counts.max() < 2:
        raise DataError(f"{TRAIN_CSV} has no identity with two photos; there is no pair to learn from")


class TrainingBatches(Dataset[tuple[Tensor, int]]):
    """Photos by draw: augmented afresh for each draw, as a function of the run's seed and the draw's number alone."""

    def __init__(
        self, photos: PhotoSet, labels: Sequence[int], spec: PreprocessSpec, augmentation: Augmentation, seed: int
    ) -> None:
        """labels: the identity's number of each photo."""
        self._photos, self._labels, self._spec = photos, labels, spec
        self._augmentation, self._seed = augmentation, seed

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        """One draw -> ((3, H, W) float32, label)."""
        with torch.random.fork_rng(devices=[]):
            chance = np.random.SeedSequence((self._seed, draw.number))
            torch.manual_seed(int(chance.generate_state(1, np.uint64)[0] >> 1))
            pixels = self._augmentation(self._photos.prepared[draw.photo])
        return torch.from_numpy(to_array(pixels, self._spec)), self._labels[draw.photo]

    def loader(
        self, batches: Iterator[list[Draw]], *, workers: int, pin_memory: bool
    ) -> DataLoader[tuple[Tensor, int]]:
        """A loader over these batches. Its own generator keeps it away from the network's chance."""
        return DataLoader(
            self,
            batch_sampler=batches,
            num_workers=workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),
        )
