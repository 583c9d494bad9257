import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.reid.errors import ConfigError, DataError
from training.state import RunFolder


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(resume=False)
    return folder


def test_round_trip(run):
    assert run.load("state.pt") is None
    run.save("state.pt", {"tensor": torch.arange(3), "step": 4})
    loaded = run.load("state.pt")
    assert torch.equal(loaded["tensor"], torch.arange(3))
    assert loaded["step"] == 4
    assert os.listdir(run.path) == ["state.pt"]


def test_a_run_is_not_overwritten(run):
    run.save("state.pt", {})
    with pytest.raises(ConfigError, match="holds a run already; add --resume"):
        RunFolder(run.path).start(resume=False)
    (run.path / ".state.pt.abc.part").write_bytes(b"half")
    RunFolder(run.path).start(resume=True)
    assert os.listdir(run.path) == ["state.pt"]


def test_metrics_after_the_saved_step_are_dropped(run):
    assert run.metrics() == []
    for step in (10, 20, 30):
        run.append_metrics({"step": step, "loss": 0.5})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')  # killed while writing
    run.keep_metrics(20)
    assert [record["step"] for record in run.metrics()] == [10, 20]


def test_a_damaged_state_says_so(run):
    (run.path / "state.pt").write_bytes(b"PK\x03\x04 rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        run.load("state.pt")


def test_a_folder_that_cannot_be_made_or_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Not a directory|File exists"):
        RunFolder(tmp_path / "file").start(resume=False)
    with pytest.raises(DataError, match="metrics.jsonl cannot be written: No such file"):
        RunFolder(tmp_path / "none").append_metrics({"step": 1})


FULL = """
import resource, sys, torch
from pathlib import Path
from training.state import RunFolder
from app.reid.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    RunFolder(Path(sys.argv[1])).save("state.pt", {"tensor": torch.zeros(1_000_000)})
except DataError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_last_good_state(run):
    run.save("state.pt", {"step": 1})
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", FULL, run.path], capture_output=True, text=True, cwd=root, timeout=120)
    assert "state.pt cannot be saved" in done.stdout, done.stderr
    assert run.load("state.pt") == {"step": 1}
    assert os.listdir(run.path) == ["state.pt"]
