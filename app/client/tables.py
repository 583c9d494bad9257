"""Whole tables, as programs: asked and waited for, or handed in as a job that outlives its connection."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal
from urllib.parse import quote

from app.client.answers import Job, Scores, read_json
from app.client.calls import Progress, version_of
from app.client.effects import Local, Program, Request, Wait, do
from app.client.errors import (
    AnswerError,
    BusyError,
    ClientError,
    ConnectionFailedError,
    InputError,
    NotFoundError,
    Problem,
    ServerError,
    problem_error,
)
from app.client.exchange import Exchange, read_problem
from app.client.form import Form
from app.client.images import Images, image_sources
from app.client.retries import pause_s
from app.client.sinks import Memory, SavedFile, saved
from app.client.sources import Table, bytes_source, table_bytes
from app.reid.tables import GALLERY, QUERY, ROW_ID, PairTable, read_pairs, read_test

Out = str | os.PathLike[str]
Postprocess = Literal["manifest"]

CSV = "text/csv"
POSTPROCESS_HEADER = "x-postprocess"
SENDING, AWAY = "sending", "away"
# The service says how many rows are too many.
_NO_LIMIT = 10**9
# From one look at a job to the next: a little longer each time, so that short work is not waited for in vain.
_SHORTEST_S, _LONGEST_S, _GROWTH = 0.05, 2.0, 1.2
# What a proxy answers while the service behind it starts again.
_BEHIND_PROXY = frozenset({502, 504})


@dataclass(frozen=True)
class TableCall:
    """A call that takes a table: its path, the name of the CSV's part, and the columns of rows that are no file."""

    path: str
    part: str
    columns: tuple[str, ...]
    read: Callable[..., PairTable]


BATCH = TableCall("/similarity/batch", "pairs", (QUERY, GALLERY), read_pairs)
SUBMISSION = TableCall("/submission", "test_csv", (ROW_ID, QUERY, GALLERY), read_test)
POSTPROCESSED = replace(SUBMISSION, path="/submission?postprocess=manifest")


@dataclass(frozen=True)
class Wish:
    """What is wanted of a table's answer.

    out: the file that it goes to; None for memory. as_job: hand it in and come back for it. delete_after: have the
    service forget the job once its answer is here.
    """

    out: Out | None = None
    as_job: bool = False
    progress: Progress | None = None
    delete_after: bool = False

    def __post_init__(self) -> None:
        """Raises InputError."""
        if self.delete_after and not self.as_job:
            raise InputError("delete_after=True goes with as_job=True: without a job there is nothing to delete")


def submission_call(postprocess: Postprocess | None) -> TableCall:
    """The call for a submission, with or without post-processing. Raises InputError."""
    if postprocess not in (None, "manifest"):
        raise InputError(f'postprocess={postprocess!r} is none; "manifest" asks for what the model\'s manifest says')
    return SUBMISSION if postprocess is None else POSTPROCESSED


def score(exchange: Exchange, call: TableCall, table: Table, images: Images | None, wish: Wish) -> Program[Scores]:
    """The table's scores, by either road."""
    with _place(wish.out) as place:
        if wish.as_job:
            job = yield from start(exchange, call, table, images, wish.progress)
            return (yield from _wait(exchange, job.id, place, wish))
        form = yield from do(Local(partial(_form, call, table, images)))
        timeout = exchange.timeouts.until(exchange.timeouts.table_s)
        request = Request("POST", call.path, timeout, CSV, form=form)
        return (yield from _fetch(exchange, request, place, _sent(form, wish.progress)))


def start(
    exchange: Exchange, call: TableCall, table: Table, images: Images | None, progress: Progress | None
) -> Program[Job]:
    """Hands a table in; the job is safe on the service's disk as soon as this ends."""
    form = yield from do(Local(partial(_form, call, table, images)))
    timeout = exchange.timeouts.until(exchange.timeouts.answer_s)
    request = Request("POST", call.path, timeout, status=202, form=form, headers={"Prefer": "respond-async"})
    reply = yield from exchange.ask(request, sent=_sent(form, progress))
    return read_json(Job, reply.content)


def wait(exchange: Exchange, job_id: str, wish: Wish) -> Program[Scores]:
    """The answer of a job that was handed in before, by whomever."""
    with _place(wish.out) as place:
        return (yield from _wait(exchange, job_id, place, wish))


def job(exchange: Exchange, job_id: str, *, once: bool = False) -> Program[Job]:
    """How a job stands."""
    request = Request("GET", _path(job_id), exchange.timeouts.until(exchange.timeouts.status_s))
    reply = yield from exchange.ask(request, once=once)
    return read_json(Job, reply.content)


