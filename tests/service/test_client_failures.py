"""The Python client where things go wrong: what it tries again and when, and what it says of what it cannot help."""

import asyncio
import io
import json
import os
import pickle
import resource
import signal
import socket
import threading
from datetime import UTC, datetime

import httpx2
import numpy as np
import pytest

from app import client as package
from app.client import (
    AnswerError,
    AsyncClient,
    BadInputError,
    BusyError,
    Client,
    ClientError,
    ConnectionFailedError,
    InputError,
    NotFoundError,
    Problem,
    ProblemError,
    Retries,
    ServerError,
    Timeouts,
    TooLargeError,
    UnauthorizedError,
    calls,
    errors,
)
from app.client.answers import read_npy
from app.client.effects import Local, Reply, Send, Wait, do, run
from app.client.errors import problem_error
from app.client.exchange import Exchange
from app.client.form import Form
from app.client.retries import pause_s, retry_after_s
from app.client.sinks import saved
from app.client.sources import Source, bytes_source
from tests.service.live import Live, ask, raw, serving

FACES = pytest.mark.parametrize("face", ["sync", "async"])
PAIRS = b"query_image,gallery_image\na.png,b.png\n"
QUICK = Retries(attempts=3, total_s=5)
ONCE = Retries(attempts=1)
SCORED = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nX-Model-Version: v\r\n"


@pytest.fixture
def scripted(tiny_bundle, tmp_path_factory):
    """`scripted((status, headers), ...)` -> a real service that answers its first requests so, without reading them."""
    services = []

    def start(*script, **values) -> Live:
        left = list(script)

        def around(app):
            async def scripted_app(scope, receive, send) -> None:
                if scope["type"] != "http" or not left:
                    await app(scope, receive, send)
                    return
                status, headers = left.pop(0)
                names = [(name.encode(), value.encode()) for name, value in headers.items()]
                await send({"type": "http.response.start", "status": status, "headers": names})
                await send({"type": "http.response.body", "body": b"<html>no</html>"})

            return scripted_app

        context = serving(tiny_bundle, tmp_path_factory.mktemp("state"), around=around, **values)
        services.append(context)
        return context.__enter__()

    yield start
    for context in services:
        context.__exit__(None, None, None)


# When it is asked again


@pytest.mark.parametrize(
    ("failures", "asked_s", "chance", "expected"),
    [
        (1, None, 0.0, 0.25), (1, None, 1.0, 0.125), (2, None, 0.0, 0.5), (3, None, 0.5, 0.75), (6, None, 0.0, 8.0),
        (400, None, 0.0, 8.0), (1, 3.0, 0.0, 3.0), (1, 3.0, 1.0, 3.125), (9, 0.0, 0.5, 2.0), (2, 100.0, 0.0, 100.0),
    ],
)  # fmt: skip
def test_pauses(failures, asked_s, chance, expected):
    assert pause_s(failures, asked_s, chance) == expected


def test_attempts_and_their_waits_are_bounded():
    retries = Retries(attempts=3, total_s=10)
    assert retries.next_s(1, 0.0, None, 0.0) == 0.25
    assert retries.next_s(2, 0.0, 10.0, 0.0) == 10.0
    assert retries.next_s(2, 0.1, 10.0, 0.0) is None
    assert retries.next_s(3, 0.0, None, 0.0) is None
    for values in ({"attempts": 0}, {"total_s": -1}, {"away_s": float("nan")}):
        with pytest.raises(InputError):
            Retries(**values)
    with pytest.raises(InputError):
        Timeouts(connect_s=0)


NOON = "Tue, 24 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:07 GMT", "date": NOON}, 7.0),
        ({"retry-after": "Tue, 24 Nov 2026 13:00:00 +0100", "date": NOON}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT", "date": NOON}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 -0000"}, 20.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 GMT", "date": "yesterday"}, 20.0),
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "٣"}, None),
    ],
)
def test_retry_after(headers, expected):
    assert retry_after_s(headers, datetime(2026, 11, 24, 12, 0, 10, tzinfo=UTC)) == expected


def test_a_date_is_read_against_this_clock_where_the_answer_has_none():
    assert retry_after_s({"retry-after": NOON.replace("2026", "1999")}) == 0.0


def waits(outcomes, program):
    """Carries a program out by hand: its requests have these outcomes; what it waits in between is told."""
    found, outcomes = [], list(outcomes)
    step = program.__next__
    while True:
        try:
            effect = step()
        except StopIteration as end:
            return found, end.value
        except ClientError as error:
            return found, error
        if isinstance(effect, Wait):
            found.append(effect.seconds)
            step = program.__next__
        elif isinstance(effect, Send) and isinstance(outcome := outcomes.pop(0), Exception):
            step = lambda outcome=outcome: program.throw(outcome)  # noqa: E731
        else:
            result = outcome if isinstance(effect, Send) else effect.work()
            step = lambda result=result: program.send(result)  # noqa: E731


