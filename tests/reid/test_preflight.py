"""A submission's form and numbers against test.csv: each fault alone, told with its line; and a right file."""

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest

from app.reid.preflight import Report, Severity, check_submission
from app.reid.preflight.findings import counted, places
from app.reid.tables import PairTable, format_score, read_test

NAMES = [f"test_{number:04}.png" for number in range(1, 41)]
PAIRS = list(permutations(range(len(NAMES)), 2))
HEADER = "row_id,similarity"
Rows = list[list[str]]


def table(pairs: Sequence[tuple[int, int]] = PAIRS) -> PairTable:
    lines = [f"{row},{NAMES[query]},{NAMES[gallery]}" for row, (query, gallery) in enumerate(pairs)]
    return read_test("\n".join(["row_id,query_image,gallery_image", *lines, ""]).encode())


def similarity(seed: int = 1, dim: int = 6) -> np.ndarray:
    """(40, 40) of drawn embeddings."""
    rows = np.random.default_rng(seed).standard_normal((len(NAMES), dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows @ rows.T + 1) / 2


def right_rows() -> Rows:
    matrix = similarity()
    return [[str(row), format_score(matrix[pair])] for row, pair in enumerate(PAIRS)]


def written(rows: Rows, header: str = HEADER) -> bytes:
    return "\n".join([header, *map(",".join, rows), ""]).encode()


def check(rows: Rows, header: str = HEADER) -> Report:
    return check_submission(written(rows, header), table())


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def only(report: Report):
    (finding,) = report.findings
    return finding


def test_a_right_file_is_clean_and_measured() -> None:
    report = check(right_rows())
    assert report.is_clean
    assert report.findings == ()
    assert (report.rows, report.asked, report.photos) == (1560, 1560, 40)
    assert report.tied == 0
    assert report.asymmetry == 0
    assert report.structure is not None
    assert report.structure.agreement > 0.6
    assert report.structure.by_chance < 0.2


@pytest.mark.parametrize("change", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")])
def test_bom_and_crlf_are_fine(change: Callable[[bytes], bytes]) -> None:
    assert check_submission(change(written(right_rows())), table()).findings == ()


def test_a_missing_row() -> None:
    rows = right_rows()
    del rows[7]
    report = check(rows)
    finding = only(report)
    assert (finding.severity, finding.code) == (Severity.ERROR, "rows-missing")
    assert finding.what == "1 row missing of test.csv's 1,560"
    assert finding.where == ("row_id '7'",)
    assert not report.is_clean


def test_shuffled_rows_keep_their_scores() -> None:
    rows = right_rows()
    rows[3], rows[9] = rows[9], rows[3]
    report = check(rows)
    finding = only(report)
    assert (finding.severity, finding.code) == (Severity.ERROR, "rows-moved")
    assert finding.what == "2 rows not where test.csv has it"
    assert finding.where == ("line 5: row_id '9'; '3' is due", "line 11: row_id '3'; '9' is due")
    assert report.structure == check(right_rows()).structure


def test_extra_rows() -> None:
    finding = only(check([*right_rows(), ["1560", "0.5"]]))
    assert (finding.code, finding.where) == ("rows-extra", ("line 1562: row_id '1560'",))
    assert "Drop them" in finding.advice


@pytest.mark.parametrize("row_id", ["7.0", "007"])
def test_row_ids_that_are_written_otherwise(row_id: str) -> None:
    rows = right_rows()
    rows[7][0] = row_id
    report = check(rows)
    assert codes(report) == ["rows-missing", "rows-extra"]
    assert "0 and not 0.0" in report.findings[1].advice


@pytest.mark.parametrize("row_id", ["x", "inf"])
def test_row_ids_that_are_none(row_id: str) -> None:
    assert "Drop them" in only(check([*right_rows(), [row_id, "0.5"]])).advice


def test_a_row_id_twice_counts_once() -> None:
    finding = only(check([*right_rows(), ["4", "0.5"], ["4", "0.5"]]))
    assert (finding.code, finding.where) == (
        "rows-repeated",
        ("line 1562: row_id '4'", "line 1563: row_id '4'"),
    )
    assert finding.what == "2 rows with a row_id of an earlier row"


def test_columns_in_another_order_are_told_and_read() -> None:
    report = check([[value, row_id] for row_id, value in right_rows()], "similarity,row_id")
    finding = only(report)
    assert (finding.code, finding.where) == ("columns", ("line 1",))
    assert "'similarity', 'row_id'" in finding.what
    assert report.structure == check(right_rows()).structure


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"row_id,score\n0,0.5\n", "the column similarity is missing"),
        (b"row_id,similarity\n", "has no rows"),
        (b"row_id,similarity\n0,0.5,1\n", "line 2: 3 fields; the header has 2"),
        (b"row_id,similarity\n0,\xff\n", "line 2: byte 0xff"),
        (b'row_id,similarity\n0,"0.5\n', "not a CSV"),
    ],
)
def test_what_is_no_table(data: bytes, told: str) -> None:
    report = check_submission(data, table(), name="mine.csv")
    finding = only(report)
    assert (finding.severity, finding.code, report.rows) == (Severity.ERROR, "unreadable", None)
    assert told in " ".join([finding.what, *finding.where])
    assert finding.what.startswith("mine.csv: ")


