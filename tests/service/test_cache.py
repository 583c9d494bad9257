"""The embedding cache: what comes back is what was put or nothing, whatever happens to its file."""

import hashlib
import importlib.metadata
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import PIL
import pytest

from app.cache import EmbeddingCache, opening, read_stamped, stamp_of
from app.reid.errors import ConfigError

ROOT = Path(__file__).parents[2]
VERSION = "0123456789ab"
MIB = 2**20
NO_MEMORY = 1


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def vector(number: int, size: int = 512) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(size).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cache.sqlite"


@pytest.fixture
def cache(path: Path) -> Iterator[Callable[..., EmbeddingCache]]:
    """`cache(max_bytes=, max_memory_bytes=)` opens the one at `path`; all are closed after the test."""
    opened: list[EmbeddingCache] = []

    def start(max_bytes: int = 64 * MIB, max_memory_bytes: int = NO_MEMORY) -> EmbeddingCache:
        opened.append(EmbeddingCache(path, max_bytes=max_bytes, max_memory_bytes=max_memory_bytes))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def filled(path: Path) -> Path:
    """The path of a closed cache that holds embeddings 0 to 299."""
    with closing(EmbeddingCache(path, max_bytes=64 * MIB, max_memory_bytes=NO_MEMORY)) as one:
        for number in range(300):
            one.put(digest(number), VERSION, vector(number))
    return path


