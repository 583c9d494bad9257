"""The embedding cache: what a photo's bytes were embedded to by a model, kept in memory and in a file.

Photos are known by the sha256 of their bytes; files below the image root also by their stamp, so that they need not be
read again. Memory is bounded by bytes, the file by pages. SQLite and cachetools do the work, not diskcache: its last
release is of 2023, and it unpickles what it reads.
"""

import hashlib
import threading
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
from cachetools import LRUCache

from app.cache.file import CacheFile
from app.cache.stamps import FileStamp, read_stamped, stamp_of
from app.reid.preprocess import Float32

__all__ = ["EmbeddingCache", "FileStamp", "read_stamped", "stamp_of"]

_FLOAT32 = np.dtype("<f4")
_SHA256_BYTES = hashlib.sha256().digest_size
# What an entry of the memory takes beside its content: the key, two objects' heads, its place in two dictionaries.
_ENTRY_BYTES = 320


class EmbeddingCache:
    """Embeddings by photo and model, for all threads of a process; the file is shared by all worker processes.

    A trouble with the file never reaches who asks: what cannot be read is absent, what cannot be written stays in
    memory; `failures` counts it and a warning tells it, once a minute at most.
    hits, misses: embeddings asked for that were there, and that were not.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_memory_bytes: int) -> None:
        """Opens the file, or begins one. A damaged one, or one of another release, is moved aside with a warning.

        max_bytes: of the file; one longer by more than a tenth is begun anew.
        max_memory_bytes: of what is kept in memory in front of it.

        Raises:
            ConfigError: the file cannot be written, is something else's, or max_bytes is below 1 MiB.
        """
        # Both decode: another release may give other pixels.
        self._decoders = f"pillow-{version_of('pillow')} imagecodecs-{version_of('imagecodecs')}"
        self._memory: LRUCache[bytes, bytes] = LRUCache(max_memory_bytes, getsizeof=_size)
        self._lock = threading.Lock()
        self._file = CacheFile(path, max_bytes)
        self.hits = 0
        self.misses = 0

    @property
    def failures(self) -> int:
        """Reads and writes of the file that went wrong or, right after one that did, were left out."""
        return self._file.failures

    def get(self, digest: bytes, version: str) -> Float32 | None:
        """The photo's sha256 and the model_version -> its (D,) embedding, read-only; None where it is not known."""
        return self.get_many([digest], version)[0]

    def get_many(self, digests: Sequence[bytes], version: str) -> list[Float32 | None]:
        """The same for N photos at once, in the order given; the file is asked once for every 500 of them."""
        keys = [self._embedding_key(digest, version) for digest in digests]
        contents = self._find(keys)
        vectors = {key: _vector(content) for key, content in contents.items()}
        if unfit := [key for key, vector in vectors.items() if vector is None]:
            self._forget(unfit)
        answers = [vectors.get(key) for key in keys]
        misses = sum(answer is None for answer in answers)
        with self._lock:
            self.hits += len(answers) - misses
            self.misses += misses
        return answers

    def put(self, digest: bytes, version: str, embedding: Float32) -> None:
        """Keeps a (D,) embedding. Once this returns, kill -9 does not lose it; `failures` tells where the file failed.

        Raises:
            ValueError: it is no finite vector.
        """
        if embedding.ndim != 1 or not embedding.size or not np.isfinite(embedding).all():
            raise ValueError(f"an embedding of shape {embedding.shape} is kept where it is a finite vector")
        self._keep(self._embedding_key(digest, version), embedding.astype(_FLOAT32).tobytes())

    def digest_of(self, stamp: FileStamp) -> bytes | None:
        """The sha256 of a file that has not changed since it was remembered; None where that is not certain.

        Whoever then finds no embedding reads the file and hashes what was read: this answer is for looking up alone.
        """
        content = self._find([stamp.key]).get(stamp.key, b"")
        fingerprint, digest = content[:-_SHA256_BYTES], content[-_SHA256_BYTES:]
        return digest if fingerprint == stamp.fingerprint else None

    def remember(self, stamp: FileStamp, digest: bytes) -> None:
        """Keeps the sha256 of a file's bytes; the stamp is the one that `read_stamped` gave with these bytes."""
        self._keep(stamp.key, stamp.fingerprint + digest)

    def close(self) -> None:
        """Closes the file. What comes later is answered from memory and counts as a failure."""
        self._file.close()

    def _embedding_key(self, digest: bytes, version: str) -> bytes:
        return digest + f"{version} {self._decoders}".encode()

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The contents that are known, from memory and then from the file; their use is noted."""
        with self._lock:
            found = {key: content for key in keys if (content := self._memory.get(key)) is not None}
        if missing := [key for key in dict.fromkeys(keys) if key not in found]:
            fresh = self._file.read(missing)
            for key, content in fresh.items():
                self._hold(key, content)
            found |= fresh
        self._file.note_use(found)
        return found

    def _keep(self, key: bytes, content: bytes) -> None:
        self._hold(key, content)
        self._file.write(key, content)

    def _hold(self, key: bytes, content: bytes) -> None:
        """Into memory, unless that is smaller than the entry alone."""
        with self._lock:
            if _size(content) <= self._memory.maxsize:
                self._memory[key] = content

    def _forget(self, keys: Sequence[bytes]) -> None:
        with self._lock:
            for key in keys:
                self._memory.pop(key, None)
        self._file.delete(keys)


def _size(content: bytes) -> int:
    return len(content) + _ENTRY_BYTES


def _vector(content: bytes) -> Float32 | None:
    """The embedding in an entry, read-only as its bytes are; None where no finite vector is in it."""
    if not content or len(content) % _FLOAT32.itemsize:
        return None
    vector: Float32 = np.frombuffer(content, _FLOAT32).astype(np.float32, copy=False)
    return vector if np.isfinite(vector).all() else None
