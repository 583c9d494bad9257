"""HTTP/1.1 as uvicorn speaks it, with a bound on a request's head and problems where a head cannot be understood."""

import asyncio
import logging
import sys
from http import HTTPStatus
from uuid import uuid4

from asgi_correlation_id import correlation_id
from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.problems import HEAD_TIMEOUT, HEAD_TOO_LARGE, INVALID_HEAD, Kind, problem_response

MAX_HEAD_BYTES = 64 * 1024
# A body is handed on in pieces of at least this, or after so long: each piece wakes the application up, which at
# uvicorn's 64 KiB takes more CPU than to parse it.
PIECE_BYTES, PIECE_S = 512 * 1024, 0.005
# From the connection, or from the first byte after an answer, to a head's end; an idle connection is closed sooner.
HEAD_TIMEOUT_S = 30.0
# How long what a refused client still sends is read away, so that it gets to see the answer and not a reset.
LINGER_S = 1.0

logger = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads that are too long, too slow or not HTTP. Bodies are the application's.

    What comes after a body (trailers) or between its pieces (extensions) is bounded like a head: uvicorn would keep it.
    Offers of other protocols are passed over; httptools would take the request's body for the other protocol.
    """

    _unread_bytes = 0  # since the last end of a head or piece of a body
    _read_on = False
    _deaf = False  # nothing that comes is listened to any more
    _timer: asyncio.TimerHandle | None = None
    _hand_on_at: asyncio.TimerHandle | None = None
    _pieces: list[bytes | memoryview]  # of what came, the next one last
    _piece: bytes | memoryview

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock for the first head starts."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what belongs to no body."""
        if self._deaf:
            return
        self._read_on = False
        self._pieces = [data]
        while self._pieces and not self._deaf:
            self._piece = self._pieces.pop()
            super().data_received(self._piece)  # type: ignore[arg-type]
        self._unread_bytes = 0 if self._read_on else self._unread_bytes + len(data)
        if self._unread_bytes > MAX_HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)
        elif self._timer is None and not self._deaf and self.cycle.response_complete:
            self._start_clock()

    def on_headers_complete(self) -> None:
        """A head ends."""
        self._read_on = True
        self._stop_clock()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)
        elif not self._is_offer():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body, which is gathered until it is worth waking the application up for."""
        self._read_on = True
        cycle = self.cycle
        if self._deaf or cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) >= PIECE_BYTES:
            self.flow.pause_reading()
            cycle.message_event.set()
        elif self._hand_on_at is None:
            self._hand_on_at = self.loop.call_later(PIECE_S, self._hand_on)

    def _hand_on(self) -> None:
        self._hand_on_at = None
        if self.cycle.body:
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """A body ends."""
        self._read_on = True
        if not (self._deaf or self._is_offer()):
            super().on_message_complete()
            self.cycle.more_body = False  # which uvicorn forgets where the answer was earlier

    def _is_offer(self) -> bool:
        """Whether the present request would rather go on in another protocol, such as HTTP/2."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn comes here where a head was an offer: what was read, and the rest, without it."""
        offer = sys.exception()
        if not isinstance(offer, HttpParserUpgrade) or not self._is_offer():
            self._deaf = True  # CONNECT: what follows its answer is nothing to us
            self.cycle.keep_alive = False
            return
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self._pieces += [memoryview(self._piece)[offer.args[0] :], b"\r\n".join([*lines, b"", b""])]
        self.parser = HttpRequestParser(self)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words, in plain text
        """What cannot be understood, as a problem."""
        self._refuse(INVALID_HEAD)

    def _refuse(self, kind: Kind) -> None:
        """Listens no more, answers and closes. An answer to the request before comes first, and is then the last."""
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = True
        self._stop_clock()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            return
        if cycle is None or not cycle.response_started or not cycle.more_body:
            if cycle is not None:  # whoever waits for the rest of the body hears that there is none
                cycle.disconnected = True
                cycle.message_event.set()
            self.transport.write(_answer(kind))
            self.transport.write_eof()
            self._timer = self.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def _start_clock(self) -> None:
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._time_out)

    def _time_out(self) -> None:
        if self._unread_bytes:
            self._refuse(HEAD_TIMEOUT)
        else:  # nothing was asked
            self.transport.close()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _answer(kind: Kind) -> bytes:
    """A whole answer, with an id of its own, by which the log knows it."""
    token = correlation_id.set(uuid4().hex)
    try:
        headers = {"Connection": "close", "X-Request-ID": correlation_id.get() or ""}
        answer = problem_response(kind, f"{kind.title}.", headers=headers)
        logger.info("refused before there was a request: %d %s", kind.status, kind.slug)
    finally:
        correlation_id.reset(token)
    lines = [f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])
