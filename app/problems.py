"""Errors as HTTP: one table from error class to status, and RFC 9457 `application/problem+json` for every one of them.

What the client did wrong is told in full, in the error's own words. What went wrong inside is logged and answered with
a request id and nothing else.
"""

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from asgi_correlation_id import correlation_id
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors as faults
from app.reid import errors
from app.reid.errors import SHOWN_PROBLEMS, ListedError, ReidError

MEDIA_TYPE = "application/problem+json"
URN = "urn:jaguar-reid:problem:"
RETRY_AFTER_S = 1

logger = logging.getLogger(__name__)


class Calls(StrEnum):
    """Sorts of calls, by what can go wrong in them."""

    ALL = "all"
    PHOTOS = "photos"
    EXPLAIN = "explain"
    TABLES = "tables"
    HEALTH = "health"
    JOBS = "jobs"
    ADMIN = "admin"
    KEYED = "keyed"


@dataclass(frozen=True)
class Kind:
    """What an error is over HTTP.

    `slug` is the stable end of its type; `calls` says where it is documented; `headers` go with every such answer.
    """

    status: int
    slug: str
    title: str
    calls: Calls = Calls.ALL
    headers: Mapping[str, str] = field(default_factory=dict)


_CLOSE = {"Connection": "close"}
_RETRY = {"Retry-After": str(RETRY_AFTER_S)}
INTERNAL = Kind(500, "internal-error", "The service made an error")
INVALID_REQUEST = Kind(422, "invalid-request", "The request does not fit this call", Calls.PHOTOS)
INVALID_BODY = Kind(400, "invalid-body", "The body cannot be parsed", Calls.PHOTOS)
BODY_TOO_LARGE = Kind(413, "body-too-large", "The body is too large", Calls.PHOTOS)
# What is said before there is a request that an application could answer.
INVALID_HEAD = Kind(400, "invalid-request-head", "This is not an HTTP request that can be understood")
HEAD_TIMEOUT = Kind(408, "head-timeout", "The request's head did not arrive")
HEAD_TOO_LARGE = Kind(431, "head-too-large", "The request's head is too large")
TOO_MANY_PARTS = Kind(413, "too-many-parts", "Too many or too long parts", Calls.PHOTOS)

# The most special class that an error belongs to decides.
ERRORS: Mapping[type[ReidError], Kind] = {
    ReidError: INTERNAL,
    errors.ImageError: Kind(422, "unreadable-image", "A photo cannot be read", Calls.PHOTOS),
    errors.UnsupportedFormatError: Kind(415, "unsupported-format", "A photo is not JPEG, PNG or WebP", Calls.PHOTOS),
    errors.PixelLimitError: Kind(422, "too-many-pixels", "A photo has too many pixels", Calls.PHOTOS),
    errors.TableError: Kind(422, "invalid-table", "The CSV breaks its contract", Calls.TABLES),
    errors.RowLimitError: Kind(413, "too-many-rows", "The CSV has too many rows", Calls.TABLES),
    errors.UnknownImageError: Kind(422, "unknown-image", "Photos are missing", Calls.TABLES),
    errors.AmbiguousImageError: Kind(422, "ambiguous-image", "Names match more than one photo", Calls.TABLES),
    errors.UnsafeNameError: Kind(422, "unsafe-name", "Names lead out of their folder", Calls.TABLES),
    faults.DuplicateImageError: Kind(422, "duplicate-image", "Photos have the same name", Calls.TABLES),
    faults.NoImagesError: Kind(422, "no-images", "There are no photos to look in", Calls.TABLES),
    faults.ArchiveError: Kind(422, "unreadable-zip", "A zip cannot be read", Calls.TABLES),
    faults.ArchiveLimitError: Kind(413, "zip-too-large", "A zip unpacks to too much", Calls.TABLES),
    faults.FileLimitError: Kind(413, "file-too-large", "A file is too large", Calls.PHOTOS),
    faults.InvalidRequestError: INVALID_REQUEST,
    faults.MediaTypeError: Kind(415, "unsupported-media-type", "The body is not multipart/form-data", Calls.PHOTOS),
    faults.BusyError: Kind(503, "busy", "The service is busy", Calls.PHOTOS, _RETRY),
    faults.NotReadyError: Kind(503, "not-ready", "The service is not ready", Calls.HEALTH, _RETRY),
    faults.DrainingError: Kind(503, "shutting-down", "The service is going down", Calls.PHOTOS, _RETRY),
    faults.IncompleteBodyError: INVALID_BODY,
    faults.BodyTimeoutError: Kind(408, "body-timeout", "The body did not arrive", Calls.PHOTOS, _CLOSE),
    faults.ForwardTimeoutError: Kind(503, "timeout", "The network did not answer in time", Calls.PHOTOS, _RETRY),
    faults.ExplainUnavailableError: Kind(501, "no-places", "The bundle has no heat map", Calls.EXPLAIN),
    faults.UnauthorizedError: Kind(401, "unauthorized", "A key is needed", Calls.KEYED, {"WWW-Authenticate": "Bearer"}),
    faults.ForbiddenError: Kind(403, "forbidden", "The admin key is needed", Calls.ADMIN),
    faults.RateLimitError: Kind(429, "too-many-requests", "Too many requests", Calls.KEYED),
    faults.BundleRefusedError: Kind(409, "bundle-refused", "The bundle cannot be served", Calls.ADMIN),
    faults.UnknownJobError: Kind(404, "unknown-job", "There is no such job", Calls.JOBS),
    faults.JobStateError: Kind(409, "no-result", "The job has no result", Calls.JOBS),
    faults.StorageError: Kind(507, "no-space", "There is no room on the disk", Calls.PHOTOS),
}

