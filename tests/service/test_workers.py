"""The pool: who waits, who works, who has left, and what becomes of it all when the network stands still."""

import asyncio
import gc
import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from app import timing
from app.cache import EmbeddingCache
from app.errors import DrainingError, ForwardTimeoutError, NotReadyError
from app.photo_work import PhotoWork
from app.reid.embedder import Embedder, load_model
from app.reid.errors import ImageError
from app.reid.photos import PhotoFile
from app.timing import Phase, Timings
from app.workers import Workers

CORES = 2
LONG_S = 20  # nothing lasts as long, unless it fails


@dataclass(frozen=True, eq=False)
class Bytes:
    """A photo in memory; `read_log` gets everything that is read."""

    data: bytes
    read_log: list = field(default_factory=list)

    def read(self):
        self.read_log.append(self)
        return self.data


class Gated:
    """Goes before a function: whoever comes waits for the gate. `came` counts them, `entered` is there to wait for."""

    def __init__(self):
        self.gate, self.came, self._condition = threading.Event(), 0, threading.Condition()

    def __call__(self):
        with self._condition:
            self.came += 1
            self._condition.notify_all()
        assert self.gate.wait(LONG_S)

    async def entered(self, count=1):
        def wait():
            with self._condition:
                assert self._condition.wait_for(lambda: self.came >= count, LONG_S)

        await asyncio.to_thread(wait)


class GatedRuntime:
    """A network behind a gate; `fails` is raised instead of an answer while it is set."""

    def __init__(self, runtime, gate):
        self.runtime, self.gate, self.runs, self.fails = runtime, gate, 0, None

    def run(self, images):
        self.runs += 1
        self.gate()
        if self.fails is not None:
            raise self.fails
        return self.runtime.run(images)


def gated_embedder(spec, runtime, gate):
    """An embedder that decodes behind a gate."""

    class GatedEmbedder(Embedder):
        def prepare(self, data, name="image"):
            gate()
            return super().prepare(data, name)

    return GatedEmbedder(spec, runtime)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    """Whatever the machine has; and a watch that looks often."""
    monkeypatch.setattr("app.workers.available_cores", lambda: CORES)
    monkeypatch.setattr("app.workers._WATCH_S", 0.01)


@pytest.fixture
def model(tiny_bundle):
    return load_model(tiny_bundle, threads=1)


@pytest.fixture
def gate():
    gate = Gated()
    yield gate
    gate.gate.set()


@pytest.fixture
def network(model, gate):
    return GatedRuntime(model.embedder.runtime, gate)


@pytest.fixture
def cache(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache.sqlite", max_bytes=2**24, max_memory_bytes=2**20)
    yield cache
    cache.close()


@pytest.fixture
def complaints():
    """What asyncio complains of, collected by `run`."""
    found = []
    yield found
    assert found == []


@pytest.fixture
def run(complaints):
    """`run(coroutine function)` -> what it returns; errors that nobody looked at are noted."""

    def run_noting(scenario):
        async def noting():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            result = await scenario()
            await asyncio.sleep(0.01)
            gc.collect()
            return result

        return asyncio.run(noting())

    return run_noting


def with_runtime(model, runtime):
    return replace(model, embedder=replace(model.embedder, runtime=runtime))


def named(*photos):
    return [(f"photo {number}", photo) for number, photo in enumerate(photos)]


async def until(true):
    async with asyncio.timeout(LONG_S):
        while not true():
            await asyncio.sleep(0.002)


async def ended(*tasks):
    """What tasks ended in, errors included."""
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG_S)


def test_many_photos_keep_their_order(model, photo, tiny_embedding, run):
    seeds = [number % 7 for number in range(500)]

    async def scenario():
        workers = Workers(model)
        rows = await workers.embed(named(*(Bytes(photo(seed)) for seed in seeds)), model)
        workers.close()
        return rows

    rows = run(scenario)
    expected = np.array([tiny_embedding(photo(seed)) for seed in range(7)])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected[seeds], atol=1e-6)


def test_nothing_to_embed(model, run):
    assert run(lambda: Workers(model).embed([], model)).shape == (0, 512)


