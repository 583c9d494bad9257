"""Reading in blocks and writing in pieces give what the plain road over the whole file gives, to the byte."""

import csv
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.reid.errors import TableError
from app.reid.rows import RowReader, Unique, read_rows, write_rows
from tests.reid.plain import plain_problems, plain_rows, plain_text

BOM = b"\xef\xbb\xbf"
NEEDED = ("a", "b")


def read(data: bytes, max_rows: int = 999_999) -> list[tuple[list[str], int]]:
    """All rows with their lines. Raises what is wrong with the file."""
    reader = RowReader(data, "file", NEEDED, max_rows)
    unique = Unique(reader, "a")
    numbered = []
    for block in reader.blocks():
        unique.add(block)
        for name in NEEDED:
            assert block.columns[name] == [row[reader.columns.index(name)] for row in block.rows]
        numbered += zip(block.rows, block.lines, strict=True)
    unique.find_repeated()
    reader.problems.raise_any("file")
    return numbered


def refusal(data: bytes, max_rows: int = 999_999) -> TableError:
    with pytest.raises(TableError) as caught:
        read(data, max_rows)
    return caught.value


def filled(rows: int) -> str:
    return "".join(f"n{row},m\n" for row in range(rows))


# Up to 300 good rows before the interesting ones: those then stand across the end of a block of 256.
BEFORE = st.sampled_from([0, 1, 250, 254, 255, 256, 257, 300])
TAIL = st.text('ab,"\n\ré', max_size=60)


@given(BEFORE, TAIL, st.sampled_from([b"", BOM]))
@example(255, 'x,"1\n2"\r\n\r\n,y\r\n', b"")
@example(255, "\n\n\nx,y", BOM)
def test_blocks_give_what_the_whole_file_gives(before: int, tail: str, bom: bytes) -> None:
    data = bom + f"a,b\n{filled(before)}{tail}".encode()
    try:
        header, rows = plain_rows(data)
    except csv.Error:
        assert refusal(data).summary == "file: not a CSV"
        return
    if not rows:
        assert refusal(data).summary == "file: the file has no rows"
    elif problems := plain_problems(header, rows, NEEDED, "a"):
        assert refusal(data).all_problems == tuple(problems)
    else:
        assert read(data) == rows
        assert list(read_rows(data)) == [row for row, _ in rows]


@pytest.mark.parametrize("rows", [255, 256, 257, 512])
def test_the_limit_is_exact_at_the_end_of_a_block(rows: int) -> None:
    data = f"a,b\n{filled(rows)}\n\n".encode()
    assert len(read(data, max_rows=rows)) == rows
    assert refusal(data, max_rows=rows - 1).summary == f"file: more than {rows - 1} rows; split the file"


def test_what_stands_beyond_the_limit_is_not_looked_at() -> None:
    data = f'a,b\n{filled(3)}"never closed'.encode()
    assert "more than 2 rows" in refusal(data, max_rows=2).summary
    assert refusal(data, max_rows=3).summary == "file: not a CSV"