@contextmanager
def sql(path: Path) -> Iterator[sqlite3.Connection]:
    """The file without the cache's own code."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def known(cache: EmbeddingCache, numbers: range) -> set[int]:
    """Which of these are there; those that are must be right, to the last bit."""
    found = cache.get_many([digest(number) for number in numbers], VERSION)
    there = {number: row for number, row in zip(numbers, found, strict=True) if row is not None}
    assert all(row.tobytes() == vector(number).tobytes() for number, row in there.items())
    return set(there)


def python(script: str, *arguments: object, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", PREAMBLE + script, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options
    )


PREAMBLE = """
import hashlib, resource, sys
from pathlib import Path
import numpy as np
from app.cache import EmbeddingCache
path, version = Path(sys.argv[1]), "0123456789ab"
def digest(number): return hashlib.sha256(b"%d" % number).digest()
def vector(number): return np.random.default_rng(number).standard_normal(512).astype(np.float32)
"""


# What it keeps


@pytest.mark.parametrize("memory", [NO_MEMORY, MIB])
def test_an_embedding_comes_back_to_the_last_bit_and_cannot_be_changed(cache, memory):
    one = cache(max_memory_bytes=memory)
    one.put(digest(1), VERSION, vector(1))
    answer = one.get(digest(1), VERSION)
    assert answer.dtype == np.float32
    assert answer.tobytes() == vector(1).tobytes()
    with pytest.raises(ValueError, match="read-only"):
        answer[0] = 0


def test_another_photo_and_another_model_are_not_known(cache):
    one = cache()
    one.put(digest(1), VERSION, vector(1))
    assert one.get(digest(2), VERSION) is None
    assert one.get(digest(1), "ba9876543210") is None
    assert (one.hits, one.misses, one.failures) == (0, 2, 0)


def test_the_last_put_counts_and_sizes_may_differ(cache):
    one = cache()
    for number, size in ((1, 512), (2, 64), (3, 2048)):
        one.put(digest(0), VERSION, vector(number, size))
        assert one.get(digest(0), VERSION).tobytes() == vector(number, size).tobytes()


def test_it_outlives_the_process_and_the_key_names_both_decoders(filled, cache):
    assert known(cache(), range(310)) == set(range(300))
    with sql(filled) as file:
        [(key,)] = file.execute("SELECT key FROM entries WHERE substr(key, 1, 32) = ?", (digest(7),)).fetchall()
    assert key[32:].decode() == f"{VERSION} pillow-{PIL.__version__} imagecodecs-{imagecodecs.__version__}"


def test_after_another_release_of_a_decoder_nothing_is_known(filled, cache, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr("app.cache.version_of", lambda name: "99.0" if name == "pillow" else real(name))
    assert known(cache(), range(300)) == set()


def test_many_at_once_come_in_their_order_with_few_questions(filled, cache):
    one = cache()
    statements: list[str] = []
    one._file._open.reader.set_trace_callback(statements.append)
    order = np.random.default_rng(0).integers(0, 400, 1_100).tolist()
    answers = one.get_many([digest(number) for number in order], VERSION)
    one._file._open.reader.set_trace_callback(None)
    for number, answer in zip(order, answers, strict=True):
        assert (answer is None) if number >= 300 else (answer.tobytes() == vector(number).tobytes())
    assert len(statements) == 1  # about 375 distinct ones
    assert one.hits == sum(number < 300 for number in order)
    assert one.misses == sum(number >= 300 for number in order)
    assert one.get_many([], VERSION) == []


@pytest.mark.parametrize("wrong", [np.full(4, np.nan), np.array([1.0, np.inf]), np.zeros((2, 3)), np.zeros(0)])
def test_what_is_no_finite_vector_is_refused(cache, wrong):
    with pytest.raises(ValueError, match="finite vector"):
        cache().put(digest(1), VERSION, wrong.astype(np.float32))


# Memory


def test_memory_answers_without_the_file_and_is_bounded(cache, path):
    one = cache(max_memory_bytes=MIB)
    for number in range(1_000):
        one.put(digest(number), VERSION, vector(number))
    with sql(path) as file:
        file.execute("DELETE FROM entries")
    there = known(one, range(1_000))
    entry = 512 * 4 + 32
    assert 0.7 * MIB / entry < len(there) < MIB / entry
    assert there == set(range(1_000 - len(there), 1_000))  # the last ones used


def test_what_the_file_gave_is_in_memory_afterwards(filled, cache):
    one = cache(max_memory_bytes=MIB)
    known(one, range(10))
    with sql(filled) as file:
        file.execute("DELETE FROM entries")
    assert known(one, range(300)) == set(range(10))


# Threads and processes


def test_eight_threads_at_once(cache):
    one = cache(max_memory_bytes=MIB)

    def work(worker: int) -> int:
        for step in range(150):
            number = (worker * 37 + step) % 200
            if one.get(digest(number), VERSION) is None:
                one.put(digest(number), VERSION, vector(number))
        return len(known(one, range(200)))

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(8))) == 200
    assert known(one, range(200)) == set(range(200))
    assert one.hits + one.misses == 8 * 150 + 9 * 200
    assert one.failures == 0


WRITER = """
cache = EmbeddingCache(path, max_bytes=2**26, max_memory_bytes=1)
for number in range(int(sys.argv[2]), 600, 2):
    cache.put(digest(number), version, vector(number))