def test_with_decoding_first_no_photo_goes_through_the_network_before_all_were_read(
    model, network, gate, photo, tiny_embedding, run
):
    gate.gate.set()
    gated, seeds = with_runtime(model, network), [number % 5 for number in range(60)]

    async def scenario():
        workers = Workers(model)
        read = []
        photos = named(*(Bytes(photo(seed), read) for seed in seeds))
        with pytest.raises(ImageError, match="'bad'"):
            await workers.embed([*photos, ("'bad'", Bytes(b"")), *photos], gated, decode_first=True)
        assert network.runs == 0
        assert len(read) <= len(photos) + 2 * CORES
        read.clear()
        rows = await workers.embed(photos, gated, decode_first=True)
        assert (len(read), network.runs) == (60, 60)
        assert workers._decoded_bytes == 0
        workers.close()
        return rows

    np.testing.assert_allclose(run(scenario), [tiny_embedding(photo(seed)) for seed in seeds], atol=1e-6)


def test_decoding_first_keeps_no_more_pictures_than_fit(model, photo, tiny_embedding, monkeypatch, run):
    """Two requests share room for 20 pictures of 32 x 48 pixels; each has some in any case."""
    monkeypatch.setattr("app.workers._DECODED_BYTES", 20 * 32 * 48 * 4)
    seeds = [number % 5 for number in range(60)]
    most, waiting = [], set()

    class Noting(PhotoWork):
        def prepare(self, item):
            super().prepare(item)
            waiting.add(item)
            most.append(len(waiting))

        def run(self, item):
            waiting.discard(item)
            return super().run(item)

    async def scenario():
        workers = Workers(model, Noting())
        photos = named(*(Bytes(photo(seed)) for seed in seeds))
        rows = await asyncio.gather(*(workers.embed(photos, model, decode_first=True) for _ in range(3)))
        assert workers._decoded_bytes == 0
        workers.close()
        return rows

    expected = [tiny_embedding(photo(seed)) for seed in seeds]
    for rows in run(scenario):
        np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert 20 <= max(most) <= 20 + 2 * 2 * CORES


@pytest.mark.parametrize("during", ["decode", "forward"])
def test_decoding_first_gives_its_room_back_when_it_is_cancelled(model, network, gate, photo, during, run):
    if during == "decode":
        network.gate = lambda: None
        gated = replace(model, embedder=gated_embedder(model.embedder.spec, network, gate))
    else:
        gated = with_runtime(model, network)

    async def scenario():
        workers = Workers(model)
        photos = named(*(Bytes(photo(1)) for _ in range(30)))
        task = asyncio.create_task(workers.embed(photos, gated, decode_first=True))
        await gate.entered(CORES)
        assert workers._decoded_bytes == 30 * 32 * 48 * 4
        task.cancel()
        assert await ended(task)
        await asyncio.sleep(0.01)
        gate.gate.set()
        await until(lambda: not workers.busy)
        workers.close()
        return workers._decoded_bytes, gate.came

    assert run(scenario) == (0, CORES)
    assert network.runs == (0 if during == "decode" else CORES)


def test_decoding_first_finds_what_is_known_and_shares_what_is_under_way(
    model, network, gate, cache, photo, tiny_embedding, run
):
    gated = with_runtime(model, network)

    async def scenario():
        workers, timings = Workers(model, PhotoWork(cache)), Timings()
        await workers.embed(named(Bytes(photo(0))), model)
        timing.current.set(timings)
        photos = named(*(Bytes(photo(seed)) for seed in (0, 1, 1)))
        table = asyncio.create_task(workers.embed(photos, gated, decode_first=True))
        await gate.entered()
        other = asyncio.create_task(workers.embed(named(Bytes(photo(1))), gated))
        await asyncio.sleep(0.02)
        gate.gate.set()
        rows = await asyncio.gather(table, other)
        known = Timings()
        timing.current.set(known)
        await workers.embed(named(Bytes(photo(0))), model, decode_first=True)
        workers.close()
        return rows, known.seconds

    (table, other), known = run(scenario)
    np.testing.assert_allclose(table, [tiny_embedding(photo(seed)) for seed in (0, 1, 1)], atol=1e-6)
    np.testing.assert_array_equal(other[0], table[1])
    assert network.runs == 1
    assert list(known) == [Phase.UPLOAD, Phase.QUEUE, Phase.DECODE]  # reading and hashing it


