"""What comes over the socket before there is a request: heads that are no HTTP, too long or too slow, and good ones."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from app.protocol import MAX_HEAD_BYTES, BoundedProtocol

LONG_S = 20
GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr("app.protocol.LINGER_S", 0.2)


class App:
    """Answers with the path, and with how long the body was; `/early` at once, `/wait` and `/blind` when `go` is set.

    `/early` and `/blind` do not look at the body.
    """

    def __init__(self):
        self.go, self.began, self.left = asyncio.Event(), [], []

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        self.began.append(path)
        size = 0
        while path not in {"/early", "/blind"}:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(path)
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        if path in {"/wait", "/blind"}:
            await self.go.wait()
        body = f"{path} {size};".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Client:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self):
        """Status, headers and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().splitlines()[:-1]
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self):
        """Everything until the server closes."""
        return await self.reader.read()


@asynccontextmanager
async def serving():
    """`(app, connect)`: an application behind the protocol, and connections to it."""
    app, state, loop = App(), ServerState(), asyncio.get_running_loop()
    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", log_config=None, access_log=False)
    config.load()
    clients = []

    async def connect():
        clients.append(Client(*await asyncio.open_connection(*server.sockets[0].getsockname())))
        return clients[-1]

    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}, _loop=loop), "127.0.0.1", 0)
    try:
        yield app, connect
    finally:
        app.go.set()
        for client in clients:
            client.writer.close()
        server.close()
        while state.connections or state.tasks:
            await asyncio.sleep(0.005)


def run(scenario):
    async def limited():
        async with asyncio.timeout(LONG_S), serving() as (app, connect):
            return await scenario(app, connect)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(limited())


async def until(true):
    while not true():
        await asyncio.sleep(0.002)


def assert_problem(answer, status, slug):
    found, headers, body = answer
    problem = json.loads(body)
    assert found == problem["status"] == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert problem["type"] == f"urn:jaguar-reid:problem:{slug}"
    assert problem["request_id"] == headers["x-request-id"]
    assert len(problem["request_id"]) == 32
    assert problem["detail"]


def ask(data):
    """What is answered to these bytes, until the server closes."""

    async def scenario(app, connect):
        client = await connect()
        await client.send(data)
        answer = await client.answer()
        assert await client.rest() == b""
        return answer, app.began

    return run(scenario)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a port that has none
        b"no such thing\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: one\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 100,
    ],
)
def test_what_is_no_http_is_a_problem(data, caplog):
    with caplog.at_level(logging.INFO):
        answer, began = ask(data)
    assert_problem(answer, 400, "invalid-request-head")
    assert began == []
    assert "refused before there was a request: 400 invalid-request-head" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("pieces", [1, 9, 500])
