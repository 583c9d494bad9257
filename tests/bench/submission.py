"""A whole submission: 371 RGBA PNGs of about 6 MP below the image root, 137,270 rows, on two cores.

    python tests/bench/submission.py [--rounds 2] [--count 371]

Each round: the ceiling (read, decode and forward of the same files in two plain threads of one process, nothing
else), then a server with an empty state folder that is asked cold, three times again, and for 10,000 rows of
/similarity/batch five times; then it is stopped, started again with the same state, and asked once more. Rounds after
the first take the ceiling and the server the other way round. All files are in the page cache from the start. The
clock runs from the connection to the answer's last byte; the client sends the CSV in one piece and reads until the
server closes.

Answers must be the same to the last byte, and the similarities of a few pairs those of the engine in this process.
Exit 1 where a wanted figure is missed.
"""

import argparse
import http.client
import io
import itertools
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from photos import FOLDER, BenchPhotos, bench_photos
from serving.engine import load_engine
from serving.load import TIMEOUT_S, post
from serving.machine import CORES, Others, print_machine, use_two_cores
from serving.process import Server, ours, run_job, running, stop_servers_on_sigterm
from serving.report import Verdict, spread

REPEATS, BATCHES, BATCH_ROWS = 3, 5, 10_000
COLD_TIMES, REPEATED_S, RESTARTED_S, BATCH_S, PEAK_MB = 1.15, 1.0, 2.0, 0.3, 700
CHECKED, TOLERANCE = 4, 1e-5


@dataclass
class Figures:
    """Seconds of every request by its kind, peaks in MB, and the distinct answers."""

    ceiling: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    repeated: list[float] = field(default_factory=list)
    restarted: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    submissions: set[bytes] = field(default_factory=set)
    batches: set[bytes] = field(default_factory=set)
    others: Others = field(default_factory=Others)


class Recorded:
    """A socket's bytes, in the form that `http.client` reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def ask(server: Server, request: bytes) -> tuple[float, bytes]:
    """Seconds and the answer's body; reading the answer's framing is not timed."""
    pieces = []
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), 10 * TIMEOUT_S) as connection:
        connection.sendall(request)
        while piece := connection.recv(2**20):
            pieces.append(piece)
    seconds = time.perf_counter() - started
    answer = http.client.HTTPResponse(Recorded(b"".join(pieces)))  # type: ignore[arg-type]
    answer.begin()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"the service answers {answer.status}: {body[:500].decode(errors='replace')}")
    return seconds, body


def submission_request(names: list[str]) -> bytes:
    """All ordered pairs, as the competition asks for them."""
    rows = (f"{row},{query},{gallery}\n" for row, (query, gallery) in enumerate(itertools.permutations(names, 2)))
    data = "".join(["row_id,query_image,gallery_image\n", *rows]).encode()
    return post("/submission", [("test_csv", "test.csv", data)], close=True)


def batch_request(names: list[str]) -> bytes:
    """Pairs by chance, with a column of the caller's own."""
    chosen = np.random.default_rng(0).integers(0, len(names), (BATCH_ROWS, 2))
    rows = (f"{names[query]},{names[gallery]},site {query % 7}\n" for query, gallery in chosen)
    data = "".join(["query_image,gallery_image,site\n", *rows]).encode()
    return post("/similarity/batch", [("pairs", "pairs.csv", data)], close=True)


def serve_round(photos: BenchPhotos, names: list[str], figures: Figures) -> None:
    """Cold, repeated, batch; stopped and started with the same state; asked again."""
    submission, batch = submission_request(names), batch_request(names)
    with tempfile.TemporaryDirectory(prefix="bench-state-") as state:
        server = ours({"JAGUAR_IMAGE_ROOT": str(photos.root), "JAGUAR_STATE": state}, "submission")
        with running(server):
            with figures.others.watched(lambda: server.cpu_s):
                _record(figures.cold, figures.submissions, ask(server, submission))
            cold_peak = server.peak_mb
            for _ in range(REPEATS):
                _record(figures.repeated, figures.submissions, ask(server, submission))
            for _ in range(BATCHES):
                _record(figures.batch, figures.batches, ask(server, batch))
            figures.peak_mb.append(server.peak_mb)
        figures.start.append(server.start())
        try:
            _record(figures.restarted, figures.submissions, ask(server, submission))
            figures.peak_mb.append(server.peak_mb)
        finally:
            server.stop()
    print(
        f"  cold {figures.cold[-1]:.2f} s, peak {cold_peak:.0f} MB, then {figures.peak_mb[-2]:.0f} MB; after a restart"
        f" {figures.restarted[-1]:.2f} s, peak {figures.peak_mb[-1]:.0f} MB, ready in {figures.start[-1]:.2f} s",
        flush=True,
    )


