"""Long work and what comes between: restarts, kills between two steps, other processes, full disks, stuck networks."""

import asyncio
import io
import json
import resource
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import permutations

import httpx2
import pytest
from starlette.datastructures import UploadFile
from starlette.testclient import TestClient

from app.errors import BusyError, DrainingError, StorageError, UnknownJobError
from app.jobs import Jobs, State, runner
from app.jobs.files import JobFiles
from app.jobs.job import Job, is_id, new_id
from app.jobs.locks import FileLock
from app.jobs.store import JobStore
from app.jobs.watch import Watchers
from app.main import create_app
from app.reid.embedder import load_model
from app.reid.errors import ConfigError
from app.reid.scoring import SUBMISSION
from app.settings import Settings
from app.workers import Workers

PHOTOS = 70
ASYNC = {"Prefer": "respond-async"}


class Counted:
    """A runtime that counts pictures and lets through so many; the next one waits for `gate`."""

    def __init__(self, runtime, limit=None):
        self.runtime, self.limit, self.runs, self.gate = runtime, limit, 0, threading.Event()

    def run(self, images):
        if self.limit is not None and self.runs >= self.limit:
            assert self.gate.wait(30)
        self.runs += 1
        return self.runtime.run(images)


@pytest.fixture
def model(tiny_bundle):
    return load_model(tiny_bundle)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "jobs"


@pytest.fixture
def serve(model, tmp_path):
    """`with serve(runtime, version, **settings) as client`: a service's life over the same folder each time."""

    @contextmanager
    def life(runtime=None, version=None, **values):
        settings = Settings.model_validate({"state": tmp_path / "state", "cache": "off", **values})
        embedder = replace(model.embedder, runtime=runtime or model.embedder.runtime)
        served = replace(model, embedder=embedder, version=version or model.version)
        with TestClient(create_app(settings, served), raise_server_exceptions=False) as client:
            try:
                yield client
            finally:
                if isinstance(runtime, Counted):  # or the thread that waits would outlive the service
                    threading.Timer(0.2, runtime.gate.set).start()

    return life


@pytest.fixture
def files(photo):
    """The parts of a submission of 70 photos."""
    names = [f"{index}.png" for index in range(PHOTOS)]
    lines = [f"{row},{a},{b}" for row, (a, b) in enumerate(permutations(names, 2))]
    table = "\n".join(["row_id,query_image,gallery_image", *lines]).encode()
    return [("test_csv", ("test.csv", table)), *(("images", (name, photo(seed))) for seed, name in enumerate(names))]


def submit(client, files):
    response = client.post("/submission", files=files, headers=ASYNC)
    assert response.status_code == 202, response.text
    return response.headers["location"]


def wait(client, url, **wanted):
    """The job's JSON as soon as it has these values."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        body = client.get(url).json()
        if all(body.get(name) == value for name, value in wanted.items()):
            return body
        time.sleep(0.01)
    raise AssertionError(body)


def rows(folder, statement="SELECT * FROM jobs ORDER BY number", *values):
    """What the list holds, past the service."""
    with closing(sqlite3.connect(folder / "jobs.sqlite", isolation_level=None)) as database:
        return database.execute(statement, values).fetchall()


# Restarts


def test_a_stopped_job_goes_on_where_it_was(serve, files, model, folder):
    first = Counted(model.embedder.runtime, limit=runner.CHUNK + 5)
    with serve(first) as client:
        url = submit(client, files)
        job = wait(client, url, done=runner.CHUNK)
        created, started = job["created"], job["started"]
    name = url.removeprefix("/jobs/")
    assert rows(folder, "SELECT state, done, attempts FROM jobs") == [("queued", runner.CHUNK, 0)]
    embeddings = folder / name / "embeddings.f32"
    assert embeddings.stat().st_size == runner.CHUNK * 512 * 4
    with embeddings.open("ab") as file:  # as a kill in the middle of a row leaves it
        file.write(b"\xff" * 1000)
    second = Counted(model.embedder.runtime)
    with serve(second) as client:
        job = wait(client, url, state="done")
        result = client.get(f"{url}/result").content
        assert second.runs == PHOTOS - runner.CHUNK
        assert result == client.post("/submission", files=files).content
    assert (job["created"], job["started"]) == (created, started)


def test_another_model_starts_over(serve, files, model):
    with serve(Counted(model.embedder.runtime, limit=runner.CHUNK + 5)) as client:
        url = submit(client, files)
        assert wait(client, url, done=runner.CHUNK)["model_version"] == model.version
    other = Counted(model.embedder.runtime)
    with serve(other, version="another version") as client:
        assert wait(client, url, state="done")["model_version"] == "another version"
        assert client.get(f"{url}/result").headers["x-model-version"] == "another version"
    assert other.runs == PHOTOS


def test_other_photos_start_over(serve, files, model, tmp_path):
    """Two names that were one file when the job began, and are two when it goes on."""
    root = tmp_path / "root"
    root.mkdir()
    for _, (name, data) in files[1:]:
        (root / name).write_bytes(data)
    (root / "0.png").unlink()
    (root / "0.png").symlink_to(root / "1.png")
    runtime = Counted(model.embedder.runtime, limit=runner.CHUNK + 5)
    with serve(runtime, image_root=root) as client:
        url = submit(client, files[:1])
        assert wait(client, url, done=runner.CHUNK)["total"] == PHOTOS - 1
    (root / "0.png").unlink()
    (root / "0.png").write_bytes(files[1][1][1])
    second = Counted(model.embedder.runtime)
    with serve(second, image_root=root) as client:
        assert wait(client, url, state="done")["total"] == PHOTOS
        assert second.runs == PHOTOS
        assert client.get(f"{url}/result").content == client.post("/submission", files=files).content


def test_photos_that_are_gone_fail_the_job(serve, files, model, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for _, (name, data) in files[1:]:
        (root / name).write_bytes(data)
    with serve(Counted(model.embedder.runtime, limit=0), image_root=root) as client:
        url = submit(client, files[:1])
    (root / "3.png").unlink()
    with serve(image_root=root) as client:
        problem = wait(client, url, state="failed")["problem"]
        assert problem["type"].endswith("unknown-image")
        assert problem["problems"] == ["line 4: '3.png'"]


@pytest.mark.parametrize("left", ["result.csv.tmp", "result.csv"])
def test_a_kill_while_the_result_is_written_embeds_nothing(serve, files, model, folder, left):
    """All rows are on the disk, the result is half there, or there without the list knowing."""
    embedder = model.embedder
    with serve(Counted(embedder.runtime, limit=0)) as client:
        url = submit(client, files)
        wait(client, url, model_version=model.version)
    # The rows of all photos by another road: the engine, one photo after the other.
    whole = b"".join(embedder.embed(data).astype("<f4").tobytes() for _, (_, data) in files[1:])
    (folder / url[6:] / "embeddings.f32").write_bytes(whole)
    (folder / url[6:] / left).write_bytes(b"row_id,simi")
    runtime = Counted(embedder.runtime)
    with serve(runtime) as client:
        assert wait(client, url, state="done")["done"] == PHOTOS
        assert runtime.runs == 0
        assert client.get(f"{url}/result").content == client.post("/submission", files=files).content


def test_what_kills_left_is_swept(serve, files, folder):
    with serve() as client:
        done = submit(client, files)
        wait(client, done, state="done")
        lost = submit(client, files)
        wait(client, lost, state="done")
    stray, half, empty = new_id(), new_id(), new_id()
    for name in (stray, half):
        (folder / name / "parts").mkdir(parents=True)
        (folder / name / "parts" / "0").write_bytes(b"x")
    (folder / f".trash-{new_id()}" / "parts").mkdir(parents=True)
    (folder / "notes").mkdir()  # somebody's own: left alone
    (folder / done[6:] / "parts").mkdir()
    (folder / done[6:] / "embeddings.f32").write_bytes(b"x")
    (folder / lost[6:] / "result.csv").unlink()
    insert = (
        "INSERT INTO jobs (id, kind, state, total, created, size, done, attempts, request_id)"
        " VALUES (?, 'submission', ?, 1, 0, 1000, 0, 0, '')"
    )
    rows(folder, insert, half, "accepting")
    rows(folder, insert, empty, "queued")
    with serve() as client:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(rows(folder)) > 1:
            time.sleep(0.01)
        wait(client, submit(client, files), state="done")  # the sweep was before
        assert client.get(f"{done}/result").status_code == 200
        assert client.get(lost).status_code == 404
        assert [client.get(f"/jobs/{name}").status_code for name in (stray, half, empty)] == [404] * 3
    assert {row[1] for row in rows(folder)} >= {done[6:]}
    assert len(rows(folder)) == 2
    entries = {str(path.relative_to(folder)) for path in folder.iterdir() if path.is_dir()}
    assert entries == {row[1] for row in rows(folder)} | {"notes"}
    assert [path.name for path in (folder / done[6:]).iterdir()] == ["result.csv"]


# Processes that share a folder


def wait_until_led(folder):
    """Returns as soon as a service has the lock of the one that works."""
    lock, deadline = FileLock(folder / "runner.lock"), time.monotonic() + 30
    while lock.take():
        lock.release()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_of_two_services_one_works(serve, files, model, folder):
    first, second = Counted(model.embedder.runtime, limit=0), Counted(model.embedder.runtime)
    with serve(first) as leader:
        wait_until_led(folder)
        with serve(second) as follower:
            running, waiting = submit(follower, files), submit(follower, files)
            wait(follower, running, state="running")
            assert leader.get(waiting).json() == follower.get(waiting).json()
            assert follower.delete(waiting).status_code == 204
            assert leader.get(waiting).status_code == 404
            first.gate.set()
            wait(follower, running, state="done")
            assert leader.get(f"{running}/result").content == follower.get(f"{running}/result").content
    assert (first.runs, second.runs) == (PHOTOS, 0)


def test_the_next_service_takes_over(serve, files, model):
    first, second = Counted(model.embedder.runtime, limit=runner.CHUNK + 5), Counted(model.embedder.runtime)
    with ExitStack() as leaders:
        leader = leaders.enter_context(serve(first))
        url = submit(leader, files)
        wait(leader, url, done=runner.CHUNK)
        with serve(second) as follower:
            assert follower.get(url).json()["state"] == "running"
            leaders.close()
            wait(follower, url, state="done")
    assert second.runs == PHOTOS - runner.CHUNK


def test_a_job_that_another_process_deletes_is_given_up(serve, files, model, folder):
    runtime = Counted(model.embedder.runtime, limit=5)
    with serve(runtime) as client:
        url = submit(client, files)
        wait(client, url, state="running")
        with closing(JobStore(folder / "jobs.sqlite")) as store:
            assert store.remove(url[6:])
        runtime.gate.set()
        wait(client, submit(client, files), state="done")
        assert not (folder / url[6:]).exists()
    assert runtime.runs <= runner.CHUNK + PHOTOS


def test_locks(tmp_path):
    path = tmp_path / "lock"
    one, two = FileLock(path), FileLock(path)
    assert one.take()
    assert one.take()
    assert not two.take()
    one.release()
    one.release()
    assert two.take()
    two.release()
    with one.shared(), two.shared():
        assert not FileLock(path).take()
    with two.shared():
        one.release()
        assert not one.take()
    assert one.take()
    one.release()


# Trouble


def test_a_network_that_does_not_answer_is_waited_for(serve, files, model, monkeypatch):
    monkeypatch.setattr(runner, "RETRY_S", 0.05)
    runtime = Counted(model.embedder.runtime, limit=runner.CHUNK)
    with serve(runtime, forward_timeout_s=0.3, stuck_exit_s=600) as client:
        url = submit(client, files)
        wait(client, url, state="queued", done=runner.CHUNK)
        assert client.get(url).json()["problem"] is None
        runtime.gate.set()
        wait(client, url, state="done")


def test_a_job_that_ends_the_process_again_and_again_is_given_up(serve, files, model, folder):
    with serve(Counted(model.embedder.runtime, limit=0)) as client:
        url = submit(client, files)
        wait(client, url, state="running")
    assert rows(folder, "SELECT attempts FROM jobs") == [(0,)]
    rows(folder, "UPDATE jobs SET attempts = ?", runner.MAX_ATTEMPTS)
    with serve() as client:
        problem = wait(client, url, state="failed")["problem"]
        assert problem["type"].endswith("internal-error")
        assert "begun 10 times" in problem["detail"]
        wait(client, submit(client, files), state="done")


@pytest.mark.parametrize("full", ["embeddings.f32", "result.csv.tmp"])
def test_a_full_disk_fails_the_job_and_nothing_else(serve, files, model, folder, full):
    with serve(Counted(model.embedder.runtime, limit=0)) as client:
        url = submit(client, files)
        wait(client, url, state="running", total=PHOTOS)
        queued = submit(client, files)
    (folder / url[6:] / full).unlink(missing_ok=True)
    (folder / url[6:] / full).symlink_to("/dev/full")
    with serve() as client:
        problem = wait(client, url, state="failed")["problem"]
        assert (problem["status"], problem["type"]) == (507, "urn:jaguar-reid:problem:no-space")
        assert str(folder) not in json.dumps(problem)
        assert not (folder / url[6:]).exists()
        wait(client, queued, state="done")


def test_parts_that_do_not_fit_on_the_disk_leave_nothing(tmp_path):
    """RLIMIT_FSIZE stands in for a full disk: the same OSError from the same calls."""
    folder = tmp_path / "jobs"
    upload = UploadFile(io.BytesIO(b"x" * 200_000), filename="a.png", size=200_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="full"):
            JobFiles(folder, new_id()).store(b"csv", [upload], lambda: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_list_that_cannot_grow(tmp_path):
    store = JobStore(tmp_path / "jobs.sqlite")
    job = Job(new_id(), "batch", State.ACCEPTING, 1, 0.0, 10, request_id="x" * 200_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError):
            store.reserve(job, 10, 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.every() == []
    store.reserve(job, 10, 10_000)
    assert [job.id for job in store.every()] == [job.id]
    store.close()


def test_a_submission_that_cannot_be_stored_leaves_nothing(serve, files, folder, monkeypatch):
    def full(self, *_):
        (self.folder / "parts").mkdir(parents=True)
        raise StorageError("full")

    with serve() as client:
        with monkeypatch.context() as patch:
            patch.setattr(JobFiles, "store", full)
            response = client.post("/submission", files=files, headers=ASYNC)
            assert (response.status_code, response.json()["type"][-8:]) == (507, "no-space")
        assert rows(folder) == []
        assert [path for path in folder.iterdir() if path.is_dir()] == []
        wait(client, submit(client, files), state="done")


def test_a_damaged_list_stops_jobs_and_nothing_else(serve, files, folder, monkeypatch):
    monkeypatch.setattr(runner, "RETRY_S", 0.05)
    folder.mkdir(parents=True)
    (folder / "jobs.sqlite").write_bytes(b"no database" * 1000)
    with serve() as client:
        assert client.post("/submission", files=files, headers=ASYNC).status_code == 500
        assert client.get(f"/jobs/{new_id()}").json()["type"].endswith("internal-error")
        assert client.post("/submission", files=files).status_code == 200
        assert client.get("/health/ready").status_code == 200
        (folder / "jobs.sqlite").unlink()
        wait(client, submit(client, files), state="done")


def test_a_result_that_somebody_took_away(serve, files, folder):
    with serve() as client:
        url = submit(client, files)
        wait(client, url, state="done")
        (folder / url[6:] / "result.csv").unlink()
        response = client.get(f"{url}/result")
        assert (response.status_code, response.json()["type"][-11:]) == (404, "unknown-job")


def test_a_folder_that_cannot_be_used(model, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="JAGUAR_JOBS"):
        Jobs(Settings(jobs=file / "jobs"), Workers(model))
    assert not file.is_dir()


# Over a real socket


def test_events_come_as_they_happen_and_end_with_the_service(server, files, tmp_path):
    """The job waits for ever, because this test holds the lock of the one that works."""
    folder = tmp_path / "state" / "jobs"
    folder.mkdir(parents=True)
    lock = FileLock(folder / "runner.lock")
    assert lock.take()
    address = server(JAGUAR_STATE=str(tmp_path / "state"))
    with httpx2.Client(base_url=address, trust_env=False, timeout=30) as client:
        url = submit(client, files)
        with client.stream("GET", f"{url}/events") as left:  # somebody who goes away again
            assert next(left.iter_lines()) == "event: state"
        with client.stream("GET", f"{url}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: state"
            assert json.loads(next(lines).removeprefix("data: "))["state"] == "queued"
            server.processes[0].terminate()
            assert list(lines) == [""]
    assert server.processes[0].wait(30) == 0
    assert rows(folder, "SELECT state FROM jobs") == [("queued",)]
    lock.release()


# Without HTTP


def test_stopping_ends_watches_and_copies(model, tmp_path, files):
    async def scenario():
        workers = Workers(model)
        jobs = Jobs(Settings(jobs=tmp_path / "jobs"), workers)  # never started: everything waits
        uploads = [UploadFile(io.BytesIO(data), filename=name, size=len(data)) for _, (name, data) in files]
        job = await jobs.submit(SUBMISSION, uploads[0], uploads[1:])
        assert (job.state, job.total) == (State.QUEUED, PHOTOS)
        states = []

        async def watch():
            states.extend([now.state async for now in jobs.watch(job)])

        watching = [asyncio.create_task(watch()) for _ in range(20)]
        await asyncio.sleep(0.5)
        left = asyncio.create_task(watch())
        await asyncio.sleep(0.1)
        left.cancel()
        await asyncio.wait([left])
        assert jobs._watchers._watched == {job.id: 20}
        await jobs.stop()
        await asyncio.gather(*watching)
        assert states == [State.QUEUED] * 20
        assert not jobs._watchers._watched
        with pytest.raises(DrainingError):
            jobs._shelf.check_open()
        workers.close()

    asyncio.run(scenario())


def test_a_watch_survives_a_look_without_it_and_ends_with_the_disk():
    """A look that somebody else began before does not make a job look deleted."""
    job, looks = Job(new_id(), "batch", State.QUEUED, 1, 0.0, 10), []

    async def look(names):
        looks.append(names)
        if len(looks) == 2:
            raise StorageError("full")
        return {job.id: replace(job, done=1)}

    async def scenario():
        watchers = Watchers(look)
        states = watchers.follow(job)
        assert await anext(states) == job
        watchers._reading = asyncio.ensure_future(asyncio.sleep(0, (frozenset(), {})))
        watchers._read_at = time.monotonic() + 0.05
        assert (await anext(states)).done == 1
        with pytest.raises(StopAsyncIteration):
            await anext(states)

    asyncio.run(scenario())
    assert looks == [[job.id]] * 2


def test_unknown_names_never_reach_the_disk(model, tmp_path):
    async def scenario():
        workers = Workers(model)
        jobs = Jobs(Settings(jobs=tmp_path / "jobs"), workers)
        for name in ("", ".", "../../etc/passwd", "a" * 21, "é" * 22, "a" * 22 + "\n", new_id()):
            with pytest.raises(UnknownJobError):
                await jobs.get(name)
            with pytest.raises(UnknownJobError):
                await jobs.delete(name)
        await jobs.stop()
        workers.close()

    asyncio.run(scenario())
    assert len({new_id() for _ in range(1000)}) == 1000
    assert all(is_id(new_id()) for _ in range(1000))


def test_room_in_the_list(tmp_path):
    store = JobStore(tmp_path / "jobs.sqlite")

    def add(size, state=State.QUEUED):
        job = Job(new_id(), "batch", state, 1, time.time(), size)
        return job.id, store.reserve(job, 3, 100)

    first, _ = add(40)
    second, _ = add(40)
    with pytest.raises(StorageError, match="finished take 80"):
        add(30)
    assert store.finish(second, State.DONE, 20, 1.0, None)
    assert store.finish(first, State.DONE, 30, 2.0, None)
    third, evicted = add(60)
    assert evicted == [second]
    assert store.next().id == third
    add(5)
    add(5)
    with pytest.raises(BusyError, match="3 jobs"):
        add(1)
    assert store.counts() == (3, 0)
    assert store.many([first, second, third]).keys() == {first, third}
    store.close()
