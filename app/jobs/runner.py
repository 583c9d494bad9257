"""Works on jobs, one at a time, in the order in which they came; a killed one goes on where its embeddings end."""

import asyncio
import json
import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from asgi_correlation_id import correlation_id
from starlette.responses import Response

from app.errors import BusyError, DrainingError, ForwardTimeoutError, NotReadyError, StorageError
from app.jobs.files import JobFiles
from app.jobs.job import Job, State
from app.jobs.plan import KINDS, Plan, make_plan
from app.jobs.shelf import Shelf
from app.jobs.store import JobStore
from app.problems import INTERNAL, error_response, problem_response, unexpected_response
from app.reid.embedder import LoadedModel
from app.reid.errors import ReidError
from app.reid.scoring import score_pairs
from app.settings import Settings
from app.workers import Workers

# Photos between two syncs: what a kill can cost, and how long a cancelled job may go on.
CHUNK = 32
# Starts without a single new row on the disk; a job that ends the process each time must not do so for ever.
MAX_ATTEMPTS = 10
POLL_S = 1.0
RETRY_S = 5.0
SWEEP_S = 60.0
# What is over in a moment, and none of the job's doing.
_TRANSIENT = (BusyError, DrainingError, ForwardTimeoutError, NotReadyError)

logger = logging.getLogger(__name__)


class _GoneError(Exception):
    """The job was deleted while it was worked on."""


class Runner:
    """One task that works on whatever is next. Of several processes with the same folder, one works."""

    def __init__(self, settings: Settings, workers: Workers, shelf: Shelf) -> None:
        """Nothing runs yet."""
        self._settings = settings
        self._workers = workers
        self._shelf = shelf
        self._news = asyncio.Event()
        self._current: Job | None = None
        self._swept_at: float | None = None
        self.waiting = 0
        self.running = 0

    def notify(self) -> None:
        """There is a new job."""
        self._news.set()

    async def run(self) -> None:
        """Works until it is cancelled; whatever happens is logged and worked around."""
        while True:
            self._news.clear()
            try:
                worked = await self._turn()
            except Exception:
                logger.exception("the jobs cannot be worked on; trying again")
                await asyncio.sleep(RETRY_S)
                continue
            if not worked:
                await self._pause(POLL_S)

    async def leave(self) -> None:
        """After `run` was cancelled: puts what it worked on back in line."""
        if self._current is not None:
            await self._shelf.list(JobStore.release, self._current.id, forgive=True)

    async def count(self) -> None:
        """Looks how many jobs wait and run."""
        self.waiting, self.running = await self._shelf.list(JobStore.counts)

    async def _turn(self) -> bool:
        """Does what there is to do; False where there is nothing."""
        await self.count()
        if not await self._shelf.lead():
            return False
        if self._swept_at is None or time.monotonic() - self._swept_at > SWEEP_S:
            self._swept_at = time.monotonic()
            await self._shelf.expire()
            await self._shelf.sweep()
        job = await self._shelf.list(JobStore.next)
        if job is not None:
            await self._work(job)
        return job is not None

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return

    async def _work(self, job: Job) -> None:
        """One job, to its end or to whatever comes in between."""
        token = correlation_id.set(job.request_id or job.id)
        self._current = job
        try:
            await self._attempt(job)
        except _GoneError:
            await self._shelf.disk(self._shelf.files(job.id).remove)
        except Exception as error:
            await self._end_badly(job, error)
        finally:
            correlation_id.reset(token)
        self._current = None

    async def _attempt(self, job: Job) -> None:
        if job.attempts >= MAX_ATTEMPTS:
            detail = f"The job was begun {job.attempts} times and got no further; the service's log has its request_id."
            await self._fail(job, problem_response(INTERNAL, detail))
            return
        _still(await self._shelf.list(JobStore.begin, job.id, time.time()))
        await self.count()
        model, files = KINDS[job.kind].model(self._workers.model), self._shelf.files(job.id)
        with ExitStack() as stack:
            data = await self._shelf.disk(files.csv)
            uploads = await self._shelf.disk(stack.enter_context, files.uploads())
            plan = await make_plan(KINDS[job.kind], data, uploads, self._settings)
            await self._embed(job, plan, model, files)
            await self._shelf.disk(self._write, plan, model, files)
        size = await self._shelf.disk(lambda: files.result.stat().st_size)
        _still(await self._shelf.list(JobStore.finish, job.id, State.DONE, size, time.time(), None))
        await self._shelf.disk(files.keep_result)

    async def _embed(self, job: Job, plan: Plan, model: LoadedModel, files: JobFiles) -> None:
        """Embeds what has no row yet. Rows of another model, or of other photos, do not count."""
        done = await self._shelf.disk(files.whole_rows, model.manifest.embedding_dim)
        now = replace(
            job,
            model_version=model.version,
            photos=plan.fingerprint(),
            postprocess=plan.kind.applied(model.manifest),
            total=plan.photos,
        )
        if (job.model_version, job.photos) != (now.model_version, now.photos) or done > now.total:
            await self._shelf.disk(files.start_rows)
            done = 0
        _still(await self._shelf.list(JobStore.describe, replace(now, done=done)))
        while done < now.total:
            rows = await self._workers.embed(plan.pairs.photos[done : done + CHUNK], model, urgent=False)
            await self._shelf.disk(files.append_rows, rows)
            done += len(rows)
            _still(await self._shelf.list(JobStore.progress, job.id, done))
            await self.count()

    def _write(self, plan: Plan, model: LoadedModel, files: JobFiles) -> None:
        embeddings, steps = files.rows(model.manifest.embedding_dim), plan.kind.steps(model.manifest)
        scores = score_pairs(plan.pairs, embeddings, model.scale, steps)
        files.write_result(plan.kind.write(plan.table, scores), self._shelf.check_open)

    async def _end_badly(self, job: Job, error: Exception) -> None:
        """What becomes of a job whose work ended in an error: deleted, tried again, or failed."""
        if await self._shelf.list(JobStore.get, job.id) is None:  # its files went away under the work
            await self._shelf.disk(self._shelf.files(job.id).remove)
        elif isinstance(error, _TRANSIENT):
            logger.warning("a job waits: %s", error)
            await self._shelf.list(JobStore.release, job.id, forgive=False)
            await asyncio.sleep(RETRY_S)
        else:
            if isinstance(error, StorageError):
                await self._shelf.disk(self._shelf.files(job.id).drop_work)
            response = error_response(error) if isinstance(error, ReidError) else unexpected_response(error)
            await self._fail(job, response)

    async def _fail(self, job: Job, response: Response) -> None:
        """Keeps the answer that a request would have got; the files have no use any more."""
        problem: dict[str, Any] = json.loads(bytes(response.body))
        await self._shelf.list(JobStore.finish, job.id, State.FAILED, 0, time.time(), problem)
        await self._shelf.disk(self._shelf.files(job.id).remove)


def _still(there: bool) -> None:
    if not there:
        raise _GoneError
