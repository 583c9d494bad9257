"""What can go wrong for whoever asks a service, as one tree.

    ClientError
    ├── InputError               what was handed in cannot be used: a file that is not there, rows that are no pairs
    ├── ConnectionFailedError    no answer, or half of one; of a job that goes on without its client, `job_id`
    ├── AnswerError              an answer that is not the service's
    │   └── ModelChangedError    embeddings of two models would have been mixed
    └── ProblemError             the service said no, and why: `status`, `type`, `detail`, `problems`, `request_id`...
        ├── BadInputError        4xx: what was sent cannot be worked on
        ├── UnauthorizedError    401, 403: the key
        ├── NotFoundError        404: a job that is not there any more, or an address that never was
        ├── TooLargeError        413: more than the operator allows
        ├── BusyError            429, 503: later; `retry_after_s` where the service says when
        └── ServerError          5xx: the service's own failure

Every message says what happened and what to do about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.reid.errors import SHOWN_PROBLEMS


@dataclass(frozen=True)
class Problem:
    """RFC 9457 problem details, as the service sends them.

    type: the stable end of the problem's type, for example `unknown-image`; empty where something else than the
    service answered. title: the same for all problems of a type. problems: all that is wrong, the first 20 of more.
    request_id: the service's log knows it as well. retry_after_s: when to come again, where that was said.
    """

    status: int
    type: str
    title: str
    detail: str
    problems: tuple[str, ...] = ()
    request_id: str = ""
    retry_after_s: float | None = None


class ClientError(Exception):
    """Base of all errors that the client raises on purpose."""


class InputError(ClientError):
    """What was handed in cannot be used. `problems` lists every finding, where there are several."""

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        super().__init__(summary, tuple(problems))
        self.summary = summary
        self.problems = tuple(problems)

    def __str__(self) -> str:
        """The summary and the first findings."""
        hidden = len(self.problems) - SHOWN_PROBLEMS
        tail = [f"and {hidden} more"] if hidden > 0 else []
        return "; ".join([self.summary, *self.problems[:SHOWN_PROBLEMS], *tail])


class ConnectionFailedError(ClientError):
    """There was no answer, or only half of one. `job_id`: of the job that was waited for, and that goes on."""

    def __init__(self, message: str, job_id: str | None = None) -> None:
        super().__init__(message, job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        """The message."""
        return str(self.args[0])


class AnswerError(ClientError):
    """An answer that is not the service's: another program lives at the address, or a proxy is in between."""


class ModelChangedError(AnswerError):
    """Embeddings of two models, which must never be compared."""


class ProblemError(ClientError):
    """The service said no. Everything that it said is in `problem`, and here by name."""

    advice = "Ask whoever runs the service."

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.status, self.type, self.title = problem.status, problem.type, problem.title
        self.detail, self.problems = problem.detail, problem.problems
        self.request_id, self.retry_after_s = problem.request_id, problem.retry_after_s

    def __str__(self) -> str:
        """What happened, what to do, and how to find it in the service's log."""
        found = "; ".join([self.detail.rstrip(". "), *self.problems])
        names = [f"{self.status} {self.type or self.title}"]
        names += [f"request_id {self.request_id}"] if self.request_id else []
        return f"{found}. {self._what_to_do()} ({', '.join(names)})"

    def _what_to_do(self) -> str:
        return self.advice


class BadInputError(ProblemError):
    """4xx: what was sent cannot be worked on, and will not be when it is sent again."""

    advice = "Correct what was sent, and ask again."


class UnauthorizedError(ProblemError):
    """401, 403: no key, a wrong one, or one that is not the admin's."""

    advice = "Give the client the right key: Client(url, api_key=...)."


class NotFoundError(ProblemError):
    """404: a job that is not there any more, or an address that never was."""

    advice = "Check the address; a job may have been deleted or have grown too old, and is then handed in again."


class TooLargeError(ProblemError):
    """413: more than the operator allows."""

    advice = "Send less at once, or have the operator raise the limit (the service's JAGUAR_MAX_... settings)."


class BusyError(ProblemError):
    """429, 503: not now."""

    advice = "Try again later."

    def _what_to_do(self) -> str:
        if self.retry_after_s is None:
            return self.advice
        return f"Try again in {self.retry_after_s:.0f} s, or let the client wait longer: Client(url, retries=...)."


class ServerError(ProblemError):
    """5xx: the service's own failure."""

    advice = "Ask whoever runs the service; its log has the reason."


_BY_STATUS: dict[int, type[ProblemError]] = {
    401: UnauthorizedError,
    403: UnauthorizedError,
    404: NotFoundError,
    413: TooLargeError,
    429: BusyError,
    503: BusyError,
}


def problem_error(problem: Problem) -> ProblemError:
    """The error that a problem's status asks for."""
    family = BadInputError if 400 <= problem.status < 500 else ServerError
    return _BY_STATUS.get(problem.status, family)(problem)
