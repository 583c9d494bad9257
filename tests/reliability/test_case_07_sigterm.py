"""Case 7: SIGTERM under load."""

import signal
import time

import pytest

from tests.reliability import wire
from tests.reliability.harness import is_full, wait_until
from tests.reliability.load import Clients
from tests.reliability.pictures import photo

# A request that was on its way when the signal was may be answered by either side of it.
MOMENT_S = 0.1
CLIENTS = 24


def pair(seed: int) -> bytes:
    one, other = photo(seed), photo(seed + 1)
    return wire.request("/similarity", [("query_image", "a.jpg", one), ("gallery_image", "b.jpg", other)])


@pytest.mark.parametrize("number", range(5 if is_full() else 1))
def test_case_07_under_load(servers, number, seen):
    server = servers(faulty=True, JAGUAR_CACHE="off")
    server.fault("slow 0.1")
    clients = Clients(server.port, [pair(seed) for seed in range(20)], CLIENTS, 3.0 if is_full() else 1.2, 0.002)
    try:
        wait_until(lambda: server.metric("jaguar_inflight_requests") == CLIENTS, 10)
        time.sleep(0.3 + 0.17 * number)
        sent = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        ready = wait_until(lambda: server.get("/health/ready").status_code == 503, 1, 0.001)
        live = server.get("/health/live").status_code
        status = server.process.wait(30)
        took = time.monotonic() - sent
        load = clients.wait()
    finally:
        clients.kill()
    before = [row for row in load.rows if row[0] < sent - MOMENT_S]
    after = [row for row in load.rows if row[0] >= sent - MOMENT_S]
    under_way = sum(row[2] > sent for row in before)
    # Whoever comes at the very moment at which the listening socket closes is reset by the system.
    last = max(row[2] for row in load.rows if row[3] == 200)
    late = [row for row in after if row[3] == 0]
    answers = sorted({f"{found} {kind}".strip() for *_, found, kind in after if found})
    seen(
        f"SIGTERM with {under_way} of {len(before)} requests under way: all 200; later ones {answers};"
        f" {len(late)} reset at its closing; not ready after {ready * 1000:.0f} ms; exit {status} after {took:.1f} s"
    )
    assert under_way >= CLIENTS // 2
    assert {row[3] for row in before} == {200}, load.statuses()
    assert set(answers) <= {"200", "503 shutting-down", "-1 ConnectionRefusedError"}
    assert "503 shutting-down" in answers
    assert all(row[2] >= last - MOMENT_S and row[2] - row[0] < MOMENT_S for row in late), (last, late)
    assert (status, live) == (0, 200)


def test_case_07_past_the_grace(servers, full, seen):
    """What does not end in time is answered 503, and the process ends all the same."""
    grace = 3 if full else 0.5
    server = servers(faulty=True, JAGUAR_CACHE="off", JAGUAR_GRACE_S=str(grace))
    server.fault("hang 60")
    with wire.connect(server.port) as connection:
        connection.sendall(pair(1))
        wait_until(lambda: server.metric("jaguar_inflight_requests") == 1, 5)
        sent = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        answer = wire.read_answer(connection)
        answered = time.monotonic() - sent
    status = server.process.wait(15)
    server.look_at(answer.status, answer.headers, answer.body)
    seen(
        f"past a grace of {grace} s: {answer.status} after {answered:.1f} s,"
        f" exit {status} after {time.monotonic() - sent:.1f} s"
    )
    assert answer.status == 503
    assert grace <= answered <= grace + 2
    assert b":shutting-down" in answer.body
    assert status == 0


def test_case_07_a_job_that_was_taken(servers, seen):
    """A job is no request under way: the process does not wait for it, and the next one goes on with it."""
    server = servers(faulty=True)
    server.fault("slow 0.1")
    photos = [(f"{number}.jpg", photo(number)) for number in range(40)]
    rows = "".join(f"{name},0.jpg\n" for name, _ in photos)
    files = [("pairs", ("p.csv", f"query_image,gallery_image\n{rows}")), *(("images", one) for one in photos)]
    taken = server.post("/similarity/batch", files=files, headers={"Prefer": "respond-async"})
    assert taken.status_code == 202, taken.text
    place = taken.headers["location"]
    wait_until(lambda: server.get(place).json()["state"] == "running", 5)
    started = time.monotonic()
    assert server.stop() == 0
    took = time.monotonic() - started
    server.fault()
    server.start().rest()
    wait_until(lambda: server.get(place).json()["state"] not in {"queued", "running"}, 20)
    assert server.get(place).json()["state"] == "done", server.get(place).text
    result = server.get(f"{place}/result").content
    assert result == server.post("/similarity/batch", files=files).content
    seen(f"a job under way: exit 0 after {took:.1f} s, done by the next process, {len(photos)} rows as they should be")
