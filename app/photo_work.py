"""What a thread does for one photo: look it up, or else read, decode and embed it, each content once at a time."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from app.cache import EmbeddingCache, FileStamp, read_stamped, stamp_of
from app.reid.embedder import LoadedModel
from app.reid.errors import ImageError
from app.reid.photos import Photo, PhotoFile
from app.reid.preprocess import Float32, Pixels
from app.timing import Phase

T = TypeVar("T")
Named = tuple[str, Photo]
Flight = Future[Float32]


class LeftError(Exception):
    """Nobody waits for this work any more."""


@dataclass(eq=False, kw_only=True)
class Turn:
    """A piece of work's turn in a thread.

    left: set by whoever no longer waits for it; it is then taken no further. began: when a thread took it up,
    by `time.monotonic`. flight: where others wait who sent the same photo. spent: seconds by phase.
    """

    left: bool = False
    began: float | None = None
    flight: Flight | None = None
    spent: dict[Phase, float] = field(default_factory=dict)

    def take(self, function: Callable[[], T]) -> T:
        """Calls the function, and notes when. Raises LeftError where nobody waits for it any more."""
        self.began = time.monotonic()
        if self.left:
            raise LeftError
        return function()


@dataclass(eq=False)
class Item(Turn):
    """A photo on its way.

    digest: sha256 of its bytes, once they were read, where there is a cache. pixels, known: what `prepare` made of it,
    the picture or, where the cache has it, the embedding.
    """

    name: str
    photo: Photo
    model: LoadedModel
    digest: bytes = b""
    pixels: Pixels | None = None
    known: Float32 | None = None


class PhotoWork:
    """Embeds one photo at a time, from any thread. With a cache, a photo that two bring at once is embedded once."""

    def __init__(
        self,
        cache: EmbeddingCache | None = None,
        on_decoded: Callable[[], object] = lambda: None,
        on_embedded: Callable[[], object] = lambda: None,
    ) -> None:
        """The two functions are called from threads, after each photo that was decoded and each forward pass."""
        self._cache = cache
        self._on_decoded, self._on_embedded = on_decoded, on_embedded
        self._flights: dict[tuple[bytes, str], Flight] = {}
        self._lock = threading.Lock()
        self.last_forward = time.monotonic()  # loading the model ended with a forward pass
        self.failed = False  # the latest forward pass did

    def may_know(self, photos: Sequence[Named]) -> bool:
        """Whether it is worth asking `known`: there is a cache, and a file on disk among the photos."""
        return self._cache is not None and any(isinstance(photo, PhotoFile) for _, photo in photos)

    def known(self, photos: Sequence[Named], version: str) -> dict[int, Float32]:
        """Embeddings that need no photo to be read, by position: of files that are as they were when last read."""
        cache = self._cache
        if cache is None:
            return {}
        digests: dict[int, bytes] = {}
        for position, (_, photo) in enumerate(photos):
            if not isinstance(photo, PhotoFile):
                continue
            with suppress(OSError):  # reading it will say so, with its name
                if (digest := cache.digest_of(stamp_of(photo.path))) is not None:
                    digests[position] = digest
        found = cache.get_many(list(digests.values()), version)
        return {
            position: embedding for position, embedding in zip(digests, found, strict=True) if embedding is not None
        }

    def prepare(self, item: Item) -> None:
        """Reads and decodes a photo whose turn in the network comes later. Raises ImageError."""
        data = self._read(item)
        if self._cache is not None:
            item.known = self._cache.get(item.digest, item.model.version)
        if item.known is None:
            item.pixels = self._decode(item, data)

    def run(self, item: Item) -> Float32 | Flight:
        """A photo -> its (D,) embedding, or where the embedding of the same photo will be.

        Raises:
            ImageError: it cannot be read. LeftError: nobody waits for it any more. Whatever the network raises.
        """
        return item.take(partial(self._run, item))

    def probe(self, model: LoadedModel) -> None:
        """One forward pass over a black picture, to see that they still end."""
        height, width = model.embedder.spec.size
        self._forward(model, np.zeros((height, width, 3), dtype=np.uint8))

    def _run(self, item: Item) -> Float32 | Flight:
        data = self._read(item) if item.pixels is None else b""
        return self._embed(item, data) if self._cache is None else self._embed_once(self._cache, item, data)

    def _read(self, item: Item) -> bytes:
        with _Phase(item, Phase.DECODE):
            data, stamp = self._bytes(item)
            if self._cache is not None:
                item.digest = hashlib.sha256(data).digest()
        if self._cache is not None and stamp is not None:
            self._cache.remember(stamp, item.digest)
        return data

    def _bytes(self, item: Item) -> tuple[bytes, FileStamp | None]:
        try:
            if self._cache is not None and isinstance(item.photo, PhotoFile):
                return read_stamped(item.photo.path)
            return item.photo.read(), None
        except OSError as error:  # its own words hold a path
            raise ImageError(f"{item.name}: the file cannot be read") from error

    def _embed_once(self, cache: EmbeddingCache, item: Item, data: bytes) -> Float32 | Flight:
        key = item.digest, item.model.version
        with self._lock:
            if (other := self._flights.get(key)) is not None:
                return other
            flight = item.flight = self._flights[key] = Future()
        try:
            embedding = cache.get(*key)
            if embedding is None:
                embedding = self._embed(item, data)
                cache.put(*key, embedding)
        except BaseException as error:
            settle(flight, error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        settle(flight, embedding)
        return embedding

    def _embed(self, item: Item, data: bytes) -> Float32:
        pixels = self._decode(item, data) if item.pixels is None else item.pixels
        item.pixels = None  # its memory is another's
        if item.left:
            raise LeftError
        with _Phase(item, Phase.FORWARD):
            embedding = self._forward(item.model, pixels)
        self._on_embedded()
        return embedding

    def _decode(self, item: Item, data: bytes) -> Pixels:
        with _Phase(item, Phase.DECODE):
            pixels = item.model.embedder.prepare(data, item.name)
        self._on_decoded()
        return pixels

    def _forward(self, model: LoadedModel, pixels: Pixels) -> Float32:
        try:
            embedding: Float32 = model.embedder.embed_prepared([pixels])[0]
        except BaseException:
            self.failed = True
            raise
        self.failed = False
        self.last_forward = time.monotonic()
        return embedding


def settle(flight: Flight, outcome: Float32 | BaseException) -> None:
    """Ends a flight, unless it ended before: its thread and whoever gives it up may both come to it."""
    with suppress(InvalidStateError):
        if isinstance(outcome, BaseException):
            flight.set_exception(outcome)
        else:
            flight.set_result(outcome)


class _Phase:
    """Adds the time of a `with` block to an item's phase, however the block ends."""

    def __init__(self, item: Item, phase: Phase) -> None:
        self._spent, self._phase = item.spent, phase

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._began
        self._spent[self._phase] = self._spent.get(self._phase, 0.0) + seconds
