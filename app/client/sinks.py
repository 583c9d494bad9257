"""Where an answer's body goes: to memory, or to a file that has its name only once it is whole."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from app.client.errors import InputError
from app.reid.errors import quote


class Sink(Protocol):
    """Takes one body, piece by piece."""

    def start(self) -> None:
        """The body begins; what an attempt before left is forgotten."""

    def write(self, piece: bytes) -> object:
        """More of it."""


class Memory:
    """A body as bytes."""

    def __init__(self) -> None:
        """Nothing so far."""
        self._pieces: list[bytes] = []

    def start(self) -> None:
        """Empty again."""
        self._pieces.clear()

    def write(self, piece: bytes) -> None:
        """Keeps a piece."""
        self._pieces.append(piece)

    @property
    def content(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)


class SavedFile:
    """A body on its way into a file: under another name, in the same folder, until `keep`."""

    def __init__(self, path: Path, file: IO[bytes], unfinished: Path) -> None:
        """`file` is open under the name `unfinished`."""
        self.path = path
        self._file, self._unfinished = file, unfinished

    def start(self) -> None:
        """Empty again."""
        self._file.seek(0)
        self._file.truncate()

    def write(self, piece: bytes) -> None:
        """Adds a piece. Raises InputError where the disk has no room."""
        with _disk_errors(self.path):
            self._file.write(piece)

    def keep(self) -> None:
        """The body is whole: on the disk, and then there under its name. Raises InputError."""
        with _disk_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._unfinished.replace(self.path)


@contextmanager
def saved(out: str | os.PathLike[str]) -> Iterator[SavedFile]:
    """A place for a body; nothing of it stays unless it was kept.

    Raises:
        InputError: there can be no such file. Said before anything is asked, and not after hours.
    """
    path = Path(out).resolve()  # through a link, to what it stands for
    if path.is_dir():
        raise InputError(f"{quote(str(out))} is a folder; name a file in it")
    if path.exists() and not path.is_file():  # /dev/null, a pipe: what is renamed onto it would take its place
        raise InputError(f"{quote(str(out))} is a device or a pipe, which a file would replace; name a file")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with _disk_errors(path):
        file = unfinished.open("xb")
    try:
        yield SavedFile(path, file, unfinished)
    finally:
        with suppress(OSError):  # what the disk did not take is tried once more, and was told already
            file.close()
        unfinished.unlink(missing_ok=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{quote(str(path))} cannot be written: {reason}; name another file") from error
