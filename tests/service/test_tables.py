"""`/submission` and `/similarity/batch`: 371 photos, the lookup rules, all that is found before embedding."""

import asyncio
import csv
import io
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

PAIRS = b"query_image,gallery_image\na.png,b.png\n"


def rows_of(response) -> list[list[str]]:
    assert response.status_code == 200, response.text
    return list(csv.reader(io.StringIO(response.text)))


def post_test(client, table: bytes, images=()):
    return client.post(
        "/submission", files=[("test_csv", ("test.csv", table)), *(("images", image) for image in images)]
    )


def post_pairs(client, table: bytes, images=()):
    files = [("pairs", ("pairs.csv", table)), *(("images", image) for image in images)]
    return client.post("/similarity/batch", files=files)


@pytest.fixture
def root(tmp_path, photo):
    """An image root with a.png, b.png, c.png."""
    folder = tmp_path / "root"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        (folder / name).write_bytes(photo(seed))
    return folder


@pytest.mark.parametrize("way", ["image root", "zip"])
def test_submission_of_371_photos(service, photo, zipped, tiny_embedding, embedded, tmp_path, way):
    names = [f"test_{number:04d}.png" for number in range(1, 372)]
    files = {name: photo(number) for number, name in enumerate(names)}
    pairs = list(permutations(range(371), 2))
    lines = [f"{row},{names[query]},{names[gallery]}" for row, (query, gallery) in enumerate(pairs)]
    table = "\n".join(["row_id,query_image,gallery_image", *lines]).encode()
    if way == "zip":
        client, images = service(), [("test.zip", zipped(files))]
    else:
        (tmp_path / "test").mkdir()
        for name, data in files.items():
            (tmp_path / "test" / name).write_bytes(data)
        client, images = service(image_root=tmp_path), []
    response = post_test(client, table, images)
    header, *rows = rows_of(response)
    assert embedded(client) == 371
    assert header == ["row_id", "similarity"]
    assert [row[0] for row in rows] == [str(number) for number in range(137_270)]
    similarity = np.array([float(row[1]) for row in rows])
    vectors = np.array([tiny_embedding(files[name]) for name in names])
    expected = (vectors @ vectors.T + 1) / 2
    query, gallery = np.array(pairs).T
    np.testing.assert_allclose(similarity, expected[query, gallery], atol=1e-6)
    square = np.zeros((371, 371))
    square[query, gallery] = similarity
    assert np.array_equal(square, square.T)
    assert similarity.min() >= 0
    assert similarity.max() <= 1
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="submission.csv"'
    assert response.headers["x-model-version"] == client.get("/model").json()["model_version"]


def test_batch_keeps_columns_and_order(service, root, tiny_embedding, embedded):
    client = service(image_root=root)
    table = (
        '\ufeffsite,query_image,gallery_image,note\r\nriver,b.png,a.png,"two\nlines, and ""quotes"""\r\n'
        ",a.png,c.png,\r\n\r\nhill,b.png,b.png,x\r\n"
    )
    response = post_pairs(client, table.encode())
    header, *rows = rows_of(response)
    assert header == ["site", "query_image", "gallery_image", "note", "cosine", "similarity", "probability", "verdict"]
    assert rows[0][:4] == ["river", "b.png", "a.png", 'two\nlines, and "quotes"']
    assert [row[1:3] for row in rows] == [["b.png", "a.png"], ["a.png", "c.png"], ["b.png", "b.png"]]
    vector = {name: tiny_embedding((root / name).read_bytes()) for name in ("a.png", "b.png", "c.png")}
    for row in rows:
        cosine = vector[row[1]] @ vector[row[2]]
        assert float(row[4]) == pytest.approx(cosine, abs=1e-6)
        assert float(row[5]) == pytest.approx((cosine + 1) / 2, abs=1e-6)
        assert row[6:] == ["", ""]
    assert embedded(client) == 3
    assert response.headers["content-disposition"] == 'attachment; filename="pairs.csv"'
    assert response.headers["x-model-version"] == client.get("/model").json()["model_version"]


def test_further_columns_of_a_test_csv_are_left_out(service, root):
    table = b"camera,gallery_image,row_id,query_image\n7,b.png,x9,a.png\n7,b.png,x1,c.png\n"
    header, *rows = rows_of(post_test(service(image_root=root), table))
    assert header == ["row_id", "similarity"]
    assert [row[0] for row in rows] == ["x9", "x1"]


