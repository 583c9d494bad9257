"""Any damage to a zip: its photos, or one of the documented errors; never more bytes than allowed, nothing written."""

import io
import re
import stat
import zipfile
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import UploadFile

from app.errors import ArchiveError, ArchiveLimitError, DuplicateImageError, FileLimitError
from app.reid.errors import ImageError, UnknownImageError, UnsafeNameError
from app.settings import Settings
from app.uploads import UploadedPhotos, ZippedPhoto

# Python's own remark when a name is packed twice, as is done here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")

LIMITS = {"max_image_bytes": 3_000, "max_unzipped_bytes": 5_000, "max_zip_members": 5, "max_unzip_ratio": 100}
REFUSALS = (ArchiveError, ArchiveLimitError, DuplicateImageError, FileLimitError, UnsafeNameError)
# So much may be asked for at once: the end of a zip, in which its directory is found, or a piece of a member.
MOST_AT_ONCE = 2**20


class Watched(io.BytesIO):
    """A file that cannot be written to and remembers how much was asked for at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.most = max(self.most, len(data))
        return data

    def write(self, *_: object) -> int:
        raise AssertionError("an upload was written to")

    truncate = writelines = write


NAMES = ["a.png", "b.jpg", "test/a.png", "test/test/c.webp", "train/b.jpg", "x/y z.png", "ü.png", "猫.png"]
ODD_NAMES = ["", "/", "/etc/a.png", "../a.png", "a/../../b", ".hidden", "__MACOSX/._a.png", "folder/", "a\\b.png"]
NAME = st.sampled_from([*NAMES, *NAMES, *ODD_NAMES])
BODY = st.binary(max_size=40) | st.integers(0, 3_500).map(bytes) | st.integers(0, 400).map(b"PK\1\2PK\5\6".__mul__)
PACKING = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
COMMENT = st.sampled_from([b"", b"spring survey"])
VALUE = st.sampled_from([b"\0", b"\1", b"\x7f", b"\xff", b"\x08\0", b"\0\x10", b"PK", bytes(4), b"\xff" * 4])
MEMBERS = st.lists(st.tuples(NAME, BODY, PACKING), max_size=6)
GOOD = st.lists(st.tuples(st.sampled_from(NAMES), BODY, PACKING), min_size=1, max_size=3, unique_by=lambda it: it[0])


def packed(members: list[tuple[str, bytes, int]], comment: bytes) -> bytes:
    """A zip's bytes, as Python writes it; a name may stand there twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = comment
        for name, body, packing in members:
            archive.writestr(zipfile.ZipInfo(name), body, packing)
    return buffer.getvalue()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A zip with some of its headers' fields overwritten, or pieces of it cut out, repeated or put in."""
    data = bytearray(packed(draw(GOOD | MEMBERS), draw(COMMENT | st.just(b"PK\5\6" + bytes(18)))))
    for _ in range(draw(st.integers(1, 4))):
        headers = [match.start() for match in re.finditer(b"PK", data)] or [0]
        place = draw(st.sampled_from(headers)) + draw(st.integers(0, 64))
        value = draw(
            st.sampled_from([b"\0", b"\1", b"\x7f", b"\xff", b"\x08\0", b"\xff" * 4, bytes(4), b"PK", b"\0\x10"])
        )
        match draw(st.sampled_from(["overwrite", "overwrite", "overwrite", "cut", "insert", "repeat"])):
            case "overwrite":
                data[place : place + len(value)] = value
            case "cut":
                del data[place : place + draw(st.integers(1, 200))]
            case "insert":
                data[place:place] = value
            case "repeat":
                data[place:place] = data[place : place + 100]
    return b"PK\3\4" + bytes(data[4:])  # otherwise it is a photo, which is looked at by nobody here


def taken(data: bytes, limits: dict[str, int]) -> tuple[dict[str, bytes | None], Watched]:
    """The photos that are found in a zip, those that cannot be read as None. Raises one of the refusals."""
    file = Watched(data)
    photos = UploadedPhotos.collect([UploadFile(file, filename="1.zip")], Settings.model_validate(limits))
    found: dict[str, bytes | None] = {}
    for name in [*NAMES, *ODD_NAMES]:
        try:
            photo = photos.find({name: 2})[name]
        except (UnknownImageError, UnsafeNameError):
            continue
        assert isinstance(photo, ZippedPhoto)
        try:
            found[name] = photo.read()
        except ImageError:
            found[name] = None
        else:
            assert zlib.crc32(found[name] or b"") == photo.info.CRC
            assert len(found[name] or b"") <= photo.info.file_size <= limits["max_image_bytes"]
            assert not stat.S_ISLNK(photo.info.external_attr >> 16)
    return found, file


@settings(derandomize=True, deadline=None, max_examples=400)
@given(damaged())
@example(b"PK\5\6" + bytes(18))
@example(b"PK\5\6" + b"\xff" * 18)
@example(b"PK\3\4")
def test_a_damaged_zip_gives_photos_or_a_refusal(data: bytes) -> None:
    try:
        found, file = taken(data, LIMITS)
    except REFUSALS as error:
        sentence = str(error)
        assert len(sentence.splitlines()) == 1, sentence
        return
    assert sum(len(body or b"") for body in found.values()) <= len(NAMES + ODD_NAMES) * LIMITS["max_unzipped_bytes"]
    assert file.most <= MOST_AT_ONCE


@settings(derandomize=True, deadline=None, max_examples=150)
@given(MEMBERS, COMMENT)
def test_a_zip_gives_what_was_put_in(members: list[tuple[str, bytes, int]], comment: bytes) -> None:
    """By the slow road: which members count, under which key, and whether any limit or name forbids them."""
    data = packed(members, comment)
    kept = {(place, name): body for place, (name, body, _) in enumerate(members)}
    kept = {key: body for key, body in kept.items() if not key[1].endswith("/") and not hidden(key[1])}
    keys = [key_of(name) for _, name in kept]
    unsafe = any(name in {"", "/etc/a.png", "../a.png", "a/../../b"} for _, name in kept)
    sizes = list(map(len, kept.values()))
    too_much = max(sizes, default=0) > 3_000 or sum(sizes) > 5_000 or len(kept) > 5
    if unsafe or too_much or len(set(keys)) < len(keys):
        with pytest.raises(REFUSALS):
            taken(data, LIMITS)
        return
    found, _ = taken(data, LIMITS)
    assert {key_of(name): body for name, body in found.items()} == dict(zip(keys, kept.values(), strict=True))


def hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def key_of(name: str) -> str:
    for folder in ("test/test/", "test/", "train/train/", "train/"):
        if name.startswith(folder):
            return name.removeprefix(folder)
    return name


def test_a_directory_of_very_many_entries_is_refused_before_it_is_read() -> None:
    """21 entries where 20 may be: four for each photo, so that folders and what macOS adds have room."""
    members = [(f"__MACOSX/._{number}", b"", zipfile.ZIP_STORED) for number in range(20)]
    assert taken(packed(members, b""), LIMITS)[0] == {}
    with pytest.raises(ArchiveLimitError, match="directory has more than 20 entries"):
        taken(packed([*members, ("a.png", b"x", zipfile.ZIP_STORED)], b""), LIMITS)
