"""Locks between the server processes that share a folder of jobs. The system lets go of them when a process dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """An flock on a file. Every holder opens the file anew, so that threads of one process exclude each other too."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet."""
        self._path = path
        self._held: int | None = None

    @property
    def held(self) -> bool:
        """Whether `take` got it."""
        return self._held is not None

    def take(self) -> bool:
        """Takes it for this process alone, without waiting. False where another one has it."""
        if self._held is None:
            self._held = _open(self._path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self.held

    def release(self) -> None:
        """Lets go of it, where it is held."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Holds it together with others who share it; waits while somebody has it alone."""
        descriptor = _open(self._path, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _open(path: Path, operation: int) -> int | None:
    """A descriptor that holds the lock; None where it was asked not to wait and would have to."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
