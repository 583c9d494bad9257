"""A service, asked through the Python client; its errors in the command line's words."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Literal

from app.cli.answers import Compared, Float32, Scored, TableName
from app.cli.exits import CommandError, ExitCode
from app.cli.files import check_folder
from app.cli.progress import Progress
from app.client import (
    BusyError,
    Client,
    ClientError,
    ConnectionFailedError,
    InputError,
    Job,
    ProblemError,
    Scores,
    ServerError,
    TooLargeError,
    UnauthorizedError,
)

_STATES = {"sending": "sending", "queued": "waiting", "running": "photos", "away": "service away"}
_ADVICE: dict[type[ProblemError], str] = {
    ServerError: "The service's log has the reason.",
    BusyError: "Try again later.",
    UnauthorizedError: "Give the right key with --api-key.",
    TooLargeError: "Send less, or have the operator raise the limit (JAGUAR_MAX_...).",
    ProblemError: "Correct what was sent, and ask again.",
}


class RemoteEngine:
    """Asks a service. Tables are handed in as jobs, so that work of hours outlives a broken connection."""

    def __init__(self, client: Client, url: str) -> None:
        """`url` is what messages call the service."""
        self._client, self._url = client, url

    @classmethod
    @contextmanager
    def connect(cls, url: str, api_key: str | None) -> "Iterator[RemoteEngine]":
        """For `with`. Asks nothing yet. Raises CommandError: the address is none, or the key cannot be sent."""
        with _told():
            client = Client(url, api_key=api_key)
        with client:
            yield cls(client, url.rstrip("/"))

    def compare(self, a: Path, b: Path) -> Compared:
        """How alike two photos are."""
        with _told():
            return Compared(**asdict(self._client.similarity(a, b)))

    def explain(self, a: Path, b: Path) -> tuple[Compared, bytes]:
        """Likewise, and a PNG that shows where in the photos the score comes from."""
        with _told():
            return self.compare(a, b), self._client.explain_png(a, b)

    def embed(self, photos: Sequence[Path], tell: Progress) -> tuple[str, Float32]:
        """The model_version, and (N, D) embeddings, which are all of that model."""
        with _told():
            version = self._client.model().model_version
            return version, self._client.embed(photos, model_version=version, progress=_in_words(tell))

    def score(self, kind: TableName, table: Path, images: Path | None, file: BinaryIO, tell: Progress) -> Scored:
        """Writes a table's scores. Ctrl-C takes the job back; where the connection breaks, the job goes on."""
        if images is not None:
            check_folder(images)
        with _told():
            scores = self._wait(self._start(kind, table, images, _in_words(tell)), tell)
        file.write(scores.read())
        return Scored(scores.model_version, scores.postprocess)

    def model(self) -> dict[str, Any]:
        """What is being served."""
        with _told():
            return asdict(self._client.model())

    def _start(self, kind: TableName, table: Path, images: Path | None, told: Progress) -> Job:
        if kind == "batch":
            return self._client.start_batch(table, images, progress=told)
        how: Literal["manifest"] | None = None if kind == "submission" else "manifest"
        return self._client.start_submission(table, images, progress=told, postprocess=how)

    def _wait(self, job: Job, tell: Progress) -> Scores:
        try:
            return self._client.wait(job.id, progress=_in_words(tell), delete_after=True)
        except KeyboardInterrupt:
            with suppress(ClientError):  # it is on its way out, and the service forgets the job by itself
                self._client.delete_job(job.id)
            raise
        except ConnectionFailedError as error:
            raise CommandError(
                f"{self._url} went away while it worked",
                advice=f"The job goes on there; its answer will be at {self._url}/jobs/{job.id}/result",
                code=ExitCode.SERVICE,
            ) from error


def _in_words(tell: Progress) -> Progress:
    return lambda done, total, state: tell(done, total, _STATES.get(state, state))


@contextmanager
def _told() -> Iterator[None]:
    """The client's errors as the command line's; exit 2 for what was asked, 3 for who was asked."""
    try:
        yield
    except InputError as error:
        raise CommandError(error.summary, error.problems, "Check what was named; nothing was sent.") from error
    except ProblemError as error:
        raise _refused(error) from error
    except ClientError as error:
        raise CommandError(str(error), code=ExitCode.SERVICE) from error


def _refused(error: ProblemError) -> CommandError:
    if not error.type:  # a proxy's answer, or another program's
        advice = "Is the address right, and does the service run behind it? --url is what the page has as its address."
        return CommandError(error.detail, error.problems, advice, ExitCode.SERVICE)
    request = f", request_id {error.request_id}" if error.request_id else ""
    message = f"the service says: {error.detail.rstrip('. ')} ({error.status} {error.type or error.title}{request})"
    if error.status == HTTPStatus.NOT_IMPLEMENTED:
        return CommandError(message, error.problems, "The model it serves cannot do this; another one may.")
    advice = next(_ADVICE[known] for known in type(error).__mro__ if known in _ADVICE)
    code = ExitCode.SERVICE if isinstance(error, ServerError | BusyError) else ExitCode.INPUT
    return CommandError(message, error.problems, advice, code)
