"""Any bytes at the readers of tables: taken exactly where the plain road takes them, and read as it reads them."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.reid.errors import RowLimitError, TableError
from app.reid.tables import (
    PairTable,
    Table,
    read_pairs,
    read_test,
    read_train,
    write_scored_pairs,
    write_submission,
)
from tests.reid.plain import Numbered, plain_problems, plain_rows

SCORES = ["cosine", "similarity", "probability", "verdict"]
FUZZ = settings(derandomize=True, deadline=None, max_examples=100)


@dataclass(frozen=True)
class Kind:
    """A reader, the columns it needs, which of them is unique, and which columns there may not be."""

    read: Callable[..., Table | PairTable]
    needed: tuple[str, ...]
    unique: str | None = None
    taken: tuple[str, ...] = ()


KINDS = {
    "train": Kind(read_train, ("filename", "ground_truth"), "filename"),
    "pairs": Kind(read_pairs, ("query_image", "gallery_image"), None, tuple(SCORES)),
    "test": Kind(read_test, ("row_id", "query_image", "gallery_image"), "row_id"),
}

FIELD = st.text('ab,"\n\r é\0', max_size=3)
END = st.sampled_from(["\n", "\r\n", "\r"])
QUOTING = st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
BOM = st.sampled_from([b"", b"\xef\xbb\xbf"])
PIECE = st.sampled_from([b"", b'"', b"\n", b",", b"\r", b"\xff", b"\xc3", b"a"])


@st.composite
def files(draw: st.DrawFn, needed: tuple[str, ...]) -> bytes:
    """A CSV that is right or nearly right: fields that may be empty or stand twice, and up to two damaged places."""
    columns = draw(st.permutations([*needed, *draw(st.lists(FIELD | st.sampled_from(SCORES), max_size=2))]))
    rows = draw(st.lists(st.tuples(*[FIELD] * len(columns)), max_size=6))
    if draw(st.booleans()):
        rows = [tuple(field + str(number) for field in row) for number, row in enumerate(rows)]
    text = io.StringIO()
    csv.writer(text, lineterminator=draw(END), quoting=draw(QUOTING)).writerows([columns, *rows])
    data = bytearray(draw(BOM) + text.getvalue().encode())
    for at, length, piece in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), PIECE), max_size=2)):
        data[at : at + length] = piece
    return bytes(data)


def plainly(data: bytes, kind: Kind) -> tuple[list[str], Numbered] | None:
    """Header and rows by the plain road; None where something is wrong with the file."""
    try:
        header, rows = plain_rows(data)
    except (UnicodeDecodeError, csv.Error):
        return None
    if not set(kind.needed) <= set(header) or len(set(header)) < len(header) or not set(kind.taken).isdisjoint(header):
        return None
    problems = plain_problems(header, rows, kind.needed, kind.unique or kind.needed[0])
    if kind.unique is None:
        problems = [problem for problem in problems if not problem.endswith(" already")]
    return None if problems or not rows else (header, rows)


@pytest.mark.parametrize("name", KINDS)
@FUZZ
@given(st.data())
def test_a_file_is_taken_where_the_plain_road_takes_it(name: str, data: st.DataObject) -> None:
    kind = KINDS[name]
    file = data.draw(files(kind.needed))
    expected = plainly(file, kind)
    if expected is None:
        with pytest.raises(TableError) as caught:
            kind.read(file)
        assert type(caught.value) is TableError
        assert len(str(caught.value).splitlines()) == 1
        return
    table, (header, rows) = kind.read(file), expected
    assert list(table.columns) == header
    for column in header:
        assert list(table.column(column)) == [row[header.index(column)] for row, _ in rows]
    if isinstance(table, Table):
        assert (table.rows, table.lines) == ([row for row, _ in rows], [line for _, line in rows])
    else:
        assert_names(table, header, rows)


def assert_names(table: PairTable, header: list[str], rows: Numbered) -> None:
    """The names, their numbers and their first lines, by a slow loop."""
    first: dict[str, int] = {}
    pairs = [(row[header.index("query_image")], row[header.index("gallery_image")], line) for row, line in rows]
    for query, gallery, line in pairs:
        first.setdefault(query, line)
        first.setdefault(gallery, line)
    assert dict(zip(table.names, table.first_lines.tolist(), strict=True)) == first
    assert table.names == list(first)
    codes = zip(table.query.tolist(), table.gallery.tolist(), strict=True)
    assert [(table.names[query], table.names[gallery]) for query, gallery in codes] == [pair[:2] for pair in pairs]


@pytest.mark.parametrize("name", KINDS)
@FUZZ
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_table_or_a_table_error(name: str, data: bytes) -> None:
    kind = KINDS[name]
    header = ",".join(kind.needed).encode() + b"\n"
    for file in (data, header + data):
        taken = True
        try:
            kind.read(file)
        except TableError:
            taken = False
        assert taken == (plainly(file, kind) is not None)


@FUZZ
@given(files(("row_id", "query_image", "gallery_image")), st.integers(1, 7))
def test_the_limit_refuses_what_has_more_rows(file: bytes, limit: int) -> None:
    expected = plainly(file, KINDS["test"])
    if expected is None:
        with pytest.raises(TableError):
            read_test(file, max_rows=limit)
    elif len(expected[1]) > limit:
        with pytest.raises(RowLimitError, match=f"more than {limit} rows"):
            read_test(file, max_rows=limit)
    else:
        assert len(read_test(file, max_rows=limit)) == len(expected[1])


@FUZZ
@given(files(("query_image", "gallery_image")))
def test_scored_pairs_are_the_pairs_with_their_scores(file: bytes) -> None:
    expected = plainly(file, KINDS["pairs"])
    if expected is None:
        return
    header, rows = expected
    scores = [(str(number), "0.5", "", 'x, "y"\r\n\'') for number in range(len(rows))]
    written = "".join(write_scored_pairs(read_pairs(file), scores))
    again, read = plain_rows(written.encode())
    assert again == [*header, *SCORES]
    assert [row for row, _ in read] == [[*row, *score] for (row, _), score in zip(rows, scores, strict=True)]


@FUZZ
@given(files(("row_id", "query_image", "gallery_image")))
def test_a_submission_has_the_row_ids_of_its_table(file: bytes) -> None:
    expected = plainly(file, KINDS["test"])
    if expected is None:
        return
    header, rows = expected
    table = read_test(file)
    written = "".join(write_submission(table.column("row_id"), [1 / (number + 3) for number in range(len(table))]))
    again, read = plain_rows(written.encode())
    assert again == ["row_id", "similarity"]
    assert [row[0] for row, _ in read] == [row[header.index("row_id")] for row, _ in rows]
    assert [float(row[1]) for row, _ in read] == pytest.approx([1 / (n + 3) for n in range(len(rows))], rel=1e-8)
