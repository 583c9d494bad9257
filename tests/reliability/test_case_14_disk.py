"""Case 14: the disk is full."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.admission import MEMORY_BODY_BYTES
from tests.reliability.disk import Disk
from tests.reliability.harness import Server, wait_until
from tests.reliability.pictures import encoded, noise, tiny_answer

SIZE, MIB = (48, 32), 8
ASYNC = {"Prefer": "respond-async"}
# After a write that failed the cache leaves its file alone for a second.
REST_S = 1.2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", MIB)
    try:
        yield disk
    finally:
        disk.close()


@pytest.fixture(scope="module")
def state_disk(tmp_path_factory) -> Iterator[Disk]:
    disk = Disk(tmp_path_factory.mktemp("disks") / "disk", MIB)
    try:
        yield disk
    finally:
        disk.close()


@pytest.fixture(scope="module")
def _server(state_disk, lasting_servers) -> Server:
    server = lasting_servers(faulty=True, JAGUAR_STATE=str(state_disk.folder / "state"))
    server.may_log_traces = True
    return server


@pytest.fixture
def server(_server, state_disk) -> Iterator[Server]:
    """Cache and jobs on the small disk."""
    yield _server
    _server.fault()
    state_disk.free(_server.process.pid)
    _server.check_unharmed()


def photos(seeds: range) -> list:
    return [("images", (f"{seed}.png", encoded(Image.fromarray(noise(seed, SIZE))))) for seed in seeds]


def table(seeds: range) -> list:
    rows = "".join(f"{seed}.png,{seeds[0]}.png\n" for seed in seeds)
    return [("pairs", ("p.csv", f"query_image,gallery_image\n{rows}")), *photos(seeds)]


def embed_right(server: Server, seeds: range) -> None:
    response = server.post("/embed", files=photos(seeds))
    assert response.status_code == 200, response.text
    found = [entry["embedding"] for entry in response.json()["embeddings"]]
    np.testing.assert_allclose(found, [tiny_answer(noise(seed, SIZE)) for seed in seeds], atol=1e-5)


def test_case_14_cache(state_disk, server, seen):
    """What cannot be kept is answered all the same."""
    pid = server.process.pid
    embed_right(server, range(10))
    state_disk.fill(pid)
    for start in range(0, 100, 10):
        embed_right(server, range(start, start + 10))
    assert server.post("/similarity/batch", files=table(range(200, 210))).status_code == 200
    assert server.get("/health/ready").status_code == 200
    state_disk.free(pid)
    time.sleep(REST_S)
    embed_right(server, range(300, 310))
    assert server.stop() == 0
    server.start().rest()
    before = server.embedded()
    embed_right(server, range(300, 310))
    kept = server.embedded() == before
    seen(f"{state_disk.how}, full under the cache: every answer right; room again: kept over a restart: {kept}")
    assert kept


def test_case_14_job_refused(state_disk, server, seen):
    """A job that cannot be stored is refused, and leaves nothing."""
    state_disk.fill(server.process.pid)
    response = server.post("/similarity/batch", files=table(range(20)), headers=ASYNC)
    seen(f"a job on a full disk: {response.status_code} {response.json()['type'].rpartition(':')[2]}")
    assert response.status_code in {503, 507}, response.text
    assert server.similarity().status_code == 200
    assert server.left_behind() == []
    state_disk.free(server.process.pid)
    taken = server.post("/similarity/batch", files=table(range(20)), headers=ASYNC)
    assert taken.status_code == 202, taken.text
    place = taken.headers["location"]
    wait_until(lambda: server.get(place).json()["state"] not in {"queued", "running"}, 20)
    assert server.get(place).json()["state"] == "done"


def test_case_14_job_under_way(state_disk, server, seen):
    """Full while a job is worked on: it fails with a clear problem or ends right, and is never half an answer."""
    server.fault("slow 0.05")
    seeds = range(400, 480)
    files = table(seeds)
    place = server.post("/similarity/batch", files=files, headers=ASYNC).headers["location"]
    wait_until(lambda: server.get(place).json()["done"] > 0, 20)
    state_disk.fill(server.process.pid)
    server.fault()
    wait_until(lambda: server.get(place).json()["state"] not in {"queued", "running"}, 60)
    job = server.get(place).json()
    assert server.similarity().status_code == 200
    if job["state"] == "failed":
        assert job["problem"]["status"] in {503, 507}, job
        assert server.get(f"{place}/result").status_code == 409
    else:
        assert server.get(f"{place}/result").content == server.post("/similarity/batch", files=files).content
    state_disk.free(server.process.pid)
    seen(f"full while a job is worked on: {job['state']} {(job['problem'] or {}).get('status', '')}".strip())
    assert server.request("DELETE", place).status_code == 204
    wait_until(lambda: not server.left_behind(), 5)


def test_case_14_uploads(disk, servers, seen):
    """TMPDIR, where large parts wait, is full."""
    folder = disk.folder / "tmp"
    server = servers(TMPDIR=str(folder))
    server.may_log_traces = True
    disk.fill(server.process.pid)
    # Beyond what bodies may take of the memory, so that it is spooled.
    large = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (3_400, 3_400, 3), dtype=np.uint8)))
    assert len(large) > MEMORY_BODY_BYTES
    response = server.post("/embed", files=[("images", ("large.png", large))])
    seen(f"no room for an upload: {response.status_code} {response.json().get('type', '').rpartition(':')[2]}")
    assert response.status_code in {503, 507}, "it went elsewhere than to TMPDIR"
    assert server.similarity().status_code == 200
    disk.free(server.process.pid)
    small = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)))
    assert server.post("/embed", files=[("images", ("small.png", small))]).status_code == 200


def test_case_14_start(disk, servers, seen):
    """Full before the start: it serves, or ends with one line."""
    (disk.folder / "state").mkdir()
    server = servers(ready=False, JAGUAR_STATE=str(disk.folder / "state"))
    server.may_log_traces = True
    if disk.mounted:
        disk.fill(0)
        server.spawn()
    else:
        disk.fill(server.spawn().pid)
    try:
        wait_until(lambda: not server.alive or _answers(server), 30)
        if server.alive:
            assert server.similarity().status_code == 200
            seen("started on a full disk: serves")
        else:
            [line] = server.log.read_text().splitlines()
            seen(f"started on a full disk: exit {server.process.returncode}, one line")
            assert server.process.returncode not in {0, None}
            assert line.startswith("jaguar-reid: ")
    finally:
        disk.free(server.process.pid)


def _answers(server: Server) -> bool:
    try:
        return server.get("/health/live").status_code == 200
    except httpx2.TransportError:
        return False
