"""Opening the cache's file: made where there is none, looked through, moved aside where it is damaged."""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.reid.errors import ConfigError

# Three contents of 512 float32 to a page; at 4096 there is one, and half of the file is air.
PAGE_BYTES = 8192

_APPLICATION, _SCHEMA = 0x4A524944, 1  # "JRID"
# The times of last use lie apart from the contents, so that noting them does not write the contents again.
_TABLES = (
    "CREATE TABLE entries (key BLOB PRIMARY KEY, used INTEGER NOT NULL, id INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX oldest ON entries (used)",
    "CREATE TABLE contents (id INTEGER PRIMARY KEY, content BLOB NOT NULL, checksum INTEGER NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_SCHEMA}",
)
_NAMES = frozenset({"entries", "oldest", "contents"})
_BUSY_MS = 250  # a request waits for it
_OPENING_S = 10.0  # a start does
_TURN_S = 60.0  # other workers may be looking through the file
_LOOK_S = 2.0  # a large file on a cold disk would hold up the start; what is damaged further on shows when it is read
_MAX_WAL_PAGES = 500
_LONGEST = 1.1  # times the limit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class OpenFile:
    """Two connections, so that who reads never waits for who writes. `identity` is the file's device and inode."""

    reader: sqlite3.Connection
    writer: sqlite3.Connection
    identity: tuple[int, int]

    def close(self) -> None:
        """Ends both; the last one to close a file writes its log into it."""
        self.reader.close()
        self.writer.close()


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is broken, and not merely full, locked or out of reach."""
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def open_file(path: Path, max_pages: int, distrusted: tuple[int, int] | None = None) -> OpenFile:
    """An absolute path -> the cache in it. `distrusted`: a file that a read found broken is not believed again.

    Raises:
        ConfigError: the file cannot be written, or holds what is no cache.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _turn(path):
            broken = distrusted is not None and path.exists() and _identity(path) == distrusted
            reason = "it turned out to be malformed" if broken else _look_through(path)
            if reason is not None:
                _move_aside(path, reason)
                _look_through(path)
            elif path.stat().st_size > _LONGEST * max_pages * PAGE_BYTES:
                logger.warning("the cache %s is longer than JAGUAR_MAX_CACHE_BYTES allows; a new one is begun", path)
                _remove(path)
                _look_through(path)
            return OpenFile(_tuned(path, max_pages), _tuned(path, max_pages), _identity(path))
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(
            f"the cache {path} cannot be written: {reason}; give it another file with JAGUAR_CACHE, another folder with"
            " JAGUAR_STATE, or turn it off with JAGUAR_CACHE=off"
        ) from error


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One process at a time, or two that find the same damage would move each other's new file aside.

    An empty SQLite file is the one lock of the standard library that all systems have and that kill -9 gives back.
    """
    lock = sqlite3.connect(path.with_name(path.name + ".lock"), timeout=_TURN_S, isolation_level=None)
    with closing(lock):
        lock.execute("PRAGMA journal_mode = MEMORY")  # nothing of this is ever written, least of all to a full disk
        lock.execute("BEGIN EXCLUSIVE")
        yield


def _look_through(path: Path) -> str | None:
    """Makes the file where there is none. Says why it cannot be used, if so.

    Raises:
        ConfigError: it is a sound database that something else made. sqlite3.Error: it cannot be written.
    """
    with closing(sqlite3.connect(path, timeout=_OPENING_S, isolation_level=None)) as connection:
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if not tables:
                _begin(connection)
                return None
            application, schema = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if application != _APPLICATION and not tables >= _NAMES:
                raise ConfigError(f"{path} is a database of something else; give JAGUAR_CACHE another file")
            if schema != _SCHEMA:
                return f"its schema is {schema}, that of this release is {_SCHEMA}"
            finding = _quick_check(connection)
            for statement in ("BEGIN IMMEDIATE", f"PRAGMA user_version = {_SCHEMA}", "ROLLBACK"):
                connection.execute(statement)  # a file that can only be read says so here
        except sqlite3.DatabaseError as error:
            # These statements are right: what SQLite calls wrong in them is wrong in the file.
            if not is_damage(error) and _code(error) != sqlite3.SQLITE_ERROR:
                raise
            return str(error)
        except UnicodeDecodeError:
            return "a name in it is no text"
    return None if finding == "ok" else str(finding)


def _quick_check(connection: sqlite3.Connection) -> str:
    """`ok`, or the first thing that is wrong; also `ok` where nothing was found by the time that a start may take."""
    overdue = threading.Event()

    def stop() -> None:
        overdue.set()
        connection.interrupt()

    alarm = threading.Timer(_LOOK_S, stop)
    alarm.start()
    try:
        finding = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        alarm.cancel()
        alarm.join()
    return "ok" if overdue.is_set() else finding  # what it had not come to may count as lost


def _begin(connection: sqlite3.Connection) -> None:
    """The tables, all at once: killed in between, there is an empty file, which is begun again."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError("the file system cannot share memory between processes; a local disk can")
    for statement in ("BEGIN IMMEDIATE", *_TABLES, "COMMIT"):
        connection.execute(statement)


def _tuned(path: Path, max_pages: int) -> sqlite3.Connection:
    """A connection for any thread, with short waits. A log of changes no larger than a share of the file."""
    connection = sqlite3.connect(path, timeout=_OPENING_S, isolation_level=None, check_same_thread=False)
    connection.text_factory = bytes  # what damage made a text need not be one
    wal_pages = min(_MAX_WAL_PAGES, max_pages // 32)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {wal_pages}")
    connection.execute(f"PRAGMA journal_size_limit = {wal_pages * PAGE_BYTES}")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log while it is surely this file's
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


def _move_aside(path: Path, reason: str) -> None:
    """Renames the file, of which the last one is kept. Who still has it open goes on with it undisturbed."""
    prefix = path.name + ".damaged-"
    former = {old: old.name.removeprefix(prefix) for old in path.parent.iterdir() if old.name.startswith(prefix)}
    number = 1 + max((int(end) for end in former.values() if end.isdecimal()), default=0)
    aside = f"{prefix}{number}"
    path.rename(path.with_name(aside))
    _remove(path)
    for old, end in former.items():
        if end.isdecimal():
            old.unlink()
    logger.warning("the cache %s cannot be used: %s; moved aside to %s, a new one is begun", path, reason, aside)


def _remove(path: Path) -> None:
    """What there is of a file and of SQLite's two beside it."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _code(error: sqlite3.Error) -> int:
    """SQLite's own code without its extension; errors of Python's half have none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