# What the framework itself answers; anything else is called by its status.
STATUSES: Mapping[int, Kind] = {
    400: INVALID_BODY,
    404: Kind(404, "not-found", "There is no such page"),
    405: Kind(405, "method-not-allowed", "This page does not have that method"),
    413: BODY_TOO_LARGE,
}
_DOCUMENTED = (*ERRORS.values(), INVALID_BODY, BODY_TOO_LARGE, TOO_MANY_PARTS)


class Problem(BaseModel):
    """RFC 9457 problem details: `application/problem+json`."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": URN + "unknown-image",
                "title": "Photos are missing",
                "status": 422,
                "detail": "photos that are not in the upload",
                "request_id": "b1f2f0c2f5a24b6a9d2f8a4d5f3f0a11",
                "problems": ["line 2: 'test_0001.png'"],
            }
        }
    )

    type: str = Field(description="Stable: what kind of problem this is.")
    title: str = Field(description="The same for all problems of a type.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong this time, for a person.")
    request_id: str = Field(description="The `X-Request-ID` of the answer; the service's log knows it as well.")
    problems: list[str] = Field(description=f"All that is wrong; of more than {SHOWN_PROBLEMS}, the first.")


def kind_of(error: ReidError) -> Kind:
    """The table's row for an error."""
    return next(ERRORS[known] for known in type(error).__mro__ if known in ERRORS)


