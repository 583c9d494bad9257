"""Threads that work, and the order in which work gets to them."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

# One item more than there are threads is handed over, so that a thread finds its next one without asking the loop.
_HANDED_OVER_AHEAD = 1
# Threads that compute stand back for the one that answers (Linux: niceness is a thread's own).
_NICENESS = 5


class Slots:
    """As many threads as given, fed in the order of arrival, urgent work first.

    Work waits on the event loop and not in a thread's queue, so that what nobody waits for any more is simply gone.
    """

    def __init__(self, threads: int) -> None:
        """Starts no thread before there is work."""
        self._pool = ThreadPoolExecutor(threads, "work", initializer=_stand_back)
        self._free = threads + _HANDED_OVER_AHEAD
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()

    async def acquire(self, *, urgent: bool) -> None:
        """Waits for a slot, to be followed by `submit`.

        Raises:
            Exception: whatever `fail_waiting` was called with meanwhile.
        """
        if self._free > 0:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        queue = self._urgent if urgent else self._patient
        queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with suppress(ValueError):  # whoever came to give it something has taken it out
                    queue.remove(place)
            elif place.exception() is None:
                self._release()  # the slot came at the moment of leaving
            raise

    def submit(self, function: Callable[[], T]) -> "Future[T]":
        """Runs the function in a thread and gives the slot back when it ends, be somebody waiting for it or not."""
        loop = asyncio.get_running_loop()
        try:
            future = self._pool.submit(function)
        except RuntimeError:  # closed: whoever waits is to hear of it as well
            self._release()
            raise
        future.add_done_callback(lambda _: _call_if_open(loop, self._release))
        return future

    def try_now(self, function: Callable[[], T]) -> "Future[T]":
        """Runs the function without a slot, behind what was handed over: for a look whether threads still work."""
        return self._pool.submit(function)

    def fail_waiting(self, error: Callable[[], Exception]) -> None:
        """Whoever waits for a slot gets an error instead."""
        for queue in (self._urgent, self._patient):
            while queue:
                place = queue.popleft()
                if not place.done():
                    place.set_exception(error())

    def close(self) -> None:
        """Takes no more work. What runs goes on; nobody waits for it here."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self) -> None:
        for queue in (self._urgent, self._patient):
            while queue:
                place = queue.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        self._free += 1


def _stand_back() -> None:
    if hasattr(os, "setpriority"):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS))


def _call_if_open(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
