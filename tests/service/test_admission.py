"""The door: who is let in, who is refused and how, and that every place is given back whatever happens inside."""

import asyncio
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse

from app import timing
from app.admission import (
    CLIENT_GONE,
    DRAIN_BYTES,
    MEMORY_BODY_BYTES,
    MEMORY_BYTES,
    PART_MEMORY_BYTES,
    Admission,
    Door,
    part_memory,
)
from app.errors import BodyTimeoutError, IncompleteBodyError
from app.main import create_app
from app.reid.embedder import Embedder, load_model
from app.settings import Settings
from app.timing import Phase

LONG_S = 20


class Wire:
    """What a server has of one request: messages to give, and those that were sent, each with the reads before it."""

    def __init__(self):
        self.inbox, self.sent, self.reads = asyncio.Queue(), [], 0

    async def receive(self):
        self.reads += 1
        return await self.inbox.get()

    async def send(self, message):
        self.sent.append((message, self.reads))

    def body(self, data=b"", more=False):
        self.inbox.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self):
        self.inbox.put_nowait({"type": "http.disconnect"})

    @property
    def status(self):
        return next((message["status"] for message, _ in self.sent if "status" in message), None)

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0][0]["headers"]}

    @property
    def answer(self):
        return b"".join(message.get("body", b"") for message, _ in self.sent)

    @property
    def complete(self):
        last = self.sent[-1][0] if self.sent else {"type": None}
        return last["type"] == "http.response.body" and not last.get("more_body", False)


def scope(path="/work", method="POST", **headers):
    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": names, "asgi": {"spec_version": "2.3"}}


def full_scope():
    """As uvicorn makes it, for a form of photos."""
    rest = {"http_version": "1.1", "query_string": b"", "root_path": "", "raw_path": b"/embed", "scheme": "http"}
    return {**scope("/embed", **FORM), **rest, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9), "state": {}}


def admission(app, door=None, body_timeout_s=LONG_S, observe=lambda phase, seconds: None):
    return Admission(app, door or Door(1), {"/work"}, body_timeout_s, observe)


def run(scenario):
    async def limited():
        async with asyncio.timeout(LONG_S):
            return await scenario()

    return asyncio.run(limited())


async def until(true):
    while not true():
        await asyncio.sleep(0.001)


async def ok(scope, receive, send):
    await PlainTextResponse("fine")(scope, receive, send)


async def reads_and_waits(scope, receive, send):
    await Request(scope, receive).body()
    await asyncio.Event().wait()


async def waits(scope, receive, send):
    await asyncio.Event().wait()


def assert_refused(wire, slug):
    assert wire.status == 503
    assert wire.headers["retry-after"] == "1"
    assert wire.headers["connection"] == "close"
    assert wire.headers["content-type"] == "application/problem+json"
    assert int(wire.headers["content-length"]) == len(wire.answer)
    assert json.loads(wire.answer)["type"] == f"urn:jaguar-reid:problem:{slug}"
    assert wire.complete
    assert [reads for _, reads in wire.sent[:2]] == [0, 0]  # all of it was said before anything was read


def test_calls_that_do_not_infer_pass_by():
    passed = []

    async def app(scope, receive, send):
        passed.append(scope["type"])
        assert timing.current.get() is None

    async def scenario():
        door = Door(1)
        door.draining = True
        for other in (scope("/other"), scope(method="GET"), {"type": "lifespan"}):
            await admission(app, door)(other, None, None)

    run(scenario)
    assert passed == ["http", "http", "lifespan"]


def test_one_more_than_the_limit_is_refused_and_then_there_is_room_again():
    async def scenario():
        door, leave = Door(2), asyncio.Event()

        async def app(scope, receive, send):
            await leave.wait()
            await ok(scope, receive, send)

        call = admission(app, door)
        inside = [Wire(), Wire()]
        tasks = [asyncio.create_task(call(scope(), wire.receive, wire.send)) for wire in inside]
        await until(lambda: door.inside == 2)
        refused = Wire()
        refused.body()
        await call(scope(), refused.receive, refused.send)
        leave.set()
        await asyncio.gather(*tasks)
        assert door.inside == 0
        last = Wire()
        await call(scope(), last.receive, last.send)
        return refused, [*inside, last]

    refused, answered = run(scenario)
    assert_refused(refused, "busy")
    assert "2 requests" in json.loads(refused.answer)["detail"]
    assert [(wire.status, wire.complete) for wire in answered] == [(200, True)] * 3


