"""A real server process over a real socket: what no test client shows."""

import json
import signal
import socket
import time
from contextlib import ExitStack

import httpx2
import pytest


def test_a_photo_against_itself_and_a_clean_end(server, photo):
    address = server()
    files = {"query_image": ("a.png", photo(1)), "gallery_image": ("b.png", photo(1))}
    response = httpx2.post(f"{address}/similarity", files=files)
    assert response.status_code == 200
    assert response.json()["similarity"] >= 0.99999
    [process] = server.processes
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_the_limit(server, photo, assert_problem, chunked, tmp_path):
    address = server(JAGUAR_MAX_IMAGES_BODY_BYTES="100KiB")
    boundary = {"content-type": "multipart/form-data; boundary=b"}
    start = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    body = start + bytes(3_000_000)
    content = iter([body[place : place + 60_000] for place in range(0, len(body), 60_000)]) if chunked else body
    response = httpx2.post(f"{address}/embed", content=content, headers=boundary)
    assert_problem(response, 413, "body-too-large")
    assert httpx2.get(f"{address}/health/ready").status_code == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log"]


HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n"


@pytest.fixture
def connect():
    """`connect(address)` -> an open connection that gives up after 20 s."""
    with ExitStack() as stack:

        def open_connection(address: str) -> socket.socket:
            host, port = address.removeprefix("http://").split(":")
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=20))

        yield open_connection


def inside(address: str) -> int:
    lines = httpx2.get(f"{address}/metrics").text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("jaguar_inflight_requests "))))


def until(true) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_the_door_over_a_real_socket(server, photo, connect, tmp_path):
    """One place: taken by a body that does not come, refused to others, and given back however its holder ends."""
    address = server(JAGUAR_MAX_INFLIGHT="1", JAGUAR_BODY_TIMEOUT_S="20")
    files = {"images": ("a.png", photo(1))}

    holder = connect(address)
    holder.sendall(HEAD + b"\r\n--b")  # and nothing more
    until(lambda: inside(address) == 1)
    for extra in (b"", b"Expect: 100-continue\r\n"):
        refused = connect(address)
        refused.sendall(HEAD + extra + b"\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # all of it, before a byte of the body was sent
            answer += refused.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        for line in (b"retry-after: 1", b"connection: close", b"content-type: application/problem+json"):
            assert line in answer
        assert b"urn:jaguar-reid:problem:busy" in answer
        if not extra:
            refused.sendall(bytes(100_000))  # which is read away
        assert everything(refused) == b""
    large = httpx2.post(f"{address}/embed", files={"images": bytes(900_000)})
    assert large.status_code == 503  # the answer, not a reset
    assert httpx2.get(f"{address}/health/ready").status_code == 200

    holder.close()
    until(lambda: inside(address) == 0)
    assert httpx2.post(f"{address}/embed", files=files).status_code == 200

    welcome = connect(address)
    welcome.sendall(HEAD + b"Expect: 100-continue\r\n\r\n")
    assert welcome.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    welcome.close()
    until(lambda: inside(address) == 0)
    process = server.processes[0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log
    statuses = [json.loads(line)["status"] for line in log.splitlines() if '"/embed"' in line]
    assert statuses == [503, 503, 503, 499, 200, 499]


def test_a_body_that_stands_still_gives_its_place_up(server, photo, connect):
    address = server(JAGUAR_MAX_INFLIGHT="1", JAGUAR_BODY_TIMEOUT_S="0.3")
    holder = connect(address)
    holder.sendall(HEAD + b"\r\n--b")
    answer = everything(holder)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert b"urn:jaguar-reid:problem:body-timeout" in answer
    assert b"server-timing: admission;dur=" in answer
    assert inside(address) == 0
    assert httpx2.post(f"{address}/embed", files={"images": photo(1)}).status_code == 200


def test_what_is_no_http_is_a_problem(server, connect):
    address = server()
    for data, status in ((b"nonsense\r\n\r\n", b"400"), (b"GET /" + b"x" * 300_000, b"431")):
        connection = connect(address)
        connection.sendall(data)
        answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"application/problem+json" in answer
    assert httpx2.get(f"{address}/health/ready").status_code == 200
