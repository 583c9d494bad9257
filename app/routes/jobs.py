"""`/jobs/{id}`: long work that was handed in with `Prefer: respond-async`, its state, its events and its answer."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Header, Response, UploadFile
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

from app.jobs import Job, Jobs, State
from app.jobs.plan import KINDS
from app.problems import Calls, responses
from app.reid.scoring import TableKind
from app.routes import POSTPROCESS_HEADER, VERSION_DOCS, VERSION_HEADER
from app.schemas import JobStatus
from app.settings import MIB

ASYNC = "respond-async"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_EXAMPLE = {name: field.examples[0] for name, field in JobStatus.model_fields.items() if field.examples}
_STATUS = {"description": "Where the job stands.", "content": {"application/json": {"example": _EXAMPLE}}}

# What a call that takes `Prefer: respond-async` adds to its documented answers.
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        **_STATUS,
        "model": JobStatus,
        "description": "With `Prefer: respond-async`: the work was taken and will outlive this connection.",
        "headers": {
            "Location": {"description": "The job's address, `/jobs/{id}`.", "schema": {"type": "string"}},
            "Preference-Applied": {"description": ASYNC, "schema": {"type": "string"}},
        },
    },
    507: responses(Calls.PHOTOS)[507],
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {**responses(Calls.JOBS), 507: ACCEPTED[507]}
_NO_RESULT: dict[int | str, dict[str, Any]] = {409: _PROBLEMS.pop(409)}
# Not as a parameter of FastAPI's, for which it would document a 422: any text is looked up, and 404 if it is no job.
_ID: dict[str, Any] = {
    "parameters": [
        {
            "name": "id",
            "in": "path",
            "required": True,
            "description": "From the `Location` of the 202.",
            "schema": {"type": "string"},
        }
    ]
}

CSV_DOCS: dict[str, Any] = {
    **VERSION_DOCS,
    POSTPROCESS_HEADER: {
        "description": "With `postprocess=manifest`: what was done to the scores; `none` where nothing is worth it.",
        "schema": {"type": "string"},
    },
}

router = APIRouter(prefix="/jobs", tags=["jobs"])


def table_headers(kind: TableKind, version: str, postprocess: str | None) -> dict[str, str]:
    """Of a CSV that a model made; postprocess: what was done to its scores, None where that was not asked for."""
    headers = {"Content-Disposition": f'attachment; filename="{kind.filename}"', VERSION_HEADER: version}
    return headers if postprocess is None else {**headers, POSTPROCESS_HEADER: postprocess}


async def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


JobsDep = Annotated[Jobs, Depends(_jobs)]


async def wants_job(
    prefer: Annotated[
        list[str],
        Header(description=f"`{ASYNC}`: answer 202 at once and work on it as a job (RFC 7240).", default_factory=list),
    ],
) -> bool:
    """A dependency: whether the client would rather have a job. Other preferences, `wait` for one, change nothing."""
    preferences = (part for line in prefer for part in _QUOTED.sub('""', line).split(","))
    names = (re.split("[;=]", preference, maxsplit=1)[0].strip().lower() for preference in preferences)
    return ASYNC in names


WantsJob = Annotated[bool, Depends(wants_job)]


async def take_job(jobs: Jobs, kind: TableKind, upload: UploadFile, images: Sequence[UploadFile]) -> Response:
    """202 with the job's address, once all that came is on the disk.

    Raises:
        Whatever the synchronous call finds before it embeds a photo. BusyError, StorageError: there is no room.
    """
    job = await jobs.submit(kind, upload, images)
    headers = {"Location": f"/jobs/{job.id}", "Preference-Applied": ASYNC}
    return JSONResponse(_status(job).model_dump(mode="json"), 202, headers)


async def _name(request: Request) -> str:
    return str(request.path_params["id"])


NameDep = Annotated[str, Depends(_name)]


async def _found(name: NameDep, jobs: JobsDep) -> Job:
    return await jobs.get(name)


async def _opened(name: NameDep, jobs: JobsDep) -> AsyncIterator[tuple[Job, BinaryIO]]:
    """The answer's file is open until it was sent, or until nobody wants it any more."""
    job, file = await jobs.open_result(name)
    with file:
        yield job, file


@router.get("/{id}", responses={200: _STATUS, **_PROBLEMS}, openapi_extra=_ID)
async def status(job: Annotated[Job, Depends(_found)]) -> JobStatus:
    """How far it is. `curl localhost:8000/jobs/ID`"""
    return _status(job)


@router.get(
    "/{id}/result",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The CSV.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
            "headers": CSV_DOCS,
        },
        **_NO_RESULT,
        **_PROBLEMS,
    },
    openapi_extra=_ID,
)
async def result(opened: Annotated[tuple[Job, BinaryIO], Depends(_opened)]) -> StreamingResponse:
    """The CSV, as the synchronous call would have answered it, as often as it is asked for while the job is kept.

    `curl localhost:8000/jobs/ID/result -o submission.csv`
    """
    job, file = opened
    headers = table_headers(KINDS[job.kind], job.model_version or "", job.postprocess)
    headers["Content-Length"] = str(job.size)
    return StreamingResponse(_pieces(file), media_type="text/csv", headers=headers)


@router.get(
    "/{id}/events",
    response_class=EventSourceResponse,
    responses={200: {"description": "An event `state` with the job's JSON at each change."}, **_PROBLEMS},
    openapi_extra=_ID,
)
async def events(job: Annotated[Job, Depends(_found)], jobs: JobsDep) -> AsyncIterator[ServerSentEvent]:
    """The same JSON as server-sent events, at each change. The stream ends after the final state: close it then.

    It also ends where the service goes down; a browser's EventSource comes back by itself.

    `curl -N localhost:8000/jobs/ID/events`
    """
    async with aclosing(jobs.watch(job)) as states:
        async for now in states:
            yield ServerSentEvent(event="state", data=_status(now))


@router.delete("/{id}", status_code=204, responses=_PROBLEMS, openapi_extra=_ID)
async def delete(name: NameDep, jobs: JobsDep) -> None:
    """Cancels it where it is not finished, and removes it and its answer. `curl -X DELETE localhost:8000/jobs/ID`"""
    await jobs.delete(name)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(MIB):
        yield piece


def _status(job: Job) -> JobStatus:
    return JobStatus.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "state": job.state.value,
            "done": job.done,
            "total": job.total,
            "created": _time(job.created),
            "started": _time(job.started),
            "finished": _time(job.finished),
            "model_version": job.model_version,
            "postprocess": job.postprocess,
            "problem": job.problem,
            "result": f"/jobs/{job.id}/result" if job.state is State.DONE else None,
        }
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
