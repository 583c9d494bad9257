"""The short form of `make reliability`: a fit that is killed with -9 ends where an unbroken one does."""

import subprocess
import sys
from pathlib import Path


def test_a_killed_fit_ends_where_an_unbroken_one_does():
    script = Path(__file__).parent / "kill_fit.py"
    done = subprocess.run([sys.executable, script, "--kills", "2"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical" in done.stdout
