"""Files that survive a kill or a power cut from the moment on that a call returns."""

import os
from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Writes a file whole; its name lasts once its folder is synced as well. Raises OSError."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last: files that are new, gone or renamed. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
