"""The preflight of a submission: its form, its numbers, and whether they mean anything."""

from dataclasses import dataclass

import numpy as np

from app.reid.preflight.findings import Finding, Severity
from app.reid.preflight.layout import Match, Submission, match_rows, read_submission
from app.reid.preflight.scores import (
    Scores,
    find_asymmetry,
    find_constant,
    find_ties,
    read_values,
    tied_share,
)
from app.reid.preflight.structure import Structure, find_randomness
from app.reid.similarity import Float64
from app.reid.tables import ROW_ID, PairTable


@dataclass(frozen=True)
class Report:
    """What a submission is, as far as it could be read, and all that was found.

    rows: of the file; asked: of `test.csv`, over so many photos. tied: the share of scores that another one of the same
    query equals. asymmetry: the largest difference between a pair's two scores. None: it could not be measured.
    """

    findings: tuple[Finding, ...]
    asked: int
    photos: int
    rows: int | None = None
    tied: float | None = None
    asymmetry: float | None = None
    structure: Structure | None = None

    @property
    def is_clean(self) -> bool:
        """Whether there are neither errors nor warnings."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)


def check_submission(data: bytes, test: PairTable, *, name: str = "submission.csv") -> Report:
    """A submission's bytes against `test.csv`. Everything that can be looked at is, whatever else is wrong."""
    submission, findings = read_submission(data, name)
    if submission is None:
        return Report(tuple(findings), len(test), len(test.names))
    match, unmatched = match_rows(submission, list(test.column(ROW_ID)))
    values, wrong = read_values(submission)
    scores = _by_row(submission, match, values, test)
    tied = tied_share(scores)
    largest, asymmetric = find_asymmetry(scores)
    constant = find_constant(scores)
    as_written = _as_written(submission, values, test) if unmatched else None
    structure, random = find_randomness(scores, as_written)
    # Of one value everything is tied and nothing is random: that is told already.
    about_values = constant if constant else [*find_ties(tied, submission.values), *asymmetric]
    return Report(
        (*findings, *unmatched, *wrong, *about_values, *random),
        len(test), len(test.names), len(submission.row_ids), tied, largest, structure,
    )  # fmt: skip


def _by_row(submission: Submission, match: Match, values: Float64, test: PairTable) -> Scores:
    found, lines = np.full(len(test), np.nan), np.zeros(len(test), dtype=np.int64)
    found[match.asked] = values[match.rows]
    lines[match.asked] = np.asarray(submission.lines, dtype=np.int64)[match.rows]
    return Scores(test, found, lines)


def _as_written(submission: Submission, values: Float64, test: PairTable) -> Scores | None:
    """The scores as if each stood in the row that its place says; None where there are more or fewer than rows."""
    if len(values) != len(test):
        return None
    return Scores(test, values, np.asarray(submission.lines, dtype=np.int64))
