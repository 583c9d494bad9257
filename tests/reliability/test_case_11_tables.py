"""Case 11: CSVs that lie about names, repeat themselves, hold nothing or far too much."""

import csv
import io
from pathlib import Path

import pytest

from tests.reliability.pictures import photo

PHOTOS = [("images", (name, photo(seed))) for seed, name in ((1, "a.png"), (2, "b.png"))]
PAIRS, TEST = "query_image,gallery_image", "row_id,query_image,gallery_image"
CALLS = {"/similarity/batch": ("pairs", PAIRS, ""), "/submission": ("test_csv", TEST, "1,")}


def post(server, path: str, table: bytes | str, photos: list = PHOTOS):
    return server.post(path, files=[(CALLS[path][0], ("table.csv", table)), *photos])


UNSAFE = {
    "../": "../a.png",
    "in the middle": "test/../../a.png",
    "absolute": "/etc/passwd.png",
    "NUL": "a\0.png",
    "behind test/": "test/test/../../../a.png",
}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("name", UNSAFE.values(), ids=UNSAFE.keys())
def test_case_11_unsafe_names(server, path, name, seen):
    _, header, number = CALLS[path]
    before = server.embedded()
    response = post(server, path, f"{header}\n{number}a.png,{name}\n")
    assert response.status_code == 422, response.text
    assert "line 2" in response.text
    assert server.embedded() == before
    seen("../, absolute, NUL: 422 with the line, 0 forwards")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """An image root with two photos, and links that lead out of it."""
    top = tmp_path_factory.mktemp("photos")
    root = top / "root"
    root.mkdir()
    for seed, name in ((1, "a.png"), (2, "b.png")):
        (root / name).write_bytes(photo(seed))
    (top / "secret.png").write_bytes(photo(3))
    (root / "link.png").symlink_to(top / "secret.png")
    (root / "out").symlink_to(top)
    (root / "loop.png").symlink_to(root / "loop.png")
    return root


def test_case_11_image_root(servers, root, seen):
    server = servers(JAGUAR_IMAGE_ROOT=str(root))
    for path, (_, header, number) in CALLS.items():
        for name in ("link.png", "out/secret.png", "../secret.png", str(root / "a.png"), "a\0.png"):
            response = post(server, path, f"{header}\n{number}a.png,{name}\n", [])
            assert response.status_code == 422, (name, response.text)
            assert response.json()["type"].endswith(":unsafe-name"), (name, response.text)
            assert "line 2" in response.text
        for name in ("loop.png", "x" * 5_000, "missing.png"):
            response = post(server, path, f"{header}\n{number}a.png,{name}\n", [])
            assert response.status_code == 422, (name, response.text)
            assert response.json()["type"].endswith(":unknown-image"), (name, response.text)
        assert post(server, path, f"{header}\n{number}a.png,b.png\n", []).status_code == 200
    seen("image root with links that lead out: 422 with the line")


WRONG = {
    "duplicate row_id": ("/submission", f"{TEST}\n1,a.png,b.png\n2,a.png,b.png\n1,b.png,a.png\n", "line 4"),
    "missing column": ("/submission", "row_id,query_image\n1,a.png\n", "gallery_image is missing"),
    "missing column in pairs": ("/similarity/batch", "query_image,other\na.png,b.png\n", "gallery_image is missing"),
    "no rows": ("/similarity/batch", f"{PAIRS}\n", "no rows"),
    "no rows in test": ("/submission", f"{TEST}\n", "no rows"),
    "nothing": ("/similarity/batch", "", "empty"),
    "column twice": ("/similarity/batch", f"{PAIRS},query_image\na.png,b.png,a.png\n", "twice"),
    "short row": ("/similarity/batch", f"{PAIRS}\na.png,b.png\na.png\n", "line 3"),
    "unknown photos": ("/similarity/batch", f"{PAIRS}\na.png,b.png\nc.png,d.png\n", "line 3"),
    "open quote": ("/similarity/batch", f'{PAIRS}\na.png,"b.png\n', "line"),
    "not UTF-8": ("/similarity/batch", f"{PAIRS}\na.png,b.png\n".encode() + b"\xff\xfe.png,b.png\n", "line 3"),
    "a zip": ("/similarity/batch", b"PK\x03\x04" + bytes(100), "line 1"),
    "a column that the answer adds": ("/similarity/batch", f"{PAIRS},similarity\na.png,b.png,1\n", "similarity"),
}


@pytest.mark.parametrize("what", WRONG)
def test_case_11_wrong(server, what, seen):
    path, table, words = WRONG[what]
    before = server.embedded()
    response = post(server, path, table)
    assert response.status_code == 422, response.text
    assert words in response.text
    assert server.embedded() == before
    seen("duplicate row_id, missing column, 0 rows, open quotes, no UTF-8: 422 with the line, 0 forwards")


@pytest.mark.parametrize("path", CALLS)
def test_case_11_a_million_rows(server, path, seen):
    """One more than the limit of 999,999."""
    _, header, number = CALLS[path]
    rows = "".join(f"{place if number else ''}{',' if number else ''}a.png,b.png\n" for place in range(1_000_000))
    before, forwards = server.reset_peak(), server.embedded()
    response = post(server, path, f"{header}\n{rows}")
    more = server.peak_mb() - before
    assert response.status_code == 413, response.text
    assert response.json()["type"].endswith(":too-many-rows")
    assert server.embedded() == forwards
    seen(f"1,000,000 rows to {path}: 413, {more:+.0f} MB at the peak")


@pytest.mark.parametrize("path", CALLS)
def test_case_11_too_many_bytes(server, path, seen):
    _, header, number = CALLS[path]
    row = f"{number}a.png,b.png,{'x' * 1_000_000}\n"
    response = post(server, path, f"{header},more\n" + row * 68)
    assert response.status_code == 413, response.text
    assert response.json()["type"].endswith(":file-too-large")
    seen("a CSV of 68 MB: 413")


VALID = {
    "BOM": f"\ufeff{PAIRS}\na.png,b.png\n",
    "CRLF": f"{PAIRS}\r\na.png,b.png\r\n",
    "quotes": '"query_image","gallery_image"\n"a.png","b.png"\n',
    "quoted newline": f'{PAIRS},note\na.png,b.png,"two\nlines, ""quoted"""\n',
    "no last newline": f"{PAIRS}\na.png,b.png",
    "empty lines at the end": f"{PAIRS}\na.png,b.png\n\n\n",
    "further columns": f"site,{PAIRS},hour\nriver,a.png,b.png,5\n",
}


@pytest.mark.parametrize("what", VALID)
def test_case_11_valid(server, what, seen):
    response = post(server, "/similarity/batch", VALID[what].encode())
    assert response.status_code == 200, response.text
    [row] = csv.DictReader(io.StringIO(response.text, newline=""))
    [sent] = csv.DictReader(io.StringIO(VALID[what].removeprefix("\ufeff"), newline=""))
    assert {name: row[name] for name in sent} == sent
    single = server.post("/similarity", files={"query_image": PHOTOS[0][1], "gallery_image": PHOTOS[1][1]})
    assert abs(float(row["similarity"]) - single.json()["similarity"]) < 1e-6
    seen("BOM, CRLF, quotes, newline in quotes: 200, each field as sent")
