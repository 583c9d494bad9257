"""The CSV contracts: `train.csv`, pairs, `test.csv` and its submission. The only home of the competition's columns.

UTF-8 with or without BOM, LF or CRLF, quoted fields, further columns welcome. All problems of a file are found at once.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from app.reid.errors import RowLimitError, TableError, quote

FILENAME, IDENTITY = "filename", "ground_truth"
QUERY, GALLERY, ROW_ID = "query_image", "gallery_image", "row_id"
SCORE_COLUMNS = ("cosine", "similarity", "probability", "verdict")
SUBMISSION_COLUMNS = (ROW_ID, "similarity")
DEFAULT_MAX_ROWS = 999_999

_WRITE_ROWS = 8_192


@dataclass(frozen=True)
class Table:
    """A CSV in memory: `rows` in file order, each as long as `columns`; `lines` holds the line where each row ends."""

    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """All values of one column, in file order."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def first_lines(self, *names: str) -> dict[str, int]:
        """Every distinct value of these columns, with the line that first uses it."""
        first: dict[str, int] = {}
        for name in names:
            backwards = zip(reversed(self.column(name)), reversed(self.lines), strict=True)
            for value, line in dict(backwards).items():  # the last to be put in is the first in the file
                first[value] = min(line, first.get(value, line))
        return first


def read_train(data: bytes) -> Table:
    """`train.csv`: a photo's `filename` and the animal's name, `ground_truth`; each filename once.

    Raises:
        TableError: every line that breaks this.
    """
    table = _read(data, "train.csv", (FILENAME, IDENTITY), DEFAULT_MAX_ROWS)
    problems = _empty_fields(table, (FILENAME, IDENTITY)) + _repeated(table, FILENAME)
    _raise_listed("train.csv", problems)
    return table


def read_pairs(data: bytes, *, max_rows: int = DEFAULT_MAX_ROWS) -> Table:
    """A CSV of pairs to score: `query_image`, `gallery_image`, and none of the columns that the answer adds.

    Raises:
        TableError: every line that breaks this. RowLimitError: more than `max_rows` rows.
    """
    table = _read(data, "pairs", (QUERY, GALLERY), max_rows)
    taken = [name for name in SCORE_COLUMNS if name in table.columns]
    problems = [f"line 1: the column {name} is what the answer adds; rename or drop it" for name in taken]
    _raise_listed("pairs", problems + _empty_fields(table, (QUERY, GALLERY)))
    return table


def read_test(data: bytes, *, max_rows: int = DEFAULT_MAX_ROWS) -> Table:
    """The competition's `test.csv`: `row_id` (each once), `query_image`, `gallery_image`.

    Raises:
        TableError: every line that breaks this. RowLimitError: more than `max_rows` rows.
    """
    needed = (ROW_ID, QUERY, GALLERY)
    table = _read(data, "test_csv", needed, max_rows)
    _raise_listed("test_csv", _empty_fields(table, needed) + _repeated(table, ROW_ID))
    return table


def format_score(value: float) -> str:
    """Nine significant digits: float32 resolution, so that rounding ties nothing."""
    return f"{value:.9g}"


def write_submission(row_ids: Sequence[str], similarity: Sequence[float]) -> Iterator[str]:
    """The submission as pieces of text: exactly `row_id,similarity`, in the order given."""
    rows = zip(row_ids, map(format_score, similarity), strict=True)
    return write_rows(SUBMISSION_COLUMNS, rows)


def write_scored_pairs(table: Table, scores: Iterable[Sequence[str]]) -> Iterator[str]:
    """The pairs as pieces of text: the input's columns, then `SCORE_COLUMNS`, in the input's order."""
    rows = ([*row, *score] for row, score in zip(table.rows, scores, strict=True))
    return write_rows((*table.columns, *SCORE_COLUMNS), rows)


def write_rows(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """Any CSV as pieces of text, some thousand rows each: memory does not grow with the table."""
    batch: Sequence[Sequence[str]] = [columns]
    while batch:
        text = _to_text(batch)
        # Python quotes a carriage return of its own accord only where that is part of the line's end.
        yield _to_text(batch, quote_all=True) if "\r" in text else text
        batch = list(islice(rows, _WRITE_ROWS))


def _to_text(rows: Iterable[Sequence[str]], *, quote_all: bool = False) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    writer.writerows(rows)
    return buffer.getvalue()


def _read(data: bytes, name: str, needed: Sequence[str], max_rows: int) -> Table:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1  # the error counts without the BOM, and so does its object
        raise TableError(f"{name}: not UTF-8", [f"line {line}: byte 0x{error.object[error.start]:02x}"]) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = tuple(next(reader, ()))
        _check_columns(name, columns, needed)
        rows, lines = _read_rows(((row, reader.line_num) for row in reader), max_rows, name)
    except csv.Error as error:
        raise TableError(f"{name}: not a CSV", [f"line {reader.line_num}: {error}"]) from error
    if not rows:
        raise TableError(f"{name}: the file has no rows")
    wrong = [
        f"line {line}: {length} fields; the header has {len(columns)}"
        for length, line in zip(map(len, rows), lines, strict=True)
        if length != len(columns)
    ]
    _raise_listed(name, wrong)
    return Table(columns, rows, lines)


def _read_rows(
    numbered: Iterator[tuple[list[str], int]], max_rows: int, name: str
) -> tuple[list[list[str]], list[int]]:
    rows: list[list[str]] = []
    lines: list[int] = []
    for row, line in numbered:
        if not row:  # an empty line, as editors leave at the end
            continue
        if len(rows) == max_rows:
            raise RowLimitError(f"{name}: more than {max_rows} rows; split the file")
        rows.append(row)
        lines.append(line)
    return rows, lines


def _check_columns(name: str, columns: tuple[str, ...], needed: Sequence[str]) -> None:
    if not columns:
        raise TableError(f"{name}: the file is empty or its first line is")
    problems = [f"line 1: the column {column} is missing" for column in needed if column not in columns]
    twice = sorted(column for column, number in Counter(columns).items() if number > 1)
    problems += [f"line 1: the column {quote(column)} stands there twice" for column in twice]
    _raise_listed(name, problems)


def _empty_fields(table: Table, names: Sequence[str]) -> list[str]:
    empty = [
        (line, name) for name in names for value, line in zip(table.column(name), table.lines, strict=True) if not value
    ]
    return [f"line {line}: {name} is empty" for line, name in sorted(empty, key=lambda found: found[0])]


def _repeated(table: Table, name: str) -> list[str]:
    values = table.column(name)
    if len(set(values)) == len(values):
        return []
    first: dict[str, int] = {}
    problems = []
    for value, line in zip(values, table.lines, strict=True):
        if value in first:
            problems.append(f"line {line}: {name} {quote(value)} stands in line {first[value]} already")
        first.setdefault(value, line)
    return problems


def _raise_listed(name: str, problems: list[str]) -> None:
    if problems:
        raise TableError(f"{name}: {len(problems)} problem{'s' if len(problems) > 1 else ''}", problems)
