"""A CSV as rows: read in blocks, with all that is wrong in them, and written in pieces, however long the file is.

UTF-8 with or without BOM, LF or CRLF, quoted fields. What the columns mean is in `tables`.
"""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.reid.errors import RowLimitError, TableError, quote

if TYPE_CHECKING:
    from _csv import Reader

# So many rows of an answer are one piece of text.
_PIECE_ROWS = 8_192
# So few rows alive at a time never make Python look for garbage among them, which doubles the time of reading.
_BLOCK_ROWS = 256
# Tables of very many columns are read and written in fewer rows at a time.
_BLOCK_FIELDS = 65_536
_DECODED_BYTES = 64 * 1024
# All problems of a file are counted and so many of them kept, that a million bad lines cost no memory.
_KEPT_PROBLEMS = 1_000


class Problems:
    """What is wrong with a file: how many findings, and the first thousand of them."""

    def __init__(self) -> None:
        """Nothing so far."""
        self.found = 0
        self._kept: list[str] = []

    def add(self, problem: str) -> None:
        """One more."""
        self.found += 1
        if self.found <= _KEPT_PROBLEMS:
            self._kept.append(problem)

    def raise_any(self, name: str) -> None:
        """Raises TableError if there is any; `name` is what errors call the file."""
        if self.found:
            kept = f", of which the first {_KEPT_PROBLEMS} were kept" if self.found > _KEPT_PROBLEMS else ""
            raise TableError(f"{name}: {self.found} problem{'s' if self.found > 1 else ''}{kept}", self._kept)


@dataclass(frozen=True)
class Block:
    """Some rows, each as long as the header; the line where each ends; and the columns that the file must have."""

    rows: Sequence[list[str]]
    lines: Sequence[int]
    columns: dict[str, list[str]]


class RowReader:
    """One pass over a CSV that must have some columns, with no field of theirs empty. `problems` are its findings."""

    def __init__(self, data: bytes, name: str, needed: Sequence[str], max_rows: int) -> None:
        """Reads the header; `name` is what errors call the file. Raises TableError."""
        _check_utf8(data, name)
        self.data, self.name, self.problems = data, name, Problems()
        self._max_rows = max_rows
        self._reader = _open(data)
        self._numbered = zip(self._reader, map(attrgetter("line_num"), repeat(self._reader)), strict=False)
        header = self._next(1)
        self.columns = tuple(header[0][0]) if header else ()
        _check_columns(name, self.columns, needed)
        self._needed = {column: self.columns.index(column) for column in needed}

    def blocks(self) -> Iterator[Block]:
        """The rows, some hundred at a time. Empty lines, as editors leave at the end, are no rows.

        Raises:
            TableError: not a CSV, no rows, or rows of other lengths than the header. RowLimitError.
        """
        seen, wrong = 0, Problems()
        block_rows = _rows_of(_BLOCK_ROWS, len(self.columns))
        while numbered := self._next(min(block_rows, self._max_rows + 1 - seen)):
            rows, lines = zip(*numbered, strict=True)
            if not all(rows):
                lines = tuple(line for row, line in numbered if row)
                rows = tuple(filter(None, rows))
            seen += len(rows)
            if seen > self._max_rows:
                raise RowLimitError(f"{self.name}: more than {self._max_rows} rows; split the file")
            self._find_wrong(rows, lines, wrong)
            if not wrong.found:
                columns = {name: list(map(itemgetter(place), rows)) for name, place in self._needed.items()}
                self._find_empty(columns, lines)
                yield Block(rows, lines, columns)
        if not seen:
            raise TableError(f"{self.name}: the file has no rows")
        wrong.raise_any(self.name)

    def _next(self, rows: int) -> list[tuple[list[str], int]]:
        try:
            return list(islice(self._numbered, rows))
        except csv.Error as error:
            raise TableError(f"{self.name}: not a CSV", [f"line {self._reader.line_num}: {error}"]) from error

    def _find_wrong(self, rows: Sequence[list[str]], lines: Sequence[int], wrong: Problems) -> None:
        width = len(self.columns)
        if set(map(len, rows)) <= {width}:
            return
        for row, line in zip(rows, lines, strict=True):
            if len(row) != width:
                wrong.add(f"line {line}: {len(row)} fields; the header has {width}")

    def _find_empty(self, columns: dict[str, list[str]], lines: Sequence[int]) -> None:
        if all(map(all, columns.values())):
            return
        for line, *values in zip(lines, *columns.values(), strict=True):
            for name, value in zip(columns, values, strict=True):
                if not value:
                    self.problems.add(f"line {line}: {name} is empty")


