"""Following jobs: whoever watches one hears of every change that is still true a moment later."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from app.errors import StorageError
from app.jobs.job import FINISHED, Job, State

INTERVAL_S = 0.2

logger = logging.getLogger(__name__)


class Watchers:
    """All who follow a job in this process; together they look at the list no more than every 0.2 s.

    The list and not the worker is asked, because the worker may be in another process.
    """

    def __init__(self, look: Callable[[Sequence[str]], Awaitable[dict[str, Job]]]) -> None:
        """`look` tells how the jobs with these ids stand."""
        self._look = look
        self._watched: Counter[str] = Counter()
        self._ended = asyncio.Event()
        self._reading: asyncio.Task[tuple[frozenset[str], dict[str, Job]]] | None = None
        self._read_at = 0.0

    def end(self) -> None:
        """Ends everybody's watch, for good."""
        self._ended.set()

    async def follow(self, job: Job) -> AsyncGenerator[Job, None]:
        """The job as it is, then again whenever it has changed, until it is finished or the service goes down.

        A job that is deleted meanwhile ends as cancelled.
        """
        self._watched[job.id] += 1
        try:
            yield job
            while job.state not in FINISHED and not await self._ends():
                asked, found = await self._read()
                if job.id not in asked:  # somebody else's look, begun before this watch
                    continue
                fresh = found.get(job.id) or replace(job, state=State.CANCELLED, finished=time.time())
                if _shown(fresh) != _shown(job):
                    job = fresh
                    yield job
        except StorageError as error:  # the answer began long ago; whoever watches will ask again
            logger.warning("a job cannot be watched: %s", error)
        finally:
            self._watched[job.id] -= 1
            self._watched += Counter()  # without those at 0

    async def _ends(self) -> bool:
        """Waits for the next look, or for the end."""
        try:
            await asyncio.wait_for(self._ended.wait(), INTERVAL_S)
        except TimeoutError:
            return False
        return True

    async def _read(self) -> tuple[frozenset[str], dict[str, Job]]:
        if self._reading is None or time.monotonic() - self._read_at >= INTERVAL_S:
            self._read_at = time.monotonic()
            self._reading = asyncio.ensure_future(self._ask(frozenset(self._watched)))
        return await asyncio.shield(self._reading)

    async def _ask(self, names: frozenset[str]) -> tuple[frozenset[str], dict[str, Job]]:
        return names, await self._look(sorted(names))


def _shown(job: Job) -> Job:
    """Without what no client sees."""
    return replace(job, size=0, photos=None, attempts=0)
