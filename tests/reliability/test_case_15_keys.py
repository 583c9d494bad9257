"""Case 15: who has no key, and who asks too often."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reliability import wire
from tests.reliability.harness import Server
from tests.reliability.pictures import photo

KEY, OTHER, WRONG = "jaguar-key-1-aaaaaaaa", "jaguar-key-2-bbbbbbbb", "jaguar-key-3-cccccccc"
PAIR = [("query_image", "a.jpg", photo(1)), ("gallery_image", "b.jpg", photo(2))]


@pytest.fixture(scope="module")
def _keyed(lasting_servers) -> Server:
    return lasting_servers(key=KEY, JAGUAR_API_KEYS=f"{KEY}, {OTHER}")


@pytest.fixture
def keyed(_keyed) -> Iterator[Server]:
    """Asks for one of two keys."""
    yield _keyed
    _keyed.check_unharmed()


def ask(server, *headers: str) -> wire.Answer:
    answer = wire.exchange(server.port, wire.request("/similarity", PAIR, *headers))
    server.look_at(answer.status, answer.headers, answer.body)
    return answer


def test_case_15_keys(keyed, seen):
    bad = [
        ask(keyed),
        *(ask(keyed, f"Authorization: Bearer {key}") for key in (WRONG, KEY[:-1], KEY + "x", "", KEY.upper())),
        ask(keyed, f"Authorization: Basic {KEY}"),
        ask(keyed, f"X-API-Key: {WRONG}"),
        ask(keyed, f"X-API-Key: {KEY},{OTHER}"),
        ask(keyed, "X-API-Key: \xff\xfe"),
    ]
    assert {answer.status for answer in bad} == {401}
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in bad)
    good = [
        ask(keyed, f"{header}{key}") for key in (KEY, OTHER) for header in ("Authorization: Bearer ", "X-API-Key: ")
    ]
    assert {answer.status for answer in good} == {200}
    seen(f"no key, wrong, cut, longer, of another scheme: {len(bad)} x 401 with WWW-Authenticate; right ones 200")


def test_case_15_every_call_is_closed(keyed, seen):
    """Only the health calls, and the page where there is one, are open; nothing is said of what exists."""
    closed = [
        "/model",
        "/metrics",
        "/openapi.json",
        "/jobs/AAAAAAAAAAAAAAAAAAAAAA",
        "/nothing-here",
        "/model/",
        "//model",
    ]
    for path in closed:
        answer = wire.exchange(keyed.port, wire.head(path, "Connection: close", method="GET", content_type=None))
        keyed.look_at(answer.status, answer.headers, answer.body)
        assert answer.status == 401, path
    for path in ("/health/live", "/health/ready"):
        answer = wire.exchange(keyed.port, wire.head(path, "Connection: close", method="GET", content_type=None))
        assert answer.status == 200, path
    seen(f"{len(closed)} other paths without a key: 401; health 200")


def test_case_15_refused_before_the_body(keyed, seen):
    """64 MB announced and never sent: the answer comes at once."""
    answer = wire.exchange(keyed.port, wire.head("/embed", "Content-Length: 64000000", "Expect: 100-continue"))
    keyed.look_at(answer.status, answer.headers, answer.body)
    assert answer.status == 401
    seen(f"before the body: 401 after {answer.first_byte_s * 1000:.0f} ms")


def test_case_15_keys_are_not_logged(keyed):
    for header in (f"Authorization: Bearer {WRONG}", f"X-API-Key: {KEY}"):
        ask(keyed, header)
    ask(keyed, f"X-Request-ID: {OTHER}\r\nX-API-Key: {KEY}")
    log = keyed.log.read_text()
    for key in (KEY, WRONG):
        assert key not in log
    assert "/similarity" in log, "the log tells of requests at all"


def test_case_15_rate(servers, full, seen):
    """100 requests a second of one client, of which 10 are let in, and another client beside it."""
    server = servers(key=OTHER, JAGUAR_API_KEYS=f"{KEY},{OTHER}", JAGUAR_RATE_LIMIT="10/second")
    seconds = 10 if full else 1
    request = wire.head("/model", "Connection: close", f"X-API-Key: {KEY}", method="GET", content_type=None)
    started = time.monotonic()

    def at(number: int) -> wire.Answer:
        time.sleep(max(0.0, started + number / 100 - time.monotonic()))
        return wire.exchange(server.port, request)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(at, range(100 * seconds)))
    took = time.monotonic() - started
    assert server.similarity().status_code == 200, "another client's haste is no reason to refuse this one"
    statuses = Counter(answer.status for answer in answers)
    for answer in answers:
        server.look_at(answer.status, answer.headers, answer.body)
        if answer.status == 429:
            assert answer.headers["retry-after"] == "1"
    seen(f"{len(answers)} requests in {took:.1f} s at 10/second: {dict(statuses)}, another client 200")
    assert set(statuses) == {200, 429}
    # A stretch begins with its first request: one more of them than seconds, and one for the clock.
    assert 10 <= statuses[200] <= 10 * (took + 2)
    assert server.get("/health/ready").status_code == 200