def test_no_more_photos_are_read_than_there_are_threads(model, network, gate, photo, run):
    read = []

    async def scenario():
        workers = Workers(model)
        photos = named(*(Bytes(photo(1), read) for _ in range(100)))
        task = asyncio.create_task(workers.embed(photos, with_runtime(model, network)))
        await gate.entered(CORES)
        await asyncio.sleep(0.05)
        ahead = len(read)
        gate.gate.set()
        await task
        workers.close()
        return ahead

    assert run(scenario) == CORES
    assert len(read) == 100


def test_files_that_are_known_need_no_thread(model, cache, photo, tmp_path, tiny_embedding, monkeypatch, run):
    monkeypatch.setattr("app.cache.stamps._SETTLED_NS", -(10**9))  # or these were too young to be sure of
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(photo(seed))
    files = [(str(seed), PhotoFile(tmp_path / f"{seed}.png")) for seed in range(3)]

    async def scenario():
        workers = Workers(model, PhotoWork(cache))
        await workers.embed(files[:2], model)
        closed = Workers(model, workers._work)
        closed.close()
        known = await closed.embed(files[:2], model)
        mixed = await workers.embed([*files, *files[:1]], model)
        workers.close()
        return known, mixed

    known, mixed = run(scenario)
    expected = [tiny_embedding(photo(seed)) for seed in (0, 1, 2, 0)]
    np.testing.assert_allclose(known, expected[:2], atol=1e-6)
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_a_request_keeps_to_the_model_that_it_names(model, photo, tiny_embedding, run):
    class Negative:
        def run(self, images):
            return -model.embedder.runtime.run(images)

    async def scenario():
        workers = Workers(model)
        other = replace(with_runtime(model, Negative()), version="another")
        photos = named(Bytes(photo(1)))
        return await asyncio.gather(workers.embed(photos, model), workers.embed(photos, other))

    served, other = run(scenario)
    np.testing.assert_allclose(served[0], tiny_embedding(photo(1)), atol=1e-6)
    np.testing.assert_array_equal(other, -served)


def test_the_first_photo_that_cannot_be_read_stops_the_rest(model, photo, run):
    read = []

    async def scenario():
        workers = Workers(model)
        good = [Bytes(photo(1), read) for _ in range(500)]
        photos = [*named(*good[:3]), ("'bad'", Bytes(b"")), ("'worse'", Bytes(b"")), *named(*good[3:])]
        with pytest.raises(ImageError, match="'bad'"):
            await workers.embed(photos, model)
        workers.close()

    run(scenario)
    assert len(read) <= 3 + 2 * CORES  # its window, and nothing beyond


def test_a_cancelled_caller_costs_no_further_read_and_no_forward(model, network, gate, photo, run):
    embedder = gated_embedder(model.embedder.spec, network, gate)
    read, network.gate = [], lambda: None

    async def scenario():
        workers = Workers(model)
        photos = named(*(Bytes(photo(1), read) for _ in range(100)))
        task = asyncio.create_task(workers.embed(photos, replace(model, embedder=embedder)))
        await gate.entered(CORES)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)  # so that the threads find that it left
        gate.gate.set()
        await until(lambda: not workers.busy)
        await asyncio.sleep(0.02)
        seen = len(read), gate.came, network.runs
        await workers.embed(named(*(Bytes(photo(2)) for _ in range(20))), model)  # all slots are there
        workers.close()
        return seen

    assert run(scenario) == (CORES, CORES, 0)


def test_one_photo_of_two_requests_is_embedded_once(model, network, gate, cache, photo, tiny_embedding, run):
    read, decoded, embedded = [], [], []

    async def scenario():
        work = PhotoWork(cache, lambda: decoded.append(1), lambda: embedded.append(1))
        workers = Workers(model, work)
        gated = with_runtime(model, network)
        first = asyncio.create_task(workers.embed(named(Bytes(photo(1), read)), gated))
        await gate.entered()
        second = asyncio.create_task(workers.embed(named(Bytes(photo(1), read)), gated))
        await until(lambda: len(read) == 2 and len(workers._items) == 1)  # it has left its thread, and waits
        # The other thread is free, though its photo is not there yet.
        other = await workers.embed(named(Bytes(photo(2))), model)
        gate.gate.set()
        rows = await asyncio.gather(first, second)
        workers.close()
        return rows, other

    (first, second), other = run(scenario)
    assert (len(read), len(decoded), len(embedded), network.runs) == (2, 2, 2, 1)  # the other photo among them
    np.testing.assert_allclose(first[0], tiny_embedding(photo(1)), atol=1e-6)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(other[0], tiny_embedding(photo(2)), atol=1e-6)


