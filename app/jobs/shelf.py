"""The folder of jobs (`JAGUAR_JOBS`), kept off the event loop.

    jobs.sqlite     the list
    ID/             a job's files
    accept.lock     shared while a job is being stored, taken alone to sweep
    runner.lock     held by the one process that works

What a kill leaves between two steps (files without a row, a row without its files, files that a finished job no longer
needs) is swept by the process that works, when it begins and every minute.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from app.errors import DrainingError
from app.jobs.files import FULL, JobFiles, empty_trash
from app.jobs.job import FINISHED, Job, State, is_id
from app.jobs.locks import FileLock
from app.jobs.store import JobStore
from app.reid.errors import ConfigError
from app.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

# One thread for the list, which takes one at a time; two for files, so that a long copy does not hold up the work.
_FILE_THREADS = 2


class Shelf:
    """Where jobs are kept."""

    def __init__(self, settings: Settings) -> None:
        """Makes the folder. The list is opened when it is first asked.

        Raises:
            ConfigError: it cannot be used. A disk that is full is not that: there may be room by and by.
        """
        self._settings = settings
        self._top = settings.jobs_folder
        _check_usable(self._top)
        self._opened: JobStore | None = None
        self._list_thread = ThreadPoolExecutor(1, "job-list")
        self._file_threads = ThreadPoolExecutor(_FILE_THREADS, "job-files")
        self._closing = threading.Event()
        self._accepting = FileLock(self._top / "accept.lock")
        self._running = FileLock(self._top / "runner.lock")

    async def list(self, method: Callable[Concatenate[JobStore, P], T], *values: P.args, **named: P.kwargs) -> T:
        """Asks or changes the list, in the thread that it belongs to. Raises StorageError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._list_thread, lambda: method(self._store(), *values, **named))

    async def disk(self, function: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
        """Runs what reads or writes files in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._file_threads, lambda: function(*values, **named))

    def files(self, name: str) -> JobFiles:
        """A job's files."""
        return JobFiles(self._top, name)

    def check_open(self) -> None:
        """Raises DrainingError when the service goes down: long copies look here."""
        if self._closing.is_set():
            raise DrainingError("The service is going down; send this again in a moment.")

    async def lead(self) -> bool:
        """Whether this process is the one that works: it was, or nobody else is."""
        return await self.disk(self._running.take)

    @asynccontextmanager
    async def accepting(self) -> AsyncIterator[None]:
        """Keeps the sweep away from a job that is being stored."""
        with ExitStack() as stack:
            await self.disk(stack.enter_context, self._accepting.shared())
            yield

    async def expire(self) -> None:
        """Removes the jobs that finished too long ago."""
        oldest = time.time() - self._settings.jobs_keep_s
        for job in await self.list(JobStore.every):
            if job.finished is not None and job.finished < oldest:
                await self.list(JobStore.remove, job.id)
                await self.disk(self.files(job.id).remove)

    async def sweep(self) -> None:
        """Brings the list and the folders together again. Does nothing while a job is being stored."""
        if not await self.disk(self._accepting.take):
            return
        try:
            jobs = {job.id: job for job in await self.list(JobStore.every)}
            for job in jobs.values():
                if await self.disk(self._is_stray, job):
                    await self.list(JobStore.remove, job.id)
                elif job.state is State.DONE:
                    await self.disk(self.files(job.id).keep_result)
            kept = {job.id for job in await self.list(JobStore.every) if job.state is not State.FAILED}
            await self.disk(self._remove_strays, kept)
        finally:
            self._accepting.release()

    async def close(self) -> None:
        """Ends copies and threads, and lets another process work."""
        self._closing.set()
        for threads in (self._file_threads, self._list_thread):
            await asyncio.to_thread(threads.shutdown)
        if self._opened is not None:
            self._opened.close()
        self._running.release()

    def _store(self) -> JobStore:
        if self._opened is None:
            self._opened = JobStore(self._top / "jobs.sqlite")
        return self._opened

    def _is_stray(self, job: Job) -> bool:
        """A row whose job cannot go on: its files never came, or somebody took them away."""
        files = self.files(job.id)
        if job.state is State.DONE:
            return not files.result.is_file()
        return job.state not in FINISHED and (job.state is State.ACCEPTING or not files.folder.is_dir())

    def _remove_strays(self, kept: set[str]) -> None:
        for path in sorted(self._top.iterdir()):
            if is_id(path.name) and path.name not in kept:
                self.files(path.name).remove()
        empty_trash(self._top)


def _check_usable(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what clients sent is nobody else's business
    except OSError as error:
        if error.errno in FULL:
            return
        raise ConfigError(f"JAGUAR_JOBS: {folder} cannot be used for jobs: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"JAGUAR_JOBS: {folder} cannot be written; jobs need a folder of their own")
