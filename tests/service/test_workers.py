"""The pools, the door, and health while both are busy."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest

from app.problems import NotReadyError
from app.reid.embedder import Embedder, load_model
from app.workers import Admission, Workers


@dataclass(frozen=True)
class Bytes:
    """A photo in memory."""

    data: bytes

    def read(self):
        return self.data


class Gated:
    """A runtime that waits for a gate to open, and counts who came."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.entered, self.gate, self.runs = threading.Event(), threading.Event(), 0

    def run(self, images):
        self.runs += 1
        self.entered.set()
        assert self.gate.wait(20)
        return self.runtime.run(images)


@pytest.fixture
def model(tiny_bundle):
    return load_model(tiny_bundle)


@pytest.fixture
def gated(model):
    runtime = Gated(model.embedder.runtime)
    yield runtime
    runtime.gate.set()


def with_runtime(model, runtime):
    return replace(model, embedder=replace(model.embedder, runtime=runtime))


def test_many_photos_keep_their_order(model, photo, tiny_embedding):
    workers = Workers(model)
    seeds = [number % 7 for number in range(1_000)]
    rows = asyncio.run(workers.embed([(str(seed), Bytes(photo(seed))) for seed in seeds]))
    workers.close()
    expected = np.array([tiny_embedding(photo(seed)) for seed in range(7)])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected[seeds], atol=1e-6)


def test_nothing_to_embed(model):
    assert asyncio.run(Workers(model).embed([])).shape == (0, 512)


def test_decoding_runs_ahead_of_the_network_but_not_far(model, gated, photo):
    read = []

    class Watched(Bytes):
        def read(self):
            read.append(self)
            return self.data

    async def scenario():
        workers = Workers(with_runtime(model, gated))
        photos = [("x", Watched(photo(1))) for _ in range(100)]
        task = asyncio.ensure_future(workers.embed(photos))
        await asyncio.to_thread(gated.entered.wait, 20)
        while len(read) < workers._ahead:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        ahead = len(read)
        gated.gate.set()
        await task
        workers.close()
        return workers._ahead, ahead

    window, ahead = asyncio.run(scenario())
    assert 2 <= ahead <= window + 1
    assert len(read) == 100


def test_a_bad_photo_stops_the_rest(model, photo):
    count = []
    workers = Workers(model, lambda: count.append(1))
    photos = [("x", Bytes(photo(1)))] * 3 + [("'bad'", Bytes(b""))] + [("y", Bytes(photo(1)))] * 500
    with pytest.raises(Exception, match="'bad'"):
        asyncio.run(workers.embed(photos))
    workers.close()
    assert len(count) == 3


def test_cancelling_stops_the_rest(model, gated, photo):
    async def scenario():
        workers = Workers(with_runtime(model, gated))
        task = asyncio.create_task(workers.embed([("x", Bytes(photo(1)))] * 100))
        await asyncio.to_thread(gated.entered.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gated.gate.set()
        await asyncio.to_thread(workers.close)

    asyncio.run(scenario())
    assert gated.runs == 1


def test_one_too_many_is_refused_and_nothing_else(service, model, gated, photo, assert_problem):
    client = service(model=with_runtime(model, gated), max_inflight=1)
    files = {"query_image": photo(1), "gallery_image": photo(2)}
    with ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(client.post, "/similarity", files=files)
            assert gated.entered.wait(20)
            for call in ("/similarity", "/embed", "/similarity/batch", "/submission"):
                refused = client.post(call)
                assert_problem(refused, 503, "busy")
                assert refused.headers["retry-after"] == "1"
            assert client.get("/health/live").json()["status"] == "ok"
            assert client.get("/health/ready").status_code == 200
            assert client.get("/model").status_code == 200
            assert_problem(client.get("/similarity"), 405, "method-not-allowed")
        finally:
            gated.gate.set()
        assert first.result().status_code == 200
    assert client.post("/similarity", files=files).status_code == 200


def test_the_door_counts_until_the_answer_is_sent():
    sent = []

    async def scenario():
        leave = asyncio.Event()

        async def app(scope, receive, send):
            await leave.wait()
            raise RuntimeError("gone wrong")

        async def send(message):
            sent.append(message)

        door = Admission(app, 2, {"/work"})
        scope = {"type": "http", "method": "POST", "path": "/work", "headers": []}
        inside = [asyncio.ensure_future(door(scope, None, send)) for _ in range(2)]
        await asyncio.sleep(0)
        await door(scope, None, send)
        assert [message["status"] for message in sent if "status" in message] == [503]
        leave.set()
        assert all(isinstance(result, RuntimeError) for result in await asyncio.gather(*inside, return_exceptions=True))
        with pytest.raises(RuntimeError):  # both left their places, and this one takes one
            await door(scope, None, send)

    asyncio.run(scenario())


def test_health_answers_while_photos_are_decoded(service, model, photo):
    entered, gate = threading.Event(), threading.Event()

    class Slow(Embedder):
        def prepare(self, data, name="image"):
            entered.set()
            assert gate.wait(20)
            return super().prepare(data, name)

    slow = Slow(model.embedder.spec, model.embedder.runtime)
    client = service(model=replace(model, embedder=slow))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/embed", files=[("images", photo(1))] * 9)
        assert entered.wait(20)
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 200
        gate.set()
        assert answer.result().status_code == 200


def test_ready_through_a_probe_when_nothing_ran_lately(service, monkeypatch, embedded):
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    client = service()
    assert client.get("/health/ready").status_code == 200
    assert embedded(client) == 0


def test_not_ready_when_the_network_fails(service, monkeypatch, assert_problem):
    class Broken:
        def run(self, images):
            raise RuntimeError("secret")

    client = service(runtime=Broken())
    assert client.get("/health/ready").status_code == 200  # loading the model ended with a forward pass
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    response = client.get("/health/ready")
    assert_problem(response, 503, "not-ready")
    assert "secret" not in response.text
    assert client.get("/health/live").status_code == 200


def test_not_ready_when_the_network_hangs_and_one_probe_is_enough(model, gated, monkeypatch):
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    monkeypatch.setattr("app.workers.PROBE_S", 0.05)

    async def scenario():
        workers = Workers(with_runtime(model, gated))
        for _ in range(3):
            with pytest.raises(NotReadyError, match="does not answer"):
                await workers.check_ready()
        runs = gated.runs
        gated.gate.set()
        while not workers._probe.done():
            await asyncio.sleep(0.01)
        await workers.check_ready()
        await asyncio.to_thread(workers.close)
        return runs

    assert asyncio.run(scenario()) == 1


def test_not_ready_when_the_pool_is_gone(model, monkeypatch):
    monkeypatch.setattr("app.workers.FRESH_S", 0)
    workers = Workers(model)
    workers.close()
    with pytest.raises(NotReadyError, match="fails"):
        asyncio.run(workers.check_ready())
