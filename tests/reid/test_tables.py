"""The CSV contracts: what is accepted, what is refused and with which line, and that writing and reading agree."""

import csv
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reid.errors import RowLimitError, TableError
from app.reid.rows import write_rows
from app.reid.tables import (
    PairTable,
    Table,
    format_score,
    read_pairs,
    read_test,
    read_train,
    write_scored_pairs,
    write_submission,
)

BOM = b"\xef\xbb\xbf"


def problems(read: Callable[..., object], data: bytes, **options: int) -> tuple[str, tuple[str, ...]]:
    """What is wrong with a file: the summary and all findings."""
    with pytest.raises(TableError) as caught:
        read(data, **options)
    return caught.value.summary, caught.value.all_problems


def first_lines(table: PairTable) -> dict[str, int]:
    return dict(zip(table.names, table.first_lines.tolist(), strict=True))


def codes(table: PairTable) -> list[tuple[int, int]]:
    return list(zip(table.query.tolist(), table.gallery.tolist(), strict=True))


@pytest.mark.parametrize("bom", [b"", BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_bom_and_line_ends_do_not_matter(bom: bytes, end: str, last: bool) -> None:
    text = end.join(["filename,ground_truth", "a.png,Abril", '"b, c.png","Ti ""X"""']) + (end if last else "")
    table = read_train(bom + text.encode())
    assert table.columns == ("filename", "ground_truth")
    assert table.rows == [["a.png", "Abril"], ["b, c.png", 'Ti "X"']]
    assert table.lines == [2, 3]


def test_further_columns_are_kept_in_any_order() -> None:
    table = read_test(b"side,gallery_image,row_id,query_image\nleft,g.png,7,q.png\n")
    assert table.columns == ("side", "gallery_image", "row_id", "query_image")
    assert (list(table.column("row_id")), table.names) == (["7"], ["q.png", "g.png"])


def test_lines_are_those_where_rows_end() -> None:
    table = read_pairs(b'query_image,gallery_image,note\na,b,"two\nlines"\n\nc,d,\n')
    assert list(table.rows()) == [["a", "b", "two\nlines"], ["c", "d", ""]]
    assert first_lines(table) == {"a": 3, "b": 3, "c": 5, "d": 5}


def test_names_stand_once_in_order_of_first_use_with_its_line() -> None:
    table = read_pairs(b"query_image,gallery_image\na,b\nc,a\nb,c\nd,a\n")
    assert table.names == ["a", "b", "c", "d"]
    assert first_lines(table) == {"a": 2, "b": 2, "c": 3, "d": 5}
    assert table.query.tolist() == [0, 2, 1, 3]
    assert table.gallery.tolist() == [1, 0, 2, 0]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=10), st.integers(0, 600))
def test_names_are_numbered_alike_however_long_the_file(pairs: list[tuple[int, int]], before: int) -> None:
    """Rows of one pair before the others put these into later blocks."""
    pairs = [(0, 1)] * before + pairs
    text = "query_image,gallery_image\n" + "".join(f"p{query},p{gallery}\n" for query, gallery in pairs)
    table = read_pairs(text.encode())
    expected: dict[str, int] = {}
    for line, pair in enumerate(pairs, start=2):
        for number in pair:
            expected.setdefault(f"p{number}", line)
    assert first_lines(table) == expected
    assert table.names == list(expected)
    assert [(table.names[query], table.names[gallery]) for query, gallery in codes(table)] == [
        (f"p{query}", f"p{gallery}") for query, gallery in pairs
    ]


@pytest.mark.parametrize(
    ("read", "header", "missing"),
    [
        (read_train, "filename,name", ["ground_truth"]),
        (read_train, "photo;ground_truth", ["filename", "ground_truth"]),
        (read_pairs, "query_image,gallery", ["gallery_image"]),
        (read_test, "id,query_image,gallery_image", ["row_id"]),
        (read_test, "row_id , query_image,gallery_image", ["row_id", "query_image"]),
    ],
)
def test_missing_columns_are_all_named(read: Callable[..., object], header: str, missing: list[str]) -> None:
    _, found = problems(read, f"{header}\n1,2,3\n".encode())
    assert found == tuple(f"line 1: the column {name} is missing" for name in missing)


def test_columns_that_stand_there_twice_are_named() -> None:
    _, found = problems(read_pairs, b"query_image,gallery_image,x,query_image,x\n")
    assert found == tuple(f"line 1: the column '{name}' stands there twice" for name in ("query_image", "x"))


