"""The log: one line a request, for programs and for people; nothing in it that is secret or that a client forged."""

import asyncio
import io
import json
import logging
import logging.config
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from app import logs
from app.logs import AccessLog, TextFormatter, is_request_id

NASTY = "x\n2026-11-24 00:00:00,000 INFO access [-] forged\r\x1b[31m\x85\u2028\u2029\x7f\x00"
REQUEST_ID = "b1f2f0c2f5a24b6a9d2f8a4d5f3f0a11"

Log = Callable[[], list[str]]


@pytest.fixture
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """`log()` -> the lines written so far, with logging set up for a terminal or for programs (the default)."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root, access, ids = map(logging.getLogger, ("", "uvicorn.access", "asgi_correlation_id"))
    before = root.handlers[:], root.level, ids.level, access.propagate
    logging.config.dictConfig(logs.configure(getattr(request, "param", False)))
    monkeypatch.setattr(logging.getLogger("httpx2"), "disabled", True)  # the client's own line
    yield lambda: stream.getvalue().splitlines()
    root.handlers[:], root_level, ids_level, access.propagate = before
    root.setLevel(root_level)
    ids.setLevel(ids_level)


terminal = pytest.mark.parametrize("log", [True], indirect=True)


def exchange(app, received: list[Message] = (), **scope: object) -> list[Message]:
    """One request to `AccessLog(app)`, without a server; what the application sent."""
    sent: list[Message] = []
    messages = iter(received)

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message)

    request = {"type": "http", "method": "POST", "path": "/similarity", "client": ("192.0.2.1", 5), **scope}
    asyncio.run(AccessLog(app)(request, receive, send))
    return sent


def start(status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


LEFT: Message = {"type": "http.disconnect"}


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    for message in (start(), body(b"12345", more=True), {"type": "http.response.body", "body": b"678"}):
        await send(message)


# One line a request


def test_a_line_has_what_an_operator_asks_for(log):
    app = CorrelationIdMiddleware(AccessLog(fine))
    response = TestClient(app, client=("192.0.2.7", 1)).post(
        "/similarity?key=secret", content=b"photo", headers={"X-Request-ID": REQUEST_ID, "X-API-Key": "secret"}
    )
    [line] = log()
    found = json.loads(line)
    assert 0 <= found.pop("duration_ms") < 60_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", found.pop("time"))
    assert re.fullmatch(r"192\.0\.2\.7 POST /similarity 200 in [\d.]+ ms, 8 bytes", found.pop("message"))
    assert found == {
        "level": "INFO",
        "logger": "access",
        "request_id": REQUEST_ID,
        "client": "192.0.2.7",
        "method": "POST",
        "path": "/similarity",
        "status": 200,
        "bytes_sent": 8,
        "complete": True,
    }
    assert response.headers["x-request-id"] == REQUEST_ID
    assert "secret" not in line


@terminal
def test_a_line_for_people(log):
    TestClient(CorrelationIdMiddleware(AccessLog(fine))).get("/model", headers={"X-Request-ID": REQUEST_ID})
    [line] = log()
    pattern = rf"[\d-]+ [\d:,]+ INFO access \[{REQUEST_ID}\] testclient GET /model 200 in [\d.]+ ms, 8 bytes"
    assert re.fullmatch(pattern, line)


@terminal
def test_without_a_request_there_is_no_id(log):
    logging.getLogger("app.main").info("ready")
    assert log()[0].endswith(" INFO app.main [-] ready")


def test_an_application_that_fails_has_its_line(log):
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        exchange(fails)
    assert status_and_complete(log()) == [(500, False)]


def test_an_application_that_fails_in_the_middle_has_its_line(log):
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200))
        await send(body(b"123", more=True))
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        exchange(fails)
    [found] = map(json.loads, log())
    assert (found["status"], found["complete"], found["bytes_sent"]) == (200, False, 3)
    assert found["message"].endswith(", 3 bytes, cut short")


def test_an_application_that_says_nothing_has_its_line(log):
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    assert exchange(silent) == []
    assert status_and_complete(log()) == [(500, False)]


def test_a_client_that_left_before_the_answer_is_499(log):
    """Whatever the application says then: nobody gets it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(start(400))
        await send(body(b"cut short"))

    exchange(app, [{"type": "http.request", "body": b"x", "more_body": True}, LEFT])
    [found] = map(json.loads, log())
    assert (found["status"], found["complete"], found["bytes_sent"]) == (499, False, 0)


