"""Finding the photos that a table names: one rule for uploads, zip members, the image root and `train.csv`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from app.reid.errors import AmbiguousImageError, UnknownImageError, UnsafeNameError, quote

# Where the competition's archives keep their photos, most specific first.
FOLDERS = ("test/test/", "test/", "train/train/", "train/")


class Photo(Protocol):
    """A photo that was found and whose bytes can be read when its turn comes."""

    def read(self) -> bytes:
        """The file's bytes."""


class PhotoSource(Protocol):
    """A place where photos are found by name."""

    def find(self, names: Mapping[str, int]) -> dict[str, Photo]:
        """Names with the line that first uses each -> a photo for every name, or one error that lists what is wrong."""


def image_key(name: str) -> str:
    """The name without the folder that the competition's archives put before it."""
    for folder in FOLDERS:
        if name.startswith(folder):
            return name[len(folder) :]
    return name


def is_safe_name(name: str) -> bool:
    """Whether a name stays below the folder that it is looked up in, and can be a file's at all."""
    paths = PurePosixPath(name), PurePosixPath(image_key(name))
    return "\0" not in name and all(path.parts and not path.is_absolute() and ".." not in path.parts for path in paths)


@dataclass
class Findings:
    """What a lookup found wrong, by kind; `raise_any` turns it into the gravest error."""

    unsafe: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def raise_any(self, where: str) -> None:
        """Raises one error for the gravest kind, if anything was found. `where` tells where was looked."""
        if self.unsafe:
            raise UnsafeNameError(f"names that lead out of {where}", self.unsafe)
        if self.ambiguous:
            raise AmbiguousImageError(f"names that two different files in {where} match", self.ambiguous)
        if self.unknown:
            raise UnknownImageError(f"photos that are not in {where}", self.unknown)


@dataclass(frozen=True)
class PhotoFile:
    """A photo on disk."""

    path: Path

    def read(self) -> bytes:
        """The file's bytes."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class PhotoFolder:
    """Photos below one folder; nothing outside it is ever read. `label` is what errors call it."""

    root: Path
    label: str = "the photo folder"

    def find(self, names: Mapping[str, int]) -> dict[str, Photo]:
        """Names with their first lines -> files.

        A name with a folder that is there is taken at its word; else its key is looked up at the root and below the
        competition's folders, and two different files that match are an error.

        Raises:
            UnsafeNameError, AmbiguousImageError, UnknownImageError: each with its names by line.
        """
        top = self.root.resolve()
        findings = Findings()
        found: dict[str, Photo] = {}
        for name, line in sorted(names.items(), key=lambda item: item[1]):
            entry = f"line {line}: {quote(name)}"
            if not is_safe_name(name):
                findings.unsafe.append(entry)
                continue
            files = self._matches(name)
            if any(not path.is_relative_to(top) for path in files):
                findings.unsafe.append(entry)
            elif len(files) > 1:
                findings.ambiguous.append(entry)
            elif not files:
                findings.unknown.append(entry)
            else:
                found[name] = PhotoFile(files[0])
        findings.raise_any(self.label)
        return found

    def _matches(self, name: str) -> list[Path]:
        key = image_key(name)
        if "/" in name and (exact := _existing([self.root / name])):
            return exact
        return _existing(self.root / folder / key for folder in ("", *FOLDERS))


def _existing(candidates: Iterable[Path]) -> list[Path]:
    """The regular files among the candidates, links followed, each file once."""
    files: dict[tuple[int, int], Path] = {}
    for candidate in candidates:
        try:
            if candidate.is_file():
                status = candidate.stat()
                files.setdefault((status.st_dev, status.st_ino), candidate.resolve())
        except OSError:  # a name longer than the file system allows is a name that is not there
            continue
    return list(files.values())