class Unique:
    """A column of which no value may stand twice: hashes are kept, and values looked at only where two agree."""

    def __init__(self, reader: RowReader, name: str) -> None:
        """`name` is one of the columns that the file must have."""
        self._reader, self._name = reader, name
        self._hashes: list[NDArray[np.int64]] = []

    def add(self, block: Block) -> None:
        """Takes note of some rows."""
        self._hashes.append(np.fromiter(map(hash, block.columns[self._name]), dtype=np.int64, count=len(block.rows)))

    def find_repeated(self) -> None:
        """Adds every row whose value an earlier row has to the problems."""
        hashes = np.concatenate(self._hashes)
        hashes.sort()
        suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not suspects:
            return
        place = self._reader.columns.index(self._name)
        first: dict[str, int] = {}
        reader = _open(self._reader.data)
        for row in filter(None, islice(reader, 1, None)):
            value, line = row[place], reader.line_num
            if hash(value) in suspects and first.setdefault(value, line) != line:
                already = f"stands in line {first[value]} already"
                self._reader.problems.add(f"line {line}: {self._name} {quote(value)} {already}")


def read_rows(data: bytes) -> Iterator[list[str]]:
    """The rows of a CSV that a `RowReader` found no fault with, without the header, in file order."""
    return filter(None, islice(_open(data), 1, None))


def write_rows(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """Any CSV as pieces of text, some thousand rows each."""
    piece_rows = _rows_of(_PIECE_ROWS, len(columns))
    piece: Sequence[Sequence[str]] = [columns]
    while piece:
        yield _to_text(piece)
        piece = list(islice(rows, piece_rows))


def _to_text(rows: Sequence[Sequence[str]]) -> str:
    text = "\n".join(map(",".join, rows)) + "\n"
    commas = sum(map(len, rows)) - len(rows)
    # As many commas and line feeds as stand between fields and rows: there is none in a field.
    if text.count(",") == commas > 0 and text.count("\n") == len(rows) and '"' not in text and "\r" not in text:
        return text
    buffer = io.StringIO()
    # Python quotes a carriage return of its own accord only where that is part of the line's end.
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL if "\r" in text else csv.QUOTE_MINIMAL)
    writer.writerows(rows)
    return buffer.getvalue()


def _open(data: bytes) -> "Reader":
    """A reader that decodes as it goes: a string of the whole file would take up to four bytes a character."""
    return csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True)


def _rows_of(most: int, columns: int) -> int:
    return max(1, min(most, _BLOCK_FIELDS // max(1, columns)))


def _check_utf8(data: bytes, name: str) -> None:
    """Raises TableError with the line of the first byte that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _DECODED_BYTES):
        piece = data[start : start + _DECODED_BYTES]
        try:
            decoder.decode(piece, final=start + len(piece) == len(data))
        except UnicodeDecodeError as error:
            place = start + len(piece) - len(error.object) + error.start  # the object begins with what was left over
            line = data.count(b"\n", 0, place) + 1
            raise TableError(f"{name}: not UTF-8", [f"line {line}: byte 0x{data[place]:02x}"]) from error


def _check_columns(name: str, columns: tuple[str, ...], needed: Sequence[str]) -> None:
    if not columns:
        raise TableError(f"{name}: the file is empty or its first line is")
    problems = Problems()
    for column in needed:
        if column not in columns:
            problems.add(f"line 1: the column {column} is missing")
    for column in sorted(column for column, number in Counter(columns).items() if number > 1):
        problems.add(f"line 1: the column {quote(column)} stands there twice")
    problems.raise_any(name)
