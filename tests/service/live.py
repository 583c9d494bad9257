"""Services that a client meets over real sockets: an ASGI application in a thread, or bytes that are no good HTTP."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import uvicorn

from app.client import AsyncClient, Client
from app.main import create_app
from app.reid.embedder import load_model
from app.settings import Settings


class Live:
    """An application that answers on a port, until `stop`. `seen` has the method, path and headers of every request."""

    def __init__(self, app, port: int = 0) -> None:
        self.app, self.seen = app, []
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self._recorded, interface="asgi3", log_config=None, ws="none", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)

    async def _recorded(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.seen.append((scope["method"], scope["path"], headers))
        await self.app(scope, receive, send)

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.seen]

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self._socket.close()
        assert not self._thread.is_alive()


def start(bundle, state, port: int = 0, runtime=None, around=lambda app: app, **values) -> Live:
    """The application over a bundle; `around` wraps it."""
    loaded = load_model(bundle)
    if runtime is not None:
        loaded = replace(loaded, embedder=replace(loaded.embedder, runtime=runtime))
    return Live(around(create_app(Settings.model_validate({"state": state, **values}), loaded)), port)


@contextmanager
def serving(bundle, state, **values) -> Iterator[Live]:
    """Likewise, and stopped afterwards."""
    service = start(bundle, state, **values)
    try:
        yield service
    finally:
        service.stop()


class Relay:
    """A port that passes everything on to another one, which may change: a service that comes back elsewhere."""

    def __init__(self, target: int) -> None:
        self.target, self._open = target, set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pump, args=(source, sink)))
                    self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Ends all connections; new ones are taken."""
        for side in list(self._open):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        for side in self._open:
            side.close()


@contextmanager
def raw(*answers: bytes) -> Iterator[str]:
    """An address where each connection's request is read to its blank line and answered with the next bytes."""

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with closing(connection), suppress(OSError):  # a client may have seen enough
                data = b""
                while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
                    data += more
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def ask(face: str, url: str, call, **options):
    """`call(client)` with either client: `sync`, or `async`, awaited."""
    if face == "sync":
        with Client(url, **options) as client:
            return call(client)

    async def main():
        async with AsyncClient(url, **options) as client:
            return await call(client)

    return asyncio.run(main())
