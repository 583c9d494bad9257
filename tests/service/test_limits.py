"""Each limit at its border and beyond it."""

import pytest

PAIRS = b"query_image,gallery_image\na.png,b.png\nb.png,a.png\n"


def images(photo, count):
    return [("images", (f"{'ab'[place] if place < 2 else place}.png", photo(place))) for place in range(count)]


def test_pixels(service, photo, assert_problem):
    files = {"query_image": photo(1), "gallery_image": photo(2)}  # 120 x 80
    assert service(max_pixels=9_600).post("/similarity", files=files).status_code == 200
    detail = assert_problem(service(max_pixels=9_599).post("/similarity", files=files), 422, "too-many-pixels")[
        "detail"
    ]
    assert "120 x 80" in detail
    assert "9599" in detail


@pytest.mark.parametrize("call", ["/similarity", "/embed", "/similarity/batch"])
def test_image_bytes(service, photo, assert_problem, call):
    largest = max(len(photo(0)), len(photo(1)))
    if call == "/similarity":
        files = [("query_image", ("a.png", photo(0))), ("gallery_image", ("b.png", photo(1)))]
    else:
        files = images(photo, 2) + ([("pairs", PAIRS)] if call == "/similarity/batch" else [])
    assert service(max_image_bytes=largest).post(call, files=files).status_code == 200
    response = service(max_image_bytes=largest - 1).post(call, files=files)
    assert ".png' has" in assert_problem(response, 413, "file-too-large")["detail"]


def test_image_bytes_below_the_root(service, photo, assert_problem, tmp_path):
    for place, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(photo(place))
    largest = max(len(photo(0)), len(photo(1)))
    client = service(image_root=tmp_path, max_image_bytes=largest)
    assert client.post("/similarity/batch", files={"pairs": PAIRS}).status_code == 200
    client = service(image_root=tmp_path, max_image_bytes=largest - 1)
    response = client.post("/similarity/batch", files={"pairs": PAIRS})
    assert "line 2" in assert_problem(response, 413, "file-too-large")["detail"]


def test_csv_bytes(service, photo, assert_problem):
    files = [("pairs", PAIRS), *images(photo, 2)]
    assert service(max_csv_bytes=len(PAIRS)).post("/similarity/batch", files=files).status_code == 200
    response = service(max_csv_bytes=len(PAIRS) - 1).post("/similarity/batch", files=files)
    assert "pairs has" in assert_problem(response, 413, "file-too-large")["detail"]


@pytest.mark.parametrize(("call", "part"), [("/similarity/batch", "pairs"), ("/submission", "test_csv")])
def test_csv_rows(service, photo, assert_problem, call, part):
    table = b"row_id,query_image,gallery_image\n1,a.png,b.png\n2,b.png,a.png\n"
    files = [(part, table), *images(photo, 2)]
    assert service(max_csv_rows=2).post(call, files=files).status_code == 200
    assert_problem(service(max_csv_rows=1).post(call, files=files), 413, "too-many-rows")


def test_files(service, photo, assert_problem):
    client = service(max_files=3)
    assert client.post("/embed", files=images(photo, 3)).status_code == 200
    assert_problem(client.post("/embed", files=images(photo, 4)), 413, "too-many-parts")
    csv = [("pairs", PAIRS)]
    assert client.post("/similarity/batch", files=csv + images(photo, 3)).status_code == 200
    assert_problem(client.post("/similarity/batch", files=csv + images(photo, 4)), 413, "too-many-parts")


def test_1001_parts_and_text_parts(service, assert_problem):
    client = service()
    assert_problem(client.post("/embed", files=[("images", ("x", b""))] * 1_001), 413, "too-many-parts")
    assert_problem(client.post("/embed", files=[("images", (None, "x"))] * 17), 413, "too-many-parts")
    assert_problem(client.post("/embed", files=[("images", (None, "x" * 70_000))]), 413, "too-many-parts")


@pytest.mark.parametrize("call", ["/embed", "/similarity/batch"])
@pytest.mark.parametrize("chunked", [False, True])
def test_body_bytes(service, photo, assert_problem, call, chunked):
    files = images(photo, 2) + ([("pairs", PAIRS)] if call == "/similarity/batch" else [])
    setting = "max_images_body_bytes" if call == "/embed" else "max_body_bytes"
    request = service().build_request("POST", call, files=files)
    body, headers = request.read(), {"content-type": request.headers["content-type"]}
    content = lambda: iter([body[:1000], body[1000:]]) if chunked else body  # noqa: E731
    client = service(**{setting: len(body)})
    assert client.post(call, content=content(), headers=headers).status_code == 200
    client = service(**{setting: len(body) - 1})
    response = client.post(call, content=content(), headers=headers)
    assert str(len(body) - 1) in assert_problem(response, 413, "body-too-large")["detail"]
    assert 'status="4xx"' in client.get("/metrics").text
