"""What the log says: one line a request, JSON for programs and plain text for people.

A line never has a query string, a header, a file's name or bytes of a body, and nothing that a client sends can break
it in two.
"""

import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from asgi_correlation_id import CorrelationIdFilter
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What nginx logs where a client left before it was answered; no answer ever has it.
CLIENT_LEFT = 499
MAX_PATH = 200

_TEXT = "%(asctime)s %(levelname)s %(name)s [%(correlation_id)s] %(message)s"
_JSON_FIELDS = ("levelname", "name", "correlation_id", "message")
_JSON_NAMES = {"levelname": "level", "name": "logger", "correlation_id": "request_id"}
_BREAKS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {0x2028: "\\u2028", 0x2029: "\\u2029"}
_BREAKS_IN_TRACES = {code: text for code, text in _BREAKS.items() if chr(code) not in "\t\n"}
_REQUEST_ID = re.compile(r"[0-9A-Fa-f-]{32,36}")

logger = logging.getLogger("access")


def configure(stream_is_terminal: bool) -> dict[str, Any]:
    """For `logging.config.dictConfig`, and so for uvicorn's `log_config`: everything from INFO up goes to stderr.

    uvicorn's own line for a request is off, since it holds the query string; `AccessLog` writes another.
    """
    formatter: dict[str, Any] = {"()": TextFormatter, "fmt": _TEXT}
    if not stream_is_terminal:
        formatter = {
            "()": JsonFormatter,
            "fmt": _JSON_FIELDS,
            "rename_fields": _JSON_NAMES,
            "timestamp": "time",
            "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's message once more, for terminals
        }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": CorrelationIdFilter, "default_value": "-" if stream_is_terminal else None}},
        "formatters": {"default": formatter},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "filters": ["request_id"],
                "formatter": "default",
            }
        },
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {
            "uvicorn.access": {"handlers": [], "propagate": False},
            "asgi_correlation_id": {"level": "ERROR"},  # a second line for each request with an id of another form
        },
    }


def is_request_id(text: str) -> bool:
    """Whether a client's `X-Request-ID` is taken over: hex digits and dashes, as in a UUID or a trace id.

    asgi-correlation-id's own check takes any number of dashes, which every line of the request would then have.
    """
    return _REQUEST_ID.fullmatch(text) is not None


class TextFormatter(logging.Formatter):
    """Lines for people. Control characters are escaped, and traces indented: what starts a line is the log's own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """One line, whatever the message holds."""
        return super().formatMessage(record).rstrip().translate(_BREAKS)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802
        """A trace's lines, each indented."""
        return "\n".join("  " + line for line in super().formatException(ei).translate(_BREAKS_IN_TRACES).split("\n"))


class AccessLog:
    """Writes one line for every request, at INFO, when it is over; failed ones included.

    Its status is the one that was sent; 499 where the client was seen to leave before an answer began, and 500 where
    the application ended without one. An answer that ended early, because the client left or something failed, has
    `complete` false. A client that leaves while nobody listens to it is not noticed: its line has what was answered.
    Goes inside CorrelationIdMiddleware, which knows the request's id, and around everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wraps an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers through the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange()

        async def receive_noting() -> Message:
            message = await receive()
            exchange.note_received(message)
            return message

        async def send_noting(message: Message) -> None:
            exchange.note_sent(message)
            await send(message)

        try:
            await self._app(scope, receive_noting, send_noting)
        finally:
            _write(scope, exchange)


@dataclass(slots=True)
class _Exchange:
    """What was seen of one request and its answer."""

    started: float = field(default_factory=time.perf_counter)
    status: int | None = None
    bytes_sent: int = 0
    complete: bool = False
    client_left: bool = False

    def note_received(self, message: Message) -> None:
        # A server says `disconnect` after a complete answer as well.
        self.client_left |= message["type"] == "http.disconnect" and not self.complete

    def note_sent(self, message: Message) -> None:
        if self.client_left:  # nobody gets it
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.bytes_sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)


def _write(scope: Scope, exchange: _Exchange) -> None:
    fields = {
        "client": scope["client"][0] if scope.get("client") else None,
        "method": scope["method"],
        "path": quote(scope["path"], errors="backslashreplace")[:MAX_PATH],
        "status": exchange.status or (CLIENT_LEFT if exchange.client_left else 500),
        "duration_ms": round(1000 * (time.perf_counter() - exchange.started), 1),
        "bytes_sent": exchange.bytes_sent,
        "complete": exchange.complete,
    }
    message = "%(client)s %(method)s %(path)s %(status)d in %(duration_ms).1f ms, %(bytes_sent)d bytes"
    logger.info(message + ("" if exchange.complete else ", cut short"), fields, extra=fields)