def ceiling_round(files: list[str], figures: Figures) -> None:
    job = {"files": files, "warm": files[:2], "threads": CORES, "intra": 1}
    with figures.others.watched(lambda: 0.0):
        done = run_job("serving.ceiling", job)
    figures.ceiling.append(done["seconds"])
    print(f"  ceiling {done['seconds']:.2f} s, {done['cpu_s'] / done['seconds']:.2f} cores busy", flush=True)


def check_scores(files: list[str], figures: Figures) -> bool:
    """Whether the answer has every row once and in order, and the engine's own similarities in the first ones."""
    lines = next(iter(figures.submissions)).decode().splitlines()
    total = len(files) * (len(files) - 1)
    numbers = [line.partition(",")[0] for line in lines[1:]]
    if lines[0] != "row_id,similarity" or numbers != [str(row) for row in range(total)]:
        return False
    engine = load_engine(1)
    embeddings = [engine.embed(Path(file).read_bytes()) for file in files[:CHECKED]]
    expected = [(1 + float(embeddings[0] @ other)) / 2 for other in embeddings[1:]]
    got = [float(line.partition(",")[2]) for line in lines[1:CHECKED]]
    return bool(np.allclose(got, expected, rtol=0, atol=TOLERANCE))


def _record(seconds: list[float], answers: set[bytes], asked: tuple[float, bytes]) -> None:
    seconds.append(asked[0])
    answers.add(asked[1])


def judge(figures: Figures, files: list[str]) -> int:
    verdict = Verdict()
    ratios = [cold / ceiling for cold, ceiling in zip(figures.cold, figures.ceiling, strict=True)]
    cold = f"{spread(ratios, 3)}; cold {spread(figures.cold)} s, ceiling {spread(figures.ceiling)} s"
    verdict.at_most("cold: wall over the ceiling's", statistics.median(ratios), COLD_TIMES, cold)
    for name, seconds, wanted in (
        ("repeated, s", figures.repeated, REPEATED_S),
        ("after a restart, s", figures.restarted, RESTARTED_S),
        (f"{BATCH_ROWS} rows of /similarity/batch over known photos, s", figures.batch, BATCH_S),
    ):
        verdict.at_most(name, statistics.median(seconds), wanted, spread(seconds, 3))
    verdict.at_most("peak RSS of the server, MB", max(figures.peak_mb), PEAK_MB, spread(figures.peak_mb, 0))
    verdict.true("all submissions byte-identical", len(figures.submissions) == 1)
    verdict.true("all batch answers byte-identical", len(figures.batches) == 1)
    verdict.true("every row, and the engine's own similarities", check_scores(files, figures))
    figures.others.print()
    return verdict.print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--count", type=int, default=371, help="photos")
    parser.add_argument("--photos", type=Path, default=FOLDER, help="drawn there where they are missing")
    arguments = parser.parse_args()
    use_two_cores()
    stop_servers_on_sigterm()
    print_machine()
    photos = bench_photos(arguments.photos)
    chosen = photos.png[: arguments.count]
    read = sum(len(path.read_bytes()) for path in chosen)  # into the page cache
    print(f"{len(chosen)} photos, {read / 1e9:.2f} GB, {len(chosen) * (len(chosen) - 1)} rows", flush=True)
    files, names, figures = [str(path) for path in chosen], [path.name for path in chosen], Figures()
    for number in range(arguments.rounds):
        print(f"round {number + 1}:", flush=True)
        if number % 2:
            serve_round(photos, names, figures)
            ceiling_round(files, figures)
        else:
            ceiling_round(files, figures)
            serve_round(photos, names, figures)
    return judge(figures, files)


if __name__ == "__main__":
    sys.exit(main())
