"""Long work with the Python client: handed in, followed, fetched; whatever becomes of the service meanwhile."""

import threading
from itertools import pairwise, permutations

import pytest

from app.client import (
    BadInputError,
    Client,
    ConnectionFailedError,
    InputError,
    NotFoundError,
    Retries,
    ServerError,
    tables,
)
from app.client.answers import Job
from app.jobs import runner
from app.reid.embedder import load_model
from tests.service.live import Relay, ask, raw, serving, start

FACES = pytest.mark.parametrize("face", ["sync", "async"])
JOB = '{"id":"x","kind":"batch","state":"%s","done":1,"total":2,"created":"2026-11-24T10:00:00Z","started":null,'
JOB += '"finished":null,"model_version":null,"problem":%s,"result":null}'


class Gated:
    """The tiny bundle's runtime, which lets through as many pictures as `let` says."""

    def __init__(self, bundle):
        self.runtime = load_model(bundle).embedder.runtime
        self.runs, self._open, self._permits = 0, threading.Event(), threading.Semaphore(0)

    def let(self, pictures):
        self._permits.release(pictures)

    def open(self):
        """Lets everything through."""
        self._open.set()
        self._permits.release(1_000)

    def run(self, images):
        if not self._open.is_set():
            assert self._permits.acquire(timeout=60)
        self.runs += 1
        return self.runtime.run(images)


@pytest.fixture
def gated(tiny_bundle):
    runtime = Gated(tiny_bundle)
    yield runtime
    runtime.open()


@pytest.fixture(scope="module")
def plain(tiny_bundle, tmp_path_factory):
    """The address of a service with default settings."""
    with serving(tiny_bundle, tmp_path_factory.mktemp("state")) as service:
        yield service.url


@pytest.fixture(scope="module")
def album(photo):
    """`album(n)` -> the rows of a submission over all ordered pairs of n photos, and the photos by name."""

    def made(number):
        photos = {f"{seed}.png": photo(seed) for seed in range(number)}
        return [(row, a, b) for row, (a, b) in enumerate(permutations(photos, 2))], photos

    return made


def answered(status, body, *headers):
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


@FACES
def test_a_job_gives_what_the_call_gives(plain, album, tmp_path, face):
    test, photos = album(6)
    told = []
    expected = ask(face, plain, lambda client: client.submission(test, photos))
    scores = ask(
        face,
        plain,
        lambda client: client.submission(
            test, photos, out=tmp_path / "s.csv", as_job=True, progress=lambda *now: told.append(now)
        ),
    )
    assert (tmp_path / "s.csv").read_bytes() == scores.read() == expected.content
    assert (scores.path, scores.model_version) == (tmp_path / "s.csv", expected.model_version)
    sent = [done for done, _, state in told if state == "sending"]
    assert sent[-1] == told[0][1] > sum(map(len, photos.values()))
    states = [state for _, _, state in told]
    order = ["sending", "queued", "running", "done"]
    assert states == sorted(states, key=order.index)
    assert told[-1] == (6, 6, "done")
    assert all(before != after for before, after in pairwise(told))


@FACES
def test_a_job_is_kept_or_deleted_afterwards(plain, album, face):
    test, photos = album(3)
    job = ask(face, plain, lambda client: client.start_submission(test, photos))
    assert (job.kind, job.total, job.problem) == ("submission", 3, None)
    first = ask(face, plain, lambda client: client.wait(job.id))
    found = ask(face, plain, lambda client: client.job(job.id))
    assert (found.state, found.done, found.is_finished) == ("done", 3, True)
    assert found.created <= found.started <= found.finished
    assert ask(face, plain, lambda client: client.wait(job.id, delete_after=True)).content == first.content
    for call in (
        lambda client: client.job(job.id),
        lambda client: client.wait(job.id),
        lambda client: client.delete_job(job.id),
    ):
        with pytest.raises(NotFoundError, match="a job may have been deleted") as caught:
            ask(face, plain, call)
        assert caught.value.type == "unknown-job"


@FACES
def test_a_batch_as_a_job_from_a_folder(plain, photo, tmp_path, face):
    (tmp_path / "test").mkdir()
    for seed, name in enumerate(("a.png", "test/b.png")):
        (tmp_path / name).write_bytes(photo(seed))
    table = b"query_image,gallery_image,site\na.png,b.png,river\n"
    scores = ask(face, plain, lambda client: client.batch(table, tmp_path, as_job=True, delete_after=True))
    assert scores.content == ask(face, plain, lambda client: client.batch(table, tmp_path)).content
    job = ask(face, plain, lambda client: client.start_batch(table, tmp_path))
    assert ask(face, plain, lambda client: client.wait(job.id)).content == scores.content


