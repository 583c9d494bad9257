"""The photos that go with a table: a folder of which the named ones are sent, single files, a zip, or none."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from app.client.errors import InputError
from app.client.sources import Photo, Source, bytes_source, file_name, file_source, is_file, path_source, photo_source
from app.client.zips import stored_zip
from app.reid.errors import ListedError, quote
from app.reid.photos import PhotoFile, PhotoFolder, image_key, is_safe_name
from app.reid.tables import PairTable

# A folder; a photo or a zip, as a path or an open file; a zip's bytes; photos by name; several photos and zips.
Images = Photo | Mapping[str, Photo] | Iterable[Photo]

# Half of what a service takes by default. Of more photos a zip is made while it is sent.
MAX_PARTS = 500
ZIP_NAME = "images.zip"
_ZIP_START = b"PK"
# What a part's head cannot carry; a zip's directory can.
_UNSPEAKABLE = frozenset('"\\') | {chr(code) for code in (*range(32), 127)}


def image_sources(images: Images | None, read_table: Callable[[], PairTable]) -> list[Source]:
    """What is to be sent as `images`. `read_table` reads the CSV; only a folder needs it.

    Raises:
        InputError: something cannot be read, has no name, or has another one's; or the folder lacks photos.
    """
    return [] if images is None else _packed(_collected(images, read_table))


def _collected(images: Images, read_table: Callable[[], PairTable]) -> list[Source]:
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        return _from_folder(path, read_table) if path.is_dir() else [path_source(path)]
    if isinstance(images, bytes | bytearray | memoryview):
        if bytes(images[:2]) != _ZIP_START:
            raise InputError("images as bytes are a zip; give single photos by name: {'a.jpg': bytes}")
        return [bytes_source(bytes(images), ZIP_NAME)]
    if is_file(images):
        return [file_source(cast(IO[bytes], images), file_name(images, ZIP_NAME))]
    if isinstance(images, Mapping):
        return [photo_source(photo, str(name)) for name, photo in images.items()]
    if isinstance(images, Iterable):
        return [_named(photo, place) for place, photo in enumerate(images)]
    raise InputError(f"images are a {type(images).__name__}; give a folder, a zip, a list of paths or photos by name")


def _named(photo: Photo, place: int) -> Source:
    if isinstance(photo, bytes | bytearray | memoryview):
        raise InputError(f"images[{place}] has no name that a table could use; give photos by name: {{'a.jpg': bytes}}")
    if is_file(photo):
        return file_source(cast(IO[bytes], photo), file_name(photo, f"images[{place}]"))
    return photo_source(photo, otherwise=f"images[{place}]")


def _from_folder(folder: Path, read_table: Callable[[], PairTable]) -> list[Source]:
    """The photos that the table names, looked up as the service does it; once for all names that it takes for one."""
    try:
        table = read_table()
        lines = dict(zip(table.names, table.first_lines.tolist(), strict=True))
        found = PhotoFolder(folder, label=str(folder)).find(lines)
    except ListedError as error:
        raise InputError(error.summary, error.all_problems) from error
    sources: dict[tuple[str, Path], Source] = {}
    for name in table.names:
        path = cast(PhotoFile, found[name]).path
        if (image_key(name), path) not in sources:
            sources[image_key(name), path] = path_source(path, name)
    return list(sources.values())


def _packed(sources: Sequence[Source]) -> list[Source]:
    """As parts; photos in a zip where they are too many for that, or have names that a part cannot have."""
    zips = [source for source in sources if source.name.lower().endswith(".zip")]
    photos = [source for source in sources if not source.name.lower().endswith(".zip")]
    _check_names(photos)
    if len(photos) <= MAX_PARTS and not any(_UNSPEAKABLE & set(source.name) for source in photos):
        return list(sources)
    return [*zips, stored_zip(photos, ZIP_NAME)]


def _check_names(photos: Sequence[Source]) -> None:
    unsafe = [quote(photo.name) for photo in photos if not is_safe_name(photo.name) or not _is_utf8(photo.name)]
    if unsafe:
        raise InputError("names that no photo can be sent under; give photos by name: {'a.jpg': path}", unsafe)
    first: dict[str, str] = {}
    repeated = []
    for photo in photos:
        key = image_key(photo.name)
        if key in first:
            repeated.append(f"{quote(first[key])} and {quote(photo.name)}")
        first.setdefault(key, photo.name)
    if repeated:
        raise InputError("photos that a service takes for the same name; send one of each, or rename them", repeated)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
