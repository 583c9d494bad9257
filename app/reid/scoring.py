"""Scoring a table's pairs: each distinct photo is embedded once, each pair is one dot product.

The road of both kinds of table: `kind.read` -> `find_photos` -> embed its `photos` -> `score_pairs` -> `kind.write`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Protocol

import numpy as np

from app.reid.bundle import Manifest
from app.reid.calibration import Scale
from app.reid.embedder import LoadedModel
from app.reid.errors import LookupFailedError, quote
from app.reid.photos import Photo, PhotoSource
from app.reid.postprocess import Postprocess, check_photos, postprocess
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
    """(M,) cosine in [-1, 1] and similarity in [0, 1] of each pair, in the table's order, and what they are told in.

    Of post-processed scores the cosine is 2 similarity - 1, and nothing is known of what they mean.
    """

    cosine: Float64
    similarity: Float64
    scale: Scale | None = None


class ReadTable(Protocol):
    """`read_pairs` or `read_test`."""

    def __call__(self, data: bytes, *, max_rows: int) -> PairTable:
        """A CSV's bytes -> its pairs. Raises TableError, RowLimitError."""


@dataclass(frozen=True)
class TableKind:
    """A sort of table: what its CSV must have, and what is written for it.

    `part` is what requests and errors call the CSV, `filename` what the answer is called. `postprocessed`: whether the
    manifest's post-processing makes the scores.
    """

    name: str
    part: str
    filename: str
    read: ReadTable
    write: Callable[[PairTable, Scores], Iterator[str]]
    postprocessed: bool = False

    def check(self, pairs: PhotoPairs) -> None:
        """Raises RowLimitError where a table has more photos than this can take, before any is embedded."""
        if self.postprocessed:
            check_photos(len(pairs.photos))

    def steps(self, manifest: Manifest) -> Postprocess | None:
        """What is done to the scores, with a bundle of this manifest."""
        return manifest.postprocess if self.postprocessed else None

    def applied(self, manifest: Manifest) -> str | None:
        """The same as the `X-Postprocess` header names it; None where it was not asked for."""
        return str(self.steps(manifest) or "none") if self.postprocessed else None

    def model(self, served: LoadedModel) -> LoadedModel:
        """The model that embeds the photos, where this one is served."""
        steps = self.steps(served.manifest)
        return served.mirrored() if steps is not None and steps.flip else served


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


def score_pairs(
    pairs: PhotoPairs, embeddings: Float32, scale: Scale | None = None, steps: Postprocess | None = None
) -> Scores:
    """(len(pairs.photos), D) embeddings, in the order of `pairs.photos` -> the scores of all pairs.

    Raises:
        RowLimitError: steps, and more photos than they can take.
    """
    if steps is None:
        cosine = cosine_pairs(embeddings, pairs.query, pairs.gallery)
        return Scores(cosine, unit_interval(cosine), scale)
    similarity = postprocess(embeddings, steps)[pairs.query, pairs.gallery]
    return Scores(2 * similarity - 1, similarity)


def _write_submission(table: PairTable, scores: Scores) -> Iterator[str]:
    return write_submission(table.column(ROW_ID), _floats(scores.similarity))


def _write_batch(table: PairTable, scores: Scores) -> Iterator[str]:
    """Probability and verdict are empty while the bundle is uncalibrated."""
    cosine, similarity = (map(format_score, _floats(values)) for values in (scores.cosine, scores.similarity))
    return write_scored_pairs(
        table,
        ((first, second, *read) for first, second, read in zip(cosine, similarity, _readings(scores), strict=True)),
    )


def _readings(scores: Scores) -> Iterator[tuple[str, str]]:
    """Probability and verdict of each pair as the CSV has them."""
    scale = scores.scale
    if scale is None:
        return repeat(("", ""), len(scores.similarity))
    probability = map(format_score, _floats(scale.probability(scores.similarity)))
    return zip(probability, map(scale.verdict, _floats(scores.similarity)), strict=True)


def _floats(values: Float64) -> Iterator[float]:
    """The values as Python's floats, some thousand at a time: all of them at once would take 32 bytes each."""
    return chain.from_iterable(
        values[start : start + _SCORES_AT_A_TIME].tolist() for start in range(0, len(values), _SCORES_AT_A_TIME)
    )


SUBMISSION = TableKind("submission", "test_csv", "submission.csv", read_test, _write_submission)
POSTPROCESSED = replace(SUBMISSION, name="postprocessed-submission", postprocessed=True)
BATCH = TableKind("batch", "pairs", "pairs.csv", read_pairs, _write_batch)