@FACES
def test_a_job_that_fails_raises_what_the_call_would_have(plain, photo, tmp_path, face):
    images = {"a.png": photo(1), "b.png": photo(2)[:-100]}
    errors = []
    for as_job in (False, True):
        with pytest.raises(BadInputError) as caught:
            ask(
                face,
                plain,
                lambda client, as_job=as_job: client.batch(
                    [("a.png", "b.png")], images, out=tmp_path / "o.csv", as_job=as_job
                ),
            )
        errors.append(caught.value)
    assert errors[0].type == "unreadable-image"
    assert [(error.status, error.type, error.detail) for error in errors] == [
        (422, errors[0].type, errors[0].detail)
    ] * 2
    assert errors[1].request_id
    assert list(tmp_path.iterdir()) == []


def test_delete_after_without_a_job(plain):
    with Client(plain) as client, pytest.raises(InputError, match="delete_after=True goes with as_job=True"):
        client.batch([("a", "b")], delete_after=True)


@FACES
def test_a_job_that_is_cancelled_while_it_is_waited_for(tiny_bundle, tmp_path, album, gated, face):
    test, photos = album(3)
    with serving(tiny_bundle, tmp_path, runtime=gated, cache="off") as service, Client(service.url) as other:
        job = other.start_submission(test, photos)

        def cancel(*now):
            gated.open()
            other.delete_job(job.id)

        with pytest.raises(NotFoundError):
            ask(face, service.url, lambda client: client.wait(job.id, progress=cancel))


@pytest.mark.parametrize(
    ("state", "problem", "kind", "words"),
    [
        ("cancelled", "null", NotFoundError, "the job x was cancelled"),
        ("failed", '{"type":"urn:a:internal-error","status":500,"detail":"d"}', ServerError, "500 internal-error"),
        ("failed", "null", Exception, "the job x failed and does not say why"),
        ("failed", '{"status":500}', Exception, "the job x failed and does not say why"),
    ],
)
def test_states_that_end_without_an_answer(state, problem, kind, words):
    with raw(answered(200, JOB % (state, problem))) as url, Client(url) as client, pytest.raises(kind, match=words):
        client.wait("x")


def test_what_is_no_jobs_name_is_asked_for_as_it_is(plain):
    with Client(plain) as client:
        for name in ("../model", "a b", "%2e", "é", "x?y#z"):
            with pytest.raises(NotFoundError):
                client.job(name)


# A service that goes away


@FACES
def test_a_service_that_goes_down_in_the_middle_and_comes_back(tiny_bundle, tmp_path, album, gated, face):
    """What was embedded before is not embedded again; the answer is the one of an unbroken run."""
    test, photos = album(runner.CHUNK + 8)
    values = {"state": tmp_path / "state", "cache": "off"}
    services = [start(tiny_bundle, runtime=gated, **values)]
    fresh, told = Gated(tiny_bundle), []
    fresh.open()
    gated.let(runner.CHUNK)

    def follow(done, total, state):
        """Stops the service after the first rows are safe, and starts another one as soon as it was missed."""
        told.append((done, total, state))
        if (done, state) == (runner.CHUNK, "running") and len(services) == 1:
            stopping = threading.Thread(target=services[0].stop)
            stopping.start()
            gated.let(4)
            stopping.join()
        elif state == "away" and len(services) == 1:
            services.append(start(tiny_bundle, port=services[0].port, runtime=fresh, **values))

    try:
        scores = ask(
            face,
            services[0].url,
            lambda client: client.submission(test, photos, out=tmp_path / "s.csv", as_job=True, progress=follow),
        )
        expected = ask(face, services[1].url, lambda client: client.submission(test, photos))
    finally:
        gated.open()
        for service in services[1:]:
            service.stop()
    assert scores.read() == expected.content
    assert (runner.CHUNK, runner.CHUNK + 8, "away") in told
    assert told[-1] == (runner.CHUNK + 8, runner.CHUNK + 8, "done")
    assert fresh.runs == 8 + runner.CHUNK + 8  # the rest of the job, and all for the call to compare with
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.csv", "state"]


@FACES
def test_a_service_that_stays_away_is_not_waited_for_without_end(tiny_bundle, tmp_path, album, gated, face):
    test, photos = album(3)
    service = start(tiny_bundle, tmp_path / "state", runtime=gated, cache="off")
    with Client(service.url) as client:
        job = client.start_submission(test, photos)

    def end(*now):
        if now[2] != "away":
            stopping = threading.Thread(target=service.stop)
            stopping.start()
            gated.open()
            stopping.join()

    with pytest.raises(ConnectionFailedError, match=rf"client.wait\('{job.id}'\) fetches it") as caught:
        ask(
            face,
            service.url,
            lambda client: client.wait(job.id, out=tmp_path / "s.csv", progress=end),
            retries=Retries(away_s=0.5),
        )
    assert caught.value.job_id == job.id
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with serving(tiny_bundle, tmp_path / "state") as again:
        scores = ask(face, again.url, lambda client: client.wait(job.id))
        assert scores.content == ask(face, again.url, lambda client: client.submission(test, photos)).content


