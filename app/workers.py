"""Who does the work: a pool that decodes, a pool that runs the network, and the door in front of both."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import BusyError, NotReadyError, error_response
from app.reid.cores import available_cores
from app.reid.embedder import LoadedModel
from app.reid.errors import ImageError
from app.reid.photos import Photo
from app.reid.preprocess import Float32, Pixels

FRESH_S = 5.0
PROBE_S = 0.75
# Photos of one request that are decoded or wait for the network, for each core.
_AHEAD = 2


class Workers:
    """Embeds photos with one model, without ever blocking the event loop.

    Photos are read and decoded by as many threads as there are cores and go through the network in one thread, because
    a forward pass uses all cores by itself. Fitted pictures are small and a request has no more than two a core under
    way, so that memory does not grow with the number of photos.
    """

    def __init__(self, model: LoadedModel, on_embedded: Callable[[], object] = lambda: None) -> None:
        """`on_embedded` is called after each photo's forward pass, in the forward thread."""
        cores = available_cores()
        self.model = model
        self._on_embedded = on_embedded
        self._ahead = _AHEAD * cores
        self._decoding = ThreadPoolExecutor(cores, "decode")
        self._forward = ThreadPoolExecutor(1, "forward")
        self._last_forward = time.monotonic()  # loading the model ended with a forward pass
        self._probe: asyncio.Future[None] | None = None

    async def embed(self, photos: Sequence[tuple[str, Photo]]) -> Float32:
        """N photos, each with the name that errors call it -> (N, D) float32 unit-norm embeddings in the same order.

        Raises:
            ImageError: the first photo, in the order given, that cannot be read; later ones are given up.
        """
        loop = asyncio.get_running_loop()
        rows = np.empty((len(photos), self.model.manifest.embedding_dim), dtype=np.float32)
        under_way: deque[asyncio.Future[Pixels]] = deque()
        todo = iter(photos)
        try:
            for row in range(len(photos)):
                while len(under_way) < self._ahead and (item := next(todo, None)):
                    under_way.append(loop.run_in_executor(self._decoding, self._prepare, *item))
                pixels = await under_way[0]
                under_way.popleft()
                rows[row] = await loop.run_in_executor(self._forward, self._run, pixels)
        finally:
            for future in under_way:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # looked at, or asyncio complains of it
        return rows

    async def check_ready(self) -> None:
        """Returns if a forward pass ended within 5 s, or if one goes through now.

        Raises:
            NotReadyError: none did within 0.75 s, or it failed.
        """
        if time.monotonic() - self._last_forward < FRESH_S:
            return
        try:
            if self._probe is None or self._probe.done():
                self._probe = asyncio.get_running_loop().run_in_executor(self._forward, self._run_probe)
            await asyncio.wait_for(asyncio.shield(self._probe), PROBE_S)
        except TimeoutError as error:
            raise NotReadyError("The network does not answer.") from error
        except Exception as error:  # whatever a runtime or a pool that was shut down raises
            raise NotReadyError("The network fails.") from error

    def close(self) -> None:
        """Ends the threads. What waits is given up, what runs is waited for."""
        self._decoding.shutdown(cancel_futures=True)
        self._forward.shutdown(cancel_futures=True)

    def _prepare(self, name: str, photo: Photo) -> Pixels:
        try:
            data = photo.read()
        except OSError as error:  # its own words hold a path
            raise ImageError(f"{name}: the file cannot be read") from error
        return self.model.embedder.prepare(data, name)

    def _run(self, pixels: Pixels) -> Float32:
        embedding: Float32 = self.model.embedder.embed_prepared([pixels])[0]
        self._last_forward = time.monotonic()
        self._on_embedded()
        return embedding

    def _run_probe(self) -> None:
        height, width = self.model.embedder.spec.size
        self.model.embedder.embed_prepared([np.zeros((height, width, 3), dtype=np.uint8)])
        self._last_forward = time.monotonic()


class Admission:
    """Lets so many requests at a time through to the calls that infer; the next is refused before its body is read."""

    def __init__(self, app: ASGIApp, limit: int, paths: Collection[str]) -> None:
        """Wraps an application. `paths` are those whose POST infers."""
        self._app = app
        self._limit = limit
        self._paths = frozenset(paths)
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 503 at once. A place is taken until the answer's last byte is sent."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._limit:
            busy = BusyError(f"{self._limit} requests are being worked on; try again in a moment.")
            await error_response(busy)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
