"""A submission's scores one by one and two by two: numbers, range, ties, symmetry."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.reid.errors import quote
from app.reid.preflight.findings import Finding, Severity, counted, places
from app.reid.preflight.layout import Submission
from app.reid.similarity import Float64
from app.reid.tables import PairTable

# Tied values inside a query, of all. Measured on five sets of photos under two models: 0.0 % with nine significant
# digits, 0.1 to 0.2 % with six decimals, 0.5 to 1.9 % with five, 5.6 to 17.4 % with four, 42 to 76 % with three. A
# photo that stands there twice ties 0.5 % of a query over 371.
MAX_TIED = 0.03
# Beyond float32's rounding, and beyond half precision's.
_ROUNDING, _COARSE_ROUNDING = 1e-6, 1e-3


@dataclass(frozen=True, eq=False)
class Scores:
    """The score of each row of `test.csv`, NaN where there is none that can be used, and the line that holds it."""

    test: PairTable
    values: Float64
    lines: NDArray[np.int64]

    @property
    def known(self) -> NDArray[np.intp]:
        """The rows that have one."""
        return np.flatnonzero(np.isfinite(self.values))

    def at(self, row: int) -> str:
        """Where a row's score stands, which two photos it is of, and what it is."""
        names = self.test.names
        query, gallery = names[self.test.query[row]], names[self.test.gallery[row]]
        return f"line {self.lines[row]}: {quote(query)}, {quote(gallery)}: {self.values[row]:.9g}"


def read_values(submission: Submission) -> tuple[Float64, list[Finding]]:
    """The scores as numbers, NaN where one is none; and those that are none, not finite or outside [0, 1]."""
    values = np.array([_number(text) for text in submission.values])
    wrong = np.flatnonzero(~np.isfinite(values))
    outside = np.flatnonzero((values < 0) | (values > 1))  # infinities are in both
    outside = np.setdiff1d(outside, wrong)

    def at(row: int) -> str:
        return f"line {submission.lines[row]}: {quote(submission.values[row])}"

    findings = []
    if len(wrong):
        what = f"no finite number: {counted(len(wrong), 'score')}"
        advice = "Every pair needs a number: look for NaN in the embeddings, a norm of 0 or a comma for the point."
        findings.append(Finding(Severity.ERROR, "not-a-number", what, advice, places(wrong.tolist(), at)))
    if len(outside):
        what = f"outside [0, 1]: {counted(len(outside), 'score')}"
        findings.append(
            Finding(Severity.ERROR, "out-of-range", what, _range_advice(values), places(outside.tolist(), at))
        )
    return values, findings


def _number(text: str) -> float:
    """A number as every CSV reader takes it; Python's float takes `1_0` as well."""
    if "_" in text or not text.isascii():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _range_advice(values: Float64) -> str:
    finite = values[np.isfinite(values)]
    if finite.min() >= -1 - _ROUNDING and finite.max() <= 1 + _ROUNDING:
        return "These look like cosines; the similarity is (cosine + 1) / 2."
    return "Bring them to [0, 1], for all rows in the same way, so that their order stays."


def find_constant(scores: Scores) -> list[Finding]:
    """All scores the same, or all of a query: there is nothing to rank by."""
    known = scores.known
    if not len(known):
        return []
    values = scores.values[known]
    if len(known) > 1 and np.all(values == values[0]):
        what = f"all {len(known):,} scores are {values[0]:.9g}"
        advice = "Nothing can be ranked by them: look whether the embeddings are all the same."
        return [Finding(Severity.ERROR, "constant", what, advice)]
    query = scores.test.query[known]
    low, high = np.full((2, len(scores.test.names)), np.nan)
    np.fmin.at(low, query, values)
    np.fmax.at(high, query, values)
    flat = np.flatnonzero((low == high) & (np.bincount(query, minlength=len(low)) > 1))
    if not len(flat):
        return []
    what = f"all scores the same: of {counted(len(flat), 'query photo')}"
    where = places(flat.tolist(), lambda photo: f"{quote(scores.test.names[photo])}: {low[photo]:.9g}")
    advice = "Look at these photos' embeddings: they may be empty or could not be read."
    return [Finding(Severity.ERROR, "constant-query", what, advice, where)]


def tied_share(scores: Scores) -> float:
    """The share of all scores that another one of the same query equals, in [0, 1]."""
    known = scores.known
    query, values = scores.test.query[known], scores.values[known]
    order = np.lexsort((values, query))
    query, values = query[order], values[order]
    same = np.zeros(len(known) + 1, dtype=bool)
    same[1:-1] = (query[1:] == query[:-1]) & (values[1:] == values[:-1])
    return float((same[1:] | same[:-1]).mean()) if len(known) else 0.0


def find_ties(share: float, texts: Sequence[str]) -> list[Finding]:
    """Too many ties, of which the order is chance. texts: the scores as they were written."""
    if share <= MAX_TIED:
        return []
    decimals = max((len(text.partition(".")[2]) for text in texts if "e" not in text.lower()), default=0)
    few = decimals <= 5
    reason = f"; no score has more than {decimals} decimals" if few else ""
    advice = "Find out which photos are the same: copies of a photo tie, and so do equal embeddings."
    if few:
        advice = "Write at least 7 significant digits (Python: f'{value:.9g}'), and round nowhere before."
    what = f"{share:.1%} of the scores are tied inside their query, so that chance ranks them{reason}"
    return [Finding(Severity.WARNING, "ties", what, advice)]


def asymmetry(scores: Scores) -> tuple[Float64, NDArray[np.intp], NDArray[np.intp]]:
    """(K,) how far the two scores of a pair of photos differ, and the rows of `test.csv` where either stands."""
    known = scores.known
    query, gallery = (side[known].astype(np.int64) for side in (scores.test.query, scores.test.gallery))
    size = len(scores.test.names)
    key, turned = query * size + gallery, gallery * size + query
    order = np.argsort(key, kind="stable")
    found = np.minimum(np.searchsorted(key[order], turned), len(key) - 1)
    other = order[found] if len(key) else found
    both = (key[other] == turned) & (query < gallery)
    first, second = known[both], known[other[both]]
    return np.abs(scores.values[first] - scores.values[second]), first, second


def find_asymmetry(scores: Scores) -> tuple[float | None, list[Finding]]:
    """The largest difference between a pair's two scores, None where no pair has two; and a finding where it is one."""
    differences, first, second = asymmetry(scores)
    if not len(differences):
        return None, []
    largest = float(differences.max())
    if largest <= _ROUNDING:
        return largest, []
    share = float((differences > _ROUNDING).mean())
    worst = np.argsort(-differences, kind="stable")[: int((differences > _ROUNDING).sum())]
    where = places(worst.tolist(), lambda pair: f"{scores.at(first[pair])}; {scores.at(second[pair])}")
    what = f"the two scores of a pair, (a, b) and (b, a), differ in {share:.1%} of the pairs, by {largest:.3g} at most"
    if largest <= _COARSE_ROUNDING:
        advice = "This is what half precision leaves; compute cosines in float32 or better to be sure."
        return largest, [Finding(Severity.NOTE, "asymmetric", what, advice, where)]
    advice = "A cosine is the same both ways: scores may stand in wrong rows. Re-ranking can do this on purpose."
    return largest, [Finding(Severity.WARNING, "asymmetric", what, advice, where)]
