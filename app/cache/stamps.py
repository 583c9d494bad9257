"""Telling that a file has not changed without reading it."""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

# File systems count time in steps: 4 ms on most, 2 s on FAT. What was changed so shortly before it was read may change
# again within the same step and keep its times.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class FileStamp:
    """What changes when a file does. Times in nanoseconds; ctime is the one that no program can set back."""

    path: Path
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> "FileStamp":
        """The stamp of a file whose status was taken."""
        return cls(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def key(self) -> bytes:
        """What the cache calls the file; its name cannot be read from it."""
        return b"file " + hashlib.sha256(os.fsencode(self.path)).digest()

    @property
    def fingerprint(self) -> bytes:
        """All that must be the same for the file to be the same."""
        return f"{self.device} {self.inode} {self.size} {self.mtime_ns} {self.ctime_ns}".encode()


def stamp_of(path: Path) -> FileStamp:
    """The stamp of a file as it is now, to ask the cache with. Raises OSError where the file is not there."""
    return FileStamp.of(path, path.stat())


def read_stamped(path: Path) -> tuple[bytes, FileStamp | None]:
    """A file's bytes and the stamp that stands for them, or None where it might stand for others as well.

    That is so where the file changed while it was read or within 2 s before, by its own clock or that of this machine.
    Raises OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        before = FileStamp.of(path, os.fstat(file.fileno()))
        began_ns = time.time_ns()
        data = file.read()
        after = FileStamp.of(path, os.fstat(file.fileno()))
    settled = max(before.mtime_ns, before.ctime_ns) < began_ns - _SETTLED_NS
    return data, before if settled and before == after and before.size == len(data) else None