def problem_response(
    kind: Kind, detail: str, problems: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of this kind. `headers` come on top of those that the kind has."""
    body = Problem(
        type=URN + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=detail,
        request_id=correlation_id.get() or "",
        problems=list(problems),
    )
    return JSONResponse(body.model_dump(), kind.status, {**kind.headers, **(headers or {})}, MEDIA_TYPE)


def error_response(error: ReidError) -> Response:
    """The answer to an error that was raised on purpose."""
    kind = kind_of(error)
    if kind is INTERNAL:
        return unexpected_response(error)
    if isinstance(error, faults.RateLimitError):
        return problem_response(kind, str(error), headers={"Retry-After": str(error.retry_after_s)})
    if not isinstance(error, ListedError):
        return problem_response(kind, str(error))
    shown, found = len(error.problems), len(error.all_problems)
    tail = f"; the first {shown} of {found} are listed" if found > shown else ""
    return problem_response(kind, error.summary + tail, error.problems)


def unexpected_response(error: Exception) -> Response:
    """The answer to an error of the service's own: logged, and nothing of it told."""
    logger.error("request %s failed", correlation_id.get(), exc_info=error)
    return problem_response(INTERNAL, "The service made an error; its log has it under this request_id.")


def install(app: FastAPI) -> None:
    """Has the application answer all of its errors with problems."""
    for known in (ReidError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(known, answer)


def responses(*calls: Calls) -> dict[int | str, dict[str, Any]]:
    """OpenAPI: every problem that calls of these sorts may answer, by status. Health alone is open to everybody."""
    sorts = {Calls.ALL, *calls} | (set() if Calls.HEALTH in calls else {Calls.KEYED})
    kinds = [kind for kind in _DOCUMENTED if kind.calls in sorts]
    statuses = sorted({kind.status for kind in kinds})
    return {status: _documented([kind for kind in kinds if kind.status == status]) for status in statuses}


class ProblemBodies:
    """Answers with problems where no exception handler gets to: Starlette's body limit fails in plain text.

    Goes inside all other middleware, which then sees these answers as well. Starlette itself would answer an error that
    nobody expected from outside of them all.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wraps an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers through the application, in JSON where it fails in plain text or with an exception."""
        begun = replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal begun, replaced
            begun = True
            if message["type"] == "http.response.start" and _is_plain_error(message):
                replaced = True
                await _status_response(message["status"], scope)(scope, receive, send)
            elif not replaced:
                await send(message)

        try:
            await self._app(scope, receive, send_problem)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            await unexpected_response(error)(scope, receive, send)


def _is_plain_error(message: Message) -> bool:
    content_type = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] >= 400 and content_type.startswith("text/plain")


def _status_response(status: int, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """What there is to say of a status by itself."""
    phrase = HTTPStatus(status).phrase
    kind = STATUSES.get(status) or Kind(status, phrase.lower().replace(" ", "-"), phrase)
    limit = scope.get(MAX_BODY_SIZE_SCOPE_KEY)
    detail = f"The body has more than {limit} bytes." if status == 413 and limit else f"{kind.title}."
    return problem_response(kind, detail, headers=headers)


async def answer(request: Request, error: Exception) -> Response:
    """The answer to whatever a handler, or the framework, raised."""
    match error:
        case ReidError():
            return error_response(error)
        case RequestValidationError():
            problems = [_finding(found) for found in error.errors()]
            return problem_response(INVALID_REQUEST, "parts of the request are missing or of the wrong kind", problems)
        case HTTPException():
            return _framework_response(error, request.scope)
        case _:
            return unexpected_response(error)


def _framework_response(error: HTTPException, scope: Scope) -> Response:
    """What the framework refuses. A form that cannot be stored is no fault of the client's, though it is called one."""
    cause = error.__cause__
    if isinstance(cause, ReidError):
        return error_response(cause)
    if isinstance(cause, OSError):
        full = cause.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        return error_response(faults.StorageError("The disk has no room.")) if full else unexpected_response(error)
    if error.status_code == 400:
        too_many = error.detail.startswith(("Too many", "Part exceeded"))
        return problem_response(TOO_MANY_PARTS if too_many else INVALID_BODY, error.detail)
    return _status_response(error.status_code, scope, error.headers)


def _finding(found: Mapping[str, Any]) -> str:
    """One of pydantic's findings, without its words for a program's insides."""
    place = ".".join(str(step) for step in found["loc"][1:])
    if found["type"] == "missing":
        return f"{place} is missing"
    if found["loc"][0] == "query":
        return f"{place}: {found['msg']}"
    return f"{place} must be a file: a part with a filename"


def _documented(kinds: Sequence[Kind]) -> dict[str, Any]:
    """OpenAPI: one status, its problem types and an example of each."""
    examples = {
        kind.slug: {
            "value": Problem(
                type=URN + kind.slug,
                title=kind.title,
                status=kind.status,
                detail="What is wrong this time, in a sentence.",
                request_id="b1f2f0c2f5a24b6a9d2f8a4d5f3f0a11",
                problems=[],
            ).model_dump()
        }
        for kind in kinds
    }
    return {
        "description": "; ".join(kind.title for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }
