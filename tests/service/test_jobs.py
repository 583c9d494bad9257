"""Long work over HTTP: taken, watched, fetched, cancelled, gone on with; the answer is the synchronous one."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import pytest

from app.jobs import runner
from app.reid.embedder import load_model

PAIRS = b"query_image,gallery_image,site\na.png,b.png,river\n"
ASYNC = {"Prefer": "respond-async"}
FIELDS = {
    "id", "kind", "state", "done", "total", "created", "started", "finished", "model_version", "postprocess", "problem",
    "result",
}  # fmt: skip
UNKNOWN = "A" * 22


class Gated:
    """The tiny bundle's runtime, which lets through as many pictures as `let` says, and counts who came."""

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
            assert self._permits.acquire(timeout=30)
        self.runs += 1
        return self.runtime.run(images)


@pytest.fixture
def gated(tiny_bundle):
    runtime = Gated(tiny_bundle)
    yield runtime
    runtime.open()


@pytest.fixture
def folder(tmp_path):
    """Where the jobs of `start` lie."""
    return tmp_path / "state" / "jobs"


@pytest.fixture
def start(service, tmp_path):
    """`start(**settings)` -> a client of a service over the same folder each time, without a cache."""
    return lambda **values: service(**{"state": tmp_path / "state", "cache": "off", **values})


@pytest.fixture
def album(photo):
    """`album(n)` -> the parts of a submission over all ordered pairs of n photos."""

    def parts(number):
        names = [f"{index}.png" for index in range(number)]
        lines = [f"{row},{a},{b}" for row, (a, b) in enumerate(permutations(names, 2))]
        table = "\n".join(["row_id,query_image,gallery_image", *lines]).encode()
        images = [("images", (name, photo(seed))) for seed, name in enumerate(names)]
        return [("test_csv", ("test.csv", table)), *images]

    return parts


@pytest.fixture
def pair(photo):
    """The parts of a batch over one pair."""
    return [("pairs", ("pairs.csv", PAIRS)), ("images", ("a.png", photo(1))), ("images", ("b.png", photo(2)))]


def post(client, path, files, **headers):
    return client.post(path, files=files, headers={**ASYNC, **headers})


def taken(response):
    """The job's address, of a 202."""
    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["location"] == f"/jobs/{response.json()['id']}"
    assert set(response.json()) == FIELDS
    return response.headers["location"]


def wait(client, url, *states):
    """The job's JSON as soon as it is in one of these states; done by default."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        body = client.get(url).json()
        if body["state"] in (states or ("done",)):
            return body
        time.sleep(0.01)
    raise AssertionError(body)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def events_of(text):
    """The data of all `state` events."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block]
    assert all(block[0] == "event: state" for block in blocks)
    return [json.loads(block[1].removeprefix("data: ")) for block in blocks]