def refused(status, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, httpx2.Headers(names), b"", is_asked_for=False)


GOOD = Reply(
    200,
    httpx2.Headers({"x-model-version": "v"}),
    b'{"model_version":"v","similarity":0.5,"cosine":0.0,"probability":null,"verdict":null,"new":1}',
    is_asked_for=True,
)


@pytest.mark.parametrize(
    ("outcomes", "expected", "last"),
    [
        ([GOOD], [], calls.Similarity),
        ([refused(503), refused(503), GOOD], [0.25, 0.5], calls.Similarity),
        ([refused(429, retry_after="7"), GOOD], [7.0], calls.Similarity),
        ([refused(503, retry_after="Tue, 24 Nov 2026 12:00:09 GMT", date=NOON), GOOD], [9.0], calls.Similarity),
        ([httpx2.ConnectError("no"), httpx2.ConnectTimeout("no"), GOOD], [0.25, 0.5], calls.Similarity),
        ([refused(503)] * 4, [0.25, 0.5, 1.0], BusyError),
        ([httpx2.ConnectError("no")] * 4, [0.25, 0.5, 1.0], ConnectionFailedError),
        ([refused(503, retry_after="21")], [], BusyError),
        ([refused(503, retry_after="15"), refused(503, retry_after="15")], [15.0], BusyError),
        ([refused(500)], [], ServerError),
        ([refused(502)], [], ServerError),
        ([refused(408)], [], BadInputError),
        ([httpx2.ReadError("gone")], [], ConnectionFailedError),
        ([httpx2.RemoteProtocolError("gone")], [], ConnectionFailedError),
        ([httpx2.DecodingError("gzip")], [], ConnectionFailedError),
    ],
)
def test_a_question_with_a_body_is_repeated_only_where_nothing_was_begun(outcomes, expected, last):
    exchange = Exchange("http://x", Retries(attempts=4, total_s=20), Timeouts(), chance=lambda: 0.0)
    found, end = waits(outcomes, calls.similarity(exchange, b"a", b"b"))
    assert (found, type(end)) == (expected, last)


def test_a_question_without_one_is_also_repeated_where_the_answer_broke():
    exchange = Exchange("http://x", Retries(attempts=4), Timeouts(), chance=lambda: 0.0)
    breaks = [httpx2.ReadError("a"), httpx2.RemoteProtocolError("b"), httpx2.ReadTimeout("c"), httpx2.ReadError("d")]
    found, end = waits(breaks, calls.model(exchange))
    assert found == [0.25, 0.5, 1.0]
    assert isinstance(end, ConnectionFailedError)
    assert isinstance(end.__cause__, httpx2.ReadError)


@FACES
@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_service_is_asked_again(scripted, photo, face, status):
    service = scripted((status, {"Retry-After": "0"}), (status, {"Retry-After": NOON, "Date": NOON}))
    answer = ask(face, service.url, lambda client: client.similarity(photo(1), photo(1)), retries=QUICK)
    assert answer.similarity > 0.99999
    assert service.paths() == ["/similarity"] * 3


@FACES
def test_a_service_that_stays_busy(scripted, photo, face):
    service = scripted(*[(503, {"Retry-After": "0"})] * 9)
    with pytest.raises(BusyError, match=r"Try again in 0 s, or let the client wait longer") as caught:
        ask(face, service.url, lambda client: client.embed([photo(1)]), retries=QUICK)
    assert (caught.value.status, caught.value.retry_after_s) == (503, 0.0)
    assert len(service.seen) == 3


def test_a_service_that_asks_for_an_hour_is_not_waited_for(scripted, photo):
    service = scripted((429, {"Retry-After": "3600"}))
    with Client(service.url) as client, pytest.raises(BusyError, match="Try again in 3600 s"):
        client.similarity(photo(1), photo(2))
    assert len(service.seen) == 1


@FACES
def test_an_open_file_is_sent_again_from_where_it_stood(scripted, photo, zipped, face):
    service = scripted((503, {"Retry-After": "0"}))
    file = io.BytesIO(b"before" + zipped({"a.png": photo(1), "b.png": photo(1)}))
    file.seek(6)
    scores = ask(face, service.url, lambda client: client.batch(PAIRS, file), retries=QUICK)
    assert float(scores.content.decode().splitlines()[1].split(",")[3]) > 0.99999
    assert len(service.seen) == 2


