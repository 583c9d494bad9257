"""Throughput of the service against LitServe, a blocking FastAPI, and the ceiling without HTTP, on two cores.

    python tests/bench/serve.py [--rounds 5] [--search-rounds 2] [--png 64] [--jpeg 740]

    A  `jaguar-reid serve` with JAGUAR_CACHE=off, POST /embed
    B  LitServe at the best of workers {1, 2} x batch {1, 8}, for each workload, found first in this run
    C  a FastAPI that decodes and infers inside `async def`, at the better of 1 and 2 intra-op threads, likewise
    D  read, decode and forward in two plain threads of one process, without HTTP

All import the same decode, fit and to_array and run the same ONNX file; before the clock starts each must answer one
JPEG and one PNG with the same embedding as the engine in this process. Photos go one to a request over 30 keep-alive
connections, each photo once a round, in rounds A B C D A B C D; nobody caches. Servers that are not being measured are
frozen (SIGSTOP). Workloads: JPEGs of 1781 x 1403, RGBA PNGs of about 6 MP, and as many JPEGs as PNGs mixed.

Figures are medians of the ratios of each round. The client runs on the same two cores, which the ceiling does not have
to share. So A is compared with what is left of D:  D * (1 - client's CPU seconds / (2 * seconds of A's round)).
While A, B and C work, /health/live (or /health) is asked every 100 ms. Last, one JPEG at a time over one connection,
beside D in one thread. Exit 1 where a wanted figure is missed.
"""

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from photos import FOLDER, BenchPhotos, bench_photos
from serving.engine import Engine, load_engine
from serving.load import Connection, photo
from serving.machine import CORES, Others, print_machine, use_two_cores
from serving.process import Server, blocking, litserve, ours, run_job, stop_servers_on_sigterm
from serving.report import Verdict, percentiles, spread

CONNECTIONS, LONE, LONE_ROUNDS = 30, 50, 3
WANTED = {"B": 1.25, "C": 1.4, "D": 0.90}
HEALTH_MS = 100
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Round:
    """One workload sent once to one server; of the ceiling, `client_cpu_s` is 0."""

    seconds: float
    latencies_ms: list[float]
    server_cpu_s: float
    client_cpu_s: float = 0.0
    errors: list[str] = field(default_factory=list)
    health_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Photos/s that were answered."""
        return len(self.latencies_ms) / self.seconds

    @property
    def client_share(self) -> float:
        """The client's part of the core-seconds that there were."""
        return self.client_cpu_s / (CORES * self.seconds)


