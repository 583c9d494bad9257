"""Case 3: bodies that are too large, of too many parts, or no multipart at all."""

import pytest

from tests.reliability import wire
from tests.reliability.pictures import photo

CALLS = ["/similarity", "/embed", "/similarity/batch", "/submission"]
START = wire.part("images", "a.jpg", b"")[:-2]


def problem(server, answer: wire.Answer, slug: str) -> int:
    """The status of an answer that must be a problem of this kind."""
    server.look_at(answer.status, answer.headers, answer.body)
    assert b"urn:jaguar-reid:problem:" + slug.encode() in answer.body, answer.body
    return answer.status


@pytest.mark.parametrize("path", CALLS)
def test_case_03_length_announced(server, path, seen):
    """5 GiB announced: refused on the head, nothing of the body is waited for."""
    answer = wire.exchange(server.port, wire.head(path, f"Content-Length: {5 * 2**30}"))
    assert problem(server, answer, "body-too-large") == 413
    seen("5 GiB announced, nothing sent: 413")


def test_case_03_body_over_the_limit(servers, seen):
    server = servers(JAGUAR_MAX_IMAGES_BODY_BYTES="1MiB", JAGUAR_MAX_BODY_BYTES="1MiB")
    pieces = [START, *[bytes(64 * 1024)] * 48]
    before = server.reset_peak()
    for path in CALLS:
        head = wire.head(path, f"Content-Length: {sum(map(len, pieces))}")
        with_length = wire.exchange(server.port, [head, *pieces])
        without = wire.exchange(server.port, [wire.head(path, "Transfer-Encoding: chunked"), *wire.chunked(pieces)])
        for answer in (with_length, without):
            assert problem(server, answer, "body-too-large") == 413
            assert b"1048576" in answer.body
    seen(f"over the limit with and without Content-Length, 4 calls: 413, {server.peak_mb() - before:+.1f} MB")


@pytest.mark.parametrize("path", ["/embed", "/similarity/batch"])
def test_case_03_many_parts(server, path, seen):
    """`/similarity/batch` takes 1,000 photos and its CSV."""
    for number in (1_001 if path == "/embed" else 1_002, 5_000):
        body = wire.form([("images", f"{place}.jpg", b"x") for place in range(number)])
        answer = wire.exchange(server.port, [wire.head(path, f"Content-Length: {len(body)}"), body])
        assert problem(server, answer, "too-many-parts") == 413
    seen("1,001 photos, 5,000 photos: 413")


def test_case_03_many_part_headers(server, seen):
    """10,000 headers in one part."""
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    body = f"--{wire.BOUNDARY}\r\n".encode() + lines + START.split(b"\r\n", 1)[1] + b"x\r\n"
    body += f"--{wire.BOUNDARY}--\r\n".encode()
    answer = wire.exchange(server.port, [wire.head("/embed", f"Content-Length: {len(body)}"), body])
    server.look_at(answer.status, answer.headers, answer.body)
    assert answer.status in {400, 413}, answer.body
    seen(f"10,000 part headers: {answer.status}")


@pytest.mark.parametrize(
    ("content_type", "body", "statuses"),
    [
        ("multipart/form-data", b"x", {400}),
        ("multipart/form-data; boundary=", b"x", {400}),
        ("multipart/form-data; boundary=other", wire.form([("images", "a.jpg", b"x")]), {400}),
        (wire.FORM, b"", {400, 422}),
        ("application/json", b"{}", {415}),
        (None, b"x", {415}),
        ("multipart/form-data; boundary=" + "b" * 9_000, b"x", {400}),
        (wire.FORM + "; charset=utf-99", wire.form([("images", "a.jpg", b"x")]), {400, 415, 422}),
    ],
)
def test_case_03_no_multipart(server, content_type, body, statuses, seen):
    head = wire.head("/embed", f"Content-Length: {len(body)}", content_type=content_type)
    answer = wire.exchange(server.port, [head, body])
    server.look_at(answer.status, answer.headers, answer.body)
    assert answer.status in statuses, answer.body
    seen(f"no multipart, or without its boundary: {answer.status}")


def test_case_03_a_form_that_ends_in_the_middle(server, seen):
    """Both photos or neither: a body without its last boundary was cut short somewhere, and lost a part."""
    body = wire.part("images", "a.jpg", photo(1)) + START + photo(2)[:100]
    answer = wire.exchange(server.port, [wire.head("/embed", f"Content-Length: {len(body)}"), body])
    server.look_at(answer.status, answer.headers, answer.body)
    seen(f"no last boundary: {answer.status}")
    assert answer.status == 400, answer.body[:300]


HEADS = {
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\n\r\n", 400),
    "zeros": (bytes(2_000) + b"\r\n\r\n", 400),
    "two lengths": (wire.head("/embed", "Content-Length: 5", "Content-Length: 6") + b"12345", 400),
    "length and chunks": (wire.head("/embed", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "a negative length": (wire.head("/embed", "Content-Length: -5"), 400),
    "a chunk without a length": (wire.head("/embed", "Transfer-Encoding: chunked") + b"zz\r\nx\r\n", 400),
    "a head of 200 kB": (wire.head("/embed", "Content-Length: 5", "X-Long: " + "x" * 200_000), 431),
    "10,000 headers": (wire.head("/embed", *(f"X-{number}: y" for number in range(10_000))), 431),
}


@pytest.mark.parametrize("what", HEADS)
def test_case_03_head(server, what, seen):
    data, status = HEADS[what]
    answer = wire.exchange(server.port, data)
    server.look_at(answer.status, answer.headers, answer.body)
    seen(f"{what}: {answer.status}")
    assert answer.status == status