def test_names_of_one_photo_are_embedded_once(service, root, embedded, photo):
    table = b"query_image,gallery_image\na.png,test/test/a.png\ntest/a.png,./a.png\nb.png,a.png\n"
    client = service(image_root=root)
    rows = rows_of(post_pairs(client, table))
    assert embedded(client) == 2
    assert [row[2] for row in rows[1:3]] == ["1", "1"]
    client = service()
    table = b"query_image,gallery_image\na.png,test/test/a.png\ntest/a.png,train/a.png\n"
    rows_of(post_pairs(client, table, [("train/train/a.png", photo(1))]))
    assert embedded(client) == 1


def test_an_upload_is_looked_in_alone(service, root, photo, assert_problem, embedded):
    client = service(image_root=root)
    images = [("test/test/a.png", photo(8)), ("sub/d.png", photo(9))]
    rows = rows_of(post_pairs(client, b"query_image,gallery_image\na.png,sub/d.png\n", images))
    assert len(rows) == 2
    problem = assert_problem(post_pairs(client, PAIRS, images), 422, "unknown-image")
    assert problem["problems"] == ["line 2: 'b.png'"]
    assert embedded(client) == 2


def test_files_and_zips_together(service, photo, zipped, tiny_embedding):
    archive = zipped(
        {"photos/": b"", "photos/b.png": photo(2), "__MACOSX/photos/._b.png": b"x", "photos/.hidden": b"x"}
    )
    images = [("a.png", photo(1)), ("more.zip", archive)]
    rows = rows_of(post_pairs(service(), b"query_image,gallery_image\na.png,photos/b.png\n", images))
    assert float(rows[1][2]) == pytest.approx(tiny_embedding(photo(1)) @ tiny_embedding(photo(2)), abs=1e-6)


@pytest.mark.parametrize(
    ("table", "slug", "findings"),
    [
        (b"", "invalid-table", []),
        (b"row_id,query_image,gallery_image\n", "invalid-table", []),
        (b"row_id,query_image\n1,a.png\n", "invalid-table", ["line 1: the column gallery_image is missing"]),
        (
            b"row_id,query_image,gallery_image\n1,a.png,b.png\n2,a.png\n",
            "invalid-table",
            ["line 3: 2 fields; the header has 3"],
        ),
        (
            b"row_id,query_image,gallery_image\n1,a.png,b.png\n1,b.png,a.png\n",
            "invalid-table",
            ["line 3: row_id '1' stands in line 2 already"],
        ),
        (b"row_id,query_image,gallery_image\n1,a.png,\xff.png\n", "invalid-table", ["line 2: byte 0xff"]),
        (
            b"row_id,query_image,gallery_image\n1,../a.png,b.png\n2,/etc/passwd,nix.png\n",
            "unsafe-name",
            ["line 2: '../a.png'", "line 3: '/etc/passwd'"],
        ),
        (b"row_id,query_image,gallery_image\n1,a\0.png,b.png\n", "unsafe-name", ["line 2: 'a\\x00.png'"]),
        (
            b"row_id,query_image,gallery_image\n1,a.png,y.png\n2,x.png,y.png\n",
            "unknown-image",
            ["line 2: 'y.png'", "line 3: 'x.png'"],
        ),
    ],
)
def test_problems_are_found_before_anything_is_embedded(
    service, root, photo, embedded, assert_problem, table, slug, findings
):
    client = service(image_root=root)
    assert assert_problem(post_test(client, table), 422, slug)["problems"] == findings
    images = [("a.png", photo(1)), ("b.png", photo(2))]
    assert assert_problem(post_test(client, table, images), 422, slug)["problems"] == findings
    assert embedded(client) == 0


def test_the_first_20_of_many_problems_are_listed(service, root, assert_problem):
    table = "query_image,gallery_image\n" + "".join(f"no{row}.png,a.png\n" for row in range(50))
    body = assert_problem(post_pairs(service(image_root=root), table.encode()), 422, "unknown-image")
    assert body["problems"] == [f"line {row + 2}: 'no{row}.png'" for row in range(20)]
    assert "the first 20 of 50" in body["detail"]


def test_a_column_that_the_answer_adds_is_refused(service, root, assert_problem):
    table = b"query_image,gallery_image,verdict\na.png,b.png,same\n"
    body = assert_problem(post_pairs(service(image_root=root), table), 422, "invalid-table")
    assert "verdict" in body["problems"][0]