@FACES
def test_what_comes_through_a_pipe_is_sent_once(scripted, photo, zipped, face):
    def piped():
        read, write = os.pipe()
        os.write(write, zipped({"a.png": photo(1), "b.png": photo(1)}))
        os.close(write)
        return os.fdopen(read, "rb")

    service = scripted((503, {"Retry-After": "0"}))
    with piped() as pipe, pytest.raises(BusyError):
        ask(face, service.url, lambda client: client.batch(PAIRS, pipe), retries=QUICK)
    assert len(service.seen) == 1
    with piped() as pipe:
        scores = ask(face, service.url, lambda client: client.batch(PAIRS, pipe), retries=QUICK)
    assert b"a.png,b.png,1,1,," in scores.content or b"a.png,b.png,0.99" in scores.content
    assert service.seen[-1][2]["transfer-encoding"] == "chunked"


def test_an_overloaded_service_of_ours(tiny_bundle, tmp_path, photo):
    head = (
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 9\r\n\r\n"
    )
    with serving(tiny_bundle, tmp_path, max_inflight=1) as service, Client(service.url, retries=ONCE) as client:
        with socket.create_connection(("127.0.0.1", service.port)) as slow:
            slow.sendall(head)  # and nothing of its body: it holds the only place
            while _answered(client, photo):
                pass
            with pytest.raises(BusyError, match="1 requests are being worked on.*503 busy") as caught:
                client.embed([photo(1)])
            assert caught.value.retry_after_s == 1.0
        with Client(service.url) as patient:
            assert patient.embed([photo(1)]).shape == (1, 512)


def _answered(client, photo):
    """Whether the place was still free."""
    try:
        client.embed([photo(1)])
    except BusyError:
        return False
    return True


# What is said


def problem_of(status):
    return Problem(status, "slug", "A title", "what went wrong.", ("line 2: 'x'", "line 3: 'y'"), "id7", None)


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, BadInputError), (401, UnauthorizedError), (403, UnauthorizedError), (404, NotFoundError),
        (405, BadInputError), (409, BadInputError), (413, TooLargeError), (415, BadInputError), (422, BadInputError),
        (429, BusyError), (500, ServerError), (501, ServerError), (502, ServerError), (503, BusyError),
        (507, ServerError),
    ],
)  # fmt: skip
def test_families(status, family):
    error = problem_error(problem_of(status))
    assert type(error) is family
    assert (error.status, error.type, error.title, error.request_id) == (status, "slug", "A title", "id7")
    text = str(error)
    assert text.startswith("what went wrong; line 2: 'x'; line 3: 'y'. ")
    assert text.endswith(f". ({status} slug, request_id id7)")


def test_the_tree_is_the_one_in_the_docstring():
    named = {thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, ClientError)}
    assert all(kind.__name__ in errors.__doc__ for kind in named)
    assert all(getattr(package, kind.__name__) is kind for kind in named)
    assert {kind.__mro__[1] for kind in named if kind.__name__ in {"BusyError", "NotFoundError"}} == {ProblemError}


@pytest.mark.parametrize(
    "error",
    [InputError("a", ["b"]), ConnectionFailedError("a", "job"), AnswerError("a"), BusyError(problem_of(503))],
)
def test_errors_travel_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_long_lists_are_cut_in_the_message_alone():
    error = InputError("bad names", [f"name {number}" for number in range(25)])
    assert len(error.problems) == 25
    assert str(error).endswith("; name 19; and 5 more")


@FACES
def test_problems_of_the_real_service(tiny_bundle, tmp_path, photo, face):
    with serving(tiny_bundle, tmp_path, api_keys="key", max_images_body_bytes=100_000) as service:

        def caught(kind, call, key="key"):
            with pytest.raises(kind) as found:
                ask(face, service.url, call, api_key=key, retries=QUICK)
            assert found.value.request_id
            return found.value

        for key in ("wrong", None):
            error = caught(UnauthorizedError, lambda client: client.similarity(photo(1), photo(2)), key)
            assert (error.status, error.type) == (401, "unauthorized")
        error = caught(TooLargeError, lambda client: client.embed([bytes(3_000_000)]))
        assert error.type == "body-too-large"
        assert "100000 bytes" in str(error)
        error = caught(BadInputError, lambda client: client.batch(b"query_image\na\n", {"a": b"x"}))
        assert error.type == "invalid-table"
        assert error.problems == ("line 1: the column gallery_image is missing",)
        assert "Correct what was sent" in str(error)
        error = caught(BadInputError, lambda client: client.batch(PAIRS, {"a.png": photo(1)}))
        assert (error.type, error.problems) == ("unknown-image", ("line 2: 'b.png'",))
        assert caught(BadInputError, lambda client: client.similarity(b"GIF89a", photo(1))).status == 415
        assert caught(NotFoundError, lambda client: client.job("A" * 22)).type == "unknown-job"
        assert caught(NotFoundError, lambda client: client.job("../model")).type == "not-found"


