"""Case 6: clients that leave before they have their answer."""

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.reliability import wire
from tests.reliability.harness import Server, wait_until
from tests.reliability.pictures import photo

CORES = len(os.sched_getaffinity(0))
FREE_S = 1.0
PHOTOS = [(f"{number}.jpg", photo(100 + number)) for number in range(20)]


def embed(photos: list[tuple[str, bytes]]) -> bytes:
    return wire.request("/embed", [("images", *one) for one in photos])


def table(photos: list[tuple[str, bytes]]) -> bytes:
    rows = "".join(f"{one},{other}\n" for (one, _), (other, _) in product(photos, photos))
    csv = ("pairs", "pairs.csv", f"query_image,gallery_image\n{rows}".encode())
    return wire.request("/similarity/batch", [csv, *(("images", *one) for one in photos)])


def inside(server: Server) -> float:
    return server.metric("jaguar_inflight_requests")


def reset(connection: socket.socket) -> None:
    """Closes with a reset, as a machine does that lost its power and came back."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture(scope="module")
def _slow(lasting_servers) -> Server:
    return lasting_servers(faulty=True, JAGUAR_CACHE="off")


@pytest.fixture
def slow(_slow) -> Iterator[Server]:
    """Every forward pass takes a tenth of a second; nothing is cached."""
    _slow.fault("slow 0.1")
    yield _slow
    _slow.fault()
    _slow.check_unharmed()


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("make", [embed, table], ids=["images", "CSV"])
def test_case_06_mid_work(slow, make, leave, seen):
    """Left while its photos are worked on: what runs ends, nothing else begins."""
    before = slow.embedded()
    connection = wire.connect(slow.port)
    connection.sendall(make(PHOTOS))
    wait_until(lambda: slow.embedded() > before, 10)
    leave(connection)
    left = time.monotonic()
    at_leaving = slow.embedded(), slow.metric("jaguar_images_decoded_total")
    wait_until(lambda: inside(slow) == 0, FREE_S)
    free = time.monotonic() - left
    time.sleep(0.5)
    more, decoded = slow.embedded() - at_leaving[0], slow.metric("jaguar_images_decoded_total") - at_leaving[1]
    seen(
        f"left mid-{make.__name__}: {more} forwards, {decoded:.0f} decodes ended after it; free in {free * 1000:.0f} ms"
    )
    assert more <= CORES
    assert decoded <= CORES


def test_case_06_queued(slow, seen):
    """Left while all its photos waited behind others': none of them is taken up, and the others get their answers."""
    before = slow.embedded()
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(wire.exchange, slow.port, embed(PHOTOS[start : start + 4])) for start in (0, 4, 8, 12)]
        wait_until(lambda: inside(slow) == 4, 5)
        with wire.connect(slow.port) as connection:
            connection.sendall(embed(PHOTOS[16:]))
            wait_until(lambda: inside(slow) == 5, 5)
            time.sleep(0.1)
        left = time.monotonic()
        wait_until(lambda: inside(slow) == 4, FREE_S)
        free = time.monotonic() - left
        assert [other.result().status for other in others] == [200] * 4
    more = slow.embedded() - before - 16
    seen(f"left while queued: {more} forwards for it, free in {free * 1000:.0f} ms")
    assert more == 0


def test_case_06_mid_body(server, seen):
    """Left while it sent its photos."""
    before = server.embedded()
    request = embed(PHOTOS)
    with wire.connect(server.port) as connection:
        connection.sendall(request[: len(request) // 2])
        wait_until(lambda: inside(server) == 1, 5)
    free = wait_until(lambda: inside(server) == 0, FREE_S)
    seen(f"left mid-body: {server.embedded() - before} forwards, free in {free * 1000:.0f} ms")
    assert server.embedded() == before


def test_case_06_mid_answer(server, seen):
    """Left while it was sent a CSV that no buffer holds."""
    name = PHOTOS[0][0]
    rows = f"{name},{name}\n" * 500_000
    csv = ("pairs", "pairs.csv", f"query_image,gallery_image\n{rows}".encode())
    with wire.connect(server.port) as connection:
        connection.sendall(wire.request("/similarity/batch", [csv, ("images", *PHOTOS[0])]))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert inside(server) == 1
    free = wait_until(lambda: inside(server) == 0, FREE_S)
    seen(f"left mid-answer: free in {free * 1000:.0f} ms")


def test_case_06_a_crowd_that_leaves(servers, full, seen):
    """Hundreds leave at random moments of their request; all places are free afterwards."""
    server = servers(faulty=True, JAGUAR_CACHE="off", JAGUAR_MAX_INFLIGHT="4")
    server.fault("slow 0.02")
    chance, number = random.Random(6), 400 if full else 60

    def come_and_go(pause_s: float, share: float) -> None:
        request = embed(PHOTOS[:3])
        with wire.connect(server.port) as connection:
            connection.sendall(request[: int(share * len(request))])
            time.sleep(pause_s)
            reset(connection)

    with ThreadPoolExecutor(16) as pool:
        goers = [pool.submit(come_and_go, chance.uniform(0, 0.1), chance.choice([0.3, 1, 1])) for _ in range(number)]
        assert [goer.result() for goer in goers] == [None] * number
    free = wait_until(lambda: inside(server) == 0, FREE_S)
    server.fault()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: server.similarity().status_code, range(4))) == [200] * 4
    seen(f"{number} that left at any moment: all places free {free * 1000:.0f} ms after the last")