print(cache.failures, flush=True)
sys.stdin.readline()
found = cache.get_many([digest(number) for number in range(600)], version)
assert all(row is None or row.tobytes() == vector(number).tobytes() for number, row in enumerate(found))
print(sum(row is None for row in found), flush=True)
cache.close()
"""


def test_two_processes_write_at_once_and_see_what_the_other_wrote(path, cache):
    """A put that had to wait longer than a request may is left out and counted: on a busy machine there may be some."""
    with python(WRITER, path, 0) as one, python(WRITER, path, 1) as other:
        failures = sum(int(process.stdout.readline()) for process in (one, other))
        missing = {int(process.communicate("\n")[0]) for process in (one, other)}
    assert (one.returncode, other.returncode) == (0, 0)
    assert max(missing) <= failures
    assert len(known(cache(), range(600))) >= 600 - failures
    with sql(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Its size


def test_the_file_stays_below_its_limit_and_what_was_used_last_stays(path, cache):
    one = cache(max_bytes=2 * MIB)
    sizes = []
    for number in range(3_000):
        one.put(digest(number), VERSION, vector(number))
        assert one.get(digest(0), VERSION) is not None  # the oldest, used all the time
        if number % 50 == 0:
            sizes.append(sum(file.stat().st_size for file in path.parent.iterdir()))
    assert max(sizes) <= 1.05 * 2 * MIB + 2 * 32_768 + 2 * MIB / 16  # the file, SQLite's shared memory and its log
    there = known(one, range(3_000))
    assert 0 in there
    assert there - {0} == set(range(3_000 - len(there) + 1, 3_000))
    assert len(there) > 0.85 * 2 * MIB / 3_000
    one.close()
    assert path.stat().st_size <= 1.03 * 2 * MIB
    assert one.failures == 0


def test_uses_are_noted_in_bulk_and_kept_over_a_restart(filled, cache):
    with sql(filled) as file:
        before = dict(file.execute("SELECT key, used FROM entries").fetchall())
    time.sleep(0.002)
    one = cache()
    assert known(one, range(5)) == set(range(5))
    with sql(filled) as file:
        assert dict(file.execute("SELECT key, used FROM entries").fetchall()) == before
    one.close()
    with sql(filled) as file:
        after = dict(file.execute("SELECT key, used FROM entries").fetchall())
    assert {key[:32] for key in after if after[key] != before[key]} == {digest(number) for number in range(5)}


def test_many_uses_do_not_pile_up(cache, monkeypatch):
    monkeypatch.setattr("app.cache.file._NOTES", 50)
    one = cache()
    for number in range(120):
        one.put(digest(number), VERSION, vector(number))
        one.get(digest(number), VERSION)
    assert len(one._file._uses) == 120 % 50
    assert one.failures == 0


def test_a_lower_limit_begins_a_new_file(path, cache, caplog):
    one = cache(max_bytes=8 * MIB)
    for number in range(2_000):
        one.put(digest(number), VERSION, vector(number))
    one.close()
    assert path.stat().st_size > 4 * MIB
    assert known(cache(max_bytes=8 * MIB), range(1_999, 2_000)) == {1_999}
    small = cache(max_bytes=2 * MIB)
    assert "longer than JAGUAR_MAX_CACHE_BYTES allows" in caplog.text
    assert known(small, range(2_000)) == set()
    assert path.stat().st_size < MIB


def test_a_limit_that_holds_nothing_is_refused(path):
    with pytest.raises(ConfigError, match="JAGUAR_MAX_CACHE_BYTES: 1048575 bytes are too few; 1MiB is the least"):
        EmbeddingCache(path, max_bytes=MIB - 1, max_memory_bytes=MIB)


# A file that is not what it was


def replace_content(path: Path, number: int, content: object, checksum: int | None = None) -> None:
    """Puts something else into a row, with a checksum that fits unless another one is given."""
    with sql(path) as file:
        [(key, row)] = file.execute("SELECT key, id FROM entries WHERE substr(key, 1, 32) = ?", (digest(number),))
        checksum = zlib.crc32(key + content) if checksum is None else checksum
        file.execute("UPDATE contents SET content = ?, checksum = ? WHERE id = ?", (content, checksum, row))


@pytest.mark.parametrize(
    ("content", "checksum"),
    [
        (vector(3).tobytes()[:-1], None),
        (b"", None),
        (np.full(512, np.nan, np.float32).tobytes(), None),
        (np.append(vector(3)[:511], np.float32(-np.inf)).tobytes(), None),
        (vector(4).tobytes(), 0),
        ("a text", 0),
    ],
    ids=["cut", "empty", "nan", "infinity", "altered", "text"],
)
def test_a_row_that_does_not_fit_is_absent_and_deleted(filled, cache, content, checksum):
    replace_content(filled, 3, content, checksum)
    one = cache(max_memory_bytes=MIB)
    for _ in range(2):
        assert known(one, range(300)) == set(range(300)) - {3}
    with sql(filled) as file:
        assert file.execute("SELECT count(*) FROM entries").fetchone() == (299,)
        assert file.execute("SELECT count(*) FROM contents").fetchone() == (299,)
    one.put(digest(3), VERSION, vector(3))
    assert known(one, range(300)) == set(range(300))


def test_a_row_that_damage_made_a_text_is_read_as_bytes(filled, cache):
    with sql(filled) as file:
        file.execute("UPDATE contents SET content = CAST(x'fffefd' AS TEXT) WHERE id = 1")
    one = cache()
    assert len(known(one, range(300))) == 299
    assert one.failures == 1


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if not file.name.endswith((".lock", "-wal", "-shm")))


def overwrite(path: Path, start: float, stop: float) -> None:
    """Rubbish over a part of the file, given as shares of its length."""
    data = bytearray(path.read_bytes())
    part = slice(int(len(data) * start), int(len(data) * stop))
    data[part] = np.random.default_rng(0).bytes(part.stop - part.start)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def other_schema(path: Path) -> None:
    with sql(path) as file:
        file.execute("PRAGMA user_version = 77")


def torn_name(path: Path) -> None:
    """A table called by bytes that are no text."""
    path.write_bytes(path.read_bytes().replace(b"contentscontents", b"content\xffcontent\xff"))


DAMAGES = {
    "name": (torn_name, "a name in it is no text"),
    "no database": (lambda path: path.write_bytes(b"<html>" * 500), "file is not a database"),
    "cut short": (cut_short, "malformed|Tree|page|Page"),
    "middle": (lambda path: overwrite(path, 0.4, 0.6), "malformed|Tree|page|Page"),
    "schema": (other_schema, "its schema is 77, that of this release is 1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(filled, cache, caplog, damage):
    spoil, reason = DAMAGES[damage]
    for count in (1, 2):
        spoil(filled)
        spoiled = filled.read_bytes()
        caplog.clear()
        one = cache()
        assert known(one, range(300)) == set()
        for number in range(300):
            one.put(digest(number), VERSION, vector(number))
        assert known(one, range(300)) == set(range(300))
        one.close()
        assert one.failures == 0
        assert names(filled) == ["cache.sqlite", f"cache.sqlite.damaged-{count}"]
        assert (filled.parent / f"cache.sqlite.damaged-{count}").read_bytes() == spoiled
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(f"the cache {filled} cannot be used: ")
        assert any(word in record.getMessage() for word in reason.split("|"))


def test_rubbish_anywhere_gives_no_wrong_embedding(filled, cache):
    """Ten places, each as wide as a page or so: whatever is found first, at the start or when read, no row is wrong."""
    sound = filled.read_bytes()
    outcomes = set()
    for place in range(10):
        filled.write_bytes(sound)
        overwrite(filled, place / 10, place / 10 + 0.01)
        one = cache()
        there = known(one, range(300))
        outcomes.add(len(there))
        for number in range(300):
            one.put(digest(number), VERSION, vector(number))
        assert known(one, range(300)) == set(range(300))
        one.close()
    assert min(outcomes) < 300


def test_one_altered_bit_of_a_content_costs_that_row_alone(filled, cache, caplog):
    data = filled.read_bytes()
    at = data.index(vector(123).tobytes()) + 1_001
    filled.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    one = cache()
    assert known(one, range(300)) == set(range(300)) - {123}
    assert (one.failures, names(filled)) == (1, ["cache.sqlite"])
    assert "an entry is not what was written" in caplog.text


def test_damage_under_a_running_service_is_replaced(filled, cache, caplog):
    """What SQLite has read already may still be right; the rest it finds malformed, and a new file is begun."""
    one, other = cache(), cache()
    with filled.open("r+b") as file:
        file.write(np.random.default_rng(0).bytes(filled.stat().st_size))
    with ThreadPoolExecutor(4) as pool:  # several find it at once
        list(pool.map(lambda start: known(one, range(start, 300, 4)), range(4)))
    for number in range(300):
        one.put(digest(number), VERSION, vector(number))
    assert known(one, range(300)) == set(range(300))
    assert one.failures > 0
    assert names(filled) == ["cache.sqlite", "cache.sqlite.damaged-1"]
    assert "it turned out to be malformed" in caplog.text
    # The other one finds the damage later: it takes the new file as it is, and its end does the new file no harm.
    known(other, range(300))
    other.put(digest(300), VERSION, vector(300))
    assert known(other, range(301)) == set(range(301))
    assert names(filled) == ["cache.sqlite", "cache.sqlite.damaged-1"]
    with sql(filled) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_damage_that_cannot_be_replaced_leaves_the_memory(filled, cache, caplog):
    one = cache(max_memory_bytes=MIB)
    known(one, range(10))
    with filled.open("r+b") as file:
        file.write(np.random.default_rng(0).bytes(filled.stat().st_size))
    lock = filled.with_name("cache.sqlite.lock")
    lock.unlink()
    lock.mkdir()
    assert known(one, range(200)) >= set(range(10))
    one.put(digest(0), VERSION, vector(0))
    assert known(one, range(200)) >= set(range(10))
    assert one.failures >= 3
    assert "until the next start the cache keeps nothing in its file" in caplog.text


def test_who_still_has_a_moved_file_open_does_the_new_one_no_harm(filled, cache):
    """SQLite deletes a file's log by name when the last connection closes; it must not be the new file's."""
    former = cache()
    former.put(digest(300), VERSION, vector(300))
    script = """
    import pathlib, sys
    path = pathlib.Path(sys.argv[1]); path.rename(path.with_name("cache.sqlite.damaged-1"))
    for end in ("-wal", "-shm"): path.with_name(path.name + end).unlink()
    """
    subprocess.run([sys.executable, "-c", "\n".join(map(str.strip, script.splitlines())), filled], check=True)
    new = cache()
    new.put(digest(1), VERSION, vector(1))
    assert known(former, range(301)) == set(range(301))
    former.close()
    new.put(digest(2), VERSION, vector(2))
    assert known(new, range(301)) == {1, 2}
    assert known(cache(), range(301)) == {1, 2}


@pytest.mark.parametrize("broken", [False, True])
def test_a_large_file_holds_up_the_start_for_so_long_and_no_longer(filled, cache, monkeypatch, broken):
    """The look through it is broken off, which is no damage; damage that it did not find is found when it is read."""
    with sql(filled) as file:
        for _ in range(5):
            file.execute("INSERT INTO contents (content, checksum) SELECT content, checksum FROM contents")
    if broken:
        overwrite(filled, 0.01, 0.02)
    monkeypatch.setattr(opening, "_LOOK_S", 0.001)
    one = cache()
    there = known(one, range(300))
    assert names(filled) == ["cache.sqlite"] if not broken else len(there) < 300
    assert broken or there == set(range(300))
    for number in range(300):
        one.put(digest(number), VERSION, vector(number))
    assert known(one, range(300)) == set(range(300))


def test_a_database_of_something_else_is_left_alone(path):
    path.parent.mkdir()
    with sql(path) as file:
        file.execute("CREATE TABLE jobs (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is a database of something else; give JAGUAR_CACHE another file"):
        EmbeddingCache(path, max_bytes=MIB, max_memory_bytes=1)
    assert path.read_bytes() == before


def test_a_file_whose_mark_is_damaged_is_still_known_as_a_cache(filled, cache):
    with sql(filled) as file:
        file.execute("PRAGMA application_id = 5")
    assert known(cache(), range(300)) == set(range(300))


def test_a_start_that_was_killed_early_leaves_an_empty_file_that_is_begun_again(path, cache, caplog):
    path.parent.mkdir()
    path.touch()
    assert known(cache(), range(1)) == set()
    assert caplog.text == ""


# A disk that does not do what it should


def test_locked_by_another_process(cache, path, caplog):
    """Memory answers, what is in the file is read, what cannot be written is counted; one warning for all of it."""
    one = cache(max_memory_bytes=MIB)
    one.put(digest(0), VERSION, vector(0))
    holder = """
