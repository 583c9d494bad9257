"""A job's folder: what came with the request, the embeddings so far, the result.

    input.csv        the CSV as it was sent
    parts.json       the filenames of the photos and zips, in the order sent
    parts/0, 1, ...  their bytes
    embeddings.f32   (rows so far, D) float32, one row for each photo
    result.csv       the answer, complete as soon as it has this name

Nothing counts before it was synced: after a kill -9 a file is whole, or it is a tail of rows that is cut off.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from starlette.datastructures import UploadFile

from app.errors import StorageError
from app.reid.preprocess import Float32
from app.settings import MIB

_TRASH = ".trash-"
_CSV, _NAMES, _PARTS, _ROWS, _RESULT = "input.csv", "parts.json", "parts", "embeddings.f32", "result.csv"
_UNFINISHED = ".tmp"

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Called between pieces of long copies; raises where they are not wanted any more.
Check = Callable[[], None]


class JobFiles:
    """The files of one job. Blocking: for threads, never for the event loop.

    What writes raises StorageError where the disk is full or refuses; what reads raises FileNotFoundError where the
    folder was taken away meanwhile.
    """

    def __init__(self, top: Path, name: str) -> None:
        """`name` is a job's id, looked at before."""
        self.folder = top / name

    def store(self, csv: bytes, uploads: Sequence[UploadFile], check: Check) -> None:
        """Copies all that came with a request, and returns when it is on the disk."""
        with disk_errors():
            parts = self.folder / _PARTS
            parts.mkdir(parents=True)
            _write(self.folder / _CSV, csv)
            _write(self.folder / _NAMES, json.dumps([upload.filename for upload in uploads]).encode())
            for number, upload in enumerate(uploads):
                _copy(upload.file, parts / str(number), check)
            # Synced when all are written: the first sync takes most of the others' work with it.
            for path in (*parts.iterdir(), parts, *self.folder.iterdir(), self.folder, self.folder.parent):
                check()
                _sync(path)

    def csv(self) -> bytes:
        """The CSV as it was sent."""
        return (self.folder / _CSV).read_bytes()

    @contextmanager
    def uploads(self) -> Iterator[list[UploadFile]]:
        """The photos and zips as they were sent, in their order, open until the end of the `with`."""
        names = json.loads((self.folder / _NAMES).read_bytes())
        with ExitStack() as stack:
            found = []
            for number, name in enumerate(names):
                file = stack.enter_context((self.folder / _PARTS / str(number)).open("rb"))
                found.append(UploadFile(cast(BinaryIO, file), size=os.fstat(file.fileno()).st_size, filename=name))
            yield found

    def start_rows(self) -> None:
        """No embeddings, durably."""
        with disk_errors():
            _write(self.folder / _ROWS, b"")
            _sync(self.folder / _ROWS)
            _sync(self.folder)

    def whole_rows(self, dimensions: int) -> int:
        """How many rows there are; what a kill left of another one is cut off."""
        path = self.folder / _ROWS
        if not path.exists():
            return 0
        with disk_errors(), path.open("r+b") as file:
            rows = os.fstat(file.fileno()).st_size // _row_bytes(dimensions)
            file.truncate(rows * _row_bytes(dimensions))
            os.fsync(file.fileno())
        return rows

    def append_rows(self, rows: Float32) -> None:
        """Adds (K, D) rows, and returns when they are on the disk."""
        with disk_errors(), (self.folder / _ROWS).open("r+b") as file:  # never makes the file of a deleted job
            file.seek(0, os.SEEK_END)
            file.write(rows.astype("<f4", copy=False).tobytes())
            file.flush()
            os.fsync(file.fileno())

    def rows(self, dimensions: int) -> Float32:
        """All rows so far, (N, D)."""
        values: Float32 = np.fromfile(self.folder / _ROWS, dtype="<f4").reshape(-1, dimensions)
        return values

    def write_result(self, pieces: Iterable[str], check: Check) -> None:
        """Writes the answer beside its place, and puts it there when it is whole and on the disk."""
        unfinished = self.folder / (_RESULT + _UNFINISHED)
        with disk_errors():
            with unfinished.open("wb") as file:
                for piece in pieces:
                    check()
                    file.write(piece.encode())
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self.result)
            _sync(self.folder)

    @property
    def result(self) -> Path:
        """Where the answer is once it is whole."""
        return self.folder / _RESULT

    def drop_work(self) -> None:
        """Gives back what the work so far takes, so that a full disk has room to say so."""
        for name in (_ROWS, _RESULT + _UNFINISHED):
            (self.folder / name).unlink(missing_ok=True)

    def keep_result(self) -> None:
        """Removes everything but the answer. What cannot be removed now is tried again by the next sweep."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != self.result:
                with suppress(OSError):
                    path.unlink()

    def remove(self) -> None:
        """Removes the folder: out of its place at once, so that nobody who still works there adds to it."""
        trash = self.folder.with_name(_TRASH + self.folder.name)
        try:
            self.folder.rename(trash)
        except FileNotFoundError:
            return
        shutil.rmtree(trash, ignore_errors=True)


def empty_trash(top: Path) -> None:
    """Removes what a kill kept from being removed whole."""
    for path in top.glob(_TRASH + "*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def disk_errors() -> Iterator[None]:
    """What a disk refuses becomes a StorageError without the path; a file that is gone stays what it is."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        raise StorageError("the job's files cannot be written: the disk is full or cannot be used") from error


def _row_bytes(dimensions: int) -> int:
    return dimensions * np.dtype("<f4").itemsize


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)


def _copy(source: BinaryIO, target: Path, check: Check) -> None:
    source.seek(0)
    with target.open("wb") as file:
        while piece := source.read(MIB):
            check()
            file.write(piece)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
