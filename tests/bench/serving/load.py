"""The client: sends each photo once over parallel keep-alive connections, and asks for the server's health meanwhile.

    echo '{"port": 8000, ...}' | python -m serving.load

A process of its own that costs as little as a client can: every request is built before the clock starts, a thread
and a blocking socket for each connection let the kernel send a whole photo in one call, and of an answer the status
and the length are checked. What it costs nevertheless is `cpu_s`, measured from first to last photo, this process
alone, the copying that the kernel does for it included.

The job is JSON: port, path, files, warm (files sent one after the other before the clock starts), connections, health
(a path, or null). The answer: seconds, cpu_s, latencies_ms of the photos that were answered 200 with a whole
embedding, errors of the others, health_ms.
"""

import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path

TIMEOUT_S = 60
HEALTH_EVERY_S = 0.1
SMALLEST_ANSWER = 2_500  # bytes; 512 numbers are longer
BOUNDARY = b"a-photo-ends-here"


class AnswerError(Exception):
    """The server answered, and not as it should."""


class Connection:
    """A blocking keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> bytes:
        """Sends a whole request; the answer's body. Raises OSError or AnswerError, and connects anew next time."""
        try:
            return self._ask(request)
        except (OSError, AnswerError):
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, request: bytes) -> bytes:
        if self._socket is None:
            self._socket = _connect(self._port)
        self._socket.sendall(request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        lines = received[:end].lower().split(b"\r\n")
        lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
        if len(lengths) != 1:
            raise AnswerError("no Content-Length")
        whole = end + 4 + lengths[0]
        while len(received) < whole:
            received += self._receive()
        if lines[0].split()[1] != b"200":
            raise AnswerError(lines[0].decode("latin-1"))
        return received[end + 4 : whole]

    def _receive(self) -> bytes:
        data = self._socket.recv(65_536)  # type: ignore[union-attr]
        if not data:
            raise AnswerError("closed without an answer")
        return data


def _connect(port: int) -> socket.socket:
    """The kernel watches the time: a timeout of Python's would make the socket non-blocking and cost a poll a send."""
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT_S, 0))
    return connection


def post(path: str, parts: list[tuple[str, str, bytes]], *, close: bool = False) -> bytes:
    """A whole multipart request; parts are (field, filename, bytes). close: the server ends the connection."""
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
        % (BOUNDARY, field.encode(), name.encode(), data)
        for field, name, data in parts
    )
    body += b"--%s--\r\n" % BOUNDARY
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
        f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def photo(path: str, file: str) -> bytes:
    """The request for one photo."""
    return post(path, [("images", Path(file).name, Path(file).read_bytes())])


def send_all(port: int, requests: list[bytes], connections: int) -> tuple[list[float], list[str]]:
    """Sends every request once; milliseconds of the good answers, and what was wrong with the others."""
    todo = iter(requests)
    latencies: list[float] = []
    errors: list[str] = []

    def work() -> None:
        connection = Connection(port)
        for request in todo:
            started = time.perf_counter()
            try:
                size = len(connection.ask(request))
            except (OSError, AnswerError) as error:
                errors.append(f"{type(error).__name__}: {error}")
                continue
            if size < SMALLEST_ANSWER:
                errors.append(f"{size} bytes are too few for an embedding")
            else:
                latencies.append(1000 * (time.perf_counter() - started))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, errors


class HealthWatch(threading.Thread):
    """Asks a path every 100 ms over its own connection; `latencies` in milliseconds, infinite where none came."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(daemon=True)
        self.latencies: list[float] = []
        self._connection, self._request = Connection(port), get(path)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            started = time.perf_counter()
            try:
                self._connection.ask(self._request)
                self.latencies.append(1000 * (time.perf_counter() - started))
            except (OSError, AnswerError):
                self.latencies.append(float("inf"))
            self._over.wait(max(0.0, HEALTH_EVERY_S - (time.perf_counter() - started)))

    def stop(self) -> list[float]:
        self._over.set()
        self.join()
        return self.latencies


def run(job: dict) -> dict:
    port, path = job["port"], job["path"]
    send_all(port, [photo(path, file) for file in job["warm"]], 1)
    requests = [photo(path, file) for file in job["files"]]
    watch = HealthWatch(port, job["health"]) if job["health"] else None
    started, cpu = time.perf_counter(), time.process_time()
    if watch:
        watch.start()
    latencies, errors = send_all(port, requests, job["connections"])
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    health = watch.stop() if watch else []
    return {"seconds": seconds, "cpu_s": spent, "latencies_ms": latencies, "errors": errors, "health_ms": health}


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
