"""Where nothing may be skipped, a skip is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PASSES, SKIPS = "def test_a(): pass\n", "import pytest\ndef test_b(): pytest.skip('no disk')\n"


@pytest.mark.parametrize(
    ("text", "plugin", "status"), [(PASSES, True, 0), (PASSES + SKIPS, True, 1), (SKIPS, False, 0)]
)
def test_a_skip_fails_the_run_where_it_is_asked_for(tmp_path: Path, text: str, plugin: bool, status: int):
    (tmp_path / "test_some.py").write_text(text)
    options = ["-p", "tests.noskip"] if plugin else []
    command = [sys.executable, "-m", "pytest", "-q", *options, "--rootdir", tmp_path, tmp_path]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert ("something was" in done.stdout) == (status == 1)
