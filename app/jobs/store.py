"""The list of jobs: one SQLite file that several server processes share.

Every change is one transaction that is on the disk when the call returns (WAL, synchronous=FULL), so that a kill -9
leaves either the state before it or the state after it.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.errors import BusyError, StorageError
from app.jobs.job import FINISHED, UNFINISHED, Job, State

_BUSY_TIMEOUT_S = 10
_DISK_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
_PRIMARY_CODE = 0xFF  # SQLite's extended codes keep the plain one in the lowest byte

# `number` is the order in which jobs came.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    total INTEGER NOT NULL,
    created REAL NOT NULL,
    size INTEGER NOT NULL,
    done INTEGER NOT NULL,
    started REAL,
    finished REAL,
    model_version TEXT,
    photos TEXT,
    attempts INTEGER NOT NULL,
    problem TEXT,
    request_id TEXT NOT NULL,
    postprocess TEXT
) STRICT
"""


class JobStore:
    """All jobs, oldest first. For one thread at a time.

    Every method raises StorageError where the disk is full or cannot be used.
    """

    def __init__(self, file: Path) -> None:
        """Opens the list, or makes an empty one. The folder must be there."""
        with _disk_errors():
            self._db = sqlite3.connect(file, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            try:
                self._db.row_factory = sqlite3.Row
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute(_SCHEMA)
                self._add_missing()
            except BaseException:
                self._db.close()
                raise

    def _add_missing(self) -> None:
        """A list that an earlier version made lacks a column."""
        if self._lacks("postprocess"):
            with self._transaction():
                if self._lacks("postprocess"):  # another process may have been quicker
                    self._db.execute("ALTER TABLE jobs ADD COLUMN postprocess TEXT")

    def _lacks(self, column: str) -> bool:
        return column not in {row["name"] for row in self._db.execute("PRAGMA table_info(jobs)")}

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def reserve(self, job: Job, max_jobs: int, max_bytes: int) -> list[str]:
        """Puts a job on the list, in the state that it has -> the finished jobs that had to go for it, oldest first.

        Raises:
            BusyError: `max_jobs` are not finished yet.
            StorageError: it does not fit into `max_bytes` beside those that are not finished.
        """
        with self._transaction():
            rows = self._db.execute("SELECT id, state, size FROM jobs ORDER BY finished, number").fetchall()
            unfinished = [row for row in rows if row["state"] not in FINISHED]
            if len(unfinished) >= max_jobs:
                raise BusyError(f"{max_jobs} jobs wait or run; try again when one has finished.")
            used = sum(row["size"] for row in rows)
            evicted = []
            for row in rows:
                if used + job.size <= max_bytes:
                    break
                if row["state"] in FINISHED:
                    evicted.append(row["id"])
                    used -= row["size"]
            if used + job.size > max_bytes:
                raise StorageError(
                    f"this job may take {job.size} bytes; jobs together may take {max_bytes}, and those that are not"
                    f" finished take {used}"
                )
            for name in evicted:
                self._db.execute("DELETE FROM jobs WHERE id = ?", (name,))
            self._insert(job)
        return evicted

    def accept(self, name: str) -> None:
        """What was reserved is stored: it may be worked on."""
        self._change("UPDATE jobs SET state = ? WHERE id = ?", State.QUEUED, name)

    def get(self, name: str) -> Job | None:
        """A job by its id. None where there is none."""
        return self.many([name]).get(name)

    def many(self, names: Sequence[str]) -> dict[str, Job]:
        """Those of these jobs that are there, by id."""
        marks = ", ".join("?" * len(names))
        return {job.id: job for job in self._select(f"WHERE id IN ({marks})", *names)}

    def every(self) -> list[Job]:
        """All jobs, oldest first."""
        return self._select("")

    def next(self) -> Job | None:
        """The oldest job that is not finished: the one that was running when the process ended, or the next in line."""
        return next(iter(self._select("WHERE state IN (?, ?)", *UNFINISHED)), None)

    def counts(self) -> tuple[int, int]:
        """How many jobs wait, and how many run."""
        with _disk_errors():
            rows = dict(self._db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall())
        return rows.get(State.QUEUED, 0), rows.get(State.RUNNING, 0)

    def begin(self, name: str, now: float) -> bool:
        """The job is being worked on from now. False where it was deleted."""
        return self._change(
            "UPDATE jobs SET state = ?, started = coalesce(started, ?), attempts = attempts + 1 WHERE id = ?",
            State.RUNNING, now, name,
        )  # fmt: skip

    def describe(self, job: Job) -> bool:
        """Writes down whose embeddings are being made, of which photos, and how many there are."""
        return self._change(
            "UPDATE jobs SET model_version = ?, photos = ?, postprocess = ?, done = ?, total = ? WHERE id = ?",
            job.model_version, job.photos, job.postprocess, job.done, job.total, job.id,
        )  # fmt: skip

    def progress(self, name: str, done: int) -> bool:
        """So many embeddings are on the disk. False where the job was deleted."""
        return self._change("UPDATE jobs SET done = ?, attempts = 0 WHERE id = ?", done, name)

    def release(self, name: str, *, forgive: bool) -> bool:
        """Back in line, at its old place; `forgive` where the attempt ended through no fault of the job's."""
        return self._change(
            "UPDATE jobs SET state = ?, attempts = max(0, attempts - ?) WHERE id = ? AND state = ?",
            State.QUEUED, int(forgive), name, State.RUNNING,
        )  # fmt: skip

    def finish(self, name: str, state: State, size: int, now: float, problem: dict[str, Any] | None) -> bool:
        """The job has ended. False where it was deleted."""
        text = None if problem is None else json.dumps(problem)
        return self._change(
            "UPDATE jobs SET state = ?, size = ?, finished = ?, problem = ? WHERE id = ?",
            state, size, now, text, name,
        )  # fmt: skip

    def remove(self, name: str) -> bool:
        """Takes a job off the list. False where it is not there."""
        return self._change("DELETE FROM jobs WHERE id = ?", name)

    def _select(self, condition: str, *values: object) -> list[Job]:
        with _disk_errors():
            rows = self._db.execute(f"SELECT * FROM jobs {condition} ORDER BY number", values)  # noqa: S608 (constants)
            return [_job(row) for row in rows]

    def _change(self, statement: str, *values: object) -> bool:
        with _disk_errors():
            return self._db.execute(statement, values).rowcount == 1

    def _insert(self, job: Job) -> None:
        self._db.execute(
            "INSERT INTO jobs (id, kind, state, total, created, size, done, attempts, request_id)"
            " VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?)",
            (job.id, job.kind, job.state, job.total, job.created, job.size, job.request_id),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _disk_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it by itself where the disk is full
                    self._db.execute("ROLLBACK")
                raise


def _job(row: sqlite3.Row) -> Job:
    values = {key: row[key] for key in row.keys() if key != "number"}  # noqa: SIM118 (a Row iterates over its values)
    problem = None if row["problem"] is None else json.loads(row["problem"])
    return Job(**{**values, "state": State(row["state"]), "problem": problem})


@contextmanager
def _disk_errors() -> Iterator[None]:
    """SQLite's own words hold nothing for a client."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DISK_CODES:
            raise StorageError("the list of jobs cannot be written: the disk is full or cannot be used") from error
        raise
