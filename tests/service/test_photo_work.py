"""What a thread does for one photo: known, read, decoded, embedded, or left alone."""

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from app.cache import EmbeddingCache
from app.photo_work import Item, LeftError, PhotoWork, Turn, settle
from app.reid.embedder import load_model
from app.reid.errors import BundleError, ImageError
from app.reid.photos import PhotoFile
from app.timing import Phase


@dataclass(frozen=True, eq=False)
class Upload:
    """Bytes that came with a request; `then` is called when they were read."""

    data: bytes
    then: object = field(default=lambda: None)

    def read(self):
        self.then()
        return self.data


class Counted:
    """A network that counts, and fails while `fails` is set."""

    def __init__(self, runtime):
        self.runtime, self.runs, self.fails = runtime, 0, None

    def run(self, images):
        self.runs += 1
        if self.fails is not None:
            raise self.fails
        return self.runtime.run(images)


@pytest.fixture
def network(tiny_bundle):
    return Counted(load_model(tiny_bundle, threads=1).embedder.runtime)


@pytest.fixture
def model(tiny_bundle, network):
    model = load_model(tiny_bundle, threads=1)
    return replace(model, embedder=replace(model.embedder, runtime=network))


@pytest.fixture
def cache(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache" / "c.sqlite", max_bytes=2**24, max_memory_bytes=2**20)
    yield cache
    cache.close()


@pytest.fixture
def counts():
    return []


@pytest.fixture
def work(cache, counts):
    return PhotoWork(cache, lambda: counts.append("decoded"), lambda: counts.append("embedded"))


def test_a_photo_becomes_its_embedding_and_each_step_is_counted_and_timed(work, model, photo, counts, tiny_embedding):
    item = Item("a", Upload(photo(1)), model)
    np.testing.assert_allclose(work.run(item), tiny_embedding(photo(1)), atol=1e-6)
    assert counts == ["decoded", "embedded"]
    assert set(item.spent) == {Phase.DECODE, Phase.FORWARD}
    assert all(seconds > 0 for seconds in item.spent.values())
    assert item.began is not None


def test_what_is_known_is_neither_decoded_nor_embedded(work, model, photo, counts, network):
    first = work.run(Item("a", Upload(photo(1)), model))
    item = Item("b", Upload(photo(1)), model)
    np.testing.assert_array_equal(work.run(item), first)
    assert (counts, network.runs) == (["decoded", "embedded"], 1)
    assert set(item.spent) == {Phase.DECODE}  # reading and hashing are a part of it


def test_what_another_version_knows_is_not_known(work, model, photo, network):
    work.run(Item("a", Upload(photo(1)), model))
    work.run(Item("a", Upload(photo(1)), replace(model, version="another")))
    assert network.runs == 2


def test_without_a_cache_everything_is_embedded(model, photo, network, tmp_path):
    (tmp_path / "a.png").write_bytes(photo(1))
    work = PhotoWork()
    photos = [("a", PhotoFile(tmp_path / "a.png")), ("b", Upload(photo(1)))]
    rows = [work.run(Item(name, photo, model)) for name, photo in photos]
    np.testing.assert_array_equal(*rows)
    assert network.runs == 2
    assert work.known(photos, model.version) == {}


def test_files_are_known_while_they_stay_as_they_were(work, model, photo, tmp_path, network, monkeypatch):
    monkeypatch.setattr("app.cache.stamps._SETTLED_NS", -(10**9))  # or these were too young to be sure of
    paths = [tmp_path / f"{name}.png" for name in "abcd"]
    for seed, path in enumerate(paths):
        path.write_bytes(photo(seed))
    photos = [(path.name, PhotoFile(path)) for path in paths]
    photos.insert(1, ("upload", Upload(photo(0), then=pytest.fail)))  # known only by its bytes
    assert work.known(photos, model.version) == {}
    rows = [work.run(Item(*photos[position], model)) for position in (0, 2, 3)]  # not d
    paths[1].write_bytes(photo(9))
    paths[2].unlink()
    known = work.known(photos, model.version)
    assert list(known) == [0]
    np.testing.assert_array_equal(known[0], rows[0])
    assert work.known(photos, "another version") == {}
    assert network.runs == 3


@pytest.mark.parametrize("with_cache", [True, False])
def test_a_file_that_is_gone_is_named_without_its_path(cache, model, tmp_path, with_cache):
    work = PhotoWork(cache if with_cache else None)
    with pytest.raises(ImageError) as caught:
        work.run(Item("line 2: 'a.png'", PhotoFile(tmp_path / "a.png"), model))
    assert str(caught.value) == "line 2: 'a.png': the file cannot be read"


def test_a_photo_that_cannot_be_decoded_is_not_counted(work, model, counts):
    item = Item("a", Upload(b""), model)
    with pytest.raises(ImageError, match="a: the file is empty"):
        work.run(item)
    assert counts == []
    assert set(item.spent) == {Phase.DECODE}


def test_who_left_before_its_turn_costs_nothing(work, model):
    item = Item("a", Upload(b"", then=pytest.fail), model, left=True)
    with pytest.raises(LeftError):
        work.run(item)


@pytest.mark.parametrize("with_cache", [True, False])
def test_who_left_while_it_was_decoded_costs_no_forward(cache, model, photo, network, counts, with_cache):
    work = PhotoWork(cache if with_cache else None, lambda: counts.append("decoded"))
    item = Item("a", None, model)
    item.photo = Upload(photo(1), then=lambda: setattr(item, "left", True))
    with pytest.raises(LeftError):
        work.run(item)
    assert (counts, network.runs) == (["decoded"], 0)
    if with_cache:
        assert isinstance(item.flight.exception(1), LeftError)
        np.testing.assert_array_equal(  # and whoever comes next begins anew
            work.run(Item("b", Upload(photo(1)), model)), work.run(Item("c", Upload(photo(1)), model))
        )


def test_the_same_photo_in_many_threads_is_embedded_once(work, model, photo, network, counts):
    together = threading.Barrier(8)
    items = [Item("a", Upload(photo(1), then=together.wait), model) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(work.run, items))
    rows = [outcome.result(20) if isinstance(outcome, Future) else outcome for outcome in outcomes]
    for row in rows[1:]:
        np.testing.assert_array_equal(row, rows[0])
    assert (network.runs, counts) == (1, ["decoded", "embedded"])
    assert work._flights == {}


def test_an_error_reaches_who_waits_and_is_not_kept(work, model, photo, network):
    network.fails = RuntimeError("no")
    item = Item("a", Upload(photo(1)), model)
    with pytest.raises(RuntimeError, match="no"):
        work.run(item)
    assert item.flight.exception(1) is network.fails
    assert work.failed
    network.fails = None
    work.run(Item("a", Upload(photo(1)), model))
    assert not work.failed


def test_an_embedding_that_is_not_finite_fails_the_network_and_is_not_kept(work, model, photo, cache):
    class Nan:
        def run(self, images):
            return np.full((len(images), 512), np.nan, np.float32)

    broken = replace(model, embedder=replace(model.embedder, runtime=Nan()))
    with pytest.raises(BundleError, match="not finite"):
        work.run(Item("a", Upload(photo(1)), broken))
    assert work.failed
    assert cache.get(hashlib.sha256(photo(1)).digest(), model.version) is None


def test_what_was_prepared_is_not_read_again(work, model, photo, counts, network, tiny_embedding):
    reads = []
    item = Item("a", Upload(photo(1), then=lambda: reads.append(1)), model)
    work.prepare(item)
    assert (counts, network.runs, item.known) == (["decoded"], 0, None)
    assert item.pixels.shape == (32, 48, 3)
    decode_s = item.spent[Phase.DECODE]
    np.testing.assert_allclose(work.run(item), tiny_embedding(photo(1)), atol=1e-6)
    assert (counts, reads) == (["decoded", "embedded"], [1])
    assert item.spent[Phase.DECODE] == decode_s
    assert item.pixels is None  # its memory is another's


def test_what_is_known_is_not_decoded_to_prepare_it(work, model, photo, counts, network):
    row = work.run(Item("a", Upload(photo(1)), model))
    item = Item("b", Upload(photo(1)), model)
    work.prepare(item)
    np.testing.assert_array_equal(item.known, row)
    assert (item.pixels, counts, network.runs) == (None, ["decoded", "embedded"], 1)


def test_without_a_cache_everything_is_prepared(model, photo, tiny_embedding):
    work = PhotoWork()
    item = Item("a", Upload(photo(1)), model)
    work.prepare(item)
    np.testing.assert_allclose(work.run(item), tiny_embedding(photo(1)), atol=1e-6)


def test_a_photo_that_cannot_be_read_cannot_be_prepared(work, model, tmp_path):
    for photo, words in ((Upload(b""), "a: the file is empty"), (PhotoFile(tmp_path / "x"), "a: the file cannot")):
        with pytest.raises(ImageError, match=words):
            work.prepare(Item("a", photo, model))


def test_a_probe_is_a_forward_pass_of_the_right_size_and_no_photo(work, model, network, counts, monkeypatch):
    shapes = []
    inner = network.run
    monkeypatch.setattr(network, "run", lambda images: (shapes.append(images.shape), inner(images))[1])
    before = work.last_forward
    work.failed = True
    work.probe(model)
    assert shapes == [(1, 3, 32, 48)]
    assert work.last_forward >= before
    assert not work.failed
    assert counts == []


def test_a_turn_notes_when_it_began_and_is_not_taken_for_nobody():
    turn = Turn()
    assert turn.take(lambda: 7) == 7
    assert turn.began is not None
    with pytest.raises(LeftError):
        Turn(left=True).take(pytest.fail)


def test_a_flight_ends_once():
    flight = Future()
    settle(flight, np.zeros(3))
    settle(flight, RuntimeError("late"))
    settle(flight, np.ones(3))
    np.testing.assert_array_equal(flight.result(), np.zeros(3))
    flight = Future()
    settle(flight, RuntimeError("first"))
    settle(flight, np.ones(3))
    assert str(flight.exception()) == "first"
