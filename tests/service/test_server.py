"""A real server process over a real socket: what no test client shows."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor

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
    assert process.wait(20) in {0, -signal.SIGTERM}


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


def test_overload_is_told_before_the_body_is_sent(server, photo):
    address = server(JAGUAR_MAX_INFLIGHT="1")
    host, port = address.removeprefix("http://").split(":")
    headers = ("Host: x", "Content-Type: multipart/form-data; boundary=b", "Content-Length: 1000")
    head = "\r\n".join(("POST /embed HTTP/1.1", *headers, "", ""))
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head.encode())  # and nothing of its body: it holds the only place
        with ThreadPoolExecutor(1) as pool:
            refused = pool.submit(_first_line_after, address, head).result(20)
        assert refused.startswith("HTTP/1.1 503")
        assert "retry-after: 1" in refused
        assert "application/problem+json" in refused
        assert httpx2.get(f"{address}/health/live").status_code == 200
    files = {"images": ("a.png", photo(1))}
    while (response := httpx2.post(f"{address}/embed", files=files)).status_code == 503:
        pass
    assert response.status_code == 200


def _first_line_after(address: str, head: str) -> str:
    """The answer to a request that announces a body and sends none; asked again while the place is free."""
    host, port = address.removeprefix("http://").split(":")
    while True:
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(1)
            connection.sendall(head.encode())
            try:
                return connection.recv(4096).decode()
            except TimeoutError:
                continue
