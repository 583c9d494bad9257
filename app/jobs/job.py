"""What a job is: one row that tells where a piece of long work stands."""

import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# 16 random bytes: whoever knows a job's address may read and delete it, so nobody may guess one.
_ID_BYTES = 16
_ID = re.compile(r"[A-Za-z0-9_-]{22}")


class State(StrEnum):
    """Where a job stands. `accepting`: its files are still being stored, and no client knows of it yet."""

    ACCEPTING = "accepting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (State.QUEUED, State.RUNNING)
FINISHED = (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Job:
    """One job as it was when it was looked up.

    kind: whose work it is, the name of a `Recipe`.
    done, total: photos that are embedded, and all of them.
    created, started, finished: seconds since 1970.
    model_version: of the embeddings so far; None before the first.
    photos: a fingerprint of which photos those are, in which order; None before the first.
    postprocess: what is done to the scores; None before it is known, and where it was not asked for.
    attempts: how often it was started since its last durable row.
    size: bytes of disk that it takes, or may come to take while it is not finished.
    problem: a problem's JSON where it failed.
    request_id: of the request that brought it; the log of its work has the same.
    """

    id: str
    kind: str
    state: State
    total: int
    created: float
    size: int
    done: int = 0
    started: float | None = None
    finished: float | None = None
    model_version: str | None = None
    photos: str | None = None
    postprocess: str | None = None
    attempts: int = 0
    problem: dict[str, Any] | None = None
    request_id: str = ""


def new_id() -> str:
    """A name that nobody guesses and that can be a folder's."""
    return secrets.token_urlsafe(_ID_BYTES)


def is_id(text: str) -> bool:
    """Whether a text can be a job's name at all: looked at before it gets near a path."""
    return _ID.fullmatch(text) is not None
