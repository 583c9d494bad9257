"""Training under torchrun when a rank dies or somebody presses Ctrl-C."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from app.reid.bundle import open_bundle
from tests.reliability.kill_fit import differences
from tests.reliability.ranks import RANKS, Herd, ranks_of, wait_until

LIMIT = 60  # seconds, the issue's
STEPS = 20  # in an epoch of `kill_fit.CONFIG`
SLOW = 400  # seconds, for whatever is no matter of time, on a machine with other work


@pytest.fixture(scope="module")
def herd(tmp_path_factory):
    return Herd(tmp_path_factory.mktemp("ranks"))


def state(herd, name):
    return torch.load(herd.place / name / "state.pt", weights_only=True)


def has_done(herd, name, step):
    return (herd.place / name / "state.pt").exists() and state(herd, name)["progress"]["step"] == step


def broken(herd, name, hit, *options):
    """A run that is hit once an epoch has ended -> (seconds to its end, exit status, what it printed)."""
    process = herd.start(name, *(options or ("--set", "optim.epochs=1000")))
    wait_until((herd.place / name / "state.pt").exists, seconds=SLOW, what="the first epoch")
    ranks = ranks_of(process)
    assert len(ranks) == RANKS
    started = time.monotonic()
    hit(process, ranks)
    printed, _ = process.communicate(timeout=LIMIT + 30)
    seconds = time.monotonic() - started
    assert not [rank for rank in ranks if Path(f"/proc/{rank}").exists()]
    return seconds, process.returncode, " ".join(printed.split())


def told_and_kept(herd, name, printed, survivor):
    """What the rank that is left says, and the state."""
    place = herd.place / name
    assert f"jaguar-train: rank {survivor} of {RANKS} stops: " in printed
    assert f"the last state is kept in {place}: start again with --resume" in printed
    return state(herd, name)["progress"]["step"]


def test_when_the_lead_is_killed_the_other_ends(herd):
    seconds, status, printed = broken(herd, "killed", lambda _process, ranks: os.kill(ranks[0], signal.SIGKILL))
    assert seconds < LIMIT
    assert status != 0
    assert told_and_kept(herd, "killed", printed, survivor=1) >= STEPS


def test_ctrl_c_saves_the_step_that_has_ended(herd):
    seconds, status, printed = broken(
        herd, "interrupted", lambda process, _ranks: os.killpg(process.pid, signal.SIGINT)
    )
    assert seconds < LIMIT
    assert status != 0
    step = state(herd, "interrupted")["progress"]["step"]
    assert f"interrupted at step {step}; --resume goes on from there" in printed


def test_when_another_is_killed_the_lead_ends_and_a_resumed_run_ends_where_an_unbroken_one_does(herd):
    short = ("--set", "optim.epochs=3", "--set", "sampler.steps=6")
    unbroken = herd.start("unbroken", *short)
    wait_until(lambda: has_done(herd, "unbroken", 18), seconds=SLOW, what="the last step")
    os.killpg(unbroken.pid, signal.SIGKILL)  # its bundle is not looked at
    unbroken.communicate()
    seconds, status, printed = broken(
        herd, "resumed", lambda _process, ranks: os.kill(ranks[1], signal.SIGKILL), *short
    )
    assert seconds < LIMIT
    assert status != 0
    assert told_and_kept(herd, "resumed", printed, survivor=0) in {6, 12, 18}
    resumed = herd.start("resumed", *short, "--resume")
    output, _ = resumed.communicate(timeout=SLOW)
    assert resumed.returncode == 0, output
    assert differences(state(herd, "unbroken"), state(herd, "resumed")) == []
    assert open_bundle(herd.place / "store" / "resumed").manifest.metrics["best_epoch"] in {1, 2, 3}