@pytest.mark.parametrize("place", [65_530, 65_535, 65_536, 65_537, 131_072, 200_000])
@pytest.mark.parametrize("bom", [b"", BOM])
def test_a_byte_that_is_not_utf8_is_found_wherever_it_stands(place: int, bom: bytes) -> None:
    """The text is looked through in pieces of 64 KiB, and a character may lie across the end of one."""
    start = bom + b"a,b\n" + "é\n".encode() * (place // 3 + 1)
    data = start[:place] + b"\n\xfc\n" + start[place:]
    with pytest.raises(UnicodeDecodeError) as caught:
        data.decode("utf-8-sig")
    # The error counts from behind the BOM.
    wrong = caught.value.start + len(bom)
    expected = f"line {data[:wrong].count(10) + 1}: byte 0x{data[wrong]:02x}"
    assert (refusal(data).summary, refusal(data).all_problems) == ("file: not UTF-8", (expected,))


def test_a_character_cut_short_at_the_end_is_refused() -> None:
    assert refusal("a,b\nx,é".encode()[:-1]).all_problems == ("line 2: byte 0xc3",)


@pytest.mark.parametrize("shift", range(4))
def test_characters_across_the_end_of_a_piece_are_read(shift: int) -> None:
    data = f"a,b\n{'x' * shift},{'🐆' * 20_000}\n".encode()
    if shift:
        assert read(data) == [(["x" * shift, "🐆" * 20_000], 2)]
    else:
        assert refusal(data).all_problems == ("line 2: a is empty",)


def test_of_very_many_problems_all_are_counted_and_a_thousand_kept() -> None:
    data = b"a,b\n" + b"x\n" * 5_000
    error = refusal(data)
    assert error.summary == "file: 5000 problems, of which the first 1000 were kept"
    assert error.all_problems == tuple(f"line {line}: 1 fields; the header has 2" for line in range(2, 1_002))
    assert len(error.problems) == 20


def test_what_stands_twice_is_found_across_blocks() -> None:
    data = f"a,b\n{filled(1_000)}\nn7,m\nn999,m\nn7,m\n".encode()
    assert refusal(data).all_problems == (
        "line 1003: a 'n7' stands in line 9 already",
        "line 1004: a 'n999' stands in line 1001 already",
        "line 1005: a 'n7' stands in line 9 already",
    )


def test_values_whose_hashes_agree_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two such strings cannot be found, so here all of one length agree."""
    monkeypatch.setattr("app.reid.rows.hash", len, raising=False)
    assert len(read(b"a,b\nxy,1\nyx,1\nz,1\n")) == 3
    assert refusal(b"a,b\nxy,1\nyx,1\nz,1\nyx,1\n").all_problems == ("line 5: a 'yx' stands in line 3 already",)


FIELD = st.text(st.sampled_from('ab,"\n\r é\0'), max_size=4)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    return draw(st.lists(st.lists(FIELD, min_size=width, max_size=width), min_size=1, max_size=6))


@given(tables())
@example([["a"], [""], ["b"]])
@example([["a", "b"], ["", ""]])
@example([["a", "b"], ["1\n2", "3"]])
@example([["a", "b"], ["1,2", "3"]])
def test_any_table_is_written_as_pythons_module_writes_it(table: list[list[str]]) -> None:
    columns, *rows = table
    assert "".join(write_rows(columns, iter(rows))) == plain_text(columns, rows)


@pytest.mark.parametrize("odd", [",", '"', "\n", "\r", ""])
@pytest.mark.parametrize("place", [0, 8_191, 8_192, 20_000])
def test_one_odd_field_in_a_long_table(odd: str, place: int) -> None:
    rows = [[str(row), "x"] for row in range(20_001)]
    rows[place][1] = odd
    pieces = list(write_rows(["a", "b"], iter(rows)))
    assert len(pieces) == 4
    assert "".join(pieces) == plain_text(["a", "b"], rows)


def test_a_lone_carriage_return_is_quoted() -> None:
    """Python's csv module writes it bare when lines end in a line feed, and every reader then sees a line end."""
    assert "".join(write_rows(["a", "b"], iter([("1\r2", "3")]))) == 'a,b\n"1\r2","3"\n'


def test_the_header_comes_before_any_row_is_asked_for() -> None:
    def rows() -> Iterator[list[str]]:
        raise RuntimeError("asked")
        yield []

    pieces = write_rows(["a", "b"], rows())
    assert next(pieces) == "a,b\n"
    with pytest.raises(RuntimeError, match="asked"):
        next(pieces)


def test_tables_of_very_many_columns_come_in_smaller_pieces() -> None:
    columns = [f"c{place}" for place in range(1_000)]
    rows = [["x"] * 1_000 for _ in range(150)]
    pieces = list(write_rows(columns, iter(rows)))
    assert [piece.count("\n") for piece in pieces] == [1, 65, 65, 20]
    assert "".join(pieces) == plain_text(columns, rows)


def test_a_table_of_very_many_columns_is_read_in_smaller_blocks() -> None:
    header = ",".join(["a", "b", *map(str, range(998))])
    data = f"{header}\n{(',x' * 999 + chr(10)) * 150}".encode()
    reader = RowReader(data.replace(b"\n,", b"\ny,"), "file", NEEDED, 999)
    assert [len(block.rows) for block in reader.blocks()] == [65, 65, 20]
