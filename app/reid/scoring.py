"""Scoring a table's pairs: each distinct photo is embedded once, each pair is one dot product.

The road of both kinds of table: `kind.read` -> `find_photos` -> embed its `photos` -> `score_pairs` -> `kind.write`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np

from app.reid.errors import LookupFailedError, quote
from app.reid.photos import Photo, PhotoSource
from app.reid.similarity import Float32, Float64, Index, cosine_pairs, unit_interval
from app.reid.tables import (
    ROW_ID,
    PairTable,
    format_score,
    read_pairs,
    read_test,
    write_scored_pairs,
    write_submission,
)

# So many scores are Python objects, and so many names are looked up, at a time.
_SCORES_AT_A_TIME = 8_192
_NAMES_AT_A_TIME = 10_000


@dataclass(frozen=True, eq=False)
class PhotoPairs:
    """The distinct photos behind a table, each with what errors call it, and its pairs: (M,) positions among them."""

    photos: list[tuple[str, Photo]]
    query: Index
    gallery: Index


@dataclass(frozen=True, eq=False)
class Scores:
    """(M,) cosine in [-1, 1] and similarity in [0, 1] of each pair, in the table's order."""

    cosine: Float64
    similarity: Float64


class ReadTable(Protocol):
    """`read_pairs` or `read_test`."""

    def __call__(self, data: bytes, *, max_rows: int) -> PairTable:
        """A CSV's bytes -> its pairs. Raises TableError, RowLimitError."""


@dataclass(frozen=True)
class TableKind:
    """A sort of table: what its CSV must have, and what is written for it.

    `part` is what requests and errors call the CSV, `filename` what the answer is called.
    """

    name: str
    part: str
    filename: str
    read: ReadTable
    write: Callable[[PairTable, Scores], Iterator[str]]


def find_photos(table: PairTable, source: PhotoSource) -> PhotoPairs:
    """The photos behind a table's names, each once with the first name that it goes by, in order of first use.

    Raises:
        LookupFailedError, and what else `source.find` raises: with the names that have no photo.
    """
    found = _find(table, source)
    positions: dict[Photo, int] = {}
    photos: list[tuple[str, Photo]] = []
    photo_of = np.empty(len(found), dtype=np.intp)
    for place, name in enumerate(table.names):
        photo = found[name]
        if photo not in positions:
            positions[photo] = len(photos)
            photos.append((quote(name), photo))
        photo_of[place] = positions[photo]
    return PhotoPairs(photos, photo_of[table.query], photo_of[table.gallery])


def _find(table: PairTable, source: PhotoSource) -> dict[str, Photo]:
    """All names looked up, some thousand at a time: a million that are not there need not all be looked for."""
    found: dict[str, Photo] = {}
    for start in range(0, len(table.names), _NAMES_AT_A_TIME):
        some = slice(start, start + _NAMES_AT_A_TIME)
        lines = table.first_lines[some].tolist()
        try:
            found |= source.find(dict(zip(table.names[some], lines, strict=True)))
        except LookupFailedError as error:
            if start + len(lines) == len(table.names):
                raise
            raise type(error)(f"{error.summary}, as far as line {lines[-1]}", error.all_problems) from error
    return found


def score_pairs(pairs: PhotoPairs, embeddings: Float32) -> Scores:
    """(len(pairs.photos), D) embeddings, in the order of `pairs.photos` -> the scores of all pairs."""
    cosine = cosine_pairs(embeddings, pairs.query, pairs.gallery)
    return Scores(cosine, unit_interval(cosine))


def _write_submission(table: PairTable, scores: Scores) -> Iterator[str]:
    return write_submission(table.column(ROW_ID), _floats(scores.similarity))


def _write_batch(table: PairTable, scores: Scores) -> Iterator[str]:
    """Probability and verdict are empty while the bundle is uncalibrated."""
    cosine, similarity = (map(format_score, _floats(values)) for values in (scores.cosine, scores.similarity))
    return write_scored_pairs(
        table, ((first, second, "", "") for first, second in zip(cosine, similarity, strict=True))
    )


def _floats(values: Float64) -> Iterator[float]:
    """The values as Python's floats, some thousand at a time: all of them at once would take 32 bytes each."""
    return chain.from_iterable(
        values[start : start + _SCORES_AT_A_TIME].tolist() for start in range(0, len(values), _SCORES_AT_A_TIME)
    )


SUBMISSION = TableKind("submission", "test_csv", "submission.csv", read_test, _write_submission)
BATCH = TableKind("batch", "pairs", "pairs.csv", read_pairs, _write_batch)
