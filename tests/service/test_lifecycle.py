"""Another bundle while the service runs, and its way out: nothing is mixed, and nothing that was let in is lost."""

import asyncio
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import onnx
import pytest
import uvicorn
from onnx import numpy_helper
from starlette.testclient import TestClient

from app.errors import BundleRefusedError, DrainingError
from app.lifecycle import STUCK_STATUS, Lifecycle, Server
from app.main import create_service
from app.reid.bundle import ONNX_WEIGHTS, Probe, file_entry, open_bundle, save_bundle
from app.reid.embedder import Embedder
from app.settings import Settings
from app.workers import load_served

LONG_S = 30
ADMIN = {"x-api-key": "admin"}


@pytest.fixture
def store(tiny_bundle, tmp_path) -> Path:
    """A bundle store whose `default` is the tiny bundle."""
    folder = tmp_path / "secret-store"
    shutil.copytree(tiny_bundle, folder / "default")
    return folder


def negate(folder: Path) -> None:
    """Replaces a bundle by one whose every embedding is the negative of its."""
    bundle = open_bundle(folder)
    model = onnx.load_from_string(bundle.read(ONNX_WEIGHTS))
    [weights] = model.graph.initializer
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    data, probe = model.SerializeToString(), bundle.manifest.probe
    manifest = bundle.manifest.model_copy(
        update={
            "name": "negative",
            "files": {ONNX_WEIGHTS: file_entry(data)},
            "probe": Probe(seed=probe.seed, embedding=tuple(-value for value in probe.embedding)),
        }
    )
    save_bundle(folder, manifest, {ONNX_WEIGHTS: data})


@pytest.fixture
def running(store, tmp_path):
    """`running(wrap=..., **settings)` -> a client of a service over the store, and its lifecycle."""

    @contextmanager
    def start(wrap: Callable = lambda model: model, **values):
        settings = Settings.model_validate(
            {"model_store": store, "state": tmp_path / "state", "admin_key": ("admin",), **values}
        )
        service = create_service(settings, wrap(load_served(settings)))
        with TestClient(service.asgi, raise_server_exceptions=False) as client:
            yield client, service.lifecycle

    return start


class Gated(Embedder):
    """Decodes when it is let."""

    entered, gate = None, None

    def prepare(self, data, name="image"):
        self.entered.set()
        assert self.gate.wait(LONG_S)
        return super().prepare(data, name)


def gated(model):
    kind = type("Gate", (Gated,), {"entered": threading.Event(), "gate": threading.Event()})
    return replace(model, embedder=kind(model.embedder.spec, model.embedder.runtime))


def vectors(response) -> np.ndarray:
    return np.array([entry["embedding"] for entry in response.json()["embeddings"]])


def test_a_reload_swaps_the_bundle_and_the_version(running, store, photo, tiny_embedding, caplog):
    with running() as (client, _):
        files = {"images": photo(1)}
        before = client.post("/embed", files=files)
        negate(store / "default")
        assert client.get("/model").json()["name"] == "tiny"  # nothing happens before it is asked for
        with caplog.at_level(logging.INFO):
            response = client.post("/model/reload", headers=ADMIN)
        assert response.status_code == 200
        info = response.json()
        assert info["name"] == "negative"
        assert info["model_version"] == response.headers["x-model-version"] != before.json()["model_version"]
        assert client.get("/model").json() == info
        assert client.get("/health/ready").json()["model_version"] == info["model_version"]
        assert f'model_version="{info["model_version"]}"' in client.get("/metrics").text
        assert "is served instead of" in caplog.text
        after = client.post("/embed", files=files)
        assert after.json()["model_version"] == after.headers["x-model-version"] == info["model_version"]
        np.testing.assert_allclose(vectors(before)[0], tiny_embedding(photo(1)), atol=1e-6)
        np.testing.assert_allclose(vectors(after)[0], -tiny_embedding(photo(1)), atol=1e-6)


def test_a_reload_of_the_same_bundle_changes_nothing(running, photo):
    with running() as (client, _):
        before = client.get("/model").json()
        assert client.post("/model/reload", headers=ADMIN).json() == before


