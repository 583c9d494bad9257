"""`Client`: a service's calls, one after the other."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpx2

from app.client import calls, tables
from app.client.answers import Float32, Job, Model, Scores, Similarity
from app.client.calls import PNG, Progress, Split
from app.client.effects import run
from app.client.exchange import Exchange, Timeouts
from app.client.images import Images
from app.client.options import connection_options, default_retries, default_split, default_timeouts
from app.client.retries import Retries
from app.client.sources import Photo, Table
from app.client.tables import BATCH, Out, Postprocess, Wish, submission_call


class Client:
    """A service, asked over HTTP.

    >>> from app.client import Client
    >>> with Client("http://127.0.0.1:8000") as client:
    ...     answer = client.similarity("a.jpg", "b.jpg")
    >>> 0 <= answer.similarity <= 1
    True

    A photo is a path, a file's bytes, or an open file in binary mode. May be used from several threads.

    Every error is a `ClientError`, see `app.client.errors`; what the service refuses is a `ProblemError`.

    A `progress` that a call takes is told (done, total, state) at each change: of `sending`, bytes; of `queued`,
    `running`, `away` (the service is not there, and is waited for), `done` and `failed`, photos.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        retries: Retries = default_retries,
        timeouts: Timeouts = default_timeouts,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Asks nothing yet.

        base_url: for example `http://127.0.0.1:8000`, or `https://animals.org/jaguar` behind a proxy. api_key: where
        the service asks for one; the admin's for `reload`. transport: in place of the network.

        Raises:
            InputError: the address is none, or the key cannot be sent.
        """
        self._http = httpx2.Client(**connection_options(base_url, api_key), transport=transport)
        self._exchange = Exchange(base_url, retries, timeouts)

    def similarity(self, a: Photo, b: Photo) -> Similarity:
        """Do two photos show the same jaguar?

        >>> client.similarity("a.jpg", "a.jpg").similarity > 0.99999
        True
        """
        return run(calls.similarity(self._exchange, a, b), self._http)

    def explain(self, a: Photo, b: Photo, *, links: int | None = None) -> dict[str, Any]:
        """What each place of either photo adds to their score, as the service's JSON; it adds up to the cosine.

        links: how many pairs of places to name. Raises ServerError (501) where the model cannot tell.
        """
        return run(calls.explain_json(self._exchange, a, b, links), self._http)

    def explain_png(self, a: Photo, b: Photo, *, links: int | None = None, opacity: float | None = None) -> bytes:
        """The same, drawn over both photos: a PNG's bytes. opacity: of the maps, in [0, 1]."""
        return run(calls.explain(self._exchange, a, b, PNG, {"links": links, "opacity": opacity}), self._http)

    def embed(
        self,
        photos: Iterable[Photo],
        *,
        split: Split = default_split,
        model_version: str | None = None,
        progress: Progress | None = None,
    ) -> Float32:
        """(N, D) float32 unit-norm embeddings of N photos, in their order; dot products are cosines.

        split: how many photos go at once. model_version: the one that the embeddings must be of, if they are to be
        compared with others. Raises ModelChangedError where they are not, or not of one model.

        >>> embeddings = client.embed(["a.jpg", "b.jpg"])
        >>> embeddings.shape
        (2, 512)
        """
        return run(calls.embed(self._exchange, photos, split, model_version, progress), self._http)

    def batch(
        self,
        pairs: Table,
        images: Images | None = None,
        *,
        out: Out | None = None,
        as_job: bool = False,
        progress: Progress | None = None,
        delete_after: bool = False,
    ) -> Scores:
        """A table of pairs with their scores added, in its order.

        pairs: a CSV with `query_image` and `gallery_image`, as a path, its bytes or an open file; or rows of both.
        images: a folder, of which the photos that the table names are sent; a zip; a list of paths; photos by name.
        Without any the service looks below its own image root. Nothing is read into memory whole but the table.
        out: the file for the answer, which is there whole or not at all; without one the answer is in memory.

        >>> client.batch([("a.jpg", "b.jpg")], images=["a.jpg", "b.jpg"]).read().decode().splitlines()[0]
        'query_image,gallery_image,cosine,similarity,probability,verdict'

        as_job: for work of hours. The service keeps the job, whatever becomes of the connection or of itself, and is
        waited for where it goes away. delete_after: have it forget the job once the answer is here.
        """
        wish = Wish(out, as_job, progress, delete_after)
        return run(tables.score(self._exchange, BATCH, pairs, images, wish), self._http)

    def submission(
        self,
        test: Table,
        images: Images | None = None,
        *,
        out: Out | None = None,
        as_job: bool = False,
        progress: Progress | None = None,
        delete_after: bool = False,
        postprocess: Postprocess | None = None,
    ) -> Scores:
        """The competition's `test.csv` in, `submission.csv` out; everything else as for `batch`.

        postprocess: "manifest" for what the model's manifest says is worth doing to the scores of a whole table.

        >>> client.submission("test.csv", images="photos", out="submission.csv", as_job=True).path.name
        'submission.csv'
        """
        wish = Wish(out, as_job, progress, delete_after)
        return run(tables.score(self._exchange, submission_call(postprocess), test, images, wish), self._http)

    def start_batch(self, pairs: Table, images: Images | None = None, *, progress: Progress | None = None) -> Job:
        """Hands a table in, and waits no longer than until it is safe on the service's disk."""
        return run(tables.start(self._exchange, BATCH, pairs, images, progress), self._http)

    def start_submission(
        self,
        test: Table,
        images: Images | None = None,
        *,
        progress: Progress | None = None,
        postprocess: Postprocess | None = None,
    ) -> Job:
        """Likewise for `test.csv`.

        >>> job = client.start_submission("test.csv", images="photos")
        >>> client.wait(job.id).read().decode().splitlines()[0]
        'row_id,similarity'
        """
        return run(tables.start(self._exchange, submission_call(postprocess), test, images, progress), self._http)

    def job(self, job_id: str) -> Job:
        """How a job stands. Raises NotFoundError where there is none."""
        return run(tables.job(self._exchange, job_id), self._http)

    def wait(
        self, job_id: str, *, out: Out | None = None, progress: Progress | None = None, delete_after: bool = False
    ) -> Scores:
        """The answer of a job, also of one that another program handed in.

        Raises:
            ProblemError: it failed, with what the request would have been told. NotFoundError: it is not there any
            more. ConnectionFailedError: the service was away for too long; the job goes on with it.
        """
        wish = Wish(out, as_job=True, progress=progress, delete_after=delete_after)
        return run(tables.wait(self._exchange, job_id, wish), self._http)

    def delete_job(self, job_id: str) -> None:
        """Cancels a job that is not finished, and has the service forget it. Raises NotFoundError."""
        run(tables.delete_job(self._exchange, job_id), self._http)

    def model(self) -> Model:
        """What is being served.

        >>> client.model().embedding_dim
        512
        """
        return run(calls.model(self._exchange), self._http)

    def reload(self) -> Model:
        """Has the service load its bundle again; needs the admin key. Raises BadInputError (409) if it is refused."""
        return run(calls.reload(self._exchange), self._http)

    def ready(self) -> bool:
        """Whether the service would answer now. Asked once; False as well where nothing answers at all.

        >>> client.ready()
        True
        """
        return run(calls.ready(self._exchange), self._http)

    def close(self) -> None:
        """Closes the connections; `with` does it as well."""
        self._http.close()

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        self.close()

    def __repr__(self) -> str:
        """The address, and no key."""
        return f"Client({self._exchange.base_url!r})"