@pytest.mark.parametrize("why", ["left", "failed", "unreadable"])
def test_who_waits_for_a_photo_that_comes_to_nothing_does_it_itself(
    model, gate, cache, photo, tiny_embedding, why, run
):
    data = photo(1) if why != "unreadable" else photo(1)[:200]
    runs = []

    class Failing:
        def run(self, images):
            runs.append(1)
            if why == "failed" and len(runs) == 1:
                raise RuntimeError("once")
            return model.embedder.runtime.run(images)

    embedder = gated_embedder(model.embedder.spec, Failing(), gate)
    gated = replace(model, embedder=embedder)

    async def scenario():
        workers = Workers(model, PhotoWork(cache))
        first = asyncio.create_task(workers.embed([("first", Bytes(data))], gated))
        await gate.entered()
        second_read = []
        second = asyncio.create_task(workers.embed([("second", Bytes(data, second_read))], gated))
        await until(lambda: second_read and len(workers._items) == 1)
        if why == "left":
            first.cancel()
            await asyncio.sleep(0.01)  # so that its thread finds that it left
        gate.gate.set()
        outcomes = await ended(first, second)
        workers.close()
        return outcomes

    first, second = run(scenario)
    if why == "unreadable":
        assert [str(error) for error in (first, second)] == [
            f"{name}: the file is damaged or cut short" for name in ("first", "second")
        ]
        return
    assert isinstance(first, asyncio.CancelledError if why == "left" else RuntimeError)
    np.testing.assert_allclose(second[0], tiny_embedding(photo(1)), atol=1e-6)
    assert (gate.came, len(runs)) == ((2, 1) if why == "left" else (2, 2))


def test_who_waits_for_another_ones_photo_may_leave(model, network, gate, cache, photo, run):
    async def scenario():
        workers = Workers(model, PhotoWork(cache))
        gated = with_runtime(model, network)
        first = asyncio.create_task(workers.embed(named(Bytes(photo(1))), gated))
        await gate.entered()
        read = []
        second = asyncio.create_task(workers.embed(named(Bytes(photo(1), read)), gated))
        await until(lambda: read and len(workers._items) == 1)
        await asyncio.sleep(0.02)  # it waits for the first one's
        second.cancel()
        first.cancel()
        outcomes = [type(error) for error in await ended(first, second)]  # an error holds on to all that led to it
        network.fails = RuntimeError("nobody hears it")
        gate.gate.set()
        await until(lambda: not workers.busy)
        network.fails = None
        workers.close()
        return outcomes

    assert run(scenario) == [asyncio.CancelledError] * 2


def test_an_error_that_comes_while_leaving_is_no_complaint(model, network, gate, photo, run):
    async def scenario():
        workers = Workers(model)
        task = asyncio.create_task(workers.embed(named(Bytes(photo(1)), Bytes(photo(2))), with_runtime(model, network)))
        await gate.entered(2)
        network.fails = RuntimeError("late")
        gate.gate.set()
        while workers._items:  # the loop does not turn: the errors and the cancellation come in one round
            pass
        time.sleep(0.05)
        asyncio.get_running_loop().call_soon(task.cancel)
        [outcome] = [type(error) for error in await ended(task)]
        workers.close()
        return outcome

    assert run(scenario) is asyncio.CancelledError


def test_photos_that_fail_behind_the_first_are_no_complaint(model, gate, run):
    class Late(Bytes):
        def read(self):
            gate()
            return self.data

    async def scenario():
        workers = Workers(model)
        task = asyncio.create_task(workers.embed([("late", Late(b"")), ("early", Bytes(b""))], model))
        await gate.entered()
        await until(lambda: len(workers._items) == 1)
        await asyncio.sleep(0.02)  # the second one's error is there
        gate.gate.set()
        with pytest.raises(ImageError, match="late"):
            await task
        workers.close()

    run(scenario)


def test_who_leaves_while_threads_are_busy_is_gone_at_once(model, network, gate, photo, run):
    gated = with_runtime(model, network)

    async def scenario():
        workers = Workers(model)
        hanging = [asyncio.create_task(workers.embed(named(Bytes(photo(1))), gated)) for _ in range(CORES)]
        await gate.entered(CORES)
        waiting = [asyncio.create_task(workers.embed(named(Bytes(photo(2))), model)) for _ in range(5)]
        await until(lambda: len(workers._items) == CORES + 1)
        for task in waiting:
            task.cancel()
        await ended(*waiting)
        await until(lambda: len(workers._items) == CORES)  # though no thread has become free
        gate.gate.set()
        await ended(*hanging)
        workers.close()

    run(scenario)