def test_nobody_comes_in_while_the_door_closes():
    async def scenario():
        door, wire = Door(1), Wire()
        door.draining = True
        wire.body()
        await admission(pytest.fail, door)(scope(), wire.receive, wire.send)
        return wire

    assert_refused(run(scenario), "shutting-down")


def refuse(*bodies, leave=False, **headers):
    """A refused request whose client sends these pieces: the wire, and how many were left unread."""

    async def scenario():
        wire = Wire()
        for body in bodies:
            wire.body(body, more=True)
        if leave:
            wire.leave()
        await admission(ok, Door(0))(scope(**headers), wire.receive, wire.send)
        return wire, wire.inbox.qsize()

    return run(scenario)


def test_of_a_refused_body_no_more_than_a_mebibyte_is_read():
    piece = bytes(65_536)
    wire, unread = refuse(*[piece] * 100)
    assert_refused(wire, "busy")
    assert DRAIN_BYTES == 2**20
    assert 100 - unread == 2**20 // 65_536


def test_a_refused_body_is_read_for_no_longer_than_the_limit(monkeypatch):
    monkeypatch.setattr("app.admission.DRAIN_S", 0.05)
    wire, unread = refuse(b"some")  # and then nothing more comes
    assert_refused(wire, "busy")
    assert (wire.reads, unread) == (2, 0)


def test_a_refused_body_is_read_to_its_end_or_until_the_client_leaves():
    wire, _ = refuse(b"some", leave=True)
    assert_refused(wire, "busy")
    assert wire.reads == 2


def test_who_waits_to_send_the_body_is_not_told_to():
    wire, _ = refuse(expect="100-Continue")
    assert_refused(wire, "busy")
    assert wire.reads == 0  # uvicorn says 100 Continue at the first read


@pytest.mark.parametrize("way", ["answers", "fails", "is cancelled", "loses its client", "is ended", "fails late"])
def test_the_place_is_given_back_once_whichever_way_it_ends(way):
    async def app(scope, receive, send):
        if way == "fails late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if way.startswith("fails"):
            raise RuntimeError("gone wrong")
        await (ok if way == "answers" else reads_and_waits)(scope, receive, send)

    async def scenario():
        door, wire = Door(2), Wire()
        other = Wire()
        staying = asyncio.create_task(admission(waits, door)(scope(), other.receive, other.send))
        await until(lambda: door.inside == 1)
        task = asyncio.create_task(admission(app, door)(scope(), wire.receive, wire.send))
        wire.body()
        await asyncio.sleep(0.01)
        if way == "is cancelled":
            task.cancel()
        elif way == "loses its client":
            wire.leave()
        elif way == "is ended":
            next(visit for visit in door.visits if visit._receive == wire.receive).end()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        inside = door.inside
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        assert door.inside == 0
        assert len(asyncio.all_tasks()) == 1  # nothing of it runs on
        return inside, outcome

    inside, outcome = run(scenario)
    assert inside == 1
    expected = {"fails": RuntimeError, "fails late": RuntimeError, "is cancelled": asyncio.CancelledError}
    assert isinstance(outcome, expected.get(way, type(None)))


def test_the_place_is_kept_until_the_last_byte_is_sent():
    async def scenario():
        door, wire, more = Door(1), Wire(), asyncio.Event()

        async def rows():
            yield "first"
            await more.wait()
            yield "last"

        task = asyncio.create_task(admission(StreamingResponse(rows()), door)(scope(), wire.receive, wire.send))
        await until(lambda: wire.answer == b"first")
        assert door.inside == 1
        more.set()
        await task
        return wire, door.inside

    wire, inside = run(scenario)
    assert (wire.answer, wire.complete, inside) == (b"firstlast", True, 0)


@pytest.mark.parametrize("when", ["before the body", "in the body", "after the body"])
def test_who_has_left_costs_no_more_work(when):
    seen = []

    async def app(scope, receive, send):
        try:
            await reads_and_waits(scope, receive, send)
        except BaseException as error:
            seen.append(type(error))
            raise

    async def scenario():
        door, wire = Door(1), Wire()
        task = asyncio.create_task(admission(app, door)(scope(), wire.receive, wire.send))
        if when != "before the body":
            wire.body(b"x", more=when == "in the body")
        await asyncio.sleep(0.01)
        assert door.inside == 1
        if when == "after the body":
            wire.body()  # which is nothing, but is not the end either
        wire.leave()
        outcomes = await asyncio.gather(task, return_exceptions=True)
        assert door.inside == 0
        return wire, outcomes[0]

    wire, outcome = run(scenario)
    if when == "after the body":
        assert seen == [asyncio.CancelledError]
        assert (outcome, wire.status, wire.complete) == (None, CLIENT_GONE, True)
    else:
        assert seen == [ClientDisconnect]  # which a framework may turn into an answer that nobody gets