@pytest.mark.parametrize("where", ["path", "one header", "many headers"])
def test_a_head_has_a_longest_length(where, pieces):
    """Whether it comes at once, with its end in sight, or bit by bit."""
    size = MAX_HEAD_BYTES + 2_000
    head = {
        "path": b"GET /" + b"p" * size + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "one header": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"p" * size + b"\r\n\r\n",
        "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"Abc: defgh\r\n" * (size // 8) + b"\r\n",
    }[where]

    async def scenario(app, connect):
        client = await connect()
        step = -(-len(head) // pieces)
        for start in range(0, len(head), step):
            if client.reader.at_eof():
                break
            await client.send(head[start : start + step])
            await asyncio.sleep(0)
        return await client.answer(), app.began

    answer, began = run(scenario)
    assert_problem(answer, 431, "head-too-large")
    assert began == []


def test_what_follows_a_head_that_was_refused_is_not_listened_to():
    answer, began = ask(GET % (b"p" * MAX_HEAD_BYTES) + b"no http\r\n\r\n")
    assert_problem(answer, 431, "head-too-large")
    assert began == []


@pytest.mark.parametrize("pieces", [1, 100])
def test_a_head_within_the_limit_is_fine(pieces):
    async def scenario(app, connect):
        client = await connect()
        answers = []
        for _ in range(3):  # the count begins anew
            head = b"GET /a HTTP/1.1\r\nHost: x\r\nA: " + b"p" * (MAX_HEAD_BYTES - 100) + b"\r\n\r\n"
            step = -(-len(head) // pieces)
            for start in range(0, len(head), step):
                await client.send(head[start : start + step])
                await asyncio.sleep(0)
            answers.append(await client.answer())
        return answers

    assert [(status, body) for status, _, body in run(scenario)] == [(200, b"/a 0;")] * 3


def test_a_body_is_no_head():
    async def scenario(app, connect):
        client = await connect()
        size = 10 * MAX_HEAD_BYTES
        await client.send(b"POST /sized HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        first = await client.answer()
        await client.send(b"POST /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size // 1_000):
            await client.send(b"3e8;some=extension\r\n" + bytes(1_000) + b"\r\n")
        await client.send(b"0\r\nTrailer: fine\r\n\r\n")
        second = await client.answer()
        # A long body, and in the same piece the beginning of the next head.
        await client.send(b"POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        await client.send(bytes(size) + b"GET /last HT")
        third = await client.answer()
        await client.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        return [body for _, _, body in (first, second, third, await client.answer())]

    assert run(scenario) == [b"/sized 655360;", b"/chunked 655000;", b"/next 655360;", b"/last 0;"]


@pytest.mark.parametrize("path", [b"read", b"early"])
@pytest.mark.parametrize(
    "tail", [b"0\r\n" + b"A: b\r\n" * 20_000, b"0\r\nA: " + b"b" * 120_000, b"5;" + b"e" * 120_000]
)
def test_what_follows_a_body_is_bounded_as_a_head_is(path, tail):
    async def scenario(app, connect):
        client = await connect()
        await client.send(b"POST /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path)
        await until(lambda: app.began)
        if path == b"early":  # answered without a look at the body
            assert (await client.answer())[0] == 200
        with suppress(ConnectionError):  # an answer that is out needs no patience
            for start in range(0, len(tail), 10_000):
                await client.send(tail[start : start + 10_000])
                await asyncio.sleep(0)
        if path == b"read":
            assert_problem(await client.answer(), 431, "head-too-large")
            await until(lambda: app.left == ["/read"])
        with suppress(ConnectionError):
            assert await client.rest() == b""

    run(scenario)


def test_a_body_that_is_no_http_is_a_problem_of_its_request():
    async def scenario(app, connect):
        client = await connect()
        await client.send(b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await until(lambda: app.began)
        await client.send(b"no length\r\n")
        answer = await client.answer()
        await until(lambda: app.left)
        return answer, await client.rest()

    answer, rest = run(scenario)
    assert_problem(answer, 400, "invalid-request-head")
    assert rest == b""


def test_an_answer_to_what_was_refused_meanwhile_goes_nowhere(caplog):
    async def scenario(app, connect):
        client = await connect()
        await client.send(b"POST /blind HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await until(lambda: app.began)
        await client.send(b"no length\r\n")
        answer = await client.answer()
        app.go.set()
        await asyncio.sleep(0.02)
        return answer, await client.rest()

    answer, rest = run(scenario)
    assert_problem(answer, 400, "invalid-request-head")
    assert rest == b""
    assert "Exception" not in caplog.text


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nA: b"])
def test_a_slow_head_is_given_up(begun, monkeypatch):
    monkeypatch.setattr("app.protocol.HEAD_TIMEOUT_S", 0.1)

    async def scenario(app, connect):
        client = await connect()
        await client.send(begun)
        if not begun:
            return await client.rest(), b""
        return await client.answer(), await client.rest()

    answer, rest = run(scenario)
    assert rest == b""
    if begun:
        assert_problem(answer, 408, "head-timeout")
    else:  # nothing was asked, and nothing is answered
        assert answer == b""


def test_a_head_that_trickles_is_given_up_all_the_same(monkeypatch):
    monkeypatch.setattr("app.protocol.HEAD_TIMEOUT_S", 0.1)

    async def trickle(app, connect):
        client = await connect()
        await client.send(GET % b"first")
        assert (await client.answer())[2] == b"/first 0;"
        answer = asyncio.create_task(client.answer())
        await client.send(b"GET /second HTTP/1.1\r\nA: ")
        while not answer.done():
            await client.send(b"x")
            await asyncio.sleep(0.005)
        return await answer

    assert_problem(run(trickle), 408, "head-timeout")


def test_time_for_the_answer_or_the_body_is_none_of_the_head(monkeypatch):
    monkeypatch.setattr("app.protocol.HEAD_TIMEOUT_S", 0.05)

    async def scenario(app, connect):
        client = await connect()
        await client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
        await asyncio.sleep(0.15)
        await client.send(b"2")
        await asyncio.sleep(0.15)
        app.go.set()
        return await client.answer()

    assert run(scenario)[2] == b"/wait 2;"


def test_line_ends_alone_do_not_keep_a_connection(monkeypatch):
    monkeypatch.setattr("app.protocol.HEAD_TIMEOUT_S", 0.1)

    async def scenario(app, connect):
        client = await connect()
        await client.send(GET % b"a")
        await client.answer()
        await client.send(b"\r\n")  # uvicorn stops its clock for idle connections at any byte
        return await client.rest()

    assert_problem_or_nothing = run(scenario)
    assert assert_problem_or_nothing == b"" or b" 408 " in assert_problem_or_nothing


def test_the_rest_of_a_body_that_was_answered_early_is_given_some_time(monkeypatch):
    monkeypatch.setattr("app.protocol.HEAD_TIMEOUT_S", 0.2)

    async def scenario(app, connect):
        client = await connect()
        head = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        await client.send(head)
        first = await client.answer()
        await client.send(b"1234" + GET % b"next")  # in time: the connection is good for more
        second = await client.answer()
        await client.send(head)
        third = await client.answer()
        await client.send(b"1")  # and never the rest of it
        return [body for _, _, body in (first, second, third)], await client.rest()

    assert run(scenario) == ([b"/early 0;", b"/next 0;", b"/early 0;"], b"")


def test_a_slow_head_behind_a_body_that_was_answered_early_is_told(monkeypatch):
    monkeypatch.setattr("app.protocol.HEAD_TIMEOUT_S", 0.2)

    async def scenario(app, connect):
        client = await connect()
        await client.send(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        await client.answer()
        await client.send(b"1234")
        await asyncio.sleep(0.02)
        await client.send(b"GET / HT")
        return await client.answer()

    assert_problem(run(scenario), 408, "head-timeout")


def test_requests_may_come_one_after_the_other_or_all_at_once():
    async def scenario(app, connect):
        client, bodies = await connect(), []
        for name in (b"a", b"b"):
            await client.send(GET % name)
            bodies.append((await client.answer())[2])
        post = b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n123"
        await client.send(post + GET % b"d" + post + b"\r\n\r\n" + GET % b"e")
        for _ in range(4):
            bodies.append((await client.answer())[2])  # noqa: PERF401
        return bodies

    assert run(scenario) == [b"/a 0;", b"/b 0;", b"/c 3;", b"/d 0;", b"/c 3;", b"/e 0;"]


@pytest.mark.parametrize(
    "after",
    [
        b"no http\r\n\r\n",
        GET % (b"p" * 70_000),
        b"POST /x HTTP/1.1\r\nHost: x\r\nA: " + b"p" * 70_000 + b"\r\nContent-Length: 3\r\n\r\n123",
        b"GET /" + b"p" * 80_000,
    ],
)
def test_what_was_asked_before_is_answered_before_the_connection_closes(after):
    """An answer to the second written at once would be taken for the answer to the first."""

    async def scenario(app, connect):
        client = await connect()
        await client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n123")
        await until(lambda: app.began)
        await client.send(after)
        await asyncio.sleep(0.05)
        for _ in range(10):
            await client.send(b"and on and on")  # nobody listens
        app.go.set()
        first = await client.answer()
        return first, await client.rest(), app.began

    first, rest, began = run(scenario)
    assert (first[0], first[2], rest, began) == (200, b"/wait 3;", b"", ["/wait"])


def test_what_was_asked_in_one_go_with_nonsense_is_answered_too():
    async def scenario(app, connect):
        client = await connect()
        await client.send(GET % b"a" + GET % b"wait" + b"nonsense\r\n\r\n")
        first = await client.answer()
        app.go.set()
        second = await client.answer()
        return first[2], second[2], await client.rest()

    assert run(scenario) == (b"/a 0;", b"/wait 0;", b"")


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
WITH_OFFER = b"POST /%s HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Content-Length: 3\r\n\r\n123"


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_who_offers_another_protocol_gets_this_one(step, caplog):
    """Java's client offers HTTP/2 with its first request, body included."""
    chunked = b"POST /c HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\n0\r\n\r\n"
    data = WITH_OFFER % b"a" + GET % b"b" + chunked + b"GET /d HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n" + GET % b"e"

    async def scenario(app, connect):
        client = await connect()
        for start in range(0, len(data), step):
            await client.send(data[start : start + step])
            await asyncio.sleep(0)
        return [(await client.answer())[2] for _ in range(5)]

    assert run(scenario) == [b"/a 3;", b"/b 0;", b"/c 2;", b"/d 0;", b"/e 0;"]
    assert caplog.text == ""


def test_offers_by_the_hundred_are_answered_one_after_the_other():
    async def scenario(app, connect):
        client = await connect()
        await client.send(WITH_OFFER % b"a" * 1_500)  # more than Python's stack is deep
        return {(await client.answer())[2] for _ in range(1_500)}

    assert run(scenario) == {b"/a 3;"}


def test_an_offer_to_speak_websocket_is_passed_over():
    async def scenario(app, connect):
        client = await connect()
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        await client.send(
            b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key + b"\r\n"
        )
        return await client.answer()

    assert run(scenario)[2] == b"/a 0;"


def test_a_tunnel_is_no_request_of_ours():
    async def scenario(app, connect):
        client = await connect()
        await client.send(b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n" + GET % b"b")
        return await client.answer(), await client.rest(), app.began

    answer, rest, began = run(scenario)
    assert (answer[2], rest, began) == (b"/a 0;", b"", ["/a"])


def test_a_connection_that_is_lost_leaves_no_clock_behind(monkeypatch, caplog):
    monkeypatch.setattr("app.protocol.HEAD_TIMEOUT_S", 0.05)

    async def scenario(app, connect):
        for begun in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"):
            client = await connect()
            await client.send(begun)
            await asyncio.sleep(0.01)
            client.writer.close()
        await asyncio.sleep(0.15)

    with caplog.at_level(logging.INFO, logger="app.protocol"):
        run(scenario)
    assert caplog.text == ""