@pytest.mark.parametrize("call", ["/embed", "/similarity/batch"])
def test_a_request_under_way_ends_with_the_bundle_that_it_began_with(running, store, photo, tiny_embedding, call):
    models = []

    def wrap(model):
        models.append(gated(model))
        return models[0]

    cosine = tiny_embedding(photo(0)) @ tiny_embedding(photo(1))
    with running(wrap, cache="off") as (client, _), ThreadPoolExecutor(1) as pool:
        old = client.get("/model").json()["model_version"]
        parts = [("images", (f"{name}.png", photo(seed))) for seed, name in enumerate("ab" * 10)]
        if call != "/embed":
            parts = [("pairs", b"query_image,gallery_image\na.png,b.png\n"), *parts[:2]]
        under_way = pool.submit(client.post, call, files=parts)
        assert models[0].embedder.entered.wait(LONG_S)
        negate(store / "default")
        new = client.post("/model/reload", headers=ADMIN).json()["model_version"]
        assert client.get("/model").json()["model_version"] == new
        models[0].embedder.gate.set()
        response = under_way.result(LONG_S)
        assert client.post("/embed", files=parts[-1:]).json()["model_version"] == new
    assert response.headers["x-model-version"] == old != new
    if call == "/embed":
        assert response.json()["model_version"] == old
        expected = [tiny_embedding(photo(seed)) for seed in range(20)]
        np.testing.assert_allclose(vectors(response), expected, atol=1e-6)
    else:
        assert float(response.text.splitlines()[1].split(",")[2]) == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("call", ["similarity", "embed"])
def test_a_swap_in_the_middle_of_a_handler_changes_nothing_for_it(
    store, tmp_path, photo, tiny_embedding, monkeypatch, call
):
    settings = Settings(model_store=store, state=tmp_path / "state", cache="off")
    before = load_served(settings)
    service = create_service(settings, before)
    negate(store / "default")
    after = load_served(settings)
    after = replace(after, embedder=replace(after.embedder, runtime=None))  # nothing is to be asked of it
    monkeypatch.setattr(f"app.routes.{call}.check_image_size", lambda *_: setattr(service.workers, "model", after))
    with TestClient(service.asgi) as client:
        parts = ("query_image", "gallery_image") if call == "similarity" else ("images",)
        response = client.post(f"/{call}", files={part: photo(1) for part in parts})
        assert client.get("/model").json()["model_version"] == after.version
    assert response.headers["x-model-version"] == response.json()["model_version"] == before.version != after.version
    if call == "embed":
        np.testing.assert_allclose(vectors(response)[0], tiny_embedding(photo(1)), atol=1e-6)


def spoil(folder: Path, how: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    if how == "no folder":
        shutil.rmtree(folder)
    elif how == "another hash":
        (folder / ONNX_WEIGHTS).write_bytes((folder / ONNX_WEIGHTS).read_bytes()[:-1] + b"!")
    elif how == "half copied":
        (folder / ONNX_WEIGHTS).write_bytes((folder / ONNX_WEIGHTS).read_bytes()[:1000])
    elif how == "no manifest":
        (folder / "manifest.json").unlink()
    elif how == "another probe":
        manifest["probe"]["embedding"] = manifest["probe"]["embedding"][::-1]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    else:
        data = b"\x80\x04\x95 a pickle"
        manifest["files"][ONNX_WEIGHTS] = file_entry(data).model_dump()
        (folder / ONNX_WEIGHTS).write_bytes(data)
        (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "how", ["no folder", "another hash", "half copied", "no manifest", "another probe", "no network"]
)
def test_a_bundle_that_cannot_be_served_is_refused_and_the_former_one_serves_on(
    running, store, photo, how, assert_problem, caplog
):
    with running() as (client, _):
        files = {"images": photo(1)}
        before = client.post("/embed", files=files)
        spoil(store / "default", how)
        with caplog.at_level(logging.ERROR):
            response = client.post("/model/reload", headers=ADMIN)
        detail = assert_problem(response, 409, "bundle-refused")["detail"]
        assert "bundle" in detail or "ONNX" in detail
        assert "secret-store" not in response.text
        assert "the bundle was not replaced" in caplog.text
        assert client.post("/embed", files=files).json() == before.json()
        assert client.get("/health/ready").status_code == 200


def test_reloads_at_the_same_time_follow_one_another(running, monkeypatch):
    inside, most, lock = [], [], threading.Lock()

    def slowly(settings):
        with lock:
            inside.append(1)
            most.append(len(inside))
        model = load_served(settings)
        time.sleep(0.02)
        inside.pop()
        return replace(model, version=f"version {len(most)}")

    monkeypatch.setattr("app.lifecycle.load_served", slowly)
    with running() as (client, _), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post("/model/reload", headers=ADMIN).json(), range(4)))
        last = client.get("/model").json()["model_version"]
    assert most == [1] * 4
    assert sorted(answer["model_version"] for answer in answers) == [f"version {number}" for number in (1, 2, 3, 4)]
    assert last == "version 4"


def test_a_closing_service_is_not_ready_and_takes_nothing_new(running, photo, assert_problem):
    with running() as (client, lifecycle):
        assert not lifecycle.drained()
        lifecycle.drain()
        assert_problem(client.get("/health/ready"), 503, "shutting-down")
        refused = client.post("/embed", files={"images": photo(1)})
        assert_problem(refused, 503, "shutting-down")
        assert refused.headers["retry-after"] == "1"
        assert client.get("/health/live").status_code == 200
        assert client.get("/model").status_code == 200
        assert lifecycle.drained()