def post_from_browser(client):
    """What a browser sends for a form whose field `images` was left empty: a part with an empty filename."""
    part = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
    body = part % (b"pairs", b"pairs.csv", PAIRS) + part % (b"images", b"", b"") + b"--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return client.post("/similarity/batch", content=body, headers=headers)


@pytest.mark.parametrize("ask", [lambda client: post_pairs(client, PAIRS), post_from_browser])
def test_without_photos_and_root_the_way_out_is_told(service, assert_problem, ask):
    assert "JAGUAR_IMAGE_ROOT" in assert_problem(ask(service()), 422, "no-images")["detail"]


def test_empty_field_of_a_browser_leaves_the_root_in_place(service, root):
    assert len(rows_of(post_from_browser(service(image_root=root)))) == 2


def test_two_files_that_match_are_ambiguous(service, root, photo, assert_problem):
    (root / "test").mkdir()
    (root / "test" / "a.png").write_bytes(photo(9))
    client = service(image_root=root)
    assert assert_problem(post_pairs(client, PAIRS), 422, "ambiguous-image")["problems"] == ["line 2: 'a.png'"]
    rows_of(post_pairs(client, b"query_image,gallery_image\ntest/a.png,b.png\n"))


def test_link_out_of_the_root_is_refused(service, root, tmp_path, photo, assert_problem):
    (tmp_path / "secret.png").write_bytes(photo(9))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "inner.png").symlink_to(root / "a.png")
    client = service(image_root=root)
    table = b"query_image,gallery_image\nlink.png,a.png\n"
    assert_problem(post_pairs(client, table), 422, "unsafe-name")
    rows_of(post_pairs(client, b"query_image,gallery_image\ninner.png,b.png\n"))


def test_one_photo_that_cannot_be_read_fails_the_table_with_its_name(service, root, assert_problem):
    (root / "b.png").write_bytes((root / "b.png").read_bytes()[:200])
    assert "'b.png'" in assert_problem(post_pairs(service(image_root=root), PAIRS), 422, "unreadable-image")["detail"]


def test_file_that_may_not_be_opened_is_named_without_its_path(service, root, assert_problem, monkeypatch):
    client = service(image_root=root)
    opened = Path.open

    def refuse(path: Path, *args, **options):
        if path.name == "a.png":
            raise PermissionError(13, "no", str(path))
        return opened(path, *args, **options)

    # Between lookup and reading, the file goes; no test can time that, so opening it fails by itself.
    monkeypatch.setattr(Path, "open", refuse)
    detail = assert_problem(post_pairs(client, PAIRS), 422, "unreadable-image")["detail"]
    assert detail == "'a.png': the file cannot be read"


@pytest.mark.parametrize("path", ["/submission", "/similarity/batch"])
def test_long_answers_are_sent_as_they_are_written(service, root, path):
    """The header by itself as soon as there are scores, then some thousand rows at a time."""
    part = {"/submission": "test_csv", "/similarity/batch": "pairs"}[path]
    names = ("a.png", "b.png", "c.png")
    lines = [f"{row},{names[row % 3]},{names[row // 3 % 3]}" for row in range(20_000)]
    table = "\n".join(["row_id,query_image,gallery_image", *lines]).encode()
    client = service(image_root=root)
    request = client.build_request("POST", path, files={part: ("t.csv", table)})
    sent = asyncio.run(bodies(client.app, request))
    rows = [piece.count(b"\n") for piece in sent if piece]
    assert rows == [1, 8_192, 8_192, 3_616]
    assert list(csv.reader(io.StringIO(b"".join(sent).decode()))) == rows_of(client.send(request))


async def bodies(app, request) -> list[bytes]:
    """What the application sends as its answer's body, message by message; a client joins them."""
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": request.url.path, "raw_path": request.url.raw_path, "query_string": b"", "root_path": "",
        "headers": headers, "client": ("testclient", 1), "server": ("testserver", 80), "state": {},
    }  # fmt: skip
    messages: list[dict] = []
    body = asyncio.Queue()
    body.put_nowait({"type": "http.request", "body": request.read(), "more_body": False})

    async def send(message):
        messages.append(message)

    await app(scope, body.get, send)
    assert messages[0]["status"] == 200
    return [message["body"] for message in messages if message["type"] == "http.response.body"]
