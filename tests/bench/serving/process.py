"""Servers as real processes: started, frozen while another is measured, asked what they cost, stopped."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from serving.engine import BUNDLE, ROOT

BENCH = Path(__file__).parents[1]
START_S, STOP_S = 120, 40
TICKS_S = os.sysconf("SC_CLK_TCK")


class Server:
    """A server in a session of its own, so that all its processes are known, LitServe's workers and manager included.

    label: what tables call it. ready, health: the paths that say that it serves, and that it lives.
    """

    def __init__(
        self, label: str, command: list[str], *, ready: str, health: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.label, self.health, self._ready = label, health, ready
        self._command, self._environment = command, dict(environment or {})
        self._log = ROOT / "runs" / "bench-logs" / f"{label.replace(' ', '-').replace('/', '-')}.log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Starts it and waits until it is ready; seconds that this took."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self.port = _free_port()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command, "--port", str(self.port)],
                cwd=ROOT, env=environment(self._environment), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self._await_ready(started + START_S)
        except BaseException:
            self.stop()
            raise
        return time.monotonic() - started

    def freeze(self) -> None:
        """Stops all its processes where they are, so that an idle server costs the measured one nothing."""
        os.killpg(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._pid, signal.SIGCONT)

    def stop(self) -> None:
        """Asks it to end, and ends what is left of it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.thaw()
            os.killpg(self._pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self._stats().values()) / TICKS_S

    @property
    def peak_mb(self) -> float:
        """Largest resident set so far, VmHWM, summed over its processes; MB of 10**6 bytes."""
        return sum(_peak_kib(pid) for pid in self._stats()) * 1024 / 1e6

    @property
    def _pid(self) -> int:
        if self._process is None:
            raise SystemExit(f"{self.label} is not running")
        return self._process.pid

    def _stats(self) -> dict[int, list[str]]:
        """/proc/PID/stat from the third field on, of every process in the session."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._pid:
                    found[int(path.parent.name)] = fields
        return found

    def _await_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            url = f"http://127.0.0.1:{self.port}{self._ready}"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.02)
        raise SystemExit(f"{self.label} did not start; {self._log}:\n{self._log.read_text()[-2000:]}")


def ours(settings: Mapping[str, str], label: str = "A ours") -> Server:
    """`jaguar-reid serve` with the bundle that ships."""
    environment = {"JAGUAR_MODEL": str(BUNDLE), **settings}
    return Server(
        label, ["app.cli", "serve"], ready="/health/ready", health="/health/live", environment=environment
    )  # fmt: skip


def litserve(workers: int, batch: int) -> Server:
    command = ["serving.litserve_server", "--workers", str(workers), "--batch", str(batch)]
    return Server(f"B LitServe {workers} x {batch}", command, ready="/health", health="/health")


def blocking(threads: int) -> Server:
    command = ["serving.blocking_server", "--threads", str(threads)]
    return Server(f"C blocking, {threads} intra-op", command, ready="/health", health="/health")


def stop_servers_on_sigterm() -> None:
    """Has SIGTERM end this process as an exception does, or servers would stay behind, some of them frozen."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def run_job(module: str, job: dict) -> dict:
    """Runs `serving.load` or `serving.ceiling` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module], input=json.dumps(job).encode(), env=environment({}), cwd=ROOT,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the caller's `JAGUAR_` settings, which would change what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAGUAR_")}
    path = os.pathsep.join(filter(None, [str(BENCH), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, **settings}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _peak_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
