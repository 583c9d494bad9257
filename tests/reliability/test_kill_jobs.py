"""The short form of `make reliability`: jobs whose server is killed with -9 end as if nothing had been."""

import subprocess
import sys
from pathlib import Path


def test_killed_jobs_end_with_the_synchronous_answer():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.reliability.kill_jobs", "--kills", "3", "--photos", "100"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every result identical" in done.stdout