@dataclass
class Bench:
    """The photos of each workload, and every round by (workload, letter)."""

    workloads: dict[str, list[str]]
    warm: list[str]
    rounds: dict[tuple[str, str], list[Round]] = field(default_factory=dict)
    others: Others = field(default_factory=Others)

    def ask(self, server: Server, files: Sequence[str], *, connections: int, health: bool) -> Round:
        """Sends the files to a server, which is frozen before and after."""
        job = {"port": server.port, "path": "/embed", "files": files, "warm": self.warm, "connections": connections}
        server.thaw()
        before = server.cpu_s
        with self.others.watched(lambda: server.cpu_s):
            done = run_job("serving.load", {**job, "health": server.health if health else None})
        spent = server.cpu_s - before
        server.freeze()
        return Round(done["seconds"], done["latencies_ms"], spent, done["cpu_s"], done["errors"], done["health_ms"])

    def ceiling(self, files: Sequence[str], *, threads: int = CORES, intra: int = 1) -> Round:
        """The same without HTTP."""
        job = {"files": files, "warm": self.warm, "threads": threads, "intra": intra}
        with self.others.watched(lambda: 0.0):
            done = run_job("serving.ceiling", job)
        return Round(done["seconds"], done["latencies_ms"], done["cpu_s"])

    def best(self, servers: Sequence[Server], rounds: int) -> dict[str, Server]:
        """The fastest of the servers for each workload."""
        chosen = {}
        for workload, files in self.workloads.items():
            rates: dict[Server, list[float]] = {server: [] for server in servers}
            for _ in range(rounds):
                for server in servers:
                    rates[server].append(self.ask(server, files, connections=CONNECTIONS, health=True).rate)
            chosen[workload] = max(servers, key=lambda server: statistics.median(rates[server]))
            for server in servers:
                mark = " <- taken" if server is chosen[workload] else ""
                print(f"  {workload:<6} {server.label:<24} {spread(rates[server], 1)} photos/s{mark}", flush=True)
        return chosen

    def compete(self, number: int, servers: dict[str, dict[str, Server]]) -> None:
        """One round: every workload to A, B and C and through D."""
        for workload, files in self.workloads.items():
            shown = []
            for letter, of_workload in servers.items():
                done = self.ask(of_workload[workload], files, connections=CONNECTIONS, health=True)
                self.rounds.setdefault((workload, letter), []).append(done)
                shown.append(f"{letter} {done.rate:.1f}")
            done = self.ceiling(files)
            self.rounds.setdefault((workload, "D"), []).append(done)
            print(f"  round {number} {workload:<6} {'  '.join([*shown, f'D {done.rate:.1f}'])} photos/s", flush=True)

    def ratios(self, workload: str, letter: str) -> list[float]:
        """A over another, round by round; over D, what the client leaves of it."""
        own, other = self.rounds[workload, "A"], self.rounds[workload, letter]
        left = [1 - a.client_share if letter == "D" else 1.0 for a in own]
        return [a.rate / (b.rate * share) for a, b, share in zip(own, other, left, strict=True)]


def check(server: Server, files: Sequence[str], engine: Engine) -> None:
    """A server that answers something else would be compared with something else."""
    server.thaw()
    connection = Connection(server.port)
    for file in files:
        answer = json.loads(connection.ask(photo("/embed", file)))
        embedding = answer["embedding"] if "embedding" in answer else answer["embeddings"][0]["embedding"]
        gap = float(np.abs(np.array(embedding) - engine.embed(Path(file).read_bytes())).max())
        if not gap <= TOLERANCE:
            raise SystemExit(f"{server.label} answers {file} with another embedding: difference {gap:.1e}")
    connection.close()
    server.freeze()


def choose_workloads(photos: BenchPhotos, pngs: int, jpegs: int) -> Bench:
    """Photos for each workload, and four that none of them has to warm up with."""
    png, jpeg = [str(path) for path in photos.png], [str(path) for path in photos.jpeg]
    workloads = {"jpeg": jpeg[: min(jpegs, len(jpeg) - 2)], "png": png[: min(pngs, len(png) - 2)]}
    mixed = workloads["png"] + workloads["jpeg"][: len(workloads["png"])]
    random.Random(0).shuffle(mixed)
    return Bench({**workloads, "mixed": mixed}, [*png[-2:], *jpeg[-2:]])


def print_table(bench: Bench, labels: dict[tuple[str, str], str]) -> None:
    numbers = f"{'err':>4}{'CPU':>6}{'client':>8}{'health':>9}"
    print(f"\n{'server':<25}{'load':<7}{'photos/s':<24}{'p50/p95/p99 ms':<20}{numbers}")
    for (workload, letter), rounds in bench.rounds.items():
        latencies = [value for done in rounds for value in done.latencies_ms]
        health = [value for done in rounds for value in done.health_ms]
        cpu = statistics.median(done.server_cpu_s / done.seconds for done in rounds)
        client = statistics.median(done.client_cpu_s / done.seconds for done in rounds)
        print(
            f"{labels[workload, letter]:<25}{workload:<7}{spread([done.rate for done in rounds], 1):<24}"
            f"{percentiles(latencies):<20}{sum(len(done.errors) for done in rounds):>4}{cpu:>6.2f}{client:>8.2f}"
            f"{f'{max(health):.0f} ms' if health else '-':>9}"
        )
    print("CPU, client: cores that the server and the client kept busy, medians. health: worst answer while saturated.")