def kept(folder: Path):
    """Names of everything that jobs left, the list and the locks apart."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.parent != folder or path.is_dir())


# The same answer


@pytest.mark.parametrize("way", ["parts", "zip", "image root"])
def test_a_submission_is_byte_for_byte_the_synchronous_one(start, album, zipped, embedded, folder, tmp_path, way):
    files, settings = album(70), {}
    photos = {name: data for _, (name, data) in files[1:]}
    if way == "zip":
        files = [files[0], ("images", ("photos.zip", zipped(photos)))]
    elif way == "image root":
        (tmp_path / "root").mkdir()
        for name, data in photos.items():
            (tmp_path / "root" / name).write_bytes(data)
        files, settings = files[:1], {"image_root": tmp_path / "root"}
    client = start(**settings)
    expected = client.post("/submission", files=files)
    url = taken(post(client, "/submission", files))
    job = wait(client, url)
    answer = client.get(f"{url}/result")
    assert answer.content == expected.content
    for name in ("content-type", "content-disposition", "x-model-version"):
        assert answer.headers[name] == expected.headers[name]
    assert answer.headers["content-length"] == str(len(expected.content))
    assert (job["kind"], job["done"], job["total"]) == ("submission", 70, 70)
    assert job["result"] == f"{url}/result"
    assert job["model_version"] == expected.headers["x-model-version"]
    assert job["problem"] is None
    assert job["created"] <= job["started"] <= job["finished"]
    assert job["created"].endswith("Z")
    assert embedded(client) == 140
    wait_for(lambda: kept(folder) == [job["id"], f"{job['id']}/result.csv"])
    assert client.get(f"{url}/result").content == expected.content


def test_a_batch_keeps_its_columns(start, pair):
    client = start()
    url = taken(post(client, "/similarity/batch", pair))
    assert wait(client, url)["kind"] == "batch"
    answer = client.get(f"{url}/result")
    assert answer.content == client.post("/similarity/batch", files=pair).content
    assert answer.text.startswith(
        "query_image,gallery_image,site,cosine,similarity,probability,verdict\na.png,b.png,river,"
    )
    assert answer.headers["content-disposition"] == 'attachment; filename="pairs.csv"'


@pytest.mark.parametrize(
    ("prefer", "job"),
    [
        (["respond-async"], True),
        (["Respond-Async; foo=1"], True),
        (["return=minimal, respond-async, wait=10"], True),
        (["wait=10", "handling=lenient,respond-async"], True),
        (["wait=10"], False),
        (["respond-asynchronously"], False),
        (['foo="a, respond-async"'], False),
        ([""], False),
    ],
)
def test_prefer(start, pair, prefer, job):
    client = start()
    headers = [("Prefer", value) for value in prefer]
    response = client.post("/similarity/batch", files=pair, headers=headers)
    assert response.status_code == (202 if job else 200)
    assert ("preference-applied" in response.headers) == job


# What is refused, and what fails


def test_what_is_wrong_with_a_table_is_found_before_the_202(start, photo, folder):
    client = start()
    images = [("images", ("a.png", photo(1)))]
    bad = [
        ("/similarity/batch", [("pairs", ("p.csv", b"query_image\na.png\n")), *images]),
        ("/similarity/batch", [("pairs", ("p.csv", PAIRS)), *images]),
        ("/similarity/batch", [("pairs", ("p.csv", PAIRS))]),
        ("/similarity/batch", [("pairs", ("p.csv", PAIRS)), *images, *images]),
        ("/similarity/batch", [("pairs", ("p.csv", PAIRS)), ("images", ("a.zip", b"PK\x03\x04nonsense"))]),
        ("/submission", [("test_csv", ("t.csv", b"row_id,query_image,gallery_image\n")), *images]),
        ("/submission", [("test_csv", ("t.csv", b"row_id,query_image,gallery_image\n0,../a,a.png\n")), *images]),
    ]
    for path, files in bad:
        expected, answer = client.post(path, files=files), post(client, path, files)
        assert answer.status_code == expected.status_code == 422
        assert answer.json() == {**expected.json(), "request_id": answer.json()["request_id"]}
    assert kept(folder) == []


def test_an_unreadable_photo_fails_the_job_with_its_problem(start, photo, pair, folder, assert_problem):
    client = start()
    files = [*pair[:2], ("images", ("b.png", photo(2)[:-200]))]
    expected = client.post("/similarity/batch", files=files).json()
    response = post(client, "/similarity/batch", files, **{"X-Request-ID": "5f9b1d9e8c5d4c0e8f0d2d9a7a3b1c22"})
    url = taken(response)
    job = wait(client, url, "failed")
    assert job["problem"] == {**expected, "request_id": response.headers["x-request-id"]}
    assert expected["type"].endswith("unreadable-image")
    assert job["result"] is None
    assert job["finished"] is not None
    words = assert_problem(client.get(f"{url}/result"), 409, "no-result")["detail"]
    assert words == f"the job failed: {expected['detail']}"
    wait_for(lambda: kept(folder) == [])
    good = taken(post(client, "/similarity/batch", pair))
    wait(client, good)


def test_an_error_of_the_services_own_is_not_told(start, pair, photo, caplog, tiny_bundle):
    class Broken:
        def __init__(self):
            self.runtime, self.broken = load_model(tiny_bundle).embedder.runtime, True

        def run(self, images):
            if self.broken:
                raise RuntimeError("secret")
            return self.runtime.run(images)

    runtime = Broken()
    client = start(runtime=runtime)
    response = post(client, "/similarity/batch", pair)
    job = wait(client, taken(response), "failed")
    assert job["problem"]["type"].endswith("internal-error")
    assert job["problem"]["status"] == 500
    assert "secret" not in json.dumps(job)
    assert job["problem"]["request_id"] == response.headers["x-request-id"]
    assert any(record.exc_info and "secret" in str(record.exc_info[1]) for record in caplog.records)
    runtime.broken = False
    wait(client, taken(post(client, "/similarity/batch", pair)))


@pytest.mark.parametrize("name", [UNKNOWN, "x", "A" * 23, "%2e%2e%2fjobs.sqlite", "jobs.sqlite", "A" * 21 + "é"])
@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", "")])
def test_unknown_jobs(start, assert_problem, name, method, tail):
    response = start().request(method, f"/jobs/{name}{tail}")
    slug = "unknown-job" if "/" not in name and ".." not in name and "%2f" not in name else "not-found"
    assert response.status_code == 404
    assert_problem(response, 404, slug)


def test_a_result_that_is_not_there_yet(start, pair, gated, assert_problem):
    client = start(runtime=gated)
    url = taken(post(client, "/similarity/batch", pair))
    wait(client, url, "running")
    words = assert_problem(client.get(f"{url}/result"), 409, "no-result")["detail"]
    assert words == "the job is running: 0 of 2 photos are embedded; look again later"
    gated.open()
    wait(client, url)


def test_so_many_jobs_and_no_more(start, pair, gated, assert_problem):
    client = start(runtime=gated, max_jobs=2)
    urls = [taken(post(client, "/similarity/batch", pair)) for _ in range(2)]
    response = post(client, "/similarity/batch", pair)
    assert_problem(response, 503, "busy")
    assert int(response.headers["retry-after"]) >= 1
    gated.open()
    for url in urls:
        wait(client, url)
    wait(client, taken(post(client, "/similarity/batch", pair)))


# One after the other, cancelled, watched


def test_jobs_come_in_turn_and_a_deleted_one_goes_at_once(start, album, pair, gated, folder, assert_problem):
    client = start(runtime=gated)
    first, second, third = (taken(post(client, "/submission", album(n))) for n in (40, 3, 3))
    gated.let(runner.CHUNK)
    wait_for(lambda: client.get(first).json()["done"] == runner.CHUNK)
    assert [client.get(url).json()["state"] for url in (first, second, third)] == ["running", "queued", "queued"]
    for url in (first, second):
        assert client.delete(url).status_code == 204
        assert_problem(client.delete(url), 404, "unknown-job")
        assert_problem(client.get(url), 404, "unknown-job")
        assert not (folder / url.removeprefix("/jobs/")).exists()
    gated.open()
    job = wait(client, third)
    assert gated.runs <= 40 + 3
    assert client.delete(third).status_code == 204
    assert kept(folder) == []
    assert job["total"] == 3


def test_events_tell_every_step(start, album, gated):
    client = start(runtime=gated)
    url = taken(post(client, "/submission", album(40)))
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(client.get, f"{url}/events")
        wait_for(lambda: client.get(url).json()["state"] == "running")
        time.sleep(0.5)
        gated.let(runner.CHUNK)
        wait_for(lambda: client.get(url).json()["done"] == runner.CHUNK)
        time.sleep(0.5)
        gated.open()
        response = stream.result(60)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    states = events_of(response.text)
    assert all(set(state) == FIELDS for state in states)
    assert [state["done"] for state in states] == sorted(state["done"] for state in states)
    assert (states[-1]["state"], states[-1]["done"]) == ("done", 40)
    assert ("running", runner.CHUNK) in [(state["state"], state["done"]) for state in states]
    assert len({json.dumps(state) for state in states}) == len(states)
    assert events_of(client.get(f"{url}/events").text) == [client.get(url).json()]


def test_events_of_a_deleted_job_end_with_cancelled(start, pair, gated):
    client = start(runtime=gated)
    taken(post(client, "/similarity/batch", pair))
    url = taken(post(client, "/similarity/batch", pair))
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(client.get, f"{url}/events")
        time.sleep(0.3)
        client.delete(url)
        states = events_of(stream.result(60).text)
    assert [state["state"] for state in states] == ["queued", "cancelled"]
    assert states[-1]["finished"] is not None


# Room


def test_the_oldest_results_make_room(start, album, folder):
    files = album(30)
    csv = len(files[0][1][1])
    size = sum(len(part[1]) for _, part in files) + 30 * 512 * 4 + 2 * csv + 64 * 30 * 29
    client = start(max_jobs_bytes=size + 40_000)
    urls = []
    for _ in range(4):
        urls.append(taken(post(client, "/submission", files)))
        wait(client, urls[-1])
    alive = [client.get(url).status_code for url in urls]
    assert alive[0] == 404
    assert alive[-1] == 200
    assert alive == sorted(alive, reverse=True)
    assert sum(path.stat().st_size for path in folder.glob("*/*")) <= size + 40_000
    wait_for(lambda: kept(folder) == sorted(
        name for url, code in zip(urls, alive, strict=True) if code == 200
        for name in (url[6:], f"{url[6:]}/result.csv")
    ))  # fmt: skip


def test_a_job_that_never_fits(start, pair, folder, assert_problem):
    client = start(max_jobs_bytes=1000)
    body = assert_problem(post(client, "/similarity/batch", pair), 507, "no-space")
    assert "1000" in body["detail"]
    assert kept(folder) == []
    assert client.post("/similarity/batch", files=pair).status_code == 200


def test_results_grow_old(start, pair, folder):
    client = start(jobs_keep_s=0.2)
    url = taken(post(client, "/similarity/batch", pair))
    wait(client, url)
    time.sleep(0.3)
    second = taken(post(client, "/similarity/batch", pair))
    assert client.get(url).status_code == 404
    assert not (folder / url[6:]).exists()
    wait(client, second, "done")
