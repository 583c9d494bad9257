"""What is sent, as pieces of bytes: nothing is in memory whole that need not be."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from app.client.errors import InputError
from app.reid.errors import quote
from app.reid.rows import write_rows

PIECE_BYTES = 256 * 1024

# A path, a file's bytes, or an open file in binary mode.
Photo = str | os.PathLike[str] | bytes | IO[bytes]
# Likewise, or its rows without the header.
Table = Photo | Iterable[Iterable[str]]


@dataclass(frozen=True)
class Source:
    """Something to send, under a name.

    size: in bytes; None where only the end will tell. pieces: begins again with every call, if `is_repeatable`.
    """

    name: str
    size: int | None
    pieces: Callable[[], Iterator[bytes]]
    is_repeatable: bool = True


def is_file(thing: object) -> bool:
    """Whether it can be read from."""
    return hasattr(thing, "read")


def file_name(thing: object, otherwise: str) -> str:
    """What an open file is called, without its folder."""
    name = getattr(thing, "name", None)
    return Path(name).name if isinstance(name, str) and name else otherwise


def photo_source(photo: Photo, name: str = "", otherwise: str = "photo") -> Source:
    """A photo. `name` is what it is sent as; without one its own, or `otherwise` where it has none.

    An open file is read here and now, from where it stands.

    Raises:
        InputError: it cannot be read, or is no photo at all.
    """
    if isinstance(photo, str | os.PathLike):
        return path_source(Path(photo), name)
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes_source(bytes(photo), name or otherwise)
    if is_file(photo):
        return bytes_source(b"".join(_read(photo)), name or file_name(photo, otherwise))
    raise InputError(f"{otherwise} is a {type(photo).__name__}; give a path, a file's bytes or an open file")


def bytes_source(data: bytes, name: str) -> Source:
    """What is in memory already."""
    return Source(name, len(data), lambda: iter([data] if data else []))


def path_source(path: Path, name: str = "") -> Source:
    """A file that is read when its turn comes. Raises InputError where there is none."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise InputError(f"{quote(str(path))} cannot be read: {_reason(error)}") from error
    if not path.is_file():
        raise InputError(f"{quote(str(path))} is a folder or a device; a file is needed")
    return Source(name or path.name, size, lambda: _read_path(path, size))


def file_source(file: IO[bytes], name: str) -> Source:
    """An open file, sent from where it stands as it is read: for what may be too large for the memory."""
    if not _is_seekable(file):
        return Source(name, None, lambda: _read(file), is_repeatable=False)
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)

    def pieces() -> Iterator[bytes]:
        file.seek(start)
        return _read(file)

    return Source(name, size, pieces)


def table_bytes(table: Table, columns: tuple[str, ...]) -> bytes:
    """A CSV's bytes: of its file, or written from rows that have these columns.

    Raises:
        InputError: it cannot be read, or a row is not as long as the columns.
    """
    if isinstance(table, str | bytes | bytearray | memoryview | os.PathLike) or is_file(table):
        return b"".join(photo_source(cast(Photo, table), otherwise="the table").pieces())
    if not isinstance(table, Iterable):
        raise InputError(f"the table is a {type(table).__name__}; give a path, its bytes, an open file or its rows")
    rows = [_row(row, place, columns) for place, row in enumerate(table, 1)]
    return "".join(write_rows(columns, iter(rows))).encode()


def _row(row: object, place: int, columns: tuple[str, ...]) -> list[str]:
    fields = [str(field) for field in row] if isinstance(row, Iterable) and not isinstance(row, str | bytes) else []
    if len(fields) != len(columns):
        raise InputError(f"row {place} is {quote(repr(row))}; every row is a {', a '.join(columns)}")
    return fields


def _read_path(path: Path, size: int) -> Iterator[bytes]:
    left = size
    try:
        with path.open("rb") as file:
            for piece in _read(file):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
    except OSError as error:
        raise InputError(f"{quote(str(path))} cannot be read: {_reason(error)}") from error
    if left:  # its length was announced, and the service would wait for the rest
        raise InputError(f"{quote(str(path))} changed while it was being sent; ask again once it is whole")


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        if isinstance(piece, str):
            raise InputError(
                f"{file_name(file, 'the file')} was opened as text; open it in binary mode: open(path, 'rb')"
            )
        yield piece


def _is_seekable(file: IO[bytes]) -> bool:
    asked = getattr(file, "seekable", None)
    return bool(asked and asked())


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
