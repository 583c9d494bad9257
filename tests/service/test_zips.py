"""Zips: looked at before use, never unpacked beyond their limits."""

import io
import stat
import struct
import zipfile

import pytest

PAIRS = b"query_image,gallery_image\na.png,b.png\n"
MIB = 2**20


def post(client, *archives: bytes):
    images = [("images", (f"{number}.zip", data)) for number, data in enumerate(archives)]
    return client.post("/similarity/batch", files=[("pairs", PAIRS), *images])


@pytest.fixture
def two(photo):
    """What a good zip holds."""
    return {"a.png": photo(1), "b.png": photo(2)}


def patched(data: bytes, name: str, offset: int, kind: str, value: int) -> bytes:
    """A zip with one field of a member's directory entry overwritten."""
    start = data.rindex(name.encode()) - 46
    assert data[start : start + 4] == b"PK\x01\x02"
    changed = bytearray(data)
    struct.pack_into(kind, changed, start + offset, value)
    return bytes(changed)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_good_zip(service, two, zipped, compression):
    assert post(service(), zipped(two, compression)).status_code == 200


@pytest.mark.parametrize("flag", [0x800, 0])
def test_utf8_names_with_and_without_the_flag(service, two, zipped, flag):
    data = bytearray(patched(zipped({"cámara/ü.png": two["a.png"]}), "cámara/ü.png", 8, "<H", flag))
    struct.pack_into("<H", data, 6, flag)  # the flag stands before the member as well
    table = "query_image,gallery_image\ncámara/ü.png,cámara/ü.png\n".encode()
    response = service().post("/similarity/batch", files=[("pairs", table), ("images", ("1.zip", bytes(data)))])
    assert response.status_code == 200, response.text


def test_name_that_is_no_utf8_is_cp437(service, two, zipped):
    data = zipped({"xx.png": two["a.png"]}).replace(b"xx.png", b"\x81x.png")
    response = service().post(
        "/similarity/batch",
        files=[("pairs", "query_image,gallery_image\nüx.png,üx.png\n".encode()), ("images", ("1.zip", data))],
    )
    assert response.status_code == 200, response.text


def test_members_that_nobody_names_do_no_harm(service, two, zipped):
    assert post(service(), zipped({**two, "notes.txt": b"rain", "inner.zip": zipped(two)})).status_code == 200


def test_zip_with_a_comment_and_one_without_members(service, two, zipped, assert_problem):
    buffer = io.BytesIO(zipped(two))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"spring survey"
    assert post(service(), buffer.getvalue()).status_code == 200
    assert_problem(post(service(), zipped({})), 422, "unknown-image")


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/a.png"])
def test_names_that_lead_out(service, two, zipped, embedded, assert_problem, name):
    client = service()
    body = assert_problem(post(client, zipped({**two, name: b"x"})), 422, "unsafe-name")
    assert body["problems"] == [repr(name)]
    assert embedded(client) == 0


def test_name_with_nul(service, two, zipped, assert_problem):
    data = zipped({**two, "c?png": b"x"}).replace(b"c?png", b"c\0png")
    assert_problem(post(service(), data), 422, "unsafe-name")


def test_symbolic_link(service, two, zipped, assert_problem):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    body = assert_problem(post(service(), zipped({**two, link: b"/etc/passwd"})), 422, "unsafe-name")
    assert body["problems"] == ["'link.png' is a symbolic link"]


def test_same_name_twice(service, two, zipped, photo, assert_problem):
    body = assert_problem(post(service(), zipped({**two, "test/a.png": photo(3)})), 422, "duplicate-image")
    assert body["problems"] == ["'a.png' and 'test/a.png'"]
    assert_problem(post(service(), zipped(two), zipped(two)), 422, "duplicate-image")


def test_encrypted(service, two, zipped, assert_problem):
    data = patched(zipped(two), "a.png", 8, "<H", 1)
    assert "encrypted" in assert_problem(post(service(), data), 422, "unreadable-zip")["detail"]


def test_other_compression(service, two, zipped, assert_problem):
    assert (
        "deflated" in assert_problem(post(service(), zipped(two, zipfile.ZIP_BZIP2)), 422, "unreadable-zip")["detail"]
    )


def test_cut_short(service, two, zipped, assert_problem):
    assert_problem(post(service(), zipped(two)[:-30]), 422, "unreadable-zip")
    assert_problem(post(service(), b"PK\x03\x04"), 422, "unreadable-zip")


def test_damaged_member_is_named(service, two, zipped, assert_problem):
    data = zipped(two, zipfile.ZIP_STORED)
    place = data.index(two["b.png"]) + 60
    damaged = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
    assert "'b.png'" in assert_problem(post(service(), damaged), 422, "unreadable-image")["detail"]


def test_directory_that_understates_a_bomb_gains_nothing(service, two, zipped, assert_problem):
    data = patched(zipped({**two, "b.png": bytes(64 * MIB)}), "b.png", 24, "<L", 1000)
    assert "'b.png'" in assert_problem(post(service(), data), 422, "unreadable-image")["detail"]


def test_ratio_at_and_over_the_limit(service, two, zipped, assert_problem):
    stored = zipped({**two, "c.bin": bytes(2 * MIB)}, zipfile.ZIP_STORED)
    assert post(service(max_unzip_ratio=1), stored).status_code == 200
    packed = zipped({**two, "c.bin": bytes(2 * MIB)})
    detail = assert_problem(post(service(), packed), 413, "zip-too-large")["detail"]
    assert "'c.bin'" in detail
    assert post(service(max_unzip_ratio=2000), packed).status_code == 200
    assert post(service(), zipped({**two, "c.bin": bytes(MIB)})).status_code == 200
    assert_problem(post(service(), zipped({**two, "c.bin": bytes(MIB + 1)})), 413, "zip-too-large")


def test_unzipped_bytes_at_and_over_the_limit(service, two, zipped, assert_problem):
    total = sum(len(data) for data in two.values())
    halves = [zipped({name: data}) for name, data in two.items()]
    assert post(service(max_unzipped_bytes=total), *halves).status_code == 200
    assert_problem(post(service(max_unzipped_bytes=total - 1), *halves), 413, "zip-too-large")


def test_member_bytes_at_and_over_the_limit(service, two, zipped, assert_problem):
    largest = max(len(data) for data in two.values())
    assert post(service(max_image_bytes=largest), zipped(two)).status_code == 200
    detail = assert_problem(post(service(max_image_bytes=largest - 1), zipped(two)), 413, "file-too-large")["detail"]
    assert f"the limit is {largest - 1}" in detail


def test_members_at_and_over_the_limit(service, two, zipped, assert_problem):
    assert post(service(max_zip_members=2), zipped(two)).status_code == 200
    assert_problem(post(service(max_zip_members=1), zipped(two)), 413, "zip-too-large")


def test_directory_too_long_to_be_read(service, two, zipped, assert_problem):
    crowd = {f"{number:0100d}": b"" for number in range(2000)}
    body = assert_problem(post(service(max_zip_members=1), zipped({**two, **crowd})), 413, "zip-too-large")
    assert "directory" in body["detail"]
