"""What clients send: parts of bounded size, zips whose members were looked at before use, and photos found by name.

Nothing is extracted to disk: a zip's member is read from the uploaded file when its turn comes.
"""

import asyncio
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser

from app.admission import part_memory
from app.errors import ArchiveError, ArchiveLimitError, DuplicateImageError, FileLimitError, NoImagesError
from app.reid.errors import ImageError, quote
from app.reid.photos import Findings, Photo, PhotoFile, PhotoFolder, PhotoSource, image_key, is_safe_name
from app.settings import MIB, Settings

# Starlette keeps 1 MiB of every part in memory: too much for a thousand parts in each of many requests, and too little
# for a photo where there is room. It asks for the number at the head of each part.
MultiPartParser.spool_max_size = property(lambda _: part_memory.get())  # type: ignore[assignment]

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_ENCRYPTED, _UTF8 = 0x1, 0x800
_RATIO_FROM_BYTES = MIB
# What zipfile reads to find a zip's directory, and what an entry may take there: names rarely pass 200 bytes.
_DIRECTORY_TAIL_BYTES = 128 * 1024
_ENTRY_BYTES = 1024
# Every entry becomes an object before members are counted. A photo may bring a folder and what macOS adds with it.
_ENTRY, _ENTRIES_PER_MEMBER = b"PK\x01\x02", 4
_ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError,
    OverflowError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class UploadedPhoto:
    """A photo that came as a part."""

    file: BinaryIO

    def read(self) -> bytes:
        """The file's bytes."""
        self.file.seek(0)
        return self.file.read()


class Archive:
    """An uploaded zip. Its directory was read; members are inflated one at a time, whichever thread asks."""

    def __init__(self, file: BinaryIO, name: str, settings: Settings) -> None:
        """Reads the directory of a file that starts like a zip; `name` is what errors call it.

        Raises:
            ArchiveError: it is damaged. ArchiveLimitError: its directory is larger than the limit on members allows.
        """
        self.name = name
        self._settings = settings
        self._lock = threading.Lock()
        guarded = _DirectoryGuard(file, settings.max_zip_members)
        try:
            self._zip = zipfile.ZipFile(guarded)
        except _ZIP_DAMAGE as error:
            raise ArchiveError(f"{name}: the zip is damaged or cut short") from error
        guarded.limit = None

    def members(self) -> list[zipfile.ZipInfo]:
        """The files in it, without folders, hidden files and what macOS adds."""
        # Not is_dir(): a member without a name has it raise IndexError in Python 3.11.
        every = self._zip.infolist()
        return [info for info in every if not info.filename.endswith("/") and not _is_clutter(info.filename)]

    def check(self, info: zipfile.ZipInfo) -> None:
        """Looks at what the directory says of a member, before anything of it is read.

        Raises:
            ArchiveError: encrypted, or compressed by something other than deflate.
            FileLimitError, ArchiveLimitError: more bytes than allowed, or more for each zipped byte.
        """
        called = f"{self.name}: {quote(member_name(info))}"
        limit, ratio = self._settings.max_image_bytes, self._settings.max_unzip_ratio
        if info.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"{called} is encrypted")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ArchiveError(f"{called} is neither stored nor deflated; other compressions are not read")
        if info.file_size > limit:
            raise FileLimitError(f"{called} has {info.file_size} bytes; the limit is {limit:d}")
        if info.file_size > max(_RATIO_FROM_BYTES, ratio * info.compress_size):
            raise ArchiveLimitError(f"{called} unpacks to more than {ratio} times its size")

    def read(self, info: zipfile.ZipInfo) -> bytes:
        """A member's bytes: never more than its directory entry states, which `check` has bounded.

        Raises:
            ImageError: the member is damaged, or not what the directory says.
        """
        try:
            with self._lock, self._zip.open(info) as member:
                # In pieces: a read of everything inflates all there is before it looks at the stated size.
                return b"".join(iter(lambda: member.read(MIB), b""))
        except _ZIP_DAMAGE as error:
            raise ImageError(f"{self.name}: {quote(member_name(info))} is damaged") from error


@dataclass(frozen=True, eq=False)
class ZippedPhoto:
    """A photo in an uploaded zip."""

    archive: Archive
    info: zipfile.ZipInfo

    def read(self) -> bytes:
        """The member's bytes, inflated. Raises ImageError where it is damaged."""
        return self.archive.read(self.info)


