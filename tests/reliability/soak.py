"""Ten minutes of mixed traffic, right and wrong: nothing unexpected is answered, and memory does not grow.

    python tests/reliability/soak.py --minutes 10

Wanted: every call gets one of the answers that it may get (so no 5xx), and over the second half the resident set grows
by no more than 1 MB per 1,000 requests (least squares). Exit 0 if so. Written to runs/soak.md as well.

The cache's part in memory is set to 4 MiB, so that it is full long before the second half begins: what it may take is
a setting, and what grows beyond it is a leak.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from threading import Lock, Thread

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.reliability.harness import Server  # noqa: E402 (the tree that this file lies in)
from tests.reliability.soak_traffic import WEIGHTS, Traffic  # noqa: E402

CLIENTS, SLOPE_MB = 6, 1.0


class Soak:
    """Some clients, and what they and the process's memory did."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.server, self._end = server, time.monotonic() + seconds
        self.answers: Counter[tuple[str, int]] = Counter()
        self.unexpected: Counter[tuple[str, int]] = Counter()
        self.errors: list[str] = []
        self.samples: list[tuple[int, float]] = []
        self._lock = Lock()

    def run(self) -> None:
        clients = [Thread(target=self._client, args=(seed,)) for seed in range(CLIENTS)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            self.samples.append((self.requests, self.server.rss_mb()))
            time.sleep(1)
        for client in clients:
            client.join()

    @property
    def requests(self) -> int:
        with self._lock:
            return sum(self.answers.values())

    def slope(self) -> float:
        """MB per 1,000 requests over the second half, by least squares."""
        requests, memory = np.array(self.samples[len(self.samples) // 2 :]).T
        return float(np.polyfit(requests / 1_000, memory, 1)[0])

    def _client(self, seed: int) -> None:
        traffic = Traffic(self.server, seed)
        while time.monotonic() < self._end:
            try:
                kind, status, expected = traffic.send()
            except Exception as error:  # a body that tells too much, a connection that broke
                with self._lock:
                    self.errors.append(f"{type(error).__name__}: {error}"[:500])
                continue
            with self._lock:
                self.answers[kind, status] += 1
                if not expected:
                    self.unexpected[kind, status] += 1


def report(soak: Soak, minutes: float) -> tuple[str, bool]:
    """The figures, and whether they are as wanted."""
    slope, memory = soak.slope(), [mb for _, mb in soak.samples]
    unexpected_5xx = sum(count for (_, status), count in soak.unexpected.items() if status >= 500)
    lines = ["| Call | Answers |", "|---|---|"]
    for kind in WEIGHTS:
        found = {status: count for (name, status), count in sorted(soak.answers.items()) if name == kind}
        lines.append(f"| {kind} | {', '.join(f'{status or chr(45)}: {count}' for status, count in found.items())} |")
    lines += [
        "",
        f"{soak.requests} requests in {minutes:g} minutes by {CLIENTS} clients; unexpected 5xx: {unexpected_5xx};"
        f" other unexpected answers: {sum(soak.unexpected.values()) - unexpected_5xx} {dict(soak.unexpected) or ''};"
        f" errors: {len(soak.errors)}",
        f"resident set {memory[0]:.0f} MB at first, {memory[len(memory) // 2]:.0f} MB at half time, {memory[-1]:.0f} MB"
        f" at the end; slope over the second half {slope:+.3f} MB per 1,000 requests (<= {SLOPE_MB})",
        *sorted(set(soak.errors))[:10],
    ]
    return "\n".join(lines) + "\n", not soak.unexpected and not soak.errors and slope <= SLOPE_MB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), ROOT / "model_store" / "default", JAGUAR_MAX_CACHE_MEMORY_BYTES="4MiB")
        try:
            soak = Soak(server.start().rest(), minutes * 60)
            soak.run()
            text, good = report(soak, minutes)
            print(text)
            (ROOT / "runs").mkdir(exist_ok=True)
            (ROOT / "runs" / "soak.md").write_text(text)
            server.check_unharmed()
            good &= server.stop() == 0
        finally:
            server.close()
    print("as wanted" if good else "NOT as wanted")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
