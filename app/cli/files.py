"""Files of the command line: photos that are there, and answers that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.cli.exits import CommandError
from app.reid.errors import quote

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


def shown(path: Path) -> str:
    """A path as messages call it."""
    return quote(str(path))


def check_there(path: Path) -> None:
    """Raises CommandError where there is nothing by this name."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def check_table(path: Path) -> None:
    """Raises CommandError where there is no such file; a pipe is one."""
    check_there(path)
    if path.is_dir():
        raise CommandError(f"{shown(path)} is a folder", advice="Name a CSV file.")


def check_photo(path: Path) -> None:
    """Raises CommandError where there is no such file."""
    check_there(path)
    if not path.is_file():
        raise CommandError(f"{shown(path)} is a folder or a device", advice="Name a photo: a JPEG, PNG or WebP file.")


def check_folder(path: Path) -> None:
    """Raises CommandError where there is no such folder."""
    check_there(path)
    if not path.is_dir():
        raise CommandError(f"{shown(path)} is no folder", advice="Name the folder that holds the photos, unpacked.")


def photos_in(paths: Sequence[Path]) -> list[Path]:
    """The photos named, and of folders all photos below them, by name; in the order given.

    Raises:
        CommandError: one is not there, or a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            check_photo(path)
            found.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in PHOTO_SUFFIXES and file.is_file())
        if not inside:
            kinds = ", ".join(sorted(PHOTO_SUFFIXES))
            raise CommandError(f"{shown(path)} holds no photos", advice=f"Photos are looked for by name: {kinds}.")
        found += inside
    return found


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises CommandError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_key(text: str) -> str:
    """A key, or with `@` before it the file that holds one. Raises CommandError."""
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    key = read_file(path).decode("ascii", "replace").strip()
    if not key:
        raise CommandError(f"{shown(path)} holds no key", advice="Write the key into it, on one line.")
    return key


@contextmanager
def written(out: Path, inputs: Sequence[Path] = ()) -> Iterator[BinaryIO]:
    """A file to write an answer into. It has its name only once it is whole, and replaces what was there.

    inputs: what the answer is made of, which it must not replace.

    Raises:
        CommandError: it cannot be written; said before anything is worked on.
    """
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs):
        raise CommandError(f"{shown(out)} is what the answer is made of", advice="Name another file to write.")
    with _disk_errors(out):
        if out.exists() and not out.is_file():  # /dev/null, a pipe: nothing to be replaced
            with out.open("wb") as file:
                yield file
            return
        target = out.resolve()  # through a link, to what it stands for
        unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with unfinished.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        reason, advice = (error.strerror or str(error)).lower(), "Name another file to write."
        if isinstance(error, IsADirectoryError):
            reason, advice = "it is a folder", "Name a file in it."
        elif isinstance(error, FileNotFoundError):
            reason, advice = "there is no such folder", "Make the folder, or name another file to write."
        raise CommandError(f"{shown(out)} cannot be written: {reason}", advice=advice) from error


def _unreadable(path: Path, error: OSError | ValueError) -> CommandError:
    reason = (getattr(error, "strerror", None) or str(error)).lower()
    return CommandError(f"{shown(path)} cannot be read: {reason}", advice="Check the name, and the folder it is in.")