def test_who_leaves_while_the_answer_is_sent_ends_it():
    async def scenario():
        door, wire = Door(1), Wire()

        async def rows():
            while True:
                yield "row"
                await asyncio.sleep(0)

        task = asyncio.create_task(admission(StreamingResponse(rows()), door)(scope(), wire.receive, wire.send))
        wire.body()
        await until(lambda: wire.sent)
        # Nobody reads the body here: the response looks for the client by itself.
        wire.leave()
        await task
        return wire, door.inside

    wire, inside = run(scenario)
    assert (wire.status, wire.complete, inside) == (200, False, 0)


def test_a_body_that_stands_still_is_an_error_and_one_that_comes_slowly_is_not():
    caught = []

    async def app(scope, receive, send):
        try:
            await reads_and_waits(scope, receive, send)
        except BodyTimeoutError as error:
            caught.append(str(error))
        await ok(scope, receive, send)

    async def scenario():
        wire = Wire()
        task = asyncio.create_task(admission(app, body_timeout_s=0.2)(scope(), wire.receive, wire.send))
        for _ in range(8):
            await asyncio.sleep(0.05)
            wire.body(b"x", more=True)
        assert not caught
        await task
        return wire

    assert run(scenario).status == 200
    assert caught == ["Nothing of the body came for 0.2 s."]


@pytest.mark.parametrize(
    ("content_type", "body", "whole"),
    [
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n", True),
        ('multipart/form-data; boundary="b"', b"--b\r\n\r\nx\r\n--b--", True),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\nsome words behind it", True),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b\r\n", False),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b-", False),
        ("multipart/form-data; boundary=b", b"", False),
        ("multipart/form-data", b"anything", True),  # which others refuse
        ("application/json", b"{", True),
        ("", b"", True),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2, 100])
