"""The door in front of the calls that infer: how many are inside, who has left, and when it closes."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextvars import ContextVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import timing
from app.errors import BodyTimeoutError, BusyError, DrainingError, IncompleteBodyError
from app.problems import error_response
from app.timing import Phase, Timings

# How much of a refused body is read, so that the client gets to see the answer and not a reset.
DRAIN_BYTES, DRAIN_S = 2**20, 1.0
# Bodies that are kept in memory: of so many bytes each, and so many together. Others are spooled to disk, which costs
# a twentieth of what it takes to decode them.
MEMORY_BODY_BYTES, MEMORY_BYTES = 32 * 2**20, 256 * 2**20
PART_MEMORY_BYTES = 64 * 1024  # of each part of any other body
# For whoever reads the logs: the client closed the connection before there was an answer. Nobody receives it.
CLIENT_GONE = 499
# A form's end is looked for in so much of a body's: a boundary has 70 characters at most, and little comes after it.
_TAIL_BYTES = 1024

# How many bytes of each part of the present request may be in memory.
part_memory: ContextVar[int] = ContextVar("part_memory", default=PART_MEMORY_BYTES)


class Door:
    """Who is inside, and whether somebody may come in. One for each service; used on its event loop alone."""

    def __init__(self, limit: int) -> None:
        """`limit` requests may be inside."""
        self.limit = limit
        self.draining = False
        self.visits: set[_Visit] = set()

    def memory_for(self, body_bytes: int) -> int:
        """How many bytes of a body may be in memory: all, or none beyond what every part may have."""
        taken = sum(visit.memory for visit in self.visits)
        return body_bytes if body_bytes <= min(MEMORY_BODY_BYTES, MEMORY_BYTES - taken) else 0

    @property
    def inside(self) -> int:
        """How many requests are being worked on."""
        return len(self.visits)

    def end_all(self) -> None:
        """Cancels what is being worked on: answered 503 where no answer had begun, cut off where one had."""
        for visit in self.visits:
            visit.end()


class Admission:
    """Lets so many requests at a time through to the calls that infer; the next is refused before its body is read.

    What was let in ends early where its client leaves: its handler is cancelled, and with it what it waits for. While
    the service goes down nobody is let in any more.
    """

    def __init__(
        self,
        app: ASGIApp,
        door: Door,
        paths: Collection[str],
        body_timeout_s: float,
        observe: Callable[[str, float], object],
    ) -> None:
        """Wraps an application.

        paths: those whose POST infers. body_timeout_s: how long a body may stand still. observe: takes every phase of
        every answered request, in seconds.
        """
        self._app = app
        self._door = door
        self._paths = frozenset(paths)
        self._body_timeout_s = body_timeout_s
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 503 at once. A place is taken until the answer's last byte is sent."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
        elif self._door.draining:
            await _refuse(_going_down(), scope, receive, send)
        elif self._door.inside >= self._door.limit:
            busy = BusyError(f"{self._door.limit} requests are being worked on; try again in a moment.")
            await _refuse(error_response(busy), scope, receive, send)
        else:
            length = Headers(scope=scope).get("content-length", "")
            memory = self._door.memory_for(int(length)) if length.isdecimal() else 0
            visit = _Visit(receive, send, self._body_timeout_s, memory, _form_end(Headers(scope=scope)))
            self._door.visits.add(visit)
            try:
                await visit.pay(self._app, scope)
            finally:
                self._door.visits.discard(visit)
                visit.timings.observe(self._observe)


class _Visit:
    """One request that was let in."""

    def __init__(self, receive: Receive, send: Send, body_timeout_s: float, memory: int, end: bytes) -> None:
        self.timings = Timings()
        self.memory = memory
        self._form_end, self._tail = end, b""
        self._receive, self._send = receive, send
        self._body_timeout_s = body_timeout_s
        self._answered = False
        self._read = asyncio.Event()  # the whole body was
        self._gone = asyncio.Event()  # the client is
        self._work: asyncio.Task[None] | None = None
        self._ended = False

    def end(self) -> None:
        """Cancels the work because the service goes down."""
        self._ended = True
        if self._work is not None:
            self._work.cancel()

    async def pay(self, app: ASGIApp, scope: Scope) -> None:
        """Runs the application, and beside it looks whether the client is still there."""
        self.timings.reached(Phase.ADMISSION)
        token = timing.current.set(self.timings)
        part_memory.set(self.memory or PART_MEMORY_BYTES)
        self._work = asyncio.ensure_future(app(scope, self.receive, self.send))
        watch = asyncio.ensure_future(self._watch())
        try:
            await self._work
        except asyncio.CancelledError:
            if not (self._gone.is_set() or self._ended):
                raise
            if not self._answered:
                answer = _going_down() if self._ended else Response(status_code=CLIENT_GONE)
                await answer(scope, self._receive, self.send)
        finally:
            self._work.cancel()
            watch.cancel()
            timing.current.reset(token)

    async def receive(self) -> Message:
        """The body, and after it nothing before the client has left."""
        if self._read.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(self._body_timeout_s):
                message = await self._receive()
        except TimeoutError as error:
            raise BodyTimeoutError(f"Nothing of the body came for {self._body_timeout_s:g} s.") from error
        if message["type"] == "http.disconnect":
            self._leave()
            return message
        self._tail = (self._tail + message.get("body", b"")[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        if not message.get("more_body", False):
            self._read.set()
            if self._form_end not in self._tail:
                raise IncompleteBodyError("The form ends before its last boundary; it was cut short.")
        return message

    async def send(self, message: Message) -> None:
        """The answer, with the times that were taken for it."""
        if message["type"] == "http.response.start":
            self._answered = True
            self.timings.add(Phase.TOTAL, self.timings.elapsed())
            MutableHeaders(raw=message["headers"])["Server-Timing"] = self.timings.header()
        await self._send(message)

    async def _watch(self) -> None:
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone.set()
        if not self._answered and self._work is not None:
            self._work.cancel()


def _going_down() -> Response:
    return error_response(DrainingError("The service is going down; try again in a moment."))


def _form_end(headers: Headers) -> bytes:
    """What a form's body ends with: Starlette takes one that was cut short, and loses its last parts."""
    media_type, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"") if media_type == b"multipart/form-data" else b""
    return b"--" + boundary + b"--" if boundary else b""


async def _refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole answer at once; then some of the body is read away, and the connection is closed.

    A client that waits for `100 Continue` sends no body; asking for one would tell it to.
    """
    answer.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    if Headers(scope=scope).get("expect", "").lower() != "100-continue":
        await _read_away(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read_away(receive: Receive) -> None:
    left, until = DRAIN_BYTES, time.monotonic() + DRAIN_S
    while left > 0 and (seconds := until - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(receive(), seconds)
        except TimeoutError:
            return
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
        left -= len(message.get("body", b""))
