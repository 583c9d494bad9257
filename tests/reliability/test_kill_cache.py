"""The short form of `make reliability`: processes killed with -9 while they write lose nothing that was put."""

import subprocess
import sys
from pathlib import Path


def test_killed_writers_lose_nothing_that_was_put():
    script = Path(__file__).parent / "kill_cache.py"
    done = subprocess.run([sys.executable, script, "--kills", "15"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost" in done.stdout
