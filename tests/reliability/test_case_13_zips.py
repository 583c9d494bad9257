"""Case 13: zips that want more than they say."""

import io
import stat
import struct
import zipfile
from functools import cache

import pytest

from tests.reliability.pictures import photo

PAIRS = b"query_image,gallery_image\na.png,b.png\n"
GOOD = {"a.png": photo(1), "b.png": photo(2)}
LIMIT_MB = 20


def zipped(members: dict, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@cache
def bomb() -> bytes:
    return zipped({**GOOD, "c.png": bytes(200 * 10**6)})


@cache
def bomb_of_ratio() -> bytes:
    """60 MB, which a photo may have, but not out of 60 kB."""
    return zipped({**GOOD, "c.png": bytes(60 * 10**6)})


@cache
def bomb_by_name() -> bytes:
    """The photo that the CSV names is the bomb."""
    return zipped({"a.png": GOOD["a.png"], "b.png": bytes(200 * 10**6)})


@cache
def bomb_that_understates() -> bytes:
    """Its directory says 1,000 bytes."""
    data = bytearray(bomb_by_name())
    struct.pack_into("<L", data, data.rindex(b"b.png") - 46 + 24, 1_000)
    return bytes(data)


@cache
def many_members() -> bytes:
    return zipped({**GOOD, **{f"{number}": b"" for number in range(20_001)}}, zipfile.ZIP_STORED)


@cache
def overlapping() -> bytes:
    """2,000 directory entries for one member of 1 MB: 2 GB out of some kB, each within its own limits."""
    data = bytearray(zipped({"a.png": bytes(1_000_000)}))
    start, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    entry = bytes(data[start:end])
    entries = b"".join(entry.replace(b"a.png", f"{number:05d}".encode()) for number in range(12_000))
    tail = bytearray(data[end:])
    struct.pack_into("<HHLL", tail, 8, 12_000, 12_000, len(entries), start)
    return bytes(data[:start]) + entries + bytes(tail)


def leads_out() -> bytes:
    return zipped({**GOOD, "../../out.png": GOOD["a.png"]})


def absolute() -> bytes:
    return zipped({**GOOD, "/tmp/out.png": GOOD["a.png"]})


def link() -> bytes:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped({**GOOD, info: b"/etc/passwd"})


def duplicates() -> bytes:
    return zipped({**GOOD, "test/test/a.png": GOOD["b.png"]})


def encrypted() -> bytes:
    data = bytearray(zipped(GOOD))
    struct.pack_into("<H", data, data.rindex(b"a.png") - 46 + 8, 1)
    return bytes(data)


def nested() -> bytes:
    """The photos are in a zip in the zip."""
    return zipped({"inner.zip": zipped(GOOD)})


def nested_by_name() -> bytes:
    """What the CSV calls b.png is a zip."""
    return zipped({"a.png": GOOD["a.png"], "b.png": zipped(GOOD)})


def cut_short() -> bytes:
    return zipped(GOOD)[:-30]


def cut_member() -> bytes:
    data = zipped(GOOD, zipfile.ZIP_STORED)
    place = data.index(GOOD["b.png"]) + 60
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


ZIPS = {
    bomb: (413, "file-too-large"),
    bomb_of_ratio: (413, "zip-too-large"),
    bomb_by_name: (413, "file-too-large"),
    bomb_that_understates: (422, "unreadable-image"),
    many_members: (413, "zip-too-large"),
    overlapping: (413, "zip-too-large"),
    leads_out: (422, "unsafe-name"),
    absolute: (422, "unsafe-name"),
    link: (422, "unsafe-name"),
    duplicates: (422, "duplicate-image"),
    encrypted: (422, "unreadable-zip"),
    nested: (422, "unknown-image"),
    nested_by_name: (415, "unsupported-format"),
    cut_short: (422, "unreadable-zip"),
    cut_member: (422, "unreadable-image"),
}


@pytest.mark.parametrize("job", [False, True], ids=["", "job"])
@pytest.mark.parametrize("make", ZIPS, ids=[make.__name__ for make in ZIPS])
def test_case_13_zip(server, make, job, seen):
    """Refused at once, also where a job was asked for; a damaged photo may let the job fail instead."""
    data, (status, slug) = make(), ZIPS[make]
    if make is bomb:
        assert 190_000 < len(data) < 210_000
    before, forwards = server.reset_peak(), server.embedded()
    response = server.post(
        "/similarity/batch",
        files=[("pairs", ("p.csv", PAIRS)), ("images", ("photos.zip", data))],
        headers={"Prefer": "respond-async"} if job else {},
    )
    problem, found = response.json(), response.status_code
    if found == 202:
        problem, found = ended(server, response.headers["location"])
    more = server.peak_mb() - before
    seen(f"{make.__name__} {found}")
    assert (found, problem["type"].rpartition(":")[2]) == (status, slug), problem
    assert server.embedded() - forwards <= 1  # the photo beside a damaged one
    assert more <= LIMIT_MB


def ended(server, place: str) -> tuple[dict, int]:
    """The problem of a job that failed; the job is deleted."""
    while (job := server.get(place).json())["state"] in {"queued", "running"}:
        pass
    assert job["state"] == "failed", job
    assert server.request("DELETE", place).status_code == 204
    return job["problem"], job["problem"]["status"]


def test_case_13_nothing_outside(server, seen):
    """No name in any of the zips above became a file anywhere near."""
    found = [path for folder in (server.place, server.place.parent) for path in folder.rglob("*out.png*")]
    assert found == []
    seen("no file of theirs anywhere")