def test_scores_that_are_no_numbers() -> None:
    rows = right_rows()
    wrong = ["", "nan", "inf", "0,5", "1_0", "\u0661"]
    for place, text in enumerate(wrong):
        rows[place + 1][1] = f'"{text}"' if "," in text else text
    finding = only(check(rows))
    assert (finding.code, finding.what) == ("not-a-number", "no finite number: 6 scores")
    assert finding.where[:2] == ("line 3: ''", "line 4: 'nan'")
    assert finding.where[-1] == "and 1 more"


def test_a_file_without_any_number() -> None:
    report = check([[row_id, "?"] for row_id, _ in right_rows()])
    assert codes(report) == ["not-a-number"]
    assert (report.tied, report.asymmetry, report.structure) == (0, None, None)


def test_cosines_are_told_as_what_they_are() -> None:
    rows = [[row_id, format_score(2 * float(value) - 1)] for row_id, value in right_rows()]
    finding = only(check(rows))
    assert (finding.code, finding.severity) == ("out-of-range", Severity.ERROR)
    assert "(cosine + 1) / 2" in finding.advice


def test_scores_of_another_range() -> None:
    rows = [[row_id, format_score(100 * float(value))] for row_id, value in right_rows()]
    finding = only(check(rows))
    outside = sum(float(value) > 1 for _, value in rows)
    assert finding.what == f"outside [0, 1]: {outside:,} scores"
    assert "so that their order stays" in finding.advice


def test_one_score_for_all() -> None:
    report = check([[row_id, "0.5"] for row_id, _ in right_rows()])
    finding = only(report)
    assert (finding.code, finding.what) == ("constant", "all 1,560 scores are 0.5")
    assert (report.tied, report.structure) == (1.0, None)


def test_one_score_for_all_of_a_query() -> None:
    rows = right_rows()
    for place, (query, _) in enumerate(PAIRS):
        if query == 2:
            rows[place][1] = "0.25"
    report = check(rows)
    assert codes(report) == ["constant-query"]
    assert report.findings[0].where == ("'test_0003.png': 0.25",)


def slow_ties(rows: Rows) -> float:
    """The share of scores that another one of the same query equals, by looking at each pair."""
    tied = 0
    for place, (query, _) in enumerate(PAIRS):
        mine = [rows[other][1] for other, pair in enumerate(PAIRS) if pair[0] == query and other != place]
        tied += float(rows[place][1]) in map(float, mine)
    return tied / len(PAIRS)


@pytest.mark.parametrize("decimals", [2, 4])
def test_rounding_is_told_by_its_ties(decimals: int) -> None:
    rows = [[row_id, f"{float(value):.{decimals}f}"] for row_id, value in right_rows()]
    report = check(rows)
    assert report.tied == pytest.approx(slow_ties(rows))
    if decimals == 2:
        finding = only(report)
        assert (finding.severity, finding.code) == (Severity.WARNING, "ties")
        assert "no score has more than 2 decimals" in finding.what
        assert "significant digits" in finding.advice
        assert not report.is_clean


def test_ties_of_copies_are_not_called_rounding() -> None:
    """Photos 0 to 5 are one photo: all queries tie these."""
    matrix = similarity()
    for copy in range(1, 6):
        matrix[copy], matrix[:, copy] = matrix[0], matrix[:, 0]
    rows = [[str(row), format_score(matrix[pair])] for row, pair in enumerate(PAIRS)]
    finding = next(found for found in check(rows).findings if found.code == "ties")
    assert "decimals" not in finding.what
    assert "copies" in finding.advice


def test_exponents_have_no_decimals_to_count() -> None:
    rows = [[row_id, f"{float(value):.1e}"] for row_id, value in right_rows()]
    finding = next(found for found in check(rows).findings if found.code == "ties")
    assert "0 decimals" in finding.what


@pytest.mark.parametrize(("added", "severity"), [(1e-9, None), (1e-4, Severity.NOTE), (0.05, Severity.WARNING)])
def test_asymmetry(added: float, severity: Severity | None) -> None:
    """One of a pair's two scores is raised: line 2 is photos 1 and 2, line 41 photos 2 and 1."""
    rows = right_rows()
    rows[0][1] = repr(float(rows[0][1]) - added)
    report = check(rows)
    assert report.asymmetry == pytest.approx(added, rel=1e-3)
    if severity is None:
        assert report.findings == ()
        return
    finding = only(report)
    assert (finding.severity, finding.code) == (severity, "asymmetric")
    assert "0.1% of the pairs" in finding.what
    (place,) = finding.where
    assert place.startswith("line 2: 'test_0001.png', 'test_0002.png': 0.")
    assert "; line 41: 'test_0002.png', 'test_0001.png': 0." in place
    assert report.is_clean == (severity is Severity.NOTE)


def test_pairs_that_stand_one_way_only_have_no_symmetry() -> None:
    pairs = [(query, gallery) for query, gallery in PAIRS if query < gallery]
    matrix = similarity()
    rows = [[str(row), format_score(matrix[pair])] for row, pair in enumerate(pairs)]
    report = check_submission(written(rows), table(pairs))
    assert report.asymmetry is None
    assert report.findings == ()
    assert report.structure == check(right_rows()).structure


def test_five_places_and_how_many_more() -> None:
    assert places(range(7), str) == ("0", "1", "2", "3", "4", "and 2 more")
    assert places(range(5), str) == ("0", "1", "2", "3", "4")
    assert [counted(number, "row") for number in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