def print_lone(bench: Bench, server: Server) -> None:
    """A request that has the machine for itself."""
    files = bench.workloads["jpeg"][:LONE]
    medians: dict[str, list[float]] = {"A": [], "D, 1 intra-op": [], "D, 2 intra-op": []}
    for _ in range(LONE_ROUNDS):
        rounds = (
            bench.ask(server, files, connections=1, health=False),
            bench.ceiling(files, threads=1, intra=1),
            bench.ceiling(files, threads=1, intra=2),
        )
        for values, done in zip(medians.values(), rounds, strict=True):
            values.append(statistics.median(done.latencies_ms) if done.latencies_ms else float("inf"))
    print(f"\none JPEG at a time, median of {len(files)}, {LONE_ROUNDS} rounds in turns, ms:")
    for name, values in medians.items():
        print(f"  {name:<15}{spread(values)}")
    quickest = min(statistics.median(values) for name, values in medians.items() if name != "A")
    print(f"  A over the quicker D: {statistics.median(medians['A']) / quickest:.2f}")


def judge(bench: Bench) -> int:
    verdict = Verdict()
    names = {"B": "LitServe", "C": "blocking", "D": "what the client leaves of the ceiling"}
    for workload in bench.workloads:
        for letter, wanted in WANTED.items():
            ratios = bench.ratios(workload, letter)
            verdict.at_least(f"{workload}: A / {names[letter]}", statistics.median(ratios), wanted, spread(ratios, 3))
        own = bench.rounds[workload, "A"]
        raw = [a.rate / d.rate for a, d in zip(own, bench.rounds[workload, "D"], strict=True)]
        shares = spread([100 * done.client_share for done in own], 1)
        print(f"{workload}: A / D without the client counted in {spread(raw, 3)}; the client's share {shares} %")
        health = max(value for done in own for value in done.health_ms)
        verdict.at_most(f"{workload}: worst /health/live, ms", health, HEALTH_MS)
        errors = [error for letter in "ABC" for done in bench.rounds[workload, letter] for error in done.errors]
        verdict.at_most(f"{workload}: errors of A, B and C", len(errors), 0, "; ".join(sorted(set(errors)))[:200])
    bench.others.print()
    return verdict.print()


def compare(bench: Bench, rounds: int, search_rounds: int) -> int:
    engine = load_engine(1)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-state-"))
        own = ours({"JAGUAR_CACHE": "off", "JAGUAR_STATE": state})
        groups = {
            "A": [own],
            "B": [litserve(workers, batch) for workers in (1, 2) for batch in (1, 8)],
            "C": [blocking(threads) for threads in (1, 2)],
        }
        for server in (server for group in groups.values() for server in group):
            stack.callback(server.stop)
            print(f"  {server.label} ready after {server.start():.2f} s", flush=True)
            check(server, bench.warm, engine)
        print(f"settings of B and C, {search_rounds} rounds in turns:")
        servers = {
            letter: bench.best(group, search_rounds) if len(group) > 1 else dict.fromkeys(bench.workloads, own)
            for letter, group in groups.items()
        }
        print(f"{rounds} rounds in turns, {CONNECTIONS} connections:")
        for number in range(1, rounds + 1):
            bench.compete(number, servers)
        labels = {(load, letter): servers[letter][load].label for load in bench.workloads for letter in servers}
        print_table(bench, {**labels, **{(load, "D"): "D in process, no HTTP" for load in bench.workloads}})
        print_lone(bench, own)
    return judge(bench)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--search-rounds", type=int, default=2)
    parser.add_argument("--png", type=int, default=64, help="PNGs a round")
    parser.add_argument("--jpeg", type=int, default=740, help="JPEGs a round")
    parser.add_argument("--photos", type=Path, default=FOLDER, help="drawn there where they are missing")
    arguments = parser.parse_args()
    use_two_cores()
    stop_servers_on_sigterm()
    print_machine()
    bench = choose_workloads(bench_photos(arguments.photos), arguments.png, arguments.jpeg)
    return compare(bench, arguments.rounds, arguments.search_rounds)


if __name__ == "__main__":
    sys.exit(main())
