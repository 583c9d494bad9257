"""Where jobs are handed in, asked after, fetched and cancelled."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import BinaryIO

from asgi_correlation_id import correlation_id
from starlette.datastructures import UploadFile

from app.errors import JobStateError, UnknownJobError
from app.jobs.job import Job, State, is_id, new_id
from app.jobs.plan import make_plan
from app.jobs.runner import Runner
from app.jobs.shelf import Shelf
from app.jobs.store import JobStore
from app.jobs.watch import Watchers
from app.reid.errors import quote
from app.reid.scoring import TableKind
from app.settings import Settings
from app.uploads import read_csv
from app.workers import Workers


class Jobs:
    """Long work: taken at once, done one after the other, kept until it is deleted or too old.

    A job that was taken survives a kill -9, and so does its result. Several processes may share the folder.
    """

    def __init__(self, settings: Settings, workers: Workers) -> None:
        """Does not work before `start`.

        Raises:
            ConfigError: the folder cannot be used.
        """
        self._settings = settings
        self._workers = workers
        self._shelf = Shelf(settings)
        self._runner = Runner(settings, workers, self._shelf)
        self._watchers = Watchers(lambda names: self._shelf.list(JobStore.many, names))
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Jobs that wait, as of at most a second or a chunk of photos ago."""
        return self._runner.waiting

    @property
    def running(self) -> int:
        """Jobs that are worked on, here or in another process: one or none."""
        return self._runner.running

    async def start(self) -> None:
        """Begins to work on what is there."""
        self._task = asyncio.create_task(self._runner.run(), name="jobs")

    def close_watchers(self) -> None:
        """Ends every `watch`, for good: a server that waits for its connections before it stops would wait for ever."""
        self._watchers.end()

    async def stop(self) -> None:
        """Stops within a second and a photo. What was worked on goes on after the next start."""
        self.close_watchers()
        try:
            if self._task is not None:
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task
                await self._runner.leave()
        finally:
            await self._shelf.close()

    async def submit(self, kind: TableKind, upload: UploadFile, images: Sequence[UploadFile]) -> Job:
        """Takes a table and its photos. When it returns they are on the disk.

        Raises:
            TableError, NoImagesError, LookupFailedError, ArchiveError, FileLimitError...: as the synchronous call does.
            BusyError: too many jobs wait. StorageError: no room for this one.
        """
        data = await read_csv(upload, kind.part, self._settings)
        plan = await make_plan(kind, data, images, self._settings)
        job = Job(
            id=new_id(),
            kind=kind.name,
            state=State.ACCEPTING,
            total=plan.photos,
            created=time.time(),
            size=plan.size(images, self._workers.model.manifest.embedding_dim),
            request_id=correlation_id.get() or "",
        )
        async with self._shelf.accepting():
            await self._shelf.expire()
            await self._take(job, data, images)
        self._runner.notify()
        return await self.get(job.id)

    async def get(self, name: str) -> Job:
        """How a job stands.

        Raises:
            UnknownJobError: there is no such job.
        """
        job = (await self._shelf.list(JobStore.get, name)) if is_id(name) else None
        if job is None or job.state is State.ACCEPTING:
            raise _unknown(name)
        return job

    async def delete(self, name: str) -> None:
        """Cancels a job that is not finished, and removes all there is of it.

        Raises:
            UnknownJobError: there is no such job.
        """
        await self.get(name)
        if not await self._shelf.list(JobStore.remove, name):
            raise _unknown(name)
        await self._shelf.disk(self._shelf.files(name).remove)
        await self._runner.count()

    async def open_result(self, name: str) -> tuple[Job, BinaryIO]:
        """A finished job and its answer's bytes, in a file that is the caller's to close.

        Raises:
            UnknownJobError: there is no such job. JobStateError: it has no answer; the words say why.
        """
        job = await self.get(name)
        if job.state is not State.DONE:
            raise JobStateError(_why_none(job))
        try:
            return job, await self._shelf.disk(self._shelf.files(name).result.open, "rb")
        except FileNotFoundError as error:  # deleted in between
            raise _unknown(name) from error

    def watch(self, job: Job) -> AsyncGenerator[Job, None]:
        """The job as it was looked up, then again whenever it changes, until it is finished or the service goes down.

        A job that is deleted meanwhile ends as cancelled.
        """
        return self._watchers.follow(job)

    async def _take(self, job: Job, data: bytes, images: Sequence[UploadFile]) -> None:
        """Makes room, stores the files, and puts the job in line; all of it or nothing."""
        shelf, settings = self._shelf, self._settings
        evicted = await shelf.list(JobStore.reserve, job, settings.max_jobs, settings.max_jobs_bytes)
        try:
            for name in evicted:
                await shelf.disk(shelf.files(name).remove)
            await shelf.disk(shelf.files(job.id).store, data, images, shelf.check_open)
            await shelf.list(JobStore.accept, job.id)
        except BaseException:
            await shelf.disk(shelf.files(job.id).remove)
            await shelf.list(JobStore.remove, job.id)
            raise


def _unknown(name: str) -> UnknownJobError:
    return UnknownJobError(f"there is no job {quote(name)}; it may have been deleted, or kept for as long as jobs are")


def _why_none(job: Job) -> str:
    if job.problem is None:
        return f"the job is {job.state}: {job.done} of {job.total} photos are embedded; look again later"
    return "; ".join(["the job failed: " + str(job.problem["detail"]), *job.problem["problems"]])
