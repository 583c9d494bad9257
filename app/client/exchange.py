"""One question and its answer: asked again where that helps, and every failure told as the client's own."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from secrets import SystemRandom

import httpx2

from app.client.effects import Program, Reply, Request, Send, Wait, do
from app.client.errors import (
    AnswerError,
    ClientError,
    ConnectionFailedError,
    InputError,
    Problem,
    ProblemError,
    problem_error,
)
from app.client.retries import Retries, retry_after_s
from app.client.sinks import Sink

# The states and the texts of a problem are the service's; whatever else answers says no more than this much.
_SHOWN_CHARACTERS = 200
_LATER = frozenset({429, 503})


@dataclass(frozen=True)
class Timeouts:
    """How long a client waits for the network, in seconds.

    connect_s: for a connection. send_s: for the service to take another piece of a body. status_s: for an answer that
    needs no work. answer_s: for one that needs photos to be embedded. table_s: for that to a whole table, which takes
    minutes; what takes hours is better handed in as a job.
    """

    connect_s: float = 10.0
    send_s: float = 60.0
    status_s: float = 30.0
    answer_s: float = 600.0
    table_s: float = 3600.0

    def __post_init__(self) -> None:
        """Raises InputError."""
        if not all(value > 0 for value in vars(self).values()):
            raise InputError(f"{self} cannot be: all are more than 0 seconds")

    def until(self, answer_s: float) -> httpx2.Timeout:
        """For one request."""
        return httpx2.Timeout(connect=self.connect_s, write=self.send_s, read=answer_s, pool=None)


@dataclass(frozen=True)
class Exchange:
    """How one client asks. base_url: what errors call the service."""

    base_url: str
    retries: Retries
    timeouts: Timeouts
    chance: Callable[[], float] = field(default_factory=lambda: SystemRandom().random)

    def ask(
        self,
        request: Request,
        sink: Sink | None = None,
        sent: Callable[[int], object] | None = None,
        *,
        once: bool = False,
    ) -> Program[Reply]:
        """The answer that was asked for. `once`: whoever asks comes back by himself.

        Raises:
            ConnectionFailedError, ProblemError, AnswerError; InputError where a file cannot be read or written.
        """
        attempts, waited_s = 0, 0.0
        while True:
            attempts += 1
            answer = yield from self._try(Send(request, sink, sent))
            if isinstance(answer, Reply):
                return answer
            wait_s = self.retries.next_s(attempts, waited_s, answer.asked_s, self.chance())
            if once or not answer.may_again or wait_s is None:
                raise answer.error from answer.cause
            waited_s += wait_s
            yield from do(Wait(wait_s))

    def _try(self, send: Send) -> "Program[Reply | _Failure]":
        request = send.request
        try:
            reply = yield from do(send)
        except httpx2.RequestError as error:
            failed = connection_failed(self.base_url, request, error)
            return _Failure(failed, error, None, _was_harmless(request, error))
        if reply.is_asked_for:
            return reply
        refused = refusal(self.base_url, request, reply)
        asked_s = refused.retry_after_s if isinstance(refused, ProblemError) else None
        can_again = request.form is None or request.form.is_repeatable
        return _Failure(refused, None, asked_s, reply.status in _LATER and can_again)


@dataclass(frozen=True)
class _Failure:
    """An attempt that failed: what it is for the caller, where it came from, and whether another one makes sense."""

    error: ClientError
    cause: Exception | None
    asked_s: float | None
    may_again: bool


def refusal(base_url: str, request: Request, reply: Reply) -> ProblemError | AnswerError:
    """What an answer means that is not the one asked for."""
    if 300 <= reply.status < 400:
        place = reply.headers.get("location", "nowhere")[:_SHOWN_CHARACTERS]
        return AnswerError(f"{base_url} sends whoever asks on to {place}; give the client the address that answers")
    if reply.status >= 400:
        return problem_error(_problem(base_url, reply))
    kind = reply.headers.get("content-type", "nothing")[:_SHOWN_CHARACTERS]
    return AnswerError(
        f"{request.method} {request.path} was answered with {reply.status} and {kind}, which this service does not do;"
        f" is {base_url} its address?"
    )


def read_problem(body: object, status: int, wait_s: float | None = None) -> Problem | None:
    """A problem from its JSON; None where that is something else."""
    if not isinstance(body, dict) or not isinstance(body.get("type"), str) or not isinstance(body.get("detail"), str):
        return None
    problems = body.get("problems")
    return Problem(
        status=status,
        type=body["type"].rsplit(":", 1)[-1],
        title=str(body.get("title", "")),
        detail=body["detail"],
        problems=tuple(map(str, problems)) if isinstance(problems, list) else (),
        request_id=str(body.get("request_id", "")),
        retry_after_s=wait_s,
    )


def connection_failed(base_url: str, request: Request, error: httpx2.RequestError) -> ConnectionFailedError:
    """The sentence for what happened on the way."""
    reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)).lower() or type(error).__name__
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            text = f"{base_url} cannot be reached ({reason}); does the service run there, and is the address right?"
        case httpx2.ReadTimeout():
            text = (
                f"{base_url} did not answer within {request.timeout.read:g} s; hand a table in as a job (as_job=True),"
                " or have the client wait longer: Client(url, timeouts=...)"
            )
        case httpx2.WriteTimeout():
            text = f"{base_url} took no more of what was sent for {request.timeout.write:g} s; try again later"
        case _:
            text = f"the connection to {base_url} broke before the answer was whole ({reason}); ask again"
    return ConnectionFailedError(text)


def _problem(base_url: str, reply: Reply) -> Problem:
    try:
        body = json.loads(reply.content)
    except ValueError:
        body = None
    wait_s = retry_after_s(reply.headers)
    if (found := read_problem(body, reply.status, wait_s)) is not None:
        return found
    title = HTTPStatus(reply.status).phrase if reply.status in set(HTTPStatus) else "an unknown status"
    detail = f"something at {base_url}, and not the service, answered {reply.status} ({title})"
    return Problem(reply.status, "", title, detail, retry_after_s=wait_s)


def _was_harmless(request: Request, error: httpx2.RequestError) -> bool:
    """Whether nothing was begun: no connection came about, or the question changes nothing and can be asked again."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return True
    return request.method == "GET" and isinstance(error, httpx2.TransportError)
