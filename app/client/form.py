"""multipart/form-data that is read from its sources while it is sent. Source: RFC 7578."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.client.sources import PIECE_BYTES, Source

# How browsers write what a part's head cannot hold. Source: WHATWG, HTML, "multipart/form-data encoding algorithm".
_ESCAPES = str.maketrans({'"': "%22", "\\": "%5C", **{chr(code): f"%{code:02X}" for code in (*range(32), 127)}})


@dataclass(frozen=True)
class Form:
    """A request's body: parts by the name of their field, in this order."""

    parts: tuple[tuple[str, Source], ...]
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def length(self) -> int | None:
        """Bytes of the body; None where a part's are not known."""
        total = len(self._end())
        for name, source in self.parts:
            if source.size is None:
                return None
            total += len(self._head(name, source)) + source.size + len(b"\r\n")
        return total

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent a second time."""
        return all(source.is_repeatable for _, source in self.parts)

    @property
    def headers(self) -> dict[str, str]:
        """What a request says of its body."""
        length = self.length
        size = {} if length is None else {"Content-Length": str(length)}
        return {"Content-Type": f"multipart/form-data; boundary={self.boundary}", **size}

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces of 256 KiB or a little more, from its beginning."""
        return _gathered(self._written())

    def _written(self) -> Iterator[bytes]:
        for name, source in self.parts:
            yield self._head(name, source)
            yield from source.pieces()
            yield b"\r\n"
        yield self._end()

    def _head(self, name: str, source: Source) -> bytes:
        disposition = f'form-data; name="{name}"; filename="{source.name.translate(_ESCAPES)}"'
        lines = f"--{self.boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: application/octet-stream"
        return f"{lines}\r\n\r\n".encode(errors="replace")

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces put together: each one that is sent costs a system call, and asyncio a thread as well."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
