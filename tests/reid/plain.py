"""The tables by the plain road, the other one than `rows`: all text at once, Python's csv module, lists of strings."""

import csv
import io
from collections.abc import Iterable, Sequence

PIECE_ROWS = 8_192

Numbered = list[tuple[list[str], int]]


def plain_rows(data: bytes) -> tuple[list[str], Numbered]:
    """A CSV's header, and its rows, each with the line where it ends. Raises UnicodeDecodeError, csv.Error."""
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    header = next(reader, [])
    return header, [(row, reader.line_num) for row in reader if row]


def plain_problems(header: Sequence[str], rows: Numbered, needed: Sequence[str], unique: str) -> list[str]:
    """What is wrong with the rows: their lengths, or else empty fields and what stands there twice."""
    wrong = [
        f"line {line}: {len(row)} fields; the header has {len(header)}" for row, line in rows if len(row) != len(header)
    ]
    if wrong:
        return wrong
    places = {name: header.index(name) for name in needed}
    found = [f"line {line}: {name} is empty" for row, line in rows for name, place in places.items() if not row[place]]
    seen: dict[str, int] = {}
    for row, line in rows:
        value = row[places[unique]]
        if value in seen:
            found.append(f"line {line}: {unique} {value!r} stands in line {seen[value]} already")
        seen.setdefault(value, line)
    return found


def plain_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV's text: the header by itself, then 8,192 rows at a time, all quoted where there is a carriage return."""
    every = list(rows)
    pieces = [[columns], *(every[start : start + PIECE_ROWS] for start in range(0, len(every), PIECE_ROWS))]
    return "".join(map(_piece, pieces))


def _piece(rows: Sequence[Sequence[str]]) -> str:
    quoting = csv.QUOTE_ALL if any("\r" in field for row in rows for field in row) else csv.QUOTE_MINIMAL
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", quoting=quoting).writerows(rows)
    return buffer.getvalue()