@pytest.mark.parametrize("end", ["in time", "late", "hurried"])
def test_a_closing_service_waits_for_who_is_inside_but_not_for_ever(running, photo, assert_problem, end):
    models = []

    def wrap(model):
        models.append(gated(model))
        return models[0]

    with running(wrap, grace_s=0.05 if end == "late" else 1_000) as (client, lifecycle), ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(client.post, "/embed", files={"images": photo(1)})
        assert models[0].embedder.entered.wait(LONG_S)
        drained = lambda: client.portal.call(_async(lifecycle.drained))  # noqa: E731
        lifecycle.drain()
        assert not drained()
        if end == "in time":
            models[0].embedder.gate.set()
        elif end == "hurried":
            lifecycle.drain()
        while not drained():
            time.sleep(0.01)
        response = under_way.result(LONG_S)
        models[0].embedder.gate.set()
    if end == "in time":
        assert response.status_code == 200
    else:
        assert_problem(response, 503, "shutting-down")


def _async(function):
    async def call():
        return function()

    return call


def test_streams_of_events_end_when_the_service_closes(running, photo):
    """The server waits for its connections: one that is held open for a job would keep it."""
    models = []

    def wrap(model):
        models.append(gated(model))
        return models[0]

    with running(wrap) as (client, lifecycle), ThreadPoolExecutor(1) as pool:
        parts = [("pairs", b"query_image,gallery_image\na.png,b.png\n")]
        parts += [("images", (f"{name}.png", photo(seed))) for seed, name in enumerate("ab")]
        job = client.post("/similarity/batch", files=parts, headers={"Prefer": "respond-async"}).headers["location"]
        events = pool.submit(client.get, f"{job}/events")
        assert models[0].embedder.entered.wait(LONG_S)
        lifecycle.drain()
        client.portal.call(_async(lifecycle.drained))
        assert '"state":"running"' in events.result(LONG_S).text
        models[0].embedder.gate.set()


# The server's side of it, without a server.


class FakeLifecycle:
    draining, reloads, error, drains = False, 0, None, 0

    async def reload(self):
        self.reloads += 1
        if self.error is not None:
            raise self.error

    def drain(self):
        self.draining, self.drains = True, self.drains + 1

    def drained(self):
        return self.draining


@pytest.fixture
def looks():
    """`looks(server, count)`: as many looks of the server as uvicorn would take; what the last one said."""

    def look(server, count=3):
        async def run():
            for counter in range(count):
                ends = await server.on_tick(counter)
                await asyncio.sleep(0)
            return ends

        return asyncio.run(run())

    return look


def a_server(lifecycle):
    return Server(uvicorn.Config(lambda *_: None, log_config=None), lifecycle)


@pytest.mark.parametrize("error", [None, BundleRefusedError("no")])
def test_sighup_reloads_once_and_a_refusal_ends_nothing(looks, error):
    lifecycle = FakeLifecycle()
    lifecycle.error = error
    server = a_server(lifecycle)
    assert not looks(server)
    assert lifecycle.reloads == 0
    server._handle_hangup(signal.SIGHUP, None)
    assert not looks(server)
    assert lifecycle.reloads == 1


def test_the_first_signal_closes_the_door_and_the_second_one_ends_it(looks):
    lifecycle = FakeLifecycle()
    lifecycle.drained = lambda: False
    server = a_server(lifecycle)
    server.handle_exit(signal.SIGTERM, None)
    assert (lifecycle.drains, server.should_exit, looks(server)) == (1, False, False)
    server.handle_exit(signal.SIGTERM, None)
    assert (lifecycle.drains, server.should_exit, looks(server)) == (2, True, True)
    assert server._captured_signals == []  # uvicorn would raise them again, and the status would not be 0


def test_what_is_stuck_ends_the_process_and_says_so(running, monkeypatch, caplog):
    ended = []
    monkeypatch.setattr("app.lifecycle.os._exit", ended.append)
    monkeypatch.setattr("app.lifecycle.logging.shutdown", lambda: None)
    with running(stuck_exit_s=12.5) as (_, lifecycle), caplog.at_level(logging.CRITICAL):
        lifecycle._end_stuck()
    assert ended == [STUCK_STATUS]
    assert "more than 12.5 s" in caplog.text


def test_open_until_it_closes(running):
    with running() as (_, lifecycle):
        lifecycle.check_open()
        lifecycle.drain()
        with pytest.raises(DrainingError):
            lifecycle.check_open()
    assert isinstance(lifecycle, Lifecycle)


# Real processes and real signals.