def test_a_form_without_its_end_is_an_error(content_type, body, whole, pieces):
    """However it comes: the last boundary may come in pieces as well."""
    caught = []

    async def app(scope, receive, send):
        try:
            await Request(scope, receive).body()
        except IncompleteBodyError as error:
            caught.append(str(error))
        await ok(scope, receive, send)

    async def scenario():
        wire = Wire()
        step = max(1, -(-len(body) // pieces))
        for start in range(0, len(body), step):
            wire.body(body[start : start + step], more=True)
        wire.body()
        await admission(app)(scope(content_type=content_type), wire.receive, wire.send)

    run(scenario)
    assert caught == ([] if whole else ["The form ends before its last boundary; it was cut short."])


def test_time_that_the_work_takes_is_none_of_the_body():
    async def scenario():
        wire = Wire()

        async def app(scope, receive, send):
            await Request(scope, receive).body()
            assert not await Request(scope, receive).is_disconnected()
            await asyncio.sleep(0.1)
            await ok(scope, receive, send)

        wire.body()
        await admission(app, body_timeout_s=0.02)(scope(), wire.receive, wire.send)
        return wire

    assert run(scenario).status == 200


@pytest.mark.parametrize("reading", [False, True])
def test_the_end_answers_503_where_no_answer_began(reading):
    async def scenario():
        door, wire = Door(1), Wire()
        task = asyncio.create_task(admission(reads_and_waits, door)(scope(), wire.receive, wire.send))
        wire.body(b"", more=reading)
        await asyncio.sleep(0.01)
        door.end_all()
        await task
        return wire, door.inside

    wire, inside = run(scenario)
    assert (wire.status, wire.complete, inside) == (503, True, 0)
    assert json.loads(wire.answer)["type"] == "urn:jaguar-reid:problem:shutting-down"
    assert wire.headers["retry-after"] == "1"
    assert "total;dur=" in wire.headers["server-timing"]


def test_the_end_cuts_an_answer_off_that_had_begun():
    async def scenario():
        door, wire = Door(1), Wire()

        async def rows():
            yield "row"
            await asyncio.Event().wait()

        task = asyncio.create_task(admission(StreamingResponse(rows()), door)(scope(), wire.receive, wire.send))
        await until(lambda: wire.answer == b"row")
        door.end_all()
        await task
        return wire, door.inside

    wire, inside = run(scenario)
    assert (wire.status, wire.answer, wire.complete, inside) == (200, b"row", False, 0)


def test_the_end_of_what_has_just_been_answered_changes_nothing():
    async def scenario():
        door, wire = Door(1), Wire()

        async def app(scope, receive, send):
            await ok(scope, receive, send)
            door.end_all()

        await admission(app, door)(scope(), wire.receive, wire.send)
        return wire, door.inside

    wire, inside = run(scenario)
    assert (wire.status, wire.answer, inside) == (200, b"fine", 0)


def test_requests_at_the_same_time_keep_their_own_times():
    observed = []

    async def scenario():
        together = asyncio.Barrier(2)
        seconds = {"/one": 1.0, "/two": 2.0}

        async def app(scope, receive, send):
            mine = timing.current.get()
            await together.wait()

            async def part():  # tasks inherit it, as photos do
                await asyncio.sleep(0.001)
                assert timing.current.get() is mine
                timing.current.get().add(Phase.DECODE, seconds[scope["path"]])

            await asyncio.gather(*(asyncio.create_task(part()) for _ in range(3)))
            await together.wait()
            await ok(scope, receive, send)

        call = Admission(app, Door(2), seconds, LONG_S, lambda *pair: observed.append(pair))
        wires = {path: Wire() for path in seconds}
        await asyncio.gather(*(call(scope(path), wire.receive, wire.send) for path, wire in wires.items()))
        assert timing.current.get() is None
        return {path: wire.headers["server-timing"] for path, wire in wires.items()}

    headers = run(scenario)
    assert "decode;dur=3000.0," in headers["/one"]
    assert "decode;dur=6000.0," in headers["/two"]
    for header in headers.values():
        assert [part.partition(";")[0] for part in header.split(", ")] == ["admission", "decode", "total"]
    assert sorted(seconds for phase, seconds in observed if phase == "decode") == [3.0, 6.0]
    assert sorted(phase for phase, _ in observed) == sorted(2 * ["admission", "decode", "total"])


def test_memory_for_bodies_is_shared_out():
    door = Door(100)
    assert door.memory_for(MEMORY_BODY_BYTES) == MEMORY_BODY_BYTES
    assert door.memory_for(MEMORY_BODY_BYTES + 1) == 0

    async def scenario():
        had = []

        async def app(scope, receive, send):
            had.append(part_memory.get())
            await asyncio.Event().wait()

        call = admission(app, door)
        lengths = [str(MEMORY_BODY_BYTES)] * (MEMORY_BYTES // MEMORY_BODY_BYTES) + ["1", "0", "99999999999", "one"]
        tasks = []
        for length in lengths:
            wire = Wire()
            tasks.append(asyncio.create_task(call(scope(content_length=length), wire.receive, wire.send)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        wire = Wire()
        tasks.append(asyncio.create_task(call(scope(), wire.receive, wire.send)))
        await until(lambda: len(had) == len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert door.memory_for(1) == 1
        return had

    assert run(scenario) == [MEMORY_BODY_BYTES] * (MEMORY_BYTES // MEMORY_BODY_BYTES) + [PART_MEMORY_BYTES] * 5


# From here on: the whole service.


FORM = {"content_type": "multipart/form-data; boundary=b"}
FORM_START = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'


def test_a_body_that_stands_still_is_answered_408(tiny_bundle, tmp_path):
    async def scenario():
        app = create_app(Settings(state=tmp_path, cache="off", body_timeout_s=0.05), load_model(tiny_bundle, threads=1))
        wire = Wire()
        wire.body(FORM_START, more=True)
        await app(full_scope(), wire.receive, wire.send)
        return wire

    wire = run(scenario)
    assert (wire.status, wire.complete) == (408, True)
    assert json.loads(wire.answer)["type"] == "urn:jaguar-reid:problem:body-timeout"
    assert wire.headers["connection"] == "close"
    assert "admission;dur=" in wire.headers["server-timing"]


def test_a_form_cut_short_is_refused(service, photo, assert_problem):
    """By a proxy, say, that gave up: Starlette would take it, without its last part."""
    body = FORM_START + photo(1)
    client = service()
    headers = {"content-type": FORM["content_type"]}
    response = client.post("/embed", content=body, headers=headers)
    assert "cut short" in assert_problem(response, 400, "invalid-body")["detail"]
    assert client.post("/embed", content=body + b"\r\n--b--\r\n", headers=headers).status_code == 200


@pytest.mark.parametrize("body_is_whole", [False, True])
def test_a_client_that_left_is_logged_as_such(tiny_bundle, tmp_path, gated, photo, caplog, body_is_whole):
    async def scenario():
        wire = Wire()
        app = create_app(Settings(state=tmp_path, cache="off"), gated)
        task = asyncio.create_task(app(full_scope(), wire.receive, wire.send))
        wire.body(FORM_START + photo(1) + (b"\r\n--b--\r\n" if body_is_whole else b""), more=not body_is_whole)
        if body_is_whole:
            await asyncio.to_thread(gated.embedder.entered.wait, LONG_S)
        await asyncio.sleep(0.01)
        wire.leave()
        await task
        gated.embedder.gate.set()

    with caplog.at_level(logging.INFO, logger="access"):
        run(scenario)
    [record] = [record for record in caplog.records if record.name == "access"]
    assert record.status == CLIENT_GONE
    assert "Traceback" not in caplog.text


@pytest.fixture
def gated(tiny_bundle):
    """A model whose decoding waits for `gate`; `entered` tells that it was come to."""

    class Gated(Embedder):
        entered, gate = threading.Event(), threading.Event()

        def prepare(self, data, name="image"):
            self.entered.set()
            assert self.gate.wait(LONG_S)
            return super().prepare(data, name)

    model = load_model(tiny_bundle, threads=1)
    yield replace(model, embedder=Gated(model.embedder.spec, model.embedder.runtime))
    Gated.gate.set()


def test_one_too_many_is_refused_and_nothing_else(service, gated, photo, assert_problem):
    client = service(model=gated, max_inflight=1)
    files = {"query_image": photo(1), "gallery_image": photo(2)}
    with ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(client.post, "/similarity", files=files)
            assert gated.embedder.entered.wait(LONG_S)
            for call in ("/similarity", "/embed", "/similarity/batch", "/submission"):
                refused = client.post(call, files=files)
                assert_problem(refused, 503, "busy")
                assert refused.headers["retry-after"] == "1"
                assert refused.headers["x-content-type-options"] == "nosniff"
            assert client.get("/health/live").json()["status"] == "ok"
            assert client.get("/health/ready").status_code == 200
            assert client.get("/model").status_code == 200
            assert "jaguar_inflight_requests 1.0" in client.get("/metrics").text
            assert_problem(client.get("/similarity"), 405, "method-not-allowed")
        finally:
            gated.embedder.gate.set()
        assert first.result().status_code == 200
    assert client.post("/similarity", files=files).status_code == 200
    assert "jaguar_inflight_requests 0.0" in client.get("/metrics").text


class Broken:
    """A network that fails."""

    def run(self, images):
        raise RuntimeError("secret")


@pytest.mark.parametrize(
    ("call", "files", "status"),
    [
        ("/similarity", {"query_image": 1, "gallery_image": 2}, 200),
        ("/embed", {"images": 1}, 200),
        ("/similarity/batch", {"pairs": b"query_image,gallery_image\na.png,a.png\n", "images": 1}, 200),
        ("/submission", {"test_csv": b"row_id,query_image,gallery_image\n1,a.png,a.png\n", "images": 1}, 200),
        ("/embed", {"images": b"broken"}, 415),
        ("/embed", {"image": 1}, 422),
        ("/embed", None, 415),
        ("/embed", {"images": bytes(5_000_000)}, 413),
        ("/embed", {"images": 1}, 500),
    ],
)
def test_every_answer_tells_where_its_time_went(service, photo, call, files, status):
    parts = {name: ("a.png", photo(part) if isinstance(part, int) else part) for name, part in (files or {}).items()}
    client = service(max_images_body_bytes=1_000_000, runtime=Broken() if status == 500 else None)
    response = client.post(call, files=parts or None)
    assert response.status_code == status
    names = [part.partition(";dur=")[0] for part in response.headers["server-timing"].split(", ")]
    assert names[0] == "admission"
    assert names[-1] == "total"
    if status == 200:
        assert names == ["admission", "upload", "queue", "decode", "forward", "total"]
    assert response.headers["x-content-type-options"] == "nosniff"
    metrics = client.get("/metrics").text
    for name in names:
        assert f'jaguar_phase_seconds_count{{phase="{name}"}} 1.0' in metrics
    assert 'phase="other"' not in metrics


def test_answers_of_other_calls_have_no_phases(service):
    client = service()
    assert "server-timing" not in client.get("/model").headers
    assert "server-timing" not in client.get("/embed").headers
