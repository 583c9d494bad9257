"""HTTP by hand, for what no client library would send: heads without bodies, bodies cut off, lies about lengths."""

import http.client
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BOUNDARY = "jaguar"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

# Name of the part, filename, bytes.
Part = tuple[str, str, bytes]


@dataclass(frozen=True)
class Answer:
    """What came back, and after how many seconds from the last byte sent its first byte was there."""

    status: int
    headers: dict[str, str]
    body: bytes
    first_byte_s: float


def part(name: str, filename: str, data: bytes) -> bytes:
    """One part with its boundary before it."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return head.encode() + data + b"\r\n"


def form(parts: Iterable[Part]) -> bytes:
    """A whole multipart body."""
    return b"".join(part(*one) for one in parts) + f"--{BOUNDARY}--\r\n".encode()


def head(path: str, *headers: str, method: str = "POST", content_type: str | None = FORM) -> bytes:
    """A request's head; `headers` come on top of Host and Content-Type."""
    lines = [f"{method} {path} HTTP/1.1", "Host: reliability", *headers]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join([*lines, "", ""]).encode()


def request(path: str, parts: Iterable[Part], *headers: str) -> bytes:
    """A whole request with its length, to be sent on a connection that is closed afterwards."""
    body = form(parts)
    return head(path, f"Content-Length: {len(body)}", "Connection: close", *headers) + body


def chunked(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """The pieces in HTTP's chunked coding."""
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def connect(port: int, timeout_s: float = 60) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange(port: int, pieces: bytes | Iterable[bytes], timeout_s: float = 60) -> Answer:
    """Sends the pieces and reads one answer, also where the server answered and closed before it had all of them."""
    with connect(port, timeout_s) as connection:
        for piece in [pieces] if isinstance(pieces, bytes) else pieces:
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
        return read_answer(connection)


def read_answer(connection: socket.socket, sent: float | None = None) -> Answer:
    """One answer from a connection; `sent` is when the last byte went out, now by default."""
    sent = time.monotonic() if sent is None else sent
    connection.recv(1, socket.MSG_PEEK)
    first = time.monotonic() - sent
    response = http.client.HTTPResponse(connection, method="POST")
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read(), first)
    finally:
        response.close()


def refused_after(port: int, path: str) -> float | None:
    """Asks with a head alone: seconds from the head to the first byte of a 503, or None where it was let in.

    The head says that a body will follow once the server wants it, so that a request that is let in ends with it.
    """
    with connect(port) as connection:
        connection.sendall(head(path, "Content-Length: 200000", "Expect: 100-continue"))
        sent = time.monotonic()
        start = connection.recv(64)
        seconds = time.monotonic() - sent
        assert start.startswith((b"HTTP/1.1 100", b"HTTP/1.1 503")), start
        return seconds if start.startswith(b"HTTP/1.1 503") else None


def echoed_after(port: int) -> float:
    """Seconds until `echo.py` has answered: what the system itself takes for a connection and one byte's way."""
    with connect(port) as connection:
        connection.sendall(b"x")
        sent = time.monotonic()
        assert connection.recv(1) == b"x"
        return time.monotonic() - sent


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies, 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