def test_a_client_that_left_in_the_middle_keeps_its_status(log):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200))
        await send(body(b"123", more=True))
        await receive()
        await send(body(b"456"))

    exchange(app, [LEFT])
    [found] = map(json.loads, log())
    assert (found["status"], found["complete"], found["bytes_sent"]) == (200, False, 3)


def test_a_server_that_says_disconnect_after_the_answer_means_nothing_by_it(log):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await fine(scope, receive, send)
        await receive()

    exchange(app, [LEFT])
    assert status_and_complete(log()) == [(200, True)]


def test_other_messages_pass(log):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.debug"})
        await fine(scope, receive, send)

    assert next(message["type"] for message in exchange(app)) == "http.response.debug"
    assert status_and_complete(log()) == [(200, True)]


def test_a_request_without_an_address_has_its_line(log):
    exchange(fine, client=None)
    assert json.loads(log()[0])["client"] is None


def test_what_is_no_request_has_no_line(log):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})

    assert exchange(app, type="lifespan") == [{"type": "lifespan.startup.complete"}]
    assert log() == []


def status_and_complete(lines: list[str]) -> list[tuple[int, bool]]:
    return [(found["status"], found["complete"]) for found in map(json.loads, lines)]


# Nothing can be forged


@pytest.mark.parametrize("log", [False, True], indirect=True)
@pytest.mark.parametrize("field", ["path", "method", "client"])
def test_a_request_cannot_write_two_lines(log, field):
    exchange(fine, **{field: (NASTY, 1) if field == "client" else NASTY})
    [line] = log()
    assert line.isprintable()


@terminal
def test_a_path_is_quoted_and_cut(log):
    exchange(fine, path="/a b\n\udcff" + "ü" * 500)
    path = log()[0].split(" POST ")[1].split(" 200 ")[0]
    assert path.startswith("/a%20b%0A%5Cudcff%C3%BC")
    assert len(path) == 200


@terminal
def test_a_message_cannot_write_two_lines(log):
    logging.getLogger("any").warning("said %s", NASTY)
    [line] = log()
    assert line.isprintable()
    assert r"said x\x0a2026" in line


@terminal
def test_a_trace_cannot_look_like_a_line(log):
    try:
        int(NASTY)
    except ValueError as error:
        logging.getLogger("any").exception("failed\n", exc_info=ExceptionGroup(NASTY, [error]))
    first, *trace = log()
    assert first.endswith(" ERROR any [-] failed")
    assert all(line.startswith("  ") and line.replace("\t", "").isprintable() for line in trace)
    assert any("forged" in line for line in trace)


@given(st.text())
def test_a_formatted_message_is_one_line(text):
    record = logging.LogRecord("any", logging.INFO, "here", 1, "%s", (text,), None)
    line = TextFormatter("%(message)s").format(record)
    assert line.splitlines() in ([line], [])


# What else goes there


def test_uvicorns_lines_come_once_and_without_its_colours(log):
    logging.getLogger("uvicorn.error").info("Started %d", 7, extra={"color_message": "\x1b[36mStarted\x1b[0m"})
    [found] = map(json.loads, log())
    assert (found["logger"], found["level"], found["message"]) == ("uvicorn.error", "INFO", "Started 7")
    assert "color_message" not in found