@dataclass
class UploadedPhotos:
    """A `PhotoSource` over uploaded photos and zips, found by `image_key`."""

    settings: Settings
    _photos: dict[str, Photo] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _findings: Findings = field(default_factory=Findings)
    _duplicates: list[str] = field(default_factory=list)
    _members: int = 0
    _unzipped_bytes: int = 0

    @classmethod
    def collect(cls, uploads: Sequence[UploadFile], settings: Settings) -> "UploadedPhotos":
        """Looks through all parts called `images`; reads zip directories, so not for the event loop.

        Raises:
            UnsafeNameError, DuplicateImageError: with the names. ArchiveError, ArchiveLimitError, FileLimitError.
        """
        photos = cls(settings)
        for upload in uploads:
            photos._add_part(upload)
        photos._findings.raise_any("the upload")
        if photos._duplicates:
            raise DuplicateImageError("photos in the upload that have the same name", photos._duplicates)
        return photos

    def find(self, names: Mapping[str, int]) -> dict[str, Photo]:
        """Names with their first lines -> photos. Two names with the same key get the same photo.

        Raises:
            UnsafeNameError, UnknownImageError: each with its names by line.
        """
        findings = Findings()
        found: dict[str, Photo] = {}
        for name, line in sorted(names.items(), key=lambda item: item[1]):
            photo = self._photos.get(image_key(name))
            if not is_safe_name(name):
                findings.unsafe.append(f"line {line}: {quote(name)}")
            elif photo is None:
                findings.unknown.append(f"line {line}: {quote(name)}")
            else:
                found[name] = photo
        findings.raise_any("the upload")
        return found

    def _add_part(self, upload: UploadFile) -> None:
        name = upload.filename or ""
        start = upload.file.read(4)
        upload.file.seek(0)
        if start in _ZIP_MAGIC:
            self._add_zip(Archive(upload.file, quote(name), self.settings))
        else:
            check_image_size(upload, self.settings)
            self._add(name, UploadedPhoto(upload.file))

    def _add_zip(self, archive: Archive) -> None:
        members = archive.members()
        self._members += len(members)
        if self._members > self.settings.max_zip_members:
            raise ArchiveLimitError(f"{archive.name}: more than {self.settings.max_zip_members} files in the zips")
        for info in members:
            if stat.S_ISLNK(info.external_attr >> 16):
                self._findings.unsafe.append(f"{quote(member_name(info))} is a symbolic link")
                continue
            archive.check(info)
            self._unzipped_bytes += info.file_size
            self._add(member_name(info), ZippedPhoto(archive, info))
        if self._unzipped_bytes > self.settings.max_unzipped_bytes:
            limit = self.settings.max_unzipped_bytes
            raise ArchiveLimitError(f"{archive.name}: the zips unpack to more than {limit:d} bytes")

    def _add(self, name: str, photo: Photo) -> None:
        key = image_key(name)
        if not is_safe_name(name):
            self._findings.unsafe.append(quote(name))
        elif key in self._photos:
            self._duplicates.append(f"{quote(self._names[key])} and {quote(name)}")
        else:
            self._photos[key] = photo
            self._names[key] = name


@dataclass(frozen=True)
class ImageRoot:
    """A `PhotoSource` over `JAGUAR_IMAGE_ROOT`: the engine's folder, with the limit on a photo's bytes."""

    folder: PhotoFolder
    max_bytes: int

    def find(self, names: Mapping[str, int]) -> dict[str, Photo]:
        """Names with their first lines -> files. Raises what `PhotoFolder.find` does, and FileLimitError."""
        found = self.folder.find(names)
        for name, photo in found.items():
            if isinstance(photo, PhotoFile) and (size := _size(photo.path)) > self.max_bytes:
                where = f"line {names[name]}: {quote(name)}"
                raise FileLimitError(f"{where} has {size} bytes; the limit is {self.max_bytes}")
        return found


async def photo_source(uploads: Sequence[UploadFile], settings: Settings) -> PhotoSource:
    """Where a CSV's photos come from: the upload, or where nothing was uploaded the image root.

    Raises:
        NoImagesError: there is neither. Whatever `UploadedPhotos.collect` raises.
    """
    sent = [upload for upload in uploads if upload.filename or upload.size]  # a browser's empty field is a part as well
    if sent:
        return await asyncio.to_thread(UploadedPhotos.collect, sent, settings)
    if settings.image_root is None:
        raise NoImagesError(
            "no photos came with the request, and the service has no image root: send them as parts called images,"
            " or have the service started with JAGUAR_IMAGE_ROOT"
        )
    return ImageRoot(PhotoFolder(settings.image_root, "the image root"), settings.max_image_bytes)


async def read_csv(upload: UploadFile, part: str, settings: Settings) -> bytes:
    """The bytes of a CSV part. Raises FileLimitError."""
    if (upload.size or 0) > settings.max_csv_bytes:
        raise FileLimitError(f"{part} has {upload.size} bytes; the limit is {settings.max_csv_bytes:d}")
    return await upload.read()


def member_name(info: zipfile.ZipInfo) -> str:
    """A member's name. macOS and Info-ZIP write UTF-8 without the flag that says so."""
    if info.flag_bits & _UTF8:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode()
    except UnicodeError:
        return info.orig_filename


def check_image_size(upload: UploadFile, settings: Settings) -> None:
    """Raises FileLimitError where a photo's part is larger than one photo may be."""
    if (upload.size or 0) > settings.max_image_bytes:
        limit = settings.max_image_bytes
        raise FileLimitError(f"{quote(upload.filename or '')} has {upload.size} bytes; the limit is {limit:d}")


class _DirectoryGuard:
    """A file that hands out no more at once than the directory of a zip may hold, which is one such read."""

    def __init__(self, file: BinaryIO, max_members: int) -> None:
        self._file = file
        self.limit: int | None = _DIRECTORY_TAIL_BYTES + max_members * _ENTRY_BYTES
        self._max_entries = max_members * _ENTRIES_PER_MEMBER
        self.seek, self.tell = file.seek, file.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self.limit is None:
            return self._file.read(size)
        data = self._file.read(size if 0 <= size <= self.limit else self.limit + 1)
        if len(data) > self.limit:
            raise ArchiveLimitError(f"the zip's directory is longer than {self.limit} bytes")
        if size >= 0 and data.count(_ENTRY) > self._max_entries:
            raise ArchiveLimitError(f"the zip's directory has more than {self._max_entries} entries")
        return data


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was found: reading it will say so, with its name
        return 0


def _is_clutter(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith(".")
