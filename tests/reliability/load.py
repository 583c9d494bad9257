"""The load that `clients.py` makes, for a test to start, to wait for and to count."""

import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.clients import PATIENCE_S, Row
from tests.reliability.harness import ROOT


@dataclass(frozen=True)
class Load:
    """What came back."""

    rows: list[Row]

    def statuses(self) -> dict[str, int]:
        """How often each answer came, by status and kind of problem."""
        return dict(sorted(Counter(f"{status} {kind}".strip() for *_, status, kind in self.rows).items()))

    def first_byte_s(self, status: int) -> list[float]:
        """Seconds from the request's last byte to the answer's first, of all answers with this status."""
        return [first - sent for sent, first, _, found, _ in self.rows if found == status]


class Echo:
    """A process that does nothing but answer. `port` is where."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).parent / "echo.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


class Clients:
    """The generator's process."""

    def __init__(self, port: int, requests: Sequence[bytes], clients: int, seconds: float, pause_s: float = 1.0):
        options = {"port": port, "clients": clients, "seconds": seconds, "pause": pause_s}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "tests.reliability.clients", *words]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for request in requests:
            self.process.stdin.write(struct.pack(">Q", len(request)) + request)
        self.process.stdin.close()
        self.process.stdin = None

    def wait(self) -> Load:
        """Waits for the last answer."""
        output, _ = self.process.communicate(timeout=PATIENCE_S + 120)
        assert self.process.returncode == 0
        return Load([tuple(row) for row in json.loads(output)["rows"]])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