def test_a_header_of_very_many_columns_is_read_in_one_pass() -> None:
    """400,000 columns: to count each by itself would take hours."""
    columns = ",".join(["query_image", "gallery_image", *map(str, range(400_000)), "7"])
    _, found = problems(read_pairs, columns.encode() + b"\n")
    assert found == ("line 1: the column '7' stands there twice",)


@pytest.mark.parametrize("taken", ["cosine", "similarity", "probability", "verdict"])
def test_pairs_may_not_have_the_answers_columns(taken: str) -> None:
    _, found = problems(read_pairs, f"query_image,gallery_image,{taken}\na,b,1\n".encode())
    assert found == (f"line 1: the column {taken} is what the answer adds; rename or drop it",)


@pytest.mark.parametrize("data", [b"", BOM, b"\n", b"\r\n\r\n"])
def test_an_empty_file_is_said_to_be_empty(data: bytes) -> None:
    assert problems(read_train, data) == ("train.csv: the file is empty or its first line is", ())


@pytest.mark.parametrize("tail", ["", "\n", "\n\n\n"])
def test_a_header_alone_is_said_to_have_no_rows(tail: str) -> None:
    assert problems(read_train, b"filename,ground_truth" + tail.encode()) == ("train.csv: the file has no rows", ())


def test_rows_of_another_length_are_listed() -> None:
    summary, found = problems(read_train, b"filename,ground_truth\na,b,c\nd,e\nf\n")
    assert summary == "train.csv: 2 problems"
    assert found == ("line 2: 3 fields; the header has 2", "line 4: 1 fields; the header has 2")


def test_empty_fields_are_listed_by_line() -> None:
    summary, found = problems(read_test, b"row_id,query_image,gallery_image,x\n1,,b,\n2,a,,\n,,c,\n")
    assert summary == "test_csv: 4 problems"
    assert found == (
        "line 2: query_image is empty",
        "line 3: gallery_image is empty",
        "line 4: row_id is empty",
        "line 4: query_image is empty",
    )


def test_a_repeated_row_id_is_named_with_both_lines() -> None:
    _, found = problems(read_test, b"row_id,query_image,gallery_image\n5,a,b\n6,a,c\n5,b,c\n5,b,a\n")
    assert found == ("line 4: row_id '5' stands in line 2 already", "line 5: row_id '5' stands in line 2 already")


def test_row_ids_are_text() -> None:
    """1, 01 and 1.0 are three rows, and come back as they were."""
    table = read_test(b"row_id,query_image,gallery_image\n1,a,b\n01,a,c\n1.0,b,c\n")
    assert list(table.column("row_id")) == ["1", "01", "1.0"]


def test_a_photo_stands_once_in_train_csv_but_many_times_in_pairs() -> None:
    _, found = problems(read_train, b"filename,ground_truth\na.png,x\na.png,y\n")
    assert found == ("line 3: filename 'a.png' stands in line 2 already",)
    assert len(read_pairs(b"query_image,gallery_image\na,b\na,b\n")) == 2


def test_a_strangers_text_is_escaped_in_problems() -> None:
    data = b"row_id,query_image,gallery_image\n\x1b[1m,a,b\n\x1b[1m,a,c\n"
    assert problems(read_test, data)[1] == (r"line 3: row_id '\x1b[1m' stands in line 2 already",)


def test_the_row_limit_is_a_limit_of_rows() -> None:
    data = b"query_image,gallery_image\na,b\n\nc,d\n\n"
    assert len(read_pairs(data, max_rows=2)) == 2
    with pytest.raises(RowLimitError, match="pairs: more than 1 rows; split the file"):
        read_pairs(data, max_rows=1)
    with pytest.raises(RowLimitError, match="test_csv"):
        read_test(b"row_id,query_image,gallery_image\n1,a,b\n2,a,b\n", max_rows=1)


@pytest.mark.parametrize("bom", [b"", BOM])
def test_a_byte_that_is_not_utf8_is_named_with_its_line(bom: bytes) -> None:
    summary, found = problems(read_train, bom + b"filename,ground_truth\na,b\nJag\xfcar,c\n")
    assert (summary, found) == ("train.csv: not UTF-8", ("line 3: byte 0xfc",))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(TableError):
        read_train("filename,ground_truth\na,b\n".encode(encoding))