def test_uvicorns_own_access_line_is_off(log):
    logging.getLogger("uvicorn.access").info("GET /model?key=secret")
    assert log() == []


def test_debug_lines_stay_out(log):
    logging.getLogger("app.uploads").debug("photo 'jaguar.png'")
    assert log() == []


def test_an_error_carries_its_trace_in_one_line(log):
    token = correlation_id.set(REQUEST_ID)
    logging.getLogger("app.problems").error("request failed", exc_info=ValueError("inside"))
    correlation_id.reset(token)
    [found] = map(json.loads, log())
    assert found["request_id"] == REQUEST_ID
    assert found["exc_info"] == "ValueError: inside"


# Request ids


@pytest.mark.parametrize(
    "text", [REQUEST_ID, REQUEST_ID.upper(), "123e4567-e89b-12d3-a456-426614174000", "4bf92f3577b34da6a3ce929d0e0e4736"]
)
def test_usual_request_ids_are_taken_over(text):
    assert is_request_id(text)


@pytest.mark.parametrize(
    "text",
    ["", "1", "-" * 5_000 + REQUEST_ID, f"{{{REQUEST_ID}}}", "1_" * 16, "\xa0" + "0" * 31, REQUEST_ID + "\n", "g" * 32],
)
def test_other_request_ids_are_not(text):
    """asgi-correlation-id takes the third, the fourth and the fifth of them."""
    assert not is_request_id(text)


def test_a_request_id_of_another_form_is_no_second_line(log):
    app = CorrelationIdMiddleware(AccessLog(fine), validator=is_request_id)
    response = TestClient(app).get("/model", headers={"X-Request-ID": "jaguar 7"})
    [found] = map(json.loads, log())
    assert found["request_id"] == response.headers["x-request-id"] != "jaguar 7"


# The same in a real server

_SERVER = """
import asyncio, sys
import uvicorn
from asgi_correlation_id import CorrelationIdMiddleware
from app import logs

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/broken":
        raise RuntimeError("inside")
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

uvicorn.run(CorrelationIdMiddleware(logs.AccessLog(app)), port=int(sys.argv[1]), log_config=logs.configure(False))
"""


def test_over_a_socket_every_line_is_json_and_every_request_has_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    root = Path(__file__).parents[2]
    written = tmp_path / "log"
    with written.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(port)], stderr=stream, env={**os.environ, "PYTHONPATH": str(root)}
        )
    try:
        talk(port, b"GET /fine?key=secret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n", b"ok")
        talk(port, b"GET /two%0Alines HTTP/1.1\r\nHost: x\r\n\r\n", b"ok")
        talk(port, b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n", b"Internal Server Error")
        talk(port, b"POST /gone HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", b"")
        requests = wait_for(lambda: access_lines(written), 4)
    finally:
        process.terminate()
        process.wait()
    assert [(found["path"], found["status"], found["complete"]) for found in requests] == [
        ("/fine", 200, True),
        ("/two%0Alines", 200, True),
        ("/broken", 500, False),
        ("/gone", 499, False),
    ]
    assert all(re.fullmatch("[0-9a-f]{32}", found["request_id"]) for found in requests)
    assert len(access_lines(written)) == 4
    everything = [json.loads(line) for line in written.read_text().splitlines()]
    assert not any(found["logger"] == "uvicorn.access" for found in everything)
    assert any("RuntimeError: inside" in found.get("exc_info", "") for found in everything)
    assert "secret" not in written.read_text()


def access_lines(written: Path) -> list[dict]:
    lines = [json.loads(line) for line in written.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line["logger"] == "access"]


def wait_for(look: Callable[[], list[dict]], count: int) -> list[dict]:
    deadline = time.monotonic() + 30
    while len(found := look()) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def talk(port: int, request: bytes, awaited: bytes) -> None:
    """Sends a request as soon as the server is up, reads until `awaited` came, and leaves."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(request)
            got = b""
            while awaited not in got:
                got += connection.recv(4096)
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")
