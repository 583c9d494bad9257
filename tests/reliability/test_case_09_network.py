"""Case 9: the network fails, hangs, or finds no memory."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reliability.harness import Server, wait_until

READY_FALSE_S, RECOVERY_S = 8.0, 5.0


def ready(server: Server) -> int:
    started = time.monotonic()
    status = server.get("/health/ready").status_code
    assert time.monotonic() - started <= 1.0, "an answer within 1 s, whatever it is"
    return status


@pytest.fixture(scope="module")
def _faulty(lasting_servers, full) -> Server:
    server = lasting_servers(faulty=True, JAGUAR_CACHE="off", **({} if full else {"JAGUAR_FORWARD_TIMEOUT_S": "0.5"}))
    server.may_log_traces = True
    return server


@pytest.fixture
def server(_faulty) -> Iterator[Server]:
    """Nothing is cached; in the short form a forward pass may take half a second, else as long as it may by default."""
    yield _faulty
    _faulty.fault()
    _faulty.check_unharmed()


def test_case_09_fails(server, seen):
    for words, what in (("raise", "raises"), ("memory", "is out of memory")):
        server.fault(words)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: server.similarity(), range(16)))
        statuses = {answer.status_code for answer in answers}
        not_ready = wait_until(lambda: ready(server) == 503, READY_FALSE_S)
        assert server.get("/health/live").status_code == 200
        server.fault()
        recovery = wait_until(lambda: ready(server) == 200, RECOVERY_S)
        assert server.similarity().status_code == 200
        seen(f"{what}: {sorted(statuses)}, not ready after {not_ready:.1f} s, well again after {recovery:.2f} s")
        assert statuses <= {500, 503}
        assert all(b"injected" not in answer.content for answer in answers)


def test_case_09_hangs(server, full, seen):
    """All threads hang; those requests and the next ones are answered in time."""
    hang, limit = (60, 30) if full else (1.5, 0.5)
    server.fault(f"hang {hang}")
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: timed(server), range(8)))
    not_ready = wait_until(lambda: ready(server) == 503, READY_FALSE_S)
    status, later = timed(server)
    seen(
        f"hangs {hang} s: {sorted({status for status, _ in answers})} after"
        f" {max(seconds for _, seconds in answers):.1f} s, a later request {status} after {later:.1f} s,"
        f" not ready {not_ready:.1f} s after that"
    )
    assert {status for status, _ in answers} == {503}
    assert max(seconds for _, seconds in answers) <= limit + 2
    assert (status, later <= limit + 2) == (503, True)
    assert server.get("/health/live").status_code == 200
    time.sleep(max(0.0, hang - (time.monotonic() - started)))
    server.fault()
    recovery = wait_until(lambda: ready(server) == 200, RECOVERY_S)
    assert server.similarity().status_code == 200
    seen(f"well again {recovery:.2f} s after the hang")


def test_case_09_hangs_for_good(servers, seen):
    """A thread that never comes back: those requests are answered, then the process ends for whatever starts it."""
    server = servers(faulty=True, JAGUAR_CACHE="off", JAGUAR_FORWARD_TIMEOUT_S="0.5", JAGUAR_STUCK_EXIT_S="1.5")
    server.fault("hang 3600")
    started = time.monotonic()
    status, seconds = timed(server)
    exit_status = server.process.wait(15)
    took = time.monotonic() - started
    seen(f"for good: {status} after {seconds:.1f} s, exit {exit_status} after {took:.1f} s (limit 1.5 s)")
    assert status == 503
    assert exit_status == 70
    assert took <= 1.5 + 3
    assert server.left_behind() == []


def timed(server: Server) -> tuple[int, float]:
    started = time.monotonic()
    response = server.similarity()
    if response.status_code == 503:
        assert "retry-after" in response.headers
    return response.status_code, time.monotonic() - started