@pytest.mark.parametrize("data", [b'filename,ground_truth\na,"b\n', b'filename,ground_truth\na,"b"c\n'])
def test_quotes_that_do_not_close_are_refused(data: bytes) -> None:
    assert problems(read_train, data)[0] == "train.csv: not a CSV"


def test_a_field_beyond_the_modules_limit_is_refused_with_its_line() -> None:
    data = b"filename,ground_truth\na," + b"x" * (csv.field_size_limit() + 1)
    summary, found = problems(read_train, data)
    assert summary == "train.csv: not a CSV"
    assert found[0].startswith("line 2: field larger than field limit")


def test_a_nul_is_a_character_that_no_photo_lookup_will_find() -> None:
    assert read_train(b"filename,ground_truth\na\0.png,x\n").column("filename") == ["a\0.png"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (1.0, "1"), (0.0, "0"), (2 / 3, "0.666666667"), (1e-7 / 3, "3.33333333e-08")]
)
def test_scores_have_nine_significant_digits(value: float, text: str) -> None:
    assert format_score(value) == text
    assert format_score(np.float64(value)) == text


@given(st.floats(0, 1, width=32, allow_subnormal=False))
def test_a_float32_survives_its_text(value: float) -> None:
    assert np.float32(format_score(value)) == np.float32(value)


def test_a_submission_has_exactly_two_columns_in_the_order_given() -> None:
    assert "".join(write_submission(["b", "a"], [0.25, 1.0])) == "row_id,similarity\nb,0.25\na,1\n"


def test_a_short_submission_is_never_written() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(write_submission(["a", "b"], [0.5]))


def test_scored_pairs_keep_the_inputs_columns() -> None:
    table = read_pairs(b'note,query_image,gallery_image\n"x, y",a,b\n,c,d\n')
    text = "".join(write_scored_pairs(table, [("1", "1", "", ""), ("0", "0.5", "0.1", "different")]))
    assert text == (
        "note,query_image,gallery_image,cosine,similarity,probability,verdict\n"
        '"x, y",a,b,1,1,,\n'
        ",c,d,0,0.5,0.1,different\n"
    )


def test_long_tables_come_in_pieces() -> None:
    pieces = list(write_submission([str(number) for number in range(20_000)], [0.5] * 20_000))
    assert len(pieces) == 4
    assert "".join(pieces).count("\n") == 20_001


FIELD = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.tuples(FIELD, FIELD, FIELD.filter(bool), FIELD.filter(bool)), min_size=1, max_size=6))
def test_what_is_written_is_read_back(rows: list[tuple[str, str, str, str]]) -> None:
    """Commas, quotes, NULs, line feeds and lone carriage returns in any field."""
    columns = ("note", 'a "quoted", column', "query_image", "gallery_image")
    text = "".join(write_rows(columns, iter(rows)))
    table = read_pairs(text.encode())
    assert table.columns == columns
    assert list(table.rows()) == [list(row) for row in rows]


@given(st.binary(max_size=200) | st.text('row_id,quey_mgal"\n\r0', max_size=200).map(str.encode))
def test_any_bytes_are_a_table_or_a_table_error(data: bytes) -> None:
    for read in (read_train, read_pairs, read_test):
        with suppress(TableError):
            table = read(data)
            assert table.rows if isinstance(table, Table) else list(table.rows())


def test_the_competitions_own_files_are_accepted(shared_data: Callable[[str], Path]) -> None:
    train = read_train(shared_data("kaggle/train.csv").read_bytes())
    assert (len(train.rows), len(set(train.column("ground_truth")))) == (1_895, 31)
    test = read_test(shared_data("kaggle/test.reconstructed.csv").read_bytes())
    assert len(test) == 137_270 == 371 * 370
    row_ids = list(test.column("row_id"))
    assert row_ids == [str(number) for number in range(137_270)]
    assert len(test.names) == 371
    sample = list(csv.reader(io.StringIO(shared_data("kaggle/sample_submission.csv").read_text())))
    written = "".join(write_submission(row_ids, [float(row[1]) for row in sample[1:]]))
    rows = list(csv.reader(io.StringIO(written)))
    assert rows[0] == sample[0]
    assert [row[0] for row in rows] == [row[0] for row in sample]
    np.testing.assert_allclose([float(r[1]) for r in rows[1:]], [float(r[1]) for r in sample[1:]], rtol=1e-8)
