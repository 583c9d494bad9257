"""What a program of the client wants done, and the two ways to do it: here and now, or on asyncio's event loop.

A call is written once, as a generator of effects (`answer = yield from do(Send(request))`), and knows nothing of
either way. `run` and `run_async` carry it out.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar, cast

import httpx2

from app.client.form import Form
from app.client.sinks import Memory, Sink

T = TypeVar("T")
_READ_BYTES = 2**20


class Effect(ABC, Generic[T]):
    """Something to be done, and what comes of it."""

    @abstractmethod
    def run(self, http: httpx2.Client) -> T:
        """Does it."""

    @abstractmethod
    async def run_async(self, http: httpx2.AsyncClient) -> T:
        """Does it without holding up the event loop."""


Program = Generator[Effect[Any], Any, T]


def do(effect: Effect[T]) -> Program[T]:
    """A program of one effect, for `yield from`: so that a type checker knows what comes of it."""
    answer: T = yield effect
    return answer


@dataclass(frozen=True)
class Request:
    """One question. media_type: of the body that answers it, empty for none; status: of that answer."""

    method: str
    path: str
    timeout: httpx2.Timeout
    media_type: str = "application/json"
    status: int = 200
    form: Form | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """One answer. `content` is empty where it was what the request asked for and went to a sink of the caller's."""

    status: int
    headers: httpx2.Headers
    content: bytes
    is_asked_for: bool


@dataclass(frozen=True)
class Send(Effect[Reply]):
    """A request and its answer. sink: for the body that was asked for. sent: is told how many bytes have gone."""

    request: Request
    sink: Sink | None = None
    sent: Callable[[int], object] | None = None

    def run(self, http: httpx2.Client) -> Reply:
        """Raises httpx2.RequestError where there is no whole answer."""
        with _closing(self._pieces()) as pieces:
            content = None if pieces is None else self._counted(pieces)
            with http.stream(**self._options(), content=content) as response:
                memory, sink = self._sinks(response)
                sink.start()
                for piece in response.iter_bytes(_READ_BYTES):
                    sink.write(piece)
        return self._reply(response, memory)

    async def run_async(self, http: httpx2.AsyncClient) -> Reply:
        """Raises httpx2.RequestError where there is no whole answer."""
        with _closing(self._pieces()) as pieces:
            content = None if pieces is None else self._counted_async(pieces)
            async with http.stream(**self._options(), content=content) as response:
                memory, sink = self._sinks(response)
                sink.start()
                async for piece in response.aiter_bytes(_READ_BYTES):
                    await asyncio.to_thread(sink.write, piece)
        return self._reply(response, memory)

    def _options(self) -> dict[str, Any]:
        request = self.request
        accept = {"Accept": f"{request.media_type}, application/problem+json"} if request.media_type else {}
        headers = {**accept, **(request.form.headers if request.form else {}), **request.headers}
        return {"method": request.method, "url": request.path, "headers": headers, "timeout": request.timeout}

    def _pieces(self) -> Iterator[bytes] | None:
        return self.request.form.pieces() if self.request.form else None

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        done = 0
        for piece in pieces:
            yield piece
            done += len(piece)
            self._tell(done)

    async def _counted_async(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        done = 0
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece
            done += len(piece)
            self._tell(done)

    def _tell(self, done: int) -> None:
        if self.sent is not None:
            self.sent(done)

    def _sinks(self, response: httpx2.Response) -> tuple[Memory, Sink]:
        """Where the caller looks for what was not asked for, and where this body goes."""
        memory = Memory()
        return memory, (self.sink if self.sink and self._fits(response) else memory)

    def _fits(self, response: httpx2.Response) -> bool:
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return response.status_code == self.request.status and self.request.media_type in {"", media_type}

    def _reply(self, response: httpx2.Response, memory: Memory) -> Reply:
        return Reply(response.status_code, response.headers, memory.content, self._fits(response))


@dataclass(frozen=True)
class Wait(Effect[None]):
    """So many seconds."""

    seconds: float

    def run(self, http: httpx2.Client) -> None:  # noqa: ARG002 - nothing is asked
        """Sleeps."""
        time.sleep(self.seconds)

    async def run_async(self, http: httpx2.AsyncClient) -> None:  # noqa: ARG002
        """Sleeps."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Local(Effect[T]):
    """Work on this machine that may take a while: files that are looked up, read or synced."""

    work: Callable[[], T]

    def run(self, http: httpx2.Client) -> T:  # noqa: ARG002
        """Does it."""
        return self.work()

    async def run_async(self, http: httpx2.AsyncClient) -> T:  # noqa: ARG002
        """Does it in a thread."""
        return await asyncio.to_thread(self.work)


@dataclass(frozen=True)
class Together(Effect[list[T]]):
    """Programs side by side, `at_once` of them at a time; their answers in order.

    finished: is told of each that is, by its place, in order. One that fails ends them all.
    """

    programs: Sequence[Program[T]]
    at_once: int
    finished: Callable[[int], object]

    def run(self, http: httpx2.Client) -> list[T]:
        """In threads."""
        with ThreadPoolExecutor(self.at_once, "jaguar-client") as threads:
            try:
                waiting = [threads.submit(run, program, http) for program in self.programs]
                answers = []
                for place, future in enumerate(waiting):
                    answers.append(future.result())
                    self.finished(place)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
        return answers

    async def run_async(self, http: httpx2.AsyncClient) -> list[T]:
        """In tasks."""
        places = asyncio.Semaphore(self.at_once)
        waiting = [asyncio.create_task(_one_of(places, program, http)) for program in self.programs]
        answers = []
        try:
            for place, task in enumerate(waiting):
                answers.append(await task)
                self.finished(place)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return answers


def run(program: Program[T], http: httpx2.Client) -> T:
    """Carries a program out, effect by effect. An effect's failure is raised in the program, which may know a way."""
    step: Callable[[], Effect[Any]] = partial(next, program)
    try:
        while True:
            effect = step()
            try:
                step = partial(program.send, effect.run(http))
            except Exception as error:
                step = partial(program.throw, error)
    except StopIteration as end:
        return cast(T, end.value)
    finally:
        program.close()


async def run_async(program: Program[T], http: httpx2.AsyncClient) -> T:
    """The same on an event loop."""
    step: Callable[[], Effect[Any]] = partial(next, program)
    try:
        while True:
            effect = step()
            try:
                step = partial(program.send, await effect.run_async(http))
            except Exception as error:
                step = partial(program.throw, error)
    except StopIteration as end:
        return cast(T, end.value)
    finally:
        program.close()


async def _one_of(places: asyncio.Semaphore, program: Program[T], http: httpx2.AsyncClient) -> T:
    async with places:
        return await run_async(program, http)


@contextmanager
def _closing(pieces: Iterator[bytes] | None) -> Iterator[Iterator[bytes] | None]:
    """Closes a body's files where the answer came before its end."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, Generator):
            with suppress(ValueError):  # a thread still reads a piece of a cancelled request; then its end closes them
                pieces.close()
