"""The cache's file: contents by key, whole or absent, the least recently used ones dropped beyond a size."""

import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from app.cache.opening import PAGE_BYTES, OpenFile, is_damage, open_file
from app.reid.errors import ConfigError

MIN_BYTES = 2**20

_READ_AT_ONCE = 500
_DROP_AT_ONCE = 64
_NOTE_EVERY_S = 60.0
_NOTES = 5_000
_WARN_EVERY_S = 60.0
# After a write that failed the next ones are left out for so long: a file locked for good costs one wait a second.
_REST_S = 1.0

logger = logging.getLogger(__name__)


class CacheFile:
    """Safe for threads and shared by processes. No method raises for the file's sake: see `failures`.

    SQLite checks no contents, so every one has a CRC over its key and itself: what was altered is dropped when read.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Opens or makes the file, which puts never take beyond `max_bytes` by more than a few pages.

        Raises:
            ConfigError: the file cannot be written or is something else's, or the limit is below 1 MiB.
        """
        if max_bytes < MIN_BYTES:
            raise ConfigError(f"JAGUAR_MAX_CACHE_BYTES: {max_bytes} bytes are too few; 1MiB is the least")
        self.failures = 0
        self._path = path.absolute()
        self._max_pages = max_bytes // PAGE_BYTES
        self._reading, self._writing, self._noting = threading.Lock(), threading.Lock(), threading.Lock()
        self._uses: dict[bytes, int] = {}
        self._note_at = time.monotonic() + _NOTE_EVERY_S
        self._warn_at = self._rest_until = 0.0
        self._open = open_file(self._path, self._max_pages)

    def read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The contents that are there and whole."""
        found: dict[bytes, bytes] = {}
        opened = self._open
        try:
            for start in range(0, len(keys), _READ_AT_ONCE):
                found.update(self._select(opened, keys[start : start + _READ_AT_ONCE]))
        except sqlite3.Error as error:
            self._fail(error, opened)
        return found

    def write(self, key: bytes, content: bytes) -> None:
        """Keeps a content, in place of the one that the key had. It outlives the process from here on."""

        def insert(writer: sqlite3.Connection) -> None:
            _remove(writer, key)
            row = writer.execute(
                "INSERT INTO contents (content, checksum) VALUES (?, ?)", (content, _checksum(key, content))
            )
            writer.execute("INSERT INTO entries (key, used, id) VALUES (?, ?, ?)", (key, _now_us(), row.lastrowid))
            self._make_room(writer)

        self._change(insert)

    def delete(self, keys: Iterable[bytes]) -> None:
        """Drops entries."""

        def remove(writer: sqlite3.Connection) -> None:
            for key in keys:
                _remove(writer, key)

        self._change(remove)

    def note_use(self, keys: Iterable[bytes]) -> None:
        """Entries were used just now. Written down once a minute, or before others are dropped in their favour."""
        with self._noting:
            self._uses |= dict.fromkeys(keys, _now_us())
            due = self._uses and (time.monotonic() >= self._note_at or len(self._uses) >= _NOTES)
        if due:
            self._write_uses()

    def close(self) -> None:
        """Writes the last uses down and closes the file."""
        if self._uses:
            self._write_uses()
        with self._writing, self._reading:
            self._open.close()

    def _select(self, opened: OpenFile, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        marks = ",".join("?" * len(keys))
        question = f"SELECT key, content, checksum FROM entries JOIN contents USING (id) WHERE key IN ({marks})"  # noqa: S608
        with self._reading:
            rows = opened.reader.execute(question, keys).fetchall()
        whole = {key: content for key, content, checksum in rows if _is_whole(key, content, checksum)}
        if len(whole) < len(rows):
            self._warn("an entry is not what was written; it is dropped")
            self.delete([key for key, _, _ in rows if key not in whole])
        return whole

    def _change(self, act: Callable[[sqlite3.Connection], object]) -> None:
        """One transaction, left out where one has just failed."""
        opened = self._open
        try:
            with self._writing:
                if time.monotonic() < self._rest_until:
                    self._count()
                    return
                opened = self._open
                _transact(opened.writer, act)
        except sqlite3.Error as error:
            self._rest_until = time.monotonic() + _REST_S
            self._fail(error, opened)

    def _make_room(self, writer: sqlite3.Connection) -> None:
        """Drops the least recently used entries where the limit is reached; pages that they free are used again.

        No more of them than a request can wait for, which is more than a put adds.
        """
        if _pages_in_use(writer) <= self._max_pages:
            return
        _set_uses(writer, self._take_uses())
        count = min(_DROP_AT_ONCE, self._max_pages // 16)
        for (key,) in writer.execute("SELECT key FROM entries ORDER BY used LIMIT ?", (count,)).fetchall():
            _remove(writer, key)

    def _write_uses(self) -> None:
        """One try: what fails is forgotten, so that a file locked for good costs a wait a minute and no more."""
        uses = self._take_uses()
        self._change(lambda writer: _set_uses(writer, uses))

    def _take_uses(self) -> dict[bytes, int]:
        with self._noting:
            uses, self._uses = self._uses, {}
            self._note_at = time.monotonic() + _NOTE_EVERY_S
        return uses

    def _fail(self, error: sqlite3.Error, opened: OpenFile) -> None:
        """Counts and tells a failure; a file that is broken is replaced, by the first thread that finds it so."""
        self._warn(str(error))
        if not is_damage(error):
            return
        with self._writing, self._reading:
            if self._open is not opened:
                return
            opened.close()
            try:
                self._open = open_file(self._path, self._max_pages, distrusted=opened.identity)
                self._rest_until = 0.0
            except ConfigError as unusable:
                logger.exception("until the next start the cache keeps nothing in its file", exc_info=unusable)

    def _count(self) -> None:
        with self._noting:
            self.failures += 1

    def _warn(self, reason: str) -> None:
        """Counts a failure and tells it, if none was told for a minute."""
        self._count()
        with self._noting:
            now = time.monotonic()
            if now < self._warn_at:
                return
            self._warn_at = now + _WARN_EVERY_S
        logger.warning("the cache fails: %s (%d times so far); photos are embedded anew", reason, self.failures)


def _transact(writer: sqlite3.Connection, act: Callable[[sqlite3.Connection], object]) -> None:
    writer.execute("BEGIN IMMEDIATE")
    try:
        act(writer)
        writer.execute("COMMIT")
    finally:
        if writer.in_transaction:
            writer.execute("ROLLBACK")


def _remove(writer: sqlite3.Connection, key: bytes) -> None:
    writer.execute("DELETE FROM contents WHERE id = (SELECT id FROM entries WHERE key = ?)", (key,))
    writer.execute("DELETE FROM entries WHERE key = ?", (key,))


def _set_uses(writer: sqlite3.Connection, uses: Mapping[bytes, int]) -> None:
    writer.executemany("UPDATE entries SET used = ? WHERE key = ?", ((us, key) for key, us in uses.items()))


def _pages_in_use(connection: sqlite3.Connection) -> int:
    pages, free = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count"))
    return int(pages - free)


def _is_whole(key: bytes, content: object, checksum: object) -> bool:
    return isinstance(content, bytes) and checksum == _checksum(key, content)


def _checksum(key: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(key))


def _now_us() -> int:
    """Microseconds, so that no two entries of a thread were used at the same time."""
    return time.time_ns() // 1_000
