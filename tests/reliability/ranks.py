"""Starts `jaguar-train fit` under torchrun on two CPU processes, and finds them."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.reliability.kill_fit import CONFIG, ROOT, draw

RANKS = 2


class Herd:
    """Data, config and runs in one folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "config.toml").write_text(CONFIG)
        draw(place / "data")

    def start(self, name: str, *options: str) -> subprocess.Popen:
        """A run under torchrun; `--` keeps torchrun from reading `--run` as one of its own options."""
        files = ["--data", self.place / "data", "--out", self.place / "store" / name, "--run", self.place / name]
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", RANKS, "-m", "--"]
        words = [*launch, "training", "fit", self.place / "config.toml", *files, *options]
        return subprocess.Popen(
            [str(word) for word in words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a Ctrl-C of the test's goes to all of them, as a terminal's does
        )


def ranks_of(process: subprocess.Popen) -> list[int]:
    """Process numbers of the ranks that torchrun has started, in rank order."""
    found = {}
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks = [int(line[5:]) for line in variables if line.startswith(b"RANK=")]
        if ranks:
            found[ranks[0]] = int(child)
    return [found[rank] for rank in sorted(found)]


def wait_until(true, *, seconds: float, what: str) -> None:
    """Polls; fails with what was waited for."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)
