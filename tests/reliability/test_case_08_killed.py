"""Case 8: kill -9 at random moments, while the cache, a job and a bundle are being written.

What is killed here is a whole service under load. `kill_cache.py` and `kill_jobs.py` kill the parts by themselves.
"""

import csv
import io
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Event, Thread

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.reid.embedder import load_model
from tests.reliability.bundles import save_turned
from tests.reliability.harness import Server, wait_until
from tests.reliability.pictures import encoded, noise, tiny_answer

SIZE, JOB_PHOTOS, LOAD_PHOTOS = (48, 32), 40, 12
WRITER = Path(__file__).parent / "bundle_writer.py"


def photo(seed: int) -> tuple[str, bytes]:
    return f"{seed}.png", encoded(Image.fromarray(noise(seed, SIZE)))


def answer(seed: int) -> np.ndarray:
    return tiny_answer(noise(seed, SIZE))


class Round:
    """One life of the server: a job handed in and photos sent, until it is killed."""

    def __init__(self, server: Server, number: int) -> None:
        self.server = server
        self.job_seeds = range(1_000 * number, 1_000 * number + JOB_PHOTOS)
        self.load_seeds = range(1_000 * number + 500, 1_000 * number + 500 + LOAD_PHOTOS)
        self.job: str | None = None
        self.answered = 0
        self._over = Event()
        self._threads = [Thread(target=self._hand_in), Thread(target=self._send)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _hand_in(self) -> None:
        with suppress(httpx2.TransportError):
            response = self.server.post("/similarity/batch", files=self.files(), headers={"Prefer": "respond-async"})
            assert response.status_code == 202, response.text
            self.job = response.headers["location"]

    def _send(self) -> None:
        with suppress(httpx2.TransportError):
            while not self._over.is_set():
                check_embeddings(self.server, self.load_seeds)
                self.answered += 1

    def files(self) -> list:
        names = [f"{seed}.png" for seed in self.job_seeds]
        rows = "".join(f"{name},{names[0]}\n" for name in names)
        table = ("pairs", ("pairs.csv", f"query_image,gallery_image\n{rows}"))
        return [table, *(("images", photo(seed)) for seed in self.job_seeds)]

    def check_result(self, text: str) -> None:
        """Each row once, in its order, with the similarity told by hand."""
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["query_image"] for row in rows] == [f"{seed}.png" for seed in self.job_seeds]
        first = answer(self.job_seeds[0])
        wanted = [(answer(seed) @ first + 1) / 2 for seed in self.job_seeds]
        np.testing.assert_allclose([float(row["similarity"]) for row in rows], wanted, atol=1e-5)


def check_embeddings(server: Server, seeds: range) -> None:
    response = server.post("/embed", files=[("images", photo(seed)) for seed in seeds])
    assert response.status_code == 200, response.text
    found = [entry["embedding"] for entry in response.json()["embeddings"]]
    np.testing.assert_allclose(found, [answer(seed) for seed in seeds], atol=1e-5)


@pytest.fixture
def two_bundles(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "one", tmp_path / "other"
    for seed, folder in enumerate(folders):
        save_turned(folder, seed)
    return folders


def test_case_08_a_service_under_load(servers, tmp_path, two_bundles, full, seen):
    kills, chance = int(os.environ.get("KILLS") or 50) if full else 2, random.Random(8)
    server = servers(faulty=True, ready=False)
    server.fault("slow 0.01")
    target = tmp_path / "target"
    versions = {load_model(folder).version for folder in two_bundles}
    jobs: list[Round] = []
    started: list[float] = []
    for number in range(1, kills + 1):
        writer = subprocess.Popen([sys.executable, WRITER, target, *two_bundles], stdout=subprocess.PIPE)
        began = time.monotonic()
        server.start()
        started.append(time.monotonic() - began)
        assert writer.stdout.readline().startswith(b"saving")
        life = Round(server, number)
        time.sleep(chance.uniform(0.02, 1.2))
        for process in (server.process, writer):
            process.send_signal(signal.SIGKILL)
            process.wait()
        writer.stdout.close()
        life.end()
        assert load_model(target).version in versions
        if life.job:
            jobs.append(life)
    server.fault()
    server.start().rest()
    for life in jobs:
        wait_until(lambda life=life: server.get(life.job).json()["state"] not in {"queued", "running"}, 60)
        assert server.get(life.job).json()["state"] == "done"
        life.check_result(server.get(f"{life.job}/result").text)
    before = server.embedded()
    for life in jobs:  # whatever the cache kept is whole
        check_embeddings(server, life.job_seeds)
    fresh = server.embedded() - before
    assert fresh == 0, "a finished job's photos are in the cache"
    check_databases(server)
    load_model(target)
    shutil.rmtree(target)
    seen(
        f"{kills} kills: {len(jobs)} jobs taken, all done, {JOB_PHOTOS} rows each, once and right; the cache whole;"
        f" the bundle one of two each time; started again in {max(started):.1f} s at most"
    )
    assert len(jobs) >= kills // 2, "the kills came before the jobs"


def check_databases(server: Server) -> None:
    for name in ("cache.sqlite", "jobs/jobs.sqlite"):
        with closing(sqlite3.connect(f"file:{server.state / name}?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), name