def delete_job(exchange: Exchange, job_id: str) -> Program[None]:
    """Cancels a job that is not finished, and has the service forget it."""
    timeout = exchange.timeouts.until(exchange.timeouts.status_s)
    yield from exchange.ask(Request("DELETE", _path(job_id), timeout, media_type="", status=204))


def _wait(exchange: Exchange, job_id: str, place: "_Place", wish: Wish) -> Program[Scores]:
    found = yield from _until_finished(exchange, job_id, wish.progress)
    if found.state != "done":
        raise _failure(found)
    timeout = exchange.timeouts.until(exchange.timeouts.status_s)
    try:
        scores = yield from _fetch(exchange, Request("GET", f"{_path(job_id)}/result", timeout, CSV), place, None)
    except ConnectionFailedError as error:
        raise _resumable(error, job_id) from error
    if wish.delete_after:
        try:
            yield from delete_job(exchange, job_id)
        except NotFoundError:  # it grew too old just now, or somebody else was quicker
            return scores
    return scores


def _until_finished(exchange: Exchange, job_id: str, progress: Progress | None) -> Program[Job]:
    """Looks until the state is final; a service that goes away meanwhile is waited for, `away_s` at most."""
    tell = _Changes(progress)
    looks = failures = 0
    away_s = 0.0
    while True:
        try:
            found = yield from job(exchange, job_id, once=True)
        except ClientError as error:
            failures += 1
            pause = _away_pause(exchange, error, failures)
            if pause is None:
                raise
            away_s += pause
            if away_s > exchange.retries.away_s:
                raise (_resumable(error, job_id) if isinstance(error, ConnectionFailedError) else error) from error
            tell.away()
        else:
            failures, away_s = 0, 0.0
            tell.of(found)
            if found.is_finished:
                return found
            pause = min(_LONGEST_S, _SHORTEST_S * _GROWTH**looks)
            looks += 1
        yield from do(Wait(pause))


def _away_pause(exchange: Exchange, error: ClientError, failures: int) -> float | None:
    """Seconds until it is worth looking again; None where it never is."""
    match error:
        case ConnectionFailedError():
            asked_s = None
        case BusyError():
            asked_s = error.retry_after_s
        case ServerError() if error.status in _BEHIND_PROXY:
            asked_s = error.retry_after_s
        case _:
            return None
    return pause_s(failures, asked_s, exchange.chance())


class _Changes:
    """Tells whoever wants to know how far a job is, and only when that changed."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._told: tuple[int, int, str] = (0, 0, "")

    def of(self, found: Job) -> None:
        self._tell((found.done, found.total, found.state))

    def away(self) -> None:
        """The numbers are the last that were heard."""
        self._tell((self._told[0], self._told[1], AWAY))

    def _tell(self, now: tuple[int, int, str]) -> None:
        if now != self._told and self._progress is not None:
            self._progress(*now)
        self._told = now


_Place = SavedFile | Memory


def _place(out: Out | None) -> AbstractContextManager[_Place]:
    return nullcontext(Memory()) if out is None else saved(out)


def _fetch(
    exchange: Exchange, request: Request, place: _Place, sent: Callable[[int], object] | None
) -> Program[Scores]:
    reply = yield from exchange.ask(request, place, sent)
    version, postprocess = version_of(reply), reply.headers.get(POSTPROCESS_HEADER)
    if isinstance(place, Memory):
        return Scores(version, place.content, None, postprocess)
    yield from do(Local(place.keep))
    return Scores(version, None, place.path, postprocess)


def _form(call: TableCall, table: Table, images: Images | None) -> Form:
    """The CSV is read whole, it is small beside its photos; those are read when their turn comes."""
    data = table_bytes(table, call.columns)
    sources = image_sources(images, lambda: call.read(data, max_rows=_NO_LIMIT))
    return Form(((call.part, bytes_source(data, f"{call.part}.csv")), *(("images", source) for source in sources)))


def _sent(form: Form, progress: Progress | None) -> Callable[[int], object] | None:
    if progress is None:
        return None
    total = form.length or 0
    return lambda done: progress(done, total, SENDING)


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _failure(found: Job) -> ClientError:
    """Why there is no answer, as the request would have been told."""
    if found.state == "cancelled":
        return problem_error(Problem(404, "unknown-job", "There is no such job", f"the job {found.id} was cancelled"))
    told = found.problem or {}
    status = told.get("status")
    problem = read_problem(told, status) if isinstance(status, int) else None
    return problem_error(problem) if problem else AnswerError(f"the job {found.id} failed and does not say why")


def _resumable(error: ConnectionFailedError, job_id: str) -> ConnectionFailedError:
    return ConnectionFailedError(f"{error}; the job goes on without you: client.wait({job_id!r}) fetches it", job_id)