def test_urgent_photos_go_before_patient_ones(model, network, gate, photo, monkeypatch, run):
    monkeypatch.setattr("app.workers.available_cores", lambda: 1)
    read = []

    async def scenario():
        workers = Workers(model)
        gated = with_runtime(model, network)
        job = [Bytes(photo(1), read) for _ in range(6)]
        patient = asyncio.create_task(workers.embed(named(*job), gated, urgent=False))
        await gate.entered()
        person = [Bytes(photo(2), read) for _ in range(2)]
        urgent = asyncio.create_task(workers.embed(named(*person), gated))
        await until(lambda: len(workers._slots._urgent) == 2)
        gate.gate.set()
        await asyncio.gather(patient, urgent)
        workers.close()
        return [read.index(photo) for photo in person]

    # One patient photo was in the thread and one was handed over; then it is the urgent ones' turn.
    assert run(scenario) == [2, 3]


@pytest.fixture
def watched(run):
    """`watched(scenario, workers, ...)` -> runs `scenario(workers, ends)` beside the watch; `ends` counts its ends."""

    def run_watched(scenario, make_workers, stuck_exit_s=1e6):
        async def with_watch():
            workers, ends = make_workers(), []
            watch = asyncio.create_task(workers.watch(stuck_exit_s, lambda: ends.append(1)))
            try:
                return await scenario(workers, ends)
            finally:
                assert not watch.done(), watch
                watch.cancel()
                workers.close()

        return run(with_watch)

    return run_watched


def test_an_overdue_photo_times_out_while_its_thread_hangs(model, network, gate, photo, tiny_embedding, watched):
    async def scenario(workers, ends):
        with pytest.raises(ForwardTimeoutError, match="did not answer in time"):
            await workers.embed(named(Bytes(photo(1))), with_runtime(model, network))
        assert workers.busy
        row = await workers.embed(named(*(Bytes(photo(2)) for _ in range(9))), model)  # through the other thread
        await workers.check_ready()
        assert ends == []
        return row

    rows = watched(scenario, lambda: Workers(model, timeout_s=0.05))
    np.testing.assert_allclose(rows, [tiny_embedding(photo(2))] * 9, atol=1e-6)


def test_who_waits_for_an_overdue_photo_times_out_with_it(model, network, gate, cache, photo, watched):
    gated, read = with_runtime(model, network), []

    async def scenario(workers, ends):
        first = asyncio.create_task(workers.embed(named(Bytes(photo(1))), gated))
        await gate.entered()
        second = asyncio.create_task(workers.embed(named(Bytes(photo(1), read)), gated))
        outcomes = await ended(first, second)
        assert len(read) == 1
        # As long as it hangs, the same photo is not tried again.
        outcomes += await ended(workers.embed(named(Bytes(photo(1))), gated))
        gate.gate.set()
        await until(lambda: not workers.busy)
        await workers.embed(named(Bytes(photo(1))), gated)
        return outcomes

    errors = watched(scenario, lambda: Workers(model, PhotoWork(cache), timeout_s=0.05))
    assert [type(error) for error in errors] == [ForwardTimeoutError] * 3
    assert network.runs == 1  # what came late was of use


def test_all_threads_overdue_fails_whoever_waits_and_comes(model, network, gate, photo, tiny_embedding, watched):
    gated = with_runtime(model, network)

    async def scenario(workers, ends):
        hanging = [asyncio.create_task(workers.embed(named(Bytes(photo(1))), gated)) for _ in range(CORES)]
        await gate.entered(CORES)
        read = []
        waiting = [
            asyncio.create_task(workers.embed(named(*(Bytes(photo(2), read) for _ in range(9))), model, urgent=urgent))
            for urgent in (True, False)
        ]
        errors = await ended(*hanging, *waiting)
        errors += await ended(workers.embed(named(Bytes(photo(2), read)), model), workers.run(lambda: read.append(1)))
        assert read == []
        with pytest.raises(NotReadyError, match="does not answer"):
            await workers.check_ready()
        gate.gate.set()
        await until(lambda: not workers.busy)
        await workers.check_ready()
        return errors, await workers.embed(named(*(Bytes(photo(2)) for _ in range(20))), model)

    errors, rows = watched(scenario, lambda: Workers(model, timeout_s=0.05))
    assert [type(error) for error in errors] == [ForwardTimeoutError] * 6
    np.testing.assert_allclose(rows, [tiny_embedding(photo(2))] * 20, atol=1e-6)


