"""`AsyncClient`: the calls of `Client`, to be awaited. What they do, take and raise is written there."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpx2

from app.client import calls, tables
from app.client.answers import Float32, Job, Model, Scores, Similarity
from app.client.calls import PNG, Progress, Split
from app.client.effects import run_async
from app.client.exchange import Exchange, Timeouts
from app.client.images import Images
from app.client.options import connection_options, default_retries, default_split, default_timeouts
from app.client.retries import Retries
from app.client.sources import Photo, Table
from app.client.tables import BATCH, Out, Postprocess, Wish, submission_call


class AsyncClient:
    """A service, asked over HTTP from asyncio. Files are read and written in threads; a `progress` is told on the loop.

    >>> import asyncio
    >>> from app.client import AsyncClient
    >>> async def main():
    ...     async with AsyncClient("http://127.0.0.1:8000") as client:
    ...         return await asyncio.gather(client.similarity("a.jpg", "b.jpg"), client.model())
    >>> answer, model = asyncio.run(main())
    >>> answer.model_version == model.model_version
    True
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        retries: Retries = default_retries,
        timeouts: Timeouts = default_timeouts,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Like `Client`."""
        self._http = httpx2.AsyncClient(**connection_options(base_url, api_key), transport=transport)
        self._exchange = Exchange(base_url, retries, timeouts)

    async def similarity(self, a: Photo, b: Photo) -> Similarity:
        """Like `Client.similarity`."""
        return await run_async(calls.similarity(self._exchange, a, b), self._http)

    async def explain(self, a: Photo, b: Photo, *, links: int | None = None) -> dict[str, Any]:
        """Like `Client.explain`."""
        return await run_async(calls.explain_json(self._exchange, a, b, links), self._http)

    async def explain_png(self, a: Photo, b: Photo, *, links: int | None = None, opacity: float | None = None) -> bytes:
        """Like `Client.explain_png`."""
        options = {"links": links, "opacity": opacity}
        return await run_async(calls.explain(self._exchange, a, b, PNG, options), self._http)

    async def embed(
        self,
        photos: Iterable[Photo],
        *,
        split: Split = default_split,
        model_version: str | None = None,
        progress: Progress | None = None,
    ) -> Float32:
        """Like `Client.embed`."""
        return await run_async(calls.embed(self._exchange, photos, split, model_version, progress), self._http)

    async def batch(
        self,
        pairs: Table,
        images: Images | None = None,
        *,
        out: Out | None = None,
        as_job: bool = False,
        progress: Progress | None = None,
        delete_after: bool = False,
    ) -> Scores:
        """Like `Client.batch`."""
        wish = Wish(out, as_job, progress, delete_after)
        return await run_async(tables.score(self._exchange, BATCH, pairs, images, wish), self._http)

    async def submission(
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
        """Like `Client.submission`."""
        wish = Wish(out, as_job, progress, delete_after)
        call = submission_call(postprocess)
        return await run_async(tables.score(self._exchange, call, test, images, wish), self._http)

    async def start_batch(self, pairs: Table, images: Images | None = None, *, progress: Progress | None = None) -> Job:
        """Like `Client.start_batch`."""
        return await run_async(tables.start(self._exchange, BATCH, pairs, images, progress), self._http)

    async def start_submission(
        self,
        test: Table,
        images: Images | None = None,
        *,
        progress: Progress | None = None,
        postprocess: Postprocess | None = None,
    ) -> Job:
        """Like `Client.start_submission`."""
        call = submission_call(postprocess)
        return await run_async(tables.start(self._exchange, call, test, images, progress), self._http)

    async def job(self, job_id: str) -> Job:
        """Like `Client.job`."""
        return await run_async(tables.job(self._exchange, job_id), self._http)

    async def wait(
        self, job_id: str, *, out: Out | None = None, progress: Progress | None = None, delete_after: bool = False
    ) -> Scores:
        """Like `Client.wait`."""
        wish = Wish(out, as_job=True, progress=progress, delete_after=delete_after)
        return await run_async(tables.wait(self._exchange, job_id, wish), self._http)

    async def delete_job(self, job_id: str) -> None:
        """Like `Client.delete_job`."""
        await run_async(tables.delete_job(self._exchange, job_id), self._http)

    async def model(self) -> Model:
        """Like `Client.model`."""
        return await run_async(calls.model(self._exchange), self._http)

    async def reload(self) -> Model:
        """Like `Client.reload`."""
        return await run_async(calls.reload(self._exchange), self._http)

    async def ready(self) -> bool:
        """Like `Client.ready`."""
        return await run_async(calls.ready(self._exchange), self._http)

    async def close(self) -> None:
        """Closes the connections; `async with` does it as well."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """For `async with`."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        await self.close()

    def __repr__(self) -> str:
        """The address, and no key."""
        return f"AsyncClient({self._exchange.base_url!r})"
