"""Case 1: small files that declare huge pictures cost nothing."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reliability.pictures import black_png, photo

LIMIT_MB = 20
DECLARED = {"900 MP": ((30_000, 30_000), (100_000, 115_000)), "81 MP": ((9_000, 9_000), (8_000, 11_000))}


@pytest.fixture(scope="module", params=DECLARED)
def huge(request) -> tuple[str, bytes]:
    size, (least, most) = DECLARED[request.param]
    data = black_png(*size)
    assert least <= len(data) <= most
    return request.param, data


def calls(data: bytes) -> list[tuple[str, list]]:
    good, bad = ("good.jpg", photo(1)), ("huge.png", data)
    table = b"query_image,gallery_image\ngood.jpg,huge.png\n"
    return [
        ("/similarity", [("query_image", good), ("gallery_image", bad)]),
        ("/embed", [("images", bad)]),
        ("/embed", [("images", good), ("images", bad)]),
        ("/similarity/batch", [("pairs", ("pairs.csv", table)), ("images", good), ("images", bad)]),
        ("/submission", [("test_csv", ("t.csv", with_ids(table))), ("images", good), ("images", bad)]),
    ]


def with_ids(table: bytes) -> bytes:
    header, *rows = table.split(b"\n")[:-1]
    return b"\n".join([b"row_id," + header, *(b"%d,%s" % row for row in enumerate(rows))]) + b"\n"


def test_case_01_refused_on_the_header(server, huge, seen):
    declared, data = huge
    before = server.reset_peak()
    for path, files in calls(data):
        response = server.post(path, files=files)
        assert response.status_code == 422, response.text
        assert response.json()["type"].endswith(":too-many-pixels")
        assert "'huge.png'" in response.json()["detail"]
    more = server.peak_mb() - before
    seen(f"{len(data) // 1000} kB declaring {declared}: 5 x 422, {more:+.1f} MB at the peak")
    assert more <= LIMIT_MB


def test_case_01_many_at_once(server, huge, seen, full):
    declared, data = huge
    files = [("images", ("huge.png", data))]
    number = 200 if full else 40
    before = server.reset_peak()
    with ThreadPoolExecutor(10) as pool:
        statuses = set(pool.map(lambda _: server.post("/embed", files=files).status_code, range(number)))
    more = server.peak_mb() - before
    seen(f"{number} of {declared}, 10 at a time: {sorted(statuses)}, {more:+.1f} MB")
    assert statuses == {422}
    assert more <= LIMIT_MB