def test_when_all_threads_are_overdue_one_look_is_enough_for_all(model, network, gate, photo, run):
    gated = with_runtime(model, network)

    async def scenario():
        workers = Workers(model, timeout_s=0.05)  # nobody watches
        calls = [asyncio.create_task(workers.embed(named(*[Bytes(photo(1))] * 9), gated)) for _ in range(9)]
        await gate.entered(CORES)
        await asyncio.sleep(0.1)
        workers._give_up_overdue()
        errors = await ended(*calls)
        errors += await ended(workers.embed(named(Bytes(photo(1))), gated), workers.run(pytest.fail))  # at once
        gate.gate.set()
        await until(lambda: not workers.busy)
        workers.close()
        return errors

    assert [type(error) for error in run(scenario)] == [ForwardTimeoutError] * 11


def test_a_probe_that_hangs_keeps_its_thread_as_a_photo_does(model, network, gate, photo, monkeypatch, watched):
    """One thread hangs with a photo, the other with a probe: nobody waits for longer than they may."""
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    monkeypatch.setattr("app.workers.PROBE_S", 0.01)
    gated = with_runtime(model, network)

    async def scenario(workers, ends):
        workers.model = gated
        with pytest.raises(NotReadyError):
            await workers.check_ready()
        await gate.entered()
        assert workers.busy
        errors = await ended(*(workers.embed(named(Bytes(photo(seed))), gated) for seed in range(CORES + 3)))
        with pytest.raises(NotReadyError):
            await workers.check_ready()
        return errors

    errors = watched(scenario, lambda: Workers(model, timeout_s=0.05))
    assert [type(error) for error in errors] == [ForwardTimeoutError] * (CORES + 3)
    assert network.runs == CORES


@pytest.mark.parametrize("what", ["photo", "probe"])
def test_what_never_returns_ends_the_process(model, network, gate, photo, monkeypatch, what, watched):
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    monkeypatch.setattr("app.workers.PROBE_S", 0.01)
    gated = with_runtime(model, network)

    async def scenario(workers, ends):
        workers.model = gated
        if what == "photo":
            with pytest.raises(ForwardTimeoutError):
                await workers.embed(named(Bytes(photo(1))), gated)
        else:
            with pytest.raises(NotReadyError):
                await workers.check_ready()
        await until(lambda: ends)

    watched(scenario, lambda: Workers(model, timeout_s=0.02), stuck_exit_s=0.1)


def test_nothing_ends_a_process_that_works(model, photo, watched):
    async def scenario(workers, ends):
        for _ in range(20):
            await workers.embed(named(*(Bytes(photo(seed)) for seed in range(20))), model)
        return ends

    assert watched(scenario, lambda: Workers(model), stuck_exit_s=LONG_S) == []


def test_ready_without_a_probe_while_forwards_end(model, network, run):
    async def scenario():
        await Workers(with_runtime(model, network)).check_ready()

    run(scenario)
    assert network.runs == 0


def test_not_ready_after_a_forward_that_failed_until_one_succeeds(model, network, gate, photo, run):
    gate.gate.set()
    network.fails = RuntimeError("secret")
    gated = with_runtime(model, network)

    async def scenario():
        workers = Workers(gated)
        with pytest.raises(RuntimeError, match="secret"):
            await workers.embed(named(Bytes(photo(1))), gated)
        for _ in range(2):
            with pytest.raises(NotReadyError, match=r"^The network fails\.$"):
                await workers.check_ready()
        assert network.runs == 3
        network.fails = None
        await workers.check_ready()  # a probe went through
        await workers.check_ready()  # and so no other is needed
        workers.close()

    run(scenario)
    assert network.runs == 4


def test_a_photo_that_cannot_be_read_says_nothing_of_the_network(model, network, gate, run):
    gated = with_runtime(model, network)

    async def scenario():
        workers = Workers(gated)
        with pytest.raises(ImageError):
            await workers.embed(named(Bytes(b"")), gated)
        await workers.check_ready()

    run(scenario)
    assert network.runs == 0


