"""Kills a server with -9 while it takes, embeds and writes jobs; what comes out must be the synchronous answer.

    python -m tests.reliability.kill_jobs --kills 50

A real server process over the shipped bundle, the cache off. Kills fall, in turn, anywhere in the request that hands
a job in, anywhere in its embedding, and where its result is written. Each forward pass is written down (by what went
into the network) before it is made. Exit 0 if every job that was answered 202 ended with the bytes of the synchronous
answer, no photo whose row was on the disk went through the network again, all lives together made no more passes than
photos and a chunk for each kill, and nothing is left that has no job.
"""

import argparse
import hashlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from itertools import permutations
from pathlib import Path

import httpx2
import numpy as np

from app import cli
from app.jobs.runner import CHUNK
from app.reid.embedder import load_model
from app.reid.preprocess import to_array
from app.reid.runtime import OnnxRuntime
from tests.reliability.harness import ROOT, Server
from tests.reliability.pictures import photo

BUNDLE = ROOT / "model_store" / "default"
PASSES = "FORWARD_PASSES_FILE"
ROW_BYTES = 512 * 4
PHASES = ("accept", "embed", "write")


def counted_server() -> None:
    """The product's command line, with every picture written down before it goes into the network."""
    descriptor = os.open(os.environ[PASSES], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    run = OnnxRuntime.run

    def counted(self, images):
        os.write(descriptor, fingerprint(images))
        return run(self, images)

    OnnxRuntime.run = counted
    cli.app()


def fingerprint(images: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest().encode() + b"\n"


class Campaign:
    """Jobs over the same photos, one after the other, and the kills that come between."""

    def __init__(self, place: Path, photos: int, seed: int):
        self.chance = random.Random(seed)
        self.passes = place / "passes"
        self.server = Server(
            place, BUNDLE, ("-m", "tests.reliability.kill_jobs"), JAGUAR_CACHE="off", **{PASSES: str(self.passes)}
        )
        self.jobs = self.server.state / "jobs"
        self.counts: Counter[str] = Counter()
        self.files, images = album(photos)
        embedder = load_model(BUNDLE).embedder
        self.prints = [fingerprint(to_array(embedder.prepare(data), embedder.spec)[None]) for data in images]
        self.server.start()
        started = time.monotonic()
        response = self.server.post("/submission", files=self.files)
        self.embed_s = time.monotonic() - started
        assert response.status_code == 200, response.text
        self.expected = response.content
        started = time.monotonic()
        response = self.hand_in()
        self.accept_s = time.monotonic() - started
        self.finish(response.json()["id"])
        self.made = len(self.lines())

    def run(self, kills: int) -> None:
        """Jobs until there were so many kills; the last one is let run to its end."""
        phase = 0
        while self.counts["kills"] < kills:
            before, killed = len(self.lines()), self.counts["kills"]
            name = None
            while name is None:
                name = self.accepted(PHASES[phase % 3] == "accept")
                phase += PHASES[phase % 3] == "accept"
            while self.counts["kills"] < kills and PHASES[phase % 3] != "accept":
                if not self.kill_in(PHASES[phase % 3], name):
                    break  # it was done first
                phase += 1
            self.finish(name)
            made, allowed = len(self.lines()) - before, len(self.prints) + CHUNK * (self.counts["kills"] - killed)
            assert made <= allowed, f"{made} forward passes; at most {allowed} are allowed"
            self.counts["passes"] += made
            self.counts["jobs"] += 1

    def accepted(self, killed: bool) -> str | None:
        """Hands a job in, the server killed meanwhile or not -> its id; None where nothing was taken."""
        if not killed:
            return self.hand_in().json()["id"]
        answers = []

        def hand_in():
            with suppress(httpx2.TransportError):
                answers.append(self.hand_in())

        thread = threading.Thread(target=hand_in)
        thread.start()
        time.sleep(self.chance.uniform(0, 1.3 * self.accept_s))
        self.kill("accept")
        thread.join()
        rows = self.unfinished()
        self.server.start()
        if answers:  # a 202 that was heard is a promise
            assert [answers[0].json()["id"]] == rows, "an accepted job is lost"
            self.counts["answered before the kill"] += 1
        assert len(rows) <= 1
        return rows[0] if rows else None

    def kill_in(self, phase: str, name: str) -> bool:
        """Kills somewhere in the phase, starts again and checks what was kept; False where the job was done before."""
        if phase == "embed":
            time.sleep(self.chance.uniform(0, 0.8 * self.embed_s))
        else:
            self.wait(name, lambda job: job["done"] == job["total"] or job["state"] == "done")
            time.sleep(self.chance.uniform(0, 0.3))
        if self.job(name)["state"] == "done":
            self.counts[f"done before a kill in {phase}"] += 1
            self.kill(phase)
            self.server.start()
            return False
        self.kill(phase)
        durable = self.durable(name)
        before = len(self.lines())
        self.server.start()
        self.wait(name, lambda job: job["done"] > durable or job["state"] == "done")
        again = set(self.lines()[before:]) & set(self.prints[:durable])
        assert not again, f"{len(again)} photos were embedded again whose rows were on the disk"
        self.counts["rows kept"] += durable
        return True

    def kill(self, phase: str) -> None:
        assert self.server.stop(signal.SIGKILL) == -signal.SIGKILL
        self.counts["kills"] += 1
        self.counts[phase] += 1

    def finish(self, name: str) -> None:
        """Waits for the job's end, compares its result and deletes it; then nothing may be left."""
        job = self.wait(name, lambda job: job["state"] not in {"queued", "running"})
        assert job["state"] == "done", job
        result = self.server.get(f"/jobs/{name}/result")
        assert result.content == self.expected, f"another result: {len(result.content)} bytes"
        assert self.server.request("DELETE", f"/jobs/{name}").status_code == 204
        left = [path.name for path in self.jobs.iterdir() if path.is_dir()]
        assert left == [], f"left behind: {left}"

    # Seeing

    def hand_in(self) -> httpx2.Response:
        response = self.server.post("/submission", files=self.files, headers={"Prefer": "respond-async"})
        assert response.status_code == 202, response.text
        return response

    def job(self, name: str) -> dict:
        return self.server.get(f"/jobs/{name}").json()

    def wait(self, name: str, condition) -> dict:
        deadline = time.monotonic() + 300
        while not condition(job := self.job(name)):
            assert time.monotonic() < deadline, job
            time.sleep(0.01)
        return job

    def lines(self) -> list[bytes]:
        return self.passes.read_bytes().splitlines(keepends=True)

    def unfinished(self) -> list[str]:
        """Jobs on the list of a dead server; none before the first."""
        with closing(sqlite3.connect(self.jobs / "jobs.sqlite")) as database:
            rows = database.execute("SELECT id FROM jobs WHERE state IN ('queued', 'running')").fetchall()
        return [row[0] for row in rows]

    def durable(self, name: str) -> int:
        """Whole rows in a dead server's file."""
        path = self.jobs / name / "embeddings.f32"
        return path.stat().st_size // ROW_BYTES if path.exists() else 0


def album(number: int) -> tuple[list, list[bytes]]:
    """The parts of a submission over all ordered pairs, and the photos' bytes."""
    names = [f"test_{index:04d}.jpg" for index in range(number)]
    lines = [f"{row},{one},{two}" for row, (one, two) in enumerate(permutations(names, 2))]
    table = "\n".join(["row_id,query_image,gallery_image", *lines]).encode()
    images = [photo(seed) for seed in range(number)]
    parts = [("images", (name, data)) for name, data in zip(names, images, strict=True)]
    return [("test_csv", ("test.csv", table)), *parts], images


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--photos", type=int, default=371)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        campaign = Campaign(Path(place), arguments.photos, arguments.seed)
        try:
            campaign.run(arguments.kills)
            status = campaign.server.stop()
        except AssertionError:
            print(campaign.server.log.read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            campaign.server.close()
    counts = campaign.counts
    print(", ".join(f"{name}: {number}" for name, number in sorted(counts.items())))
    print(f"one job takes {campaign.accept_s:.2f} s to hand in and {campaign.embed_s:.2f} s to work on")
    print(f"{counts['kills']} kills, {counts['jobs']} jobs of {arguments.photos} photos: every result identical")
    return status


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        counted_server()
    else:
        raise SystemExit(main())
