"""Many photos at once: who waits, who works, who has left, and whether the network still answers."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from app import timing
from app.errors import DrainingError, ForwardTimeoutError, NotReadyError
from app.photo_work import Item, Named, PhotoWork, Turn, settle
from app.reid.cores import available_cores
from app.reid.embedder import LoadedModel, load_model
from app.reid.preprocess import Float32
from app.settings import Settings
from app.slots import Slots
from app.timing import Phase

T = TypeVar("T")

FRESH_S = 5.0
PROBE_S = 0.75
# Photos of one request that run or wait for a thread, for each core.
_AHEAD = 2
_WATCH_S = 0.25
# Decoded photos that wait until all of their request are decoded: 371 of 384 x 384 pixels with alpha take 219 MB.
_DECODED_BYTES = 256 * 2**20


def load_served(settings: Settings) -> LoadedModel:
    """The bundle that the settings name, verified, and warm: it has answered its probe.

    A forward pass takes one thread, because photos are embedded by as many threads as there are cores.

    Raises:
        BundleError: it cannot be served.
    """
    return load_model(
        settings.bundle_folder,
        runtime=settings.runtime,
        precision=settings.precision,
        threads=1,
        max_pixels=settings.max_pixels,
        prior=settings.prior,
    )


class Workers:
    """Embeds photos, without ever blocking the event loop.

    There are as many threads as cores. One of them reads and decodes a photo and sends it through the network, and a
    forward pass stays in its thread: one photo's decoding overlaps another's forward pass, no more threads are busy
    than there are cores, and decoded pictures wait only where a table's photos are all looked at before the first of
    them goes through the network. What else was measured: README, Decisions.
    """

    def __init__(self, model: LoadedModel, work: PhotoWork | None = None, timeout_s: float = 30.0) -> None:
        """`model` is what is served; it may be replaced at any time, since every call of `embed` names its own.

        timeout_s: how long a photo may stay in its thread, and how long photos wait while all threads are overdue.
        """
        cores = available_cores()
        self.model = model
        self._threads, self._ahead = cores, _AHEAD * cores
        self._work = work or PhotoWork()
        self._timeout_s = timeout_s
        self._slots = Slots(cores)
        self._items: dict[Turn, asyncio.Future[Any]] = {}
        self._probe: asyncio.Future[None] | None = None
        self._decoded_bytes = 0

    async def embed(
        self, photos: Sequence[Named], model: LoadedModel, *, urgent: bool = True, decode_first: bool = False
    ) -> Float32:
        """N photos, each with the name that errors call it -> (N, D) float32 unit-norm embeddings in the same order.

        Photos that are not urgent give way to those that are. With `decode_first` one that cannot be read is found
        before any goes through the network, as far as the decoded ones fit into memory; it takes no longer. Where the
        caller is cancelled, no photo is taken up any more, and none that was decoded goes through the network.

        Raises:
            ImageError: the first photo, in the order given, that cannot be read; later ones are given up.
            ForwardTimeoutError: the network did not answer in time.
        """
        if (timings := timing.current.get()) is not None:
            timings.reached(Phase.UPLOAD)
        rows = np.empty((len(photos), model.manifest.embedding_dim), dtype=np.float32)
        known = await self._known(photos, model)
        for row, embedding in known.items():
            rows[row] = embedding
        todo = [row for row in range(len(photos)) if row not in known]
        while todo:
            with self._room(model, len(todo)) if decode_first else nullcontext(len(todo)) as fit:
                items = {row: Item(*photos[row], model) for row in todo[:fit]}
                if decode_first:
                    prepare = [partial(self._work.prepare, item) for item in items.values()]
                    await self._in_order([partial(self.run, step, urgent=urgent) for step in prepare])
                embeddings = await self._in_order([partial(self._one, item, urgent) for item in items.values()])
            for row, embedding in zip(items, embeddings, strict=True):
                rows[row] = embedding
            todo = todo[len(items) :]
        return rows

    @contextmanager
    def _room(self, model: LoadedModel, wanted: int) -> Iterator[int]:
        """How many decoded photos may wait, of so many; all requests share the memory, and each has some."""
        height, width = model.embedder.spec.size
        each = height * width * 4
        fit = min(wanted, max(self._ahead, (_DECODED_BYTES - self._decoded_bytes) // each))
        self._decoded_bytes += fit * each
        try:
            yield fit
        finally:
            self._decoded_bytes -= fit * each

    async def _in_order(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """What the calls return, a few of them under way at a time; the first error, in their order, ends them all."""
        results: list[T] = []
        under_way: deque[asyncio.Task[T]] = deque()
        todo = iter(calls)
        try:
            while True:
                under_way += [asyncio.create_task(call()) for call in islice(todo, self._ahead - len(under_way))]
                if not under_way:
                    return results
                results.append(await under_way[0])
                under_way.popleft()
        finally:
            for task in under_way:
                task.add_done_callback(_look_at)
                task.cancel()

    async def _known(self, photos: Sequence[Named], model: LoadedModel) -> dict[int, Float32]:
        """What needs no photo to be read; where nothing can be known, no thread is asked."""
        if not self._work.may_know(photos):
            return {}
        return await asyncio.to_thread(self._work.known, photos, model.version)

    async def run(self, function: Callable[[], T], *, urgent: bool = True) -> T:
        """Calls a function in a thread, in its turn among the photos and within the time that a photo has.

        Where the caller is cancelled before its turn has come, it is not called.

        Raises:
            ForwardTimeoutError: it did not return in time. Whatever the function raises.
        """
        if (timings := timing.current.get()) is not None:
            timings.reached(Phase.UPLOAD)
        turn, asked = Turn(), time.monotonic()
        outcome = await self._in_thread(turn, partial(turn.take, function), urgent)
        if timings is not None and turn.began is not None:
            timings.add(Phase.QUEUE, turn.began - asked)
        return outcome

    async def check_ready(self) -> None:
        """Returns if the latest forward pass ended within 5 s, or if one goes through now.

        Raises:
            NotReadyError: all threads are overdue, no forward pass ended within 0.75 s, or it failed.
        """
        if self._overdue() >= self._threads:
            raise NotReadyError("The network does not answer.")
        if not self._work.failed and time.monotonic() - self._work.last_forward < FRESH_S:
            return
        try:
            if self._probe is None or self._probe.done():
                turn = Turn()
                job = self._slots.try_now(partial(turn.take, partial(self._work.probe, self.model)))
                self._probe = self._follow(turn, job)
                self._probe.add_done_callback(_look_at)
            await asyncio.wait_for(asyncio.shield(self._probe), PROBE_S)
        except TimeoutError as error:
            raise NotReadyError("The network does not answer.") from error
        except Exception as error:  # whatever a runtime or a pool that was shut down raises
            raise NotReadyError("The network fails.") from error

    async def watch(self, stuck_exit_s: float, end: Callable[[], object]) -> None:
        """Runs for as long as the service: gives up photos that are overdue, and calls `end` where one never returns.

        A thread cannot be stopped from outside. A photo that is overdue keeps its thread, but nobody waits for it.
        """
        while True:
            await asyncio.sleep(_WATCH_S)
            self._give_up_overdue()
            if self._overdue(stuck_exit_s):
                end()

    @property
    def busy(self) -> bool:
        """Whether a thread is at work."""
        return any(item.began is not None for item in list(self._items))

    def close(self) -> None:
        """Takes no more work. What waits is given up; what runs ends by itself."""
        self._slots.fail_waiting(_going_down)
        self._slots.close()

    async def _one(self, item: Item, urgent: bool) -> Float32:
        """One photo, through whichever thread is free. Where another request brought the same photo, through its."""
        while item.known is None:
            asked = time.monotonic()
            outcome = await self._in_thread(item, partial(self._work.run, item), urgent)
            if (timings := timing.current.get()) is not None:
                timings.add(Phase.QUEUE, (item.began or asked) - asked)
                timings.add_all(item.spent)
            if isinstance(outcome, np.ndarray):
                return outcome
            shared = asyncio.wrap_future(outcome)
            shared.add_done_callback(_look_at)
            try:
                return await asyncio.shield(shared)
            except ForwardTimeoutError:
                raise
            except Exception:
                item = Item(item.name, item.photo, item.model)
        if (timings := timing.current.get()) is not None:
            timings.add_all(item.spent)
        return item.known

    async def _in_thread(self, item: Turn, work: Callable[[], T], urgent: bool) -> T:
        if self._overdue() >= self._threads:
            raise _timed_out()
        await self._slots.acquire(urgent=urgent)
        job = self._slots.submit(work)
        try:
            return await self._follow(item, job)
        finally:
            item.left = True
            job.cancel()  # without effect once a thread has it

    def _follow(self, item: Turn, job: Future[T]) -> asyncio.Future[T]:
        """What was given to a thread counts as its work until it is back; where its outcome will be, or a timeout."""
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._items[item] = waiter
        job.add_done_callback(partial(self._ended, item, waiter))
        return waiter

    def _ended(self, item: Turn, waiter: asyncio.Future[T], job: Future[T]) -> None:
        """A photo, or other work, has left its thread; this is called from there."""
        self._items.pop(item)
        loop = waiter.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_pass_on, job, waiter)

    def _overdue(self, limit_s: float | None = None) -> int:
        """How many photos have been in their threads for longer than the limit; `timeout_s` by default."""
        limit = self._timeout_s if limit_s is None else limit_s
        return sum(_age(item) > limit for item in list(self._items))

    def _give_up_overdue(self) -> None:
        items = dict(self._items)
        overdue = {item for item in items if _age(item) > self._timeout_s}
        if len(overdue) >= self._threads:  # whatever waits would wait for them
            overdue = set(items)
            self._slots.fail_waiting(_timed_out)
        for item in overdue:
            item.left = True
            if not items[item].done():
                items[item].set_exception(_timed_out())
            if item.flight is not None:
                settle(item.flight, _timed_out())


def _age(item: Turn) -> float:
    """Seconds that a photo has been in its thread; 0 before."""
    return 0.0 if item.began is None else time.monotonic() - item.began


def _pass_on(job: Future[T], waiter: asyncio.Future[T]) -> None:
    """What a thread made of a photo, to whoever waits for it, if somebody does."""
    if waiter.done():
        return
    error = _going_down() if job.cancelled() else job.exception()
    if error is None:
        waiter.set_result(job.result())
    else:
        waiter.set_exception(error)


def _look_at(future: asyncio.Future[Any]) -> None:
    """asyncio complains of an error that nobody looked at; whoever would have may have left."""
    if not future.cancelled():
        future.exception()


def _going_down() -> DrainingError:
    return DrainingError("The service is going down; try again in a moment.")


def _timed_out() -> ForwardTimeoutError:
    return ForwardTimeoutError("The network did not answer in time; try again, or ask the operator.")