import sqlite3
file = sqlite3.connect(path, isolation_level=None)
file.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""
    with python(holder, path) as process:
        assert process.stdout.readline() == "locked\n"
        for number in range(1, 40):
            one.put(digest(number), VERSION, vector(number))
        assert known(one, range(40)) == set(range(40))
        assert one.failures == 39
        process.communicate("\n")
    [record] = caplog.records
    assert record.getMessage() == "the cache fails: database is locked (1 times so far); photos are embedded anew"
    assert known(cache(), range(40)) == {0}
    number = 40
    while one.failures < 1_000:  # after a moment's rest it writes again
        before = one.failures
        one.put(digest(number), VERSION, vector(number))
        if one.failures == before:
            break
        time.sleep(0.05)
    assert known(cache(), range(41)) == {0, 40}


def test_a_limit_on_file_size_in_another_process(path, cache):
    """The system refuses to let the file grow: puts return, memory answers, what was put before is kept."""
    script = """
cache = EmbeddingCache(path, max_bytes=2**26, max_memory_bytes=2**24)
for number in range(100):
    cache.put(digest(number), version, vector(number))
assert cache.failures == 0
size = path.with_name("cache.sqlite-wal").stat().st_size
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, hard))
for number in range(100, 2_000):
    cache.put(digest(number), version, vector(number))
assert cache.failures > 0
assert all(cache.get(digest(number), version).tobytes() == vector(number).tobytes() for number in range(2_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
while True:
    before = cache.failures
    cache.put(digest(2_000), version, vector(2_000))
    if cache.failures == before:
        break
cache.close()
"""
    with python(script, path) as process:
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "the cache fails: " in errors
    there = known(cache(), range(2_001))
    assert there >= {*range(100), 2_000}
    with sql(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk(small_disk):
    with closing(EmbeddingCache(small_disk / "c", max_bytes=8 * MIB, max_memory_bytes=8 * MIB)) as one:
        for number in range(1_000):
            one.put(digest(number), VERSION, vector(number))
        assert one.failures > 0
        assert known(one, range(1_000)) == set(range(1_000))
    with closing(EmbeddingCache(small_disk / "c", max_bytes=8 * MIB, max_memory_bytes=1)) as one:  # still full
        there = known(one, range(1_000))
        assert 50 < len(there) < 1_000
        assert there >= set(range(50))
    with sql(small_disk / "c") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_turns_read_only(filled, cache, caplog):
    """As a disk does that the system remounts after an error: SQLite itself refuses here."""
    one = cache(max_memory_bytes=MIB)
    one._file._open.writer.execute("PRAGMA query_only = ON")
    for number in range(295, 305):
        one.put(digest(number), VERSION, vector(number))
    assert known(one, range(305)) == set(range(305))
    assert one.failures == 10
    assert "attempt to write a readonly database" in caplog.text
    one.close()
    assert known(cache(), range(305)) == set(range(300))


def test_a_put_that_fails_half_way_leaves_nothing(filled, cache):
    with sql(filled) as file:
        file.execute("CREATE TRIGGER t BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'no'); END")
    one = cache()
    one.put(digest(300), VERSION, vector(300))
    one.put(digest(1), VERSION, vector(301))
    assert one.failures == 2
    assert known(one, range(301)) == set(range(300))
    with sql(filled) as file:
        assert file.execute("SELECT count(*) FROM contents").fetchone() == (300,)


def test_a_place_that_cannot_be_written_stops_the_start(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "cache.sqlite", Path("/proc/nowhere/cache.sqlite"), tmp_path):
        with pytest.raises(ConfigError) as caught:
            EmbeddingCache(place, max_bytes=MIB, max_memory_bytes=1)
        sentence = str(caught.value)
        assert sentence.startswith(f"the cache {place} cannot be written: ")
        assert all(name in sentence for name in ("JAGUAR_CACHE=off", "JAGUAR_STATE"))


def test_a_file_that_may_only_be_read_stops_the_start(filled):
    """Root may write everything: it asks as somebody else, in a folder that this one may reach."""
    script = """
import os
EmbeddingCache(path.with_name("other"), max_bytes=2**20, max_memory_bytes=1).close()  # what is imported late is so now
if os.geteuid() == 0:
    os.setuid(65_534)
try:
    EmbeddingCache(path, max_bytes=2**20, max_memory_bytes=1)
except Exception as error:
    print(type(error).__name__, error)
"""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(shutil.copy(filled, folder))
        file.chmod(0o444)
        Path(folder).chmod(0o777)
        with python(script, file) as process:
            said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert said.startswith(f"ConfigError the cache {file} cannot be written: attempt to write a readonly database")


def test_after_close_memory_answers_and_nothing_raises(cache):
    one = cache(max_memory_bytes=MIB)
    one.put(digest(0), VERSION, vector(0))
    one.close()
    one.close()
    one.put(digest(1), VERSION, vector(1))
    assert known(one, range(3)) == {0, 1}
    assert one.failures == 2


def test_a_closed_cache_leaves_its_file_and_the_lock_alone(cache, path):
    one = cache()
    one.put(digest(0), VERSION, vector(0))
    one.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["cache.sqlite", "cache.sqlite.lock"]


# Files below the image root


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was changed a minute ago: nobody can set a ctime back, so the clock goes forward."""
    file = tmp_path / "photo.png"
    file.write_bytes(b"one")
    monkeypatch.setattr("app.cache.stamps.time.time_ns", lambda real=time.time_ns: real() + 60 * 10**9)
    return file


def test_a_remembered_file_need_not_be_read_again(settled, cache):
    one = cache()
    data, stamp = read_stamped(settled)
    assert data == b"one"
    assert one.digest_of(stamp) is None
    one.remember(stamp, hashlib.sha256(data).digest())
    one.close()
    again = cache()
    assert again.digest_of(stamp_of(settled)) == hashlib.sha256(b"one").digest()
    assert (again.hits, again.misses) == (0, 0)


def rewrite(file: Path) -> None:
    """Other bytes, as many, with the times set back as far as they can be."""
    status = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(file: Path) -> None:
    status = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [rewrite, swap, lambda file: file.write_bytes(b"longer"), Path.touch])
@pytest.mark.parametrize("memory", [NO_MEMORY, MIB])
def test_a_changed_file_is_not_known(settled, cache, change, memory):
    one = cache(max_memory_bytes=memory)
    data, stamp = read_stamped(settled)
    one.remember(stamp, hashlib.sha256(data).digest())
    time.sleep(0.02)
    change(settled)
    assert one.digest_of(stamp_of(settled)) is None
    data, stamp = read_stamped(settled)
    one.remember(stamp, hashlib.sha256(data).digest())
    assert one.digest_of(stamp_of(settled)) == hashlib.sha256(settled.read_bytes()).digest()


def test_a_file_has_one_row_however_often_it_changes(settled, cache, path):
    one = cache()
    for number in range(5):
        settled.write_bytes(b"%d" % number)
        data, stamp = read_stamped(settled)
        one.remember(stamp, hashlib.sha256(data).digest())
    with sql(path) as file:
        [(key,)] = file.execute("SELECT key FROM entries").fetchall()
        assert file.execute("SELECT count(*) FROM contents").fetchone() == (1,)
    assert b"photo" not in key


def test_a_file_that_was_just_changed_has_no_stamp(tmp_path):
    """It may change again within one step of the file system's clock and keep its times."""
    file = tmp_path / "photo.png"
    file.write_bytes(b"one")
    assert read_stamped(file) == (b"one", None)
    time.sleep(2.1)
    assert read_stamped(file) == (b"one", stamp_of(file))
    os.utime(file, ns=(0, 0))
    assert read_stamped(file) == (b"one", None)  # an old mtime alone says nothing


def test_a_file_that_changes_while_it_is_read_has_no_stamp(settled, monkeypatch):
    real = os.fstat
    calls = []

    def grow(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        if len(calls) == 2:
            settled.write_bytes(b"one and more")
        return real(descriptor)

    monkeypatch.setattr("app.cache.stamps.os.fstat", grow)
    assert read_stamped(settled) == (b"one", None)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    for ask in (read_stamped, stamp_of):
        with pytest.raises(FileNotFoundError):
            ask(tmp_path / "none")