FAULTY = """
import sys, time
from pathlib import Path

from app import cli
from app.reid.runtime import OnnxRuntime

run, told = OnnxRuntime.run, Path(sys.argv.pop(1))

def faulty(self, images):
    word, _, seconds = told.read_text().partition(" ")
    if word == "raise":
        raise RuntimeError("injected")
    if word == "sleep":
        time.sleep(float(seconds))
    return run(self, images)

OnnxRuntime.run = faulty
cli.app()
"""


@pytest.fixture
def faulty(server, tmp_path):
    """`faulty(**environment)` -> an address, its process, and a file that tells its network to `raise` or `sleep S`."""

    def start(**environment):
        told = tmp_path / "told"
        told.write_text("")
        address = server(launcher=("-c", FAULTY, str(told)), **environment)
        return address, server.processes[-1], told

    return start


@contextmanager
def asked(address, photo, count):
    """So many requests with a photo each, under way at once; futures of their answers."""
    with ThreadPoolExecutor(count) as pool, httpx2.Client(timeout=LONG_S) as client:
        ask = lambda seed: client.post(f"{address}/embed", files={"images": photo(seed)})  # noqa: E731
        yield [pool.submit(ask, seed) for seed in range(count)]


def figure(address, name):
    lines = httpx2.get(f"{address}/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def until(true):
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sighup_swaps_the_bundle_of_a_running_server(server, store, tmp_path):
    address = server(JAGUAR_MODEL_STORE=str(store), JAGUAR_MODEL="default")
    [process] = server.processes
    log = tmp_path / "server.log"
    name = lambda: httpx2.get(f"{address}/model").json()["name"]  # noqa: E731
    assert name() == "tiny"
    negate(store / "default")
    process.send_signal(signal.SIGHUP)
    until(lambda: name() == "negative")
    shutil.rmtree(store / "default")
    process.send_signal(signal.SIGHUP)
    until(lambda: "the bundle was not replaced" in log.read_text())
    assert name() == "negative"
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 0
    assert "Traceback" not in log.read_text()


def test_sigterm_under_load_answers_all_that_was_let_in(faulty, photo, assert_problem, tmp_path):
    address, process, told = faulty()
    told.write_text("sleep 0.4")
    with asked(address, photo, 6) as answers:
        until(lambda: figure(address, "jaguar_inflight_requests") == 6)
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx2.get(f"{address}/health/ready").status_code == 503)
        assert_problem(httpx2.get(f"{address}/health/ready"), 503, "shutting-down")
        refused = httpx2.post(f"{address}/embed", files={"images": photo(9)})
        assert_problem(refused, 503, "shutting-down")
        assert refused.headers["connection"] == "close"
        assert httpx2.get(f"{address}/health/live").status_code == 200
        assert [answer.result(LONG_S).status_code for answer in answers] == [200] * 6
    assert process.wait(LONG_S) == 0
    assert "Traceback" not in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize("signals", [1, 2])
def test_past_the_grace_or_a_second_signal_whoever_is_inside_is_told(faulty, photo, assert_problem, tmp_path, signals):
    address, process, told = faulty(JAGUAR_GRACE_S="0.2" if signals == 1 else "1000")
    told.write_text("sleep 1000")
    with asked(address, photo, 4) as answers:
        until(lambda: figure(address, "jaguar_inflight_requests") == 4)
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        for answer in answers:
            assert_problem(answer.result(LONG_S), 503, "shutting-down")
    assert process.wait(LONG_S) == 0  # though two of its threads hang
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log
    assert "Exception in ASGI application" not in log


def test_a_probe_that_hangs_keeps_no_process(faulty, photo, assert_problem):
    address, process, told = faulty()
    told.write_text("raise")
    response = httpx2.post(f"{address}/embed", files={"images": photo(1)})
    assert_problem(response, 500, "internal-error")
    assert "injected" not in response.text
    assert_problem(httpx2.get(f"{address}/health/ready"), 503, "not-ready")
    told.write_text("sleep 1000")
    assert_problem(httpx2.get(f"{address}/health/ready"), 503, "not-ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) == 0


def test_a_network_that_never_answers_ends_the_process(faulty, photo, assert_problem, tmp_path):
    address, process, told = faulty(JAGUAR_FORWARD_TIMEOUT_S="0.2", JAGUAR_STUCK_EXIT_S="2")
    told.write_text("sleep 1000")
    with asked(address, photo, 8) as answers:
        for answer in answers:
            with suppress(httpx2.TransportError):
                assert_problem(answer.result(LONG_S), 503, "timeout")
        assert_problem(answers[0].result(), 503, "timeout")
    with suppress(httpx2.TransportError):
        assert_problem(httpx2.get(f"{address}/health/ready"), 503, "not-ready")
    assert process.wait(LONG_S) == STUCK_STATUS == os.EX_SOFTWARE
    assert "kept its thread for more than 2 s" in (tmp_path / "server.log").read_text()