@FACES
def test_a_large_upload_that_is_refused_at_its_head(tiny_bundle, tmp_path, face):
    """The answer is there long before the body is; it is read, and the body's file is closed."""
    with (tmp_path / "large.zip").open("wb") as file:
        file.truncate(64 * 2**20)
    service = serving(tiny_bundle, tmp_path / "state", max_body_bytes=10**6)
    with service as live, pytest.raises(TooLargeError, match="more than 1000000 bytes"):
        ask(face, live.url, lambda client: client.batch(PAIRS, tmp_path / "large.zip"))


@FACES
def test_somebody_else_at_the_address(photo, face):
    def call(client):
        return client.model()

    html = b"Content-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>"
    cases = [
        (b"HTTP/1.1 200 OK\r\n" + html, AnswerError, r"GET /model was answered with 200 and text/html.* its address\?"),
        (b"HTTP/1.1 308 X\r\nLocation: https://b/\r\n" + html, AnswerError, "sends whoever asks on to https://b/;"),
        (b"HTTP/1.1 404 X\r\n" + html, NotFoundError, r"not the service, answered 404 \(Not Found\)"),
        (b"HTTP/1.1 599 X\r\n" + html, ServerError, r"599 \(an unknown status\)"),
        (b"HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n[]", NotFoundError, "not the service"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", AnswerError,
         "model_version is not what a Model of this service has"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{", AnswerError,
         "the JSON is not what"),
    ]  # fmt: skip
    for answer, kind, words in cases:
        with raw(answer) as url, pytest.raises(kind, match=words):
            ask(face, url, call)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"nonsense", "no NumPy file"),
        (b"", "no NumPy file"),
        (np.zeros((2, 3), np.float64), "no float32 array of 2 rows"),
        (np.zeros((3, 3), np.float32), "no float32 array of 2 rows"),
        (np.zeros(2, np.float32), "no float32 array of 2 rows"),
    ],
)
def test_embeddings_that_are_none(body, words):
    if isinstance(body, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, body)
        body = buffer.getvalue()
    with pytest.raises(AnswerError, match=words):
        read_npy(body, 2)


def test_an_answer_that_does_not_say_which_model_made_it(tmp_path):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 1\r\n\r\nx"
    with raw(head) as url, Client(url) as client, pytest.raises(AnswerError, match="a proxy must let that through"):
        client.batch(PAIRS, out=tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_explanations_that_are_none():
    for body, words in ((b"{", "no JSON$"), (b"[]", "no JSON object")):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        with raw(head + body) as url, Client(url) as client, pytest.raises(AnswerError, match=words):
            client.explain(b"a", b"b")


# The network


@FACES
def test_nobody_at_the_address(photo, face):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConnectionFailedError, match=rf"{url} cannot be reached \(.*\); does the service run") as caught:
        ask(face, url, lambda client: client.similarity(photo(1), photo(2)), retries=Retries(attempts=2))
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    assert caught.value.job_id is None
    assert ask(face, url, lambda client: client.ready()) is False


@FACES
def test_a_service_that_goes_down_is_not_ready(scripted, face):
    service = scripted((503, {}), (500, {}))
    assert ask(face, service.url, lambda client: client.ready()) is False
    with pytest.raises(ServerError):
        ask(face, service.url, lambda client: client.ready())
    assert len(service.seen) == 2


HALVES = {
    "shorter than announced": SCORED + b"Content-Length: 1000\r\n\r\nrow_id,similarity\n0,0.5",
    "chunks without an end": SCORED + b"Transfer-Encoding: chunked\r\n\r\n12\r\nrow_id,similarity\n\r\n",
    "nothing at all": b"",
    "half a head": SCORED,
}


@FACES
@pytest.mark.parametrize("half", HALVES)
def test_half_an_answer_leaves_nothing(tmp_path, face, half):
    (tmp_path / "out.csv").write_text("the one before")
    with raw(HALVES[half], HALVES[half]) as url:
        with pytest.raises(ConnectionFailedError, match="broke before the answer was whole .*; ask again"):
            ask(face, url, lambda client: client.batch(PAIRS, out=tmp_path / "out.csv"))
        with pytest.raises(ConnectionFailedError):
            ask(face, url, lambda client: client.batch(PAIRS), retries=ONCE)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "the one before"