@FACES
def test_a_connection_that_is_cut_again_and_again(plain, album, face):
    test, photos = album(5)
    with Client(plain) as client:
        expected = client.submission(test, photos)
    relay = Relay(int(plain.rpartition(":")[2]))

    def cut(done, total, state):
        if state != "sending":
            relay.cut()

    try:
        scores = ask(face, relay.url, lambda client: client.submission(test, photos, as_job=True, progress=cut))
    finally:
        relay.close()
    assert scores.content == expected.content


def broken_results(halves, status):
    """The real application, whose first results break in the middle, and whose jobs' states are hidden by a proxy."""
    left = {"result": halves, "state": 3}

    def around(app):
        async def broken(scope, receive, send) -> None:
            path = scope.get("path", "")
            kind = "result" if path.endswith("/result") else "state" if path.startswith("/jobs/") else ""
            if not left.get(kind):
                await app(scope, receive, send)
                return
            left[kind] -= 1
            if kind == "state":
                await send({"type": "http.response.start", "status": status, "headers": [(b"retry-after", b"0")]})
                await send({"type": "http.response.body", "body": b"<html>"})
                return

            async def half(message) -> None:
                if message["type"] == "http.response.body":
                    message = {**message, "body": message["body"][:20], "more_body": True}
                await send(message)
                if message["type"] == "http.response.body":
                    raise ConnectionAbortedError

            await app(scope, receive, half)

        return broken

    return around


@FACES
@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_download_that_breaks_is_begun_again(tiny_bundle, tmp_path, album, face, status):
    test, photos = album(4)
    place = tmp_path / "answers"
    place.mkdir()
    with serving(tiny_bundle, tmp_path / "state", around=broken_results(2, status)) as service:
        scores = ask(
            face, service.url, lambda client: client.submission(test, photos, out=place / "s.csv", as_job=True)
        )
        assert scores.read() == ask(face, service.url, lambda client: client.submission(test, photos)).content
        assert [path.rpartition("/")[2] for path in service.paths()].count("result") == 3
    assert [path.name for path in place.iterdir()] == ["s.csv"]


@FACES
def test_a_download_that_never_comes_whole(tiny_bundle, tmp_path, album, face):
    test, photos = album(3)
    place = tmp_path / "answers"
    place.mkdir()
    with serving(tiny_bundle, tmp_path / "state", around=broken_results(9, 502)) as service:
        with pytest.raises(ConnectionFailedError, match="the job goes on without you") as caught:
            ask(
                face,
                service.url,
                lambda client: client.submission(test, photos, out=place / "s.csv", as_job=True),
                retries=Retries(attempts=2),
            )
        assert list(place.iterdir()) == []
        assert ask(face, service.url, lambda client: client.job(caught.value.job_id)).state == "done"


def test_an_error_while_waiting_that_no_patience_helps(plain):
    head = answered(500, "{}")
    with raw(head) as url, Client(url) as client, pytest.raises(ServerError):
        client.wait("x")


def test_a_service_that_counts_requests(tiny_bundle, tmp_path, album):
    """More looks than it allows: it says when to come again, and is obeyed."""
    test, photos = album(20)
    with serving(tiny_bundle, tmp_path, rate_limit="3/second") as service, Client(service.url) as client:
        assert client.submission(test, photos, as_job=True).content.count(b"\n") == 381


def test_a_job_that_was_deleted_by_somebody_else_in_the_end():
    done = answered(200, JOB % ("done", "null"))
    scored = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nX-Model-Version: v\r\nContent-Length: 2\r\n\r\nx\n"
    gone = answered(404, '{"type":"urn:x:unknown-job","detail":"no"}')
    answers = [answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) for answer in (done, scored, gone)]
    with raw(*answers) as url, Client(url) as client:
        assert client.wait("x", delete_after=True).content == b"x\n"


def test_progress_is_told_of_changes_alone():
    told = []
    changes = tables._Changes(lambda *now: told.append(now))
    job = Job("x", "batch", "running", 1, 2, None, None, None, None, None)
    for _ in range(3):
        changes.of(job)
    changes.away()
    changes.away()
    changes.of(job)
    assert told == [(1, 2, "running"), (1, 2, "away"), (1, 2, "running")]
