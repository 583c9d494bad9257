"""A submission's form: its columns and rows against those of `test.csv`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.reid.errors import TableError, quote
from app.reid.preflight.findings import Finding, Severity, counted, places
from app.reid.rows import RowReader
from app.reid.tables import DEFAULT_MAX_ROWS, ROW_ID, SUBMISSION_COLUMNS

Index = NDArray[np.intp]

_, _VALUE = SUBMISSION_COLUMNS
_COLUMNS = ",".join(SUBMISSION_COLUMNS)


@dataclass(frozen=True, eq=False)
class Submission:
    """A submission as text, in file order; `lines` holds the line where each row ends."""

    row_ids: list[str]
    values: list[str]
    lines: list[int]

    def at(self, row: int) -> str:
        """Where a row stands and which one it is."""
        return f"line {self.lines[row]}: {ROW_ID} {quote(self.row_ids[row])}"


@dataclass(frozen=True, eq=False)
class Match:
    """Which rows of a submission answer which of `test.csv`: (K,) positions of either, in the submission's order."""

    rows: Index
    asked: Index


def read_submission(data: bytes, name: str) -> tuple[Submission | None, list[Finding]]:
    """A submission's bytes -> its rows, or None where it cannot be read as a table; and what is wrong with its form."""
    findings: list[Finding] = []
    row_ids: list[str] = []
    values: list[str] = []
    lines: list[int] = []
    try:
        reader = RowReader(data, name, SUBMISSION_COLUMNS, DEFAULT_MAX_ROWS)
        if reader.columns != SUBMISSION_COLUMNS:
            findings.append(_other_columns(reader.columns))
        for block in reader.blocks():
            row_ids += block.columns[ROW_ID]
            values += block.columns[_VALUE]
            lines += block.lines
    except TableError as error:
        findings.append(
            Finding(
                Severity.ERROR,
                "unreadable",
                error.summary,
                f"Write a CSV in UTF-8 with the header {_COLUMNS} and two fields in every row.",
                places(error.all_problems, str),
            )
        )
        return None, findings
    return Submission(row_ids, values, lines), findings


def match_rows(submission: Submission, asked: list[str]) -> tuple[Match, list[Finding]]:
    """The rows that answer `test.csv`, whose row_ids are `asked`; and those missing, extra, repeated or moved."""
    position = {row_id: number for number, row_id in enumerate(asked)}
    numbers = np.array([position.get(row_id, -1) for row_id in submission.row_ids], dtype=np.intp)
    _, first = np.unique(numbers, return_index=True)
    rows = np.sort(first[numbers[first] >= 0])
    match = Match(rows, numbers[rows])
    later = np.ones(len(numbers), dtype=bool)
    later[first] = False
    repeated, extra = np.flatnonzero(later & (numbers >= 0)), np.flatnonzero(numbers < 0)
    missing = np.setdiff1d(np.arange(len(asked)), match.asked)
    findings = [
        _missing(missing, asked),
        _extra(extra, submission, set(asked)),
        _repeated(repeated, submission),
        _moved(match, submission, asked),
    ]
    return match, [finding for finding in findings if finding is not None]


def _other_columns(columns: tuple[str, ...]) -> Finding:
    found = ", ".join(map(quote, columns))
    advice = f"Kaggle takes exactly {_COLUMNS}, in this order; drop or move the others."
    return Finding(Severity.ERROR, "columns", f"the columns are {found}", advice, ("line 1",))


def _missing(missing: Index, asked: list[str]) -> Finding | None:
    if not len(missing):
        return None
    return Finding(
        Severity.ERROR,
        "rows-missing",
        f"{counted(len(missing), 'row')} missing of test.csv's {len(asked):,}",
        "Write one row for every row of test.csv.",
        places(missing.tolist(), lambda number: f"{ROW_ID} {quote(asked[number])}"),
    )


def _extra(extra: Index, submission: Submission, asked: set[str]) -> Finding | None:
    if not len(extra):
        return None
    advice = "Drop them, or check whether this test.csv is the one of this submission."
    if _as_integer(submission.row_ids[extra[0]]) in asked:
        advice = f"Write {ROW_ID} as test.csv does: 0 and not 0.0; pandas does so where the column is of integers."
    what = f"{counted(len(extra), 'row')} that test.csv has not"
    return Finding(Severity.ERROR, "rows-extra", what, advice, places(extra.tolist(), submission.at))


def _as_integer(text: str) -> str:
    """`7.0` and `007` as `7`; what is no whole number as it is."""
    try:
        return str(int(float(text)))
    except (ValueError, OverflowError):
        return text


def _repeated(repeated: Index, submission: Submission) -> Finding | None:
    if not len(repeated):
        return None
    what = f"{counted(len(repeated), 'row')} with a {ROW_ID} of an earlier row"
    return Finding(
        Severity.ERROR, "rows-repeated", what, "Keep one row of each.", places(repeated.tolist(), submission.at)
    )


def _moved(match: Match, submission: Submission, asked: list[str]) -> Finding | None:
    if np.all(np.diff(match.asked) > 0):
        return None
    expected = np.sort(match.asked)
    moved = np.flatnonzero(expected != match.asked)
    return Finding(
        Severity.ERROR,
        "rows-moved",
        f"{counted(len(moved), 'row')} not where test.csv has it",
        f"Write the rows in test.csv's order: sort them by {ROW_ID} as a number.",
        places(
            moved.tolist(), lambda place: f"{submission.at(match.rows[place])}; {quote(asked[expected[place]])} is due"
        ),
    )
