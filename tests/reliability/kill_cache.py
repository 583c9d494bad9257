"""Kills processes that fill one embedding cache with -9 at random moments, and looks at what they leave.

    python tests/reliability/kill_cache.py --kills 50

Exit 0 if every embedding whose `put` had returned is there and right, nothing is half-read, the file passes
`integrity_check` and stays below its limit. Rounds in turn: two writers at once; two writers beyond the file's limit;
one that finds a damaged file and is killed about when it moves it aside.
"""

import argparse
import hashlib
import itertools
import logging
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.cache import EmbeddingCache

VERSION = "0123456789ab"
ROOMY, SCARCE = 2**30, 2**20
BLOCK = 20_000  # numbers that one writer may use
RECENT = 60  # of the last writer beyond the limit; a file of 1 MiB holds about 350
OPENING_S = 0.015
NUMBER_BYTES, FAILED = 4, b"\xff\xff\xff\xff"


def digest_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def vector_of(number: int) -> np.ndarray:
    return np.frombuffer(hashlib.shake_256(b"%d" % number).digest(512), np.uint8).astype(np.float32)


def fill(path: Path, max_bytes: int, first: int, pipe: int) -> None:
    """What a writer does until it is killed: says each number only after its put has returned."""
    cache = EmbeddingCache(path, max_bytes=max_bytes, max_memory_bytes=1)
    os.write(pipe, FAILED)  # it is open
    for number in range(first, first + BLOCK):
        failures = cache.failures
        cache.put(digest_of(number), VERSION, vector_of(number))
        os.write(pipe, number.to_bytes(NUMBER_BYTES, "big") if cache.failures == failures else FAILED)
    time.sleep(60)


class Writer:
    """A process that fills the cache; a fork, so that it starts within milliseconds."""

    def __init__(self, path: Path, max_bytes: int, first: int) -> None:
        self.first, self.said = first, b""
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.reading)
                fill(path, max_bytes, first, writing)
            finally:
                os._exit(1)
        os.close(writing)

    def wait(self) -> None:
        """Until the file is open."""
        self.said = os.read(self.reading, NUMBER_BYTES)

    def kill(self) -> tuple[list[int], int, bool]:
        """-> the numbers that it said, how many puts failed, whether it had opened the file."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        check(os.WIFSIGNALED(status), "a writer ended by itself")
        with open(self.reading, "rb") as pipe:
            self.said += pipe.read()
        words = [self.said[at : at + NUMBER_BYTES] for at in range(0, len(self.said), NUMBER_BYTES)]
        numbers = [int.from_bytes(word, "big") for word in words if word != FAILED]
        return numbers, len(words) - len(numbers) - 1 if words else 0, bool(words)


@dataclass
class Place:
    """A folder with one cache, and what must be in it."""

    folder: Path
    max_bytes: int
    kept: list[int] = field(default_factory=list)
    used: list[range] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "cache.sqlite"

    def verify(self, must: list[int], damaged: int = 0) -> None:
        """Opens the cache as a service does, then looks at every row of it by SQL."""
        with closing(EmbeddingCache(self.path, max_bytes=self.max_bytes, max_memory_bytes=2**20)) as cache:
            found = cache.get_many([digest_of(number) for number in must], VERSION)
            check(cache.failures == 0, "reading failed")
        missing = [number for number, vector in zip(must, found, strict=True) if vector is None]
        check(not missing, f"{len(missing)} of {len(must)} are lost, {missing[:5]} for example")
        same = [np.array_equal(vector, vector_of(number)) for number, vector in zip(must, found, strict=True)]
        check(all(same), f"{same.count(False)} of {len(must)} are not what was put")
        with closing(sqlite3.connect(self.path)) as file:
            check(file.execute("PRAGMA integrity_check").fetchone() == ("ok",), "integrity_check finds damage")
            rows = file.execute("SELECT key, content FROM entries JOIN contents USING (id)").fetchall()
            check(file.execute("SELECT count(*) FROM contents").fetchone() == (len(rows),), "contents without a key")
        numbers = {digest_of(number): number for block in self.used for number in block}
        for key, content in rows:
            check(content == vector_of(numbers[key[:32]]).tobytes(), "a row is half-written")
        size, names = self.path.stat().st_size, [path.name for path in self.folder.iterdir()]
        check(size <= 1.05 * self.max_bytes, f"{size} bytes; the limit is {self.max_bytes}")
        check(sum(".damaged-" in name for name in names) <= damaged, f"moved aside: {names}")


class BrokenError(Exception):
    """What must not happen."""


def check(right: bool, sentence: str) -> None:
    if not right:
        raise BrokenError(sentence)


class Loop:
    """Rounds until there were so many kills."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)
        self.numbers = itertools.count(0, BLOCK)
        self.counts: Counter[str] = Counter()
        self.roomy, self.scarce = self.place(ROOMY), self.place(SCARCE)

    def place(self, max_bytes: int) -> Place:
        return Place(Path(tempfile.mkdtemp(dir=self.root)), max_bytes)

    def writers(self, place: Place, count: int) -> list[Writer]:
        return [Writer(place.path, place.max_bytes, next(self.numbers)) for _ in range(count)]

    def end(self, place: Place, writer: Writer, longest_s: float) -> list[int]:
        if self.chance.random() < 0.6:
            writer.wait()
        else:  # about when it opens the file
            longest_s = OPENING_S
        time.sleep(self.chance.uniform(0, longest_s))
        said, failed, opened = writer.kill()
        place.used.append(range(writer.first, writer.first + len(said) + failed + 1))
        self.counts.update({"kills": 1, "opening": not opened, "puts": len(said), "failed": failed})
        return said

    def two_at_once(self) -> None:
        if len(self.roomy.kept) > 5_000:
            self.roomy = self.place(ROOMY)
        for writer in self.writers(self.roomy, 2):
            self.roomy.kept += self.end(self.roomy, writer, 0.12)
        self.roomy.verify(self.roomy.kept)

    def beyond_the_limit(self) -> None:
        said: list[int] = []
        for writer in self.writers(self.scarce, 2):
            said = self.end(self.scarce, writer, 0.15)
        self.scarce.verify(said[-RECENT:])

    def damaged(self) -> None:
        place = self.place(ROOMY)
        place.path.write_bytes(b"no database" * 1_000)
        [writer] = self.writers(place, 1)
        place.verify(self.end(place, writer, 0.04), damaged=1)
        shutil.rmtree(place.folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()  # the damaged files are meant
    root = Path(tempfile.mkdtemp())
    try:
        loop = Loop(root, arguments.seed)
        for kind in itertools.cycle((loop.two_at_once, loop.beyond_the_limit, loop.damaged)):
            kind()
            if loop.counts["kills"] >= arguments.kills:
                break
    except BrokenError as failure:
        print(f"NOT safe: {failure}")
        return 1
    finally:
        shutil.rmtree(root)
    print(
        "cache: {kills} kills, {opening} before the file was open; {puts} puts had returned, 0 lost, 0 half-read;"
        " {failed} puts failed in time".format_map(loop.counts)
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
