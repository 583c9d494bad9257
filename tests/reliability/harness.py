"""A real server process, and all that can be seen of it from outside: answers, memory, open files, what it leaves."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import httpx2

from tests.reliability.pictures import photo

ROOT = Path(__file__).parents[2]
START_S, SETTLE_S = 60.0, 6.0
PROBLEM_KEYS = {"type", "title", "status", "detail", "request_id", "problems"}
URN = "urn:jaguar-reid:problem:"
# What no answer may hold: traces, and where the code lies.
TRACES = (b"Traceback", b'File "', b"site-packages", str(ROOT).encode(), sys.prefix.encode())
# What the cache and the jobs own below `state`.
OWNED = re.compile(r"cache\.sqlite(-wal|-shm|\.lock)?|jobs(/(jobs\.sqlite(-wal|-shm)?|\w+\.lock|[\w-]{22}(/.+)?))?")
UNFINISHED = {".tmp", ".part", ".new"}


class Server:
    """One server with a folder of its own: `tmp` is its TMPDIR, `state` what it keeps, `server.log` what it says.

    launcher: what python runs before the CLI's words. key: sent with every request. under: words before python, such as
    `nice`. environment: JAGUAR_ settings, by their whole names.
    """

    def __init__(
        self,
        place: Path,
        bundle: Path,
        launcher: Iterable[str] = ("-m", "app.cli"),
        key: str = "",
        under: Iterable[str] = (),
        **environment: str,
    ):
        self.place, self.bundle = place, bundle
        self.tmp = Path(environment.get("TMPDIR", place / "tmp"))
        self.state = Path(environment.get("JAGUAR_STATE", place / "state"))
        self.log = place / "server.log"
        for folder in (self.tmp, self.state):
            folder.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("JAGUAR_")}
        self.environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.tmp),
            "JAGUAR_MODEL": str(bundle),
            "JAGUAR_STATE": str(self.state),
            **environment,
        }
        self.command = (*under, sys.executable, *launcher, "serve")
        self.may_log_traces = False
        self.process: subprocess.Popen[bytes] | None = None
        self._at_rest: tuple[int, int] | None = None
        # A connection for each request: a kept one would count among the open files.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        headers = {"x-api-key": key} if key else {}
        self.client = httpx2.Client(timeout=120, limits=limits, trust_env=False, headers=headers)

    def start(self) -> "Server":
        """Starts the process and returns when it is ready; asserts that it becomes so."""
        self.spawn()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()[-2000:]}"
            with suppress(httpx2.TransportError):
                if self.get("/health/ready").status_code == 200:
                    return self
            time.sleep(0.03)
        raise AssertionError(f"not ready after {START_S} s: {self.log.read_text()[-2000:]}")

    def spawn(self) -> subprocess.Popen[bytes]:
        """Starts the process and looks no further."""
        self.port, self._at_rest = free_port(), None
        command = [*self.command, "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, cwd=self.place, stdout=log, stderr=log)
        return self.process

    def fault(self, words: str = "") -> None:
        """What the network of a faulty server does from now on; see faulty_server.py."""
        new = self.place / "fault.new"
        new.write_text(words)
        new.replace(self.environment["FAULT_FILE"])

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGTERM, patience_s: float = 60) -> int:
        """Sends the signal and returns the exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(patience_s)
        finally:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """Ends whatever is left."""
        self.client.close()
        if self.alive:
            self.process.kill()
        if self.process:
            self.process.wait()

    # Asking

    def get(self, path: str, **options) -> httpx2.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options) -> httpx2.Response:
        return self.request("POST", path, **options)

    def request(self, method: str, path: str, **options) -> httpx2.Response:
        """One request over a connection of its own; every answer is looked at."""
        response = self.client.request(method, f"http://127.0.0.1:{self.port}{path}", **options)
        self.look_at(response.status_code, response.headers, response.content)
        return response

    def similarity(self) -> httpx2.Response:
        """A plain pair."""
        files = {"query_image": ("a.jpg", photo(1)), "gallery_image": ("b.jpg", photo(2))}
        return self.post("/similarity", files=files)

    def look_at(self, status: int, headers, body: bytes) -> None:
        """Asserts what holds for every answer: no trace, no path of this machine, and problems that are problems."""
        places = (self.place, self.bundle.parent)
        for trace in (*TRACES, *(str(place).encode() for place in places)):
            assert trace not in body, f"{status} with {trace!r}: {body[:2000]!r}"
        if status >= 400:
            assert headers["content-type"] == "application/problem+json", (status, dict(headers), body[:300])
            problem = httpx2.Response(status, content=body).json()
            assert set(problem) == PROBLEM_KEYS, problem
            assert problem["status"] == status
            assert problem["type"].startswith(URN)
            assert problem["request_id"] == headers["x-request-id"]

    def metric(self, name: str) -> float:
        """One figure of /metrics without labels."""
        lines = self.get("/metrics").text.splitlines()
        values = [line.split()[1] for line in lines if line.split()[0] == name]
        assert values, f"/metrics has no {name}"
        return float(values[0])

    def embedded(self) -> int:
        """Photos that went through the network."""
        return int(self.metric("jaguar_images_embedded_total"))

    # Seeing

    def rss_mb(self) -> float:
        return self._status_mb("VmRSS:")

    def peak_mb(self) -> float:
        """The largest resident set since the start or the last `reset_peak`."""
        return self._status_mb("VmHWM:")

    def reset_peak(self) -> float:
        """From here on `peak_mb` counts anew; returns the resident set now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.rss_mb()

    def _status_mb(self, field: str) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    def open_files(self) -> tuple[int, int]:
        """How many descriptors are open outside the state folder, and how many of those are files that were deleted."""
        links = []
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):  # closed since it was listed
                links.append(os.readlink(entry))
        outside = [link for link in links if not link.startswith(str(self.state))]
        return len(outside), sum(link.endswith("(deleted)") for link in outside)

    def left_behind(self) -> list[str]:
        """Files that nobody owns, below TMPDIR and state."""
        kept = ((path, path.relative_to(self.state).as_posix()) for path in self.state.rglob("*"))
        found = [name for path, name in kept if not OWNED.fullmatch(name) or path.suffix in UNFINISHED]
        return sorted(found + [str(path) for path in self.tmp.rglob("*")])

    def rest(self) -> "Server":
        """Warms the server up with a plain pair, and takes what is open then for what is open at rest."""
        assert self.similarity().status_code == 200
        time.sleep(0.3)
        self._at_rest = self.open_files()
        return self

    def check_unharmed(self) -> None:
        """Asserts what must hold after every case: a plain pair is answered, nothing is left open or lying."""
        assert self.alive, f"the server ended with {self.process.returncode}: {self.log.read_text()[-2000:]}"
        assert self.similarity().status_code == 200
        deadline = time.monotonic() + SETTLE_S
        while (wrong := self._not_at_rest()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not wrong, wrong
        if not self.may_log_traces:
            log = self.log.read_text()
            assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]

    def _not_at_rest(self) -> str:
        left, (count, deleted) = self.left_behind(), self.open_files()
        if left:
            return f"left behind: {left[:10]}"
        if deleted:
            return f"{deleted} deleted files are still open"
        if self._at_rest and count > self._at_rest[0]:
            return f"{count} open files; {self._at_rest[0]} at rest"
        return ""


def is_full() -> bool:
    """Whether every case is to run at its whole length: RELIABILITY=full."""
    value = os.environ.get("RELIABILITY", "")
    if value not in {"", "full"}:
        raise ValueError(f"RELIABILITY is {value!r}; it is `full` or not set")
    return value == "full"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], limit_s: float, pause_s: float = 0.02) -> float:
    """Seconds until the condition held; asserts that it did within the limit."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_s, f"not within {limit_s} s"
        time.sleep(pause_s)
    return time.monotonic() - started
