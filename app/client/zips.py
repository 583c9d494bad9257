"""A zip that is made while it is sent: photos as they are, since they are compressed already."""

import zipfile
from collections.abc import Iterator, Sequence

from app.client.errors import InputError
from app.client.sources import Source
from app.reid.errors import quote

# No photo is that large; above it an entry's length would not be the one below.
_MEMBER_BYTES = 2**30
# Bytes of each part of a zip around names and contents. Source: PKWARE's APPNOTE.TXT, 4.3.7 to 4.3.16.
_HEAD, _DESCRIPTOR, _ENTRY, _ENTRY_ZIP64, _END, _END_ZIP64 = 30, 16, 46, 12, 22, 56 + 20


def stored_zip(members: Sequence[Source], name: str) -> Source:
    """All members in one zip, stored, whose length is known before the first byte.

    Raises:
        InputError: a member is far too large for a photo, or its size is not known.
    """
    for member in members:
        if member.size is None:
            raise InputError(f"{quote(member.name)} is a stream without a length; give its bytes or a file")
        if member.size > _MEMBER_BYTES:
            raise InputError(f"{quote(member.name)} has {member.size} bytes; a photo has {_MEMBER_BYTES} at most")
    return Source(name, _length(members), lambda: _pieces(members))


def _length(members: Sequence[Source]) -> int:
    body = entries = 0
    for member in members:
        name_bytes = len(member.name.encode())
        entries += _ENTRY + name_bytes + (_ENTRY_ZIP64 if body > zipfile.ZIP64_LIMIT else 0)
        body += _HEAD + name_bytes + (member.size or 0) + _DESCRIPTOR
    is_large = len(members) > zipfile.ZIP_FILECOUNT_LIMIT or body > zipfile.ZIP64_LIMIT or entries > zipfile.ZIP64_LIMIT
    return body + entries + _END + (_END_ZIP64 if is_large else 0)


def _pieces(members: Sequence[Source]) -> Iterator[bytes]:
    written = _Written()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for member in members:
            info = zipfile.ZipInfo(member.name)
            info.file_size = member.size or 0
            with archive.open(info, "w") as entry:
                for piece in member.pieces():
                    entry.write(piece)
                    yield written.take()
            yield written.take()
    yield written.take()


class _Written:
    """What zipfile wrote since it was last taken. It cannot go back, so that every length comes after its contents."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Everything is written at once."""

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