@FACES
def test_half_an_answer_to_a_question_without_a_body_is_asked_for_again(face):
    model = {
        "model_version": "v", "name": "n", "created": "c", "backbone": "b", "embedding_dim": 512, "pooling": "avg",
        "preprocess": {}, "metrics": {}, "calibrated": False, "runtime": "onnx", "precision": "float32", "more": [1],
    }  # fmt: skip
    body = json.dumps(model).encode()
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with raw(whole[:-9], b"", whole) as url:
        assert ask(face, url, lambda client: client.model(), retries=QUICK).name == "n"


def silent(release):
    """An application that reads a request and says nothing."""

    async def app(scope, receive, send) -> None:
        while scope["type"] == "http" and (await receive())["type"] != "http.disconnect":
            release()

    return app


@FACES
def test_a_service_that_does_not_answer(photo, face):
    service = Live(silent(lambda: None))
    try:
        for call, words in (
            (lambda client: client.similarity(photo(1), photo(2)), "did not answer within 0.05 s; hand a table in"),
            (lambda client: client.batch(PAIRS, {"a.png": photo(1)}), "did not answer within 0.06 s"),
        ):
            with pytest.raises(ConnectionFailedError, match=words):
                ask(face, service.url, call, timeouts=Timeouts(answer_s=0.05, table_s=0.06))
        assert len(service.seen) == 2
    finally:
        service.stop()


def test_a_service_that_takes_no_more_of_a_body():
    request = calls.Request("POST", "/x", Timeouts(send_s=7).until(1))
    error = httpx2.WriteTimeout("")
    words = str(package.exchange.connection_failed("http://x", request, error))
    assert words == "http://x took no more of what was sent for 7 s; try again later"


def test_what_is_cancelled_leaves_nothing(photo, tmp_path):
    async def main(url, asked):
        async with AsyncClient(url) as client:
            photos = {"a.png": photo(1)}
            work = asyncio.create_task(client.batch(PAIRS, photos, out=tmp_path / "out.csv"))
            await asyncio.to_thread(asked.wait, 30)
            assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            many = asyncio.create_task(
                client.embed([photo(seed) for seed in range(4)], split=package.Split(max_photos=1))
            )
            await asyncio.sleep(0.05)
            many.cancel()
            with pytest.raises(asyncio.CancelledError):
                await many

    asked = threading.Event()
    service = Live(silent(asked.set))
    try:
        asyncio.run(main(service.url, asked))
    finally:
        service.stop()
    assert list(tmp_path.iterdir()) == []


@FACES
def test_a_disk_without_room(tmp_path, face):
    """As a limit on the size of files: the system refuses in the middle of the answer."""
    answer = SCORED + b"Content-Length: 3000000\r\n\r\n" + bytes(3_000_000)
    words = "out.csv' cannot be written: file too large; name another file"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with raw(answer) as url, pytest.raises(InputError, match=words):
            ask(face, url, lambda client: client.batch(PAIRS, out=tmp_path / "out.csv"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_the_forms_length_is_that_of_its_bytes():
    names = ["a.png", 'b"\\\r\n.png', "é\udc80.png"]
    parts = tuple(("images", bytes_source(name.encode("utf-8", "replace"), name)) for name in names)
    form = Form(parts)
    body = b"".join(form.pieces())
    assert form.length == len(body) == int(form.headers["Content-Length"])
    assert b'filename="b%22%5C%0D%0A.png"' in body
    assert 'filename="é?.png"'.encode() in body
    stream = Form((*parts, ("images", Source("s", None, lambda: iter([b"x"]), is_repeatable=False))))
    assert stream.length is None
    assert not stream.is_repeatable
    assert "Content-Length" not in stream.headers


@pytest.mark.parametrize("through", ["itself", "a link"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, through):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    named = {"itself": pipe, "a link": link}[through]
    with pytest.raises(InputError, match="is a device or a pipe"), saved(named):
        raise AssertionError("a place was given")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link"}
    with pytest.raises(InputError, match="is a device or a pipe"), saved(os.devnull):
        raise AssertionError("a place was given")


def test_ctrl_c_while_something_is_waited_for_leaves_nothing(tmp_path):
    def program():
        with saved(tmp_path / "out.csv"):
            assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
            yield from do(Local(lambda: signal.raise_signal(signal.SIGINT)))

    with httpx2.Client() as http, pytest.raises(KeyboardInterrupt):
        run(program(), http)
    assert list(tmp_path.iterdir()) == []