def test_one_probe_is_enough_for_all_who_ask(model, network, gate, monkeypatch, run):
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    monkeypatch.setattr("app.workers.PROBE_S", 0.05)

    async def scenario():
        workers = Workers(with_runtime(model, network))
        errors = await ended(*(workers.check_ready() for _ in range(3)))
        errors += await ended(workers.check_ready())
        assert [str(error) for error in errors] == ["The network does not answer."] * 4
        runs = network.runs
        gate.gate.set()
        await until(lambda: not workers.busy)
        await workers.check_ready()
        workers.close()
        return runs

    assert run(scenario) == 1


def test_a_probe_that_fails_when_nobody_asks_any_more_is_no_complaint(model, network, gate, monkeypatch, run):
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    monkeypatch.setattr("app.workers.PROBE_S", 0.01)

    async def scenario():
        workers = Workers(with_runtime(model, network))
        with pytest.raises(NotReadyError):
            await workers.check_ready()
        network.fails = RuntimeError("late")
        gate.gate.set()
        await until(lambda: not workers.busy)
        await asyncio.sleep(0.01)
        workers.close()

    run(scenario)


def test_not_ready_when_the_pool_is_gone(model, monkeypatch, run):
    monkeypatch.setattr("app.workers.FRESH_S", 0)

    async def scenario():
        workers = Workers(model)
        workers.close()
        with pytest.raises(NotReadyError, match="fails"):
            await workers.check_ready()

    run(scenario)


def test_whoever_waits_when_the_pool_closes_is_told(model, network, gate, photo, run):
    gated = with_runtime(model, network)

    async def scenario():
        workers = Workers(model)
        calls = [asyncio.create_task(workers.embed(named(Bytes(photo(1))), gated)) for _ in range(CORES + 4)]
        await gate.entered(CORES)
        workers.close()
        errors = await ended(*calls[CORES:])
        gate.gate.set()
        return errors, await ended(*calls[:CORES])

    errors, rows = run(scenario)
    assert [type(error) for error in errors] == [DrainingError] * 4
    assert [row.shape for row in rows] == [(1, 512)] * CORES  # these had their threads


def test_other_work_takes_its_turn(model, network, gate, photo, run):
    def broken():
        raise KeyError("its own")

    async def scenario():
        workers = Workers(model)
        assert await workers.run(lambda: threading.current_thread().name.startswith("work")) is True
        with pytest.raises(KeyError, match="its own"):
            await workers.run(broken)
        hanging = [
            asyncio.create_task(workers.embed(named(Bytes(photo(1))), with_runtime(model, network)))
            for _ in range(CORES)
        ]
        await gate.entered(CORES)
        done = []
        urgent, patient = (
            asyncio.create_task(workers.run(lambda word=word: done.append(word), urgent=word == "urgent"))
            for word in ("urgent", "patient")
        )
        await asyncio.sleep(0.02)
        for task in (urgent, patient):
            task.cancel()
        await ended(urgent, patient)
        gate.gate.set()
        await ended(*hanging)
        await until(lambda: not workers._items)
        workers.close()
        return done

    assert run(scenario) == []


def test_other_work_times_out_as_photos_do(model, gate, watched):
    async def scenario(workers, ends):
        with pytest.raises(ForwardTimeoutError):
            await workers.run(gate)

    watched(scenario, lambda: Workers(model, timeout_s=0.05))


def test_the_phases_of_a_request_add_up(model, photo, run):
    async def scenario():
        workers, timings = Workers(model), Timings()
        timing.current.set(timings)
        await workers.embed(named(*(Bytes(photo(seed)) for seed in range(5))), model)
        first = dict(timings.seconds)
        await workers.run(lambda: None)
        workers.close()
        return first, timings.seconds

    first, then = run(scenario)
    assert list(first) == [Phase.UPLOAD, Phase.QUEUE, Phase.DECODE, Phase.FORWARD]
    assert all(seconds >= 0 for seconds in first.values())
    assert first[Phase.DECODE] > 0 < first[Phase.FORWARD]
    assert then[Phase.QUEUE] >= first[Phase.QUEUE]
    assert {phase: then[phase] for phase in (Phase.UPLOAD, Phase.DECODE, Phase.FORWARD)} == {
        phase: first[phase] for phase in (Phase.UPLOAD, Phase.DECODE, Phase.FORWARD)
    }
