"""The queries that went best and worst, with what they were answered, and small pictures of all of them."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.reid.errors import quote
from app.reid.photos import PhotoFolder
from app.reid.preprocess import decode_image
from app.reid.spec import PreprocessSpec
from training.evaluate import Measured
from training.report.values import labels_of

SHOWN = 6
ANSWERS = 5
_SIDE = 176
_QUALITY = 68


@dataclass(frozen=True)
class Answer:
    """One photo of a ranking: its rank from 1, its similarity to the query, and whether it shows the same animal."""

    filename: str
    identity: str
    rank: int
    similarity: float
    right: bool


@dataclass(frozen=True)
class Query:
    """A photo that asked, its AP, its first answers, and its first right answer however far down."""

    filename: str
    identity: str
    average_precision: float
    answers: list[Answer]
    first_right: Answer


@dataclass(frozen=True)
class Gallery:
    """The best and the worst queries, one for each animal, so that no animal fills the page."""

    best: list[Query]
    worst: list[Query]

    def filenames(self) -> set[str]:
        """Every photo that is shown."""
        queries = [*self.best, *self.worst]
        shown = [answer.filename for query in queries for answer in (*query.answers, query.first_right)]
        return {*shown, *(query.filename for query in queries)}


def pick_queries(measured: Measured, count: int = SHOWN) -> Gallery:
    """The queries with the highest and the lowest AP; equal ones in the table's order, none of them twice."""
    query_ap = measured.evaluation.query_ap
    asks = np.flatnonzero(~np.isnan(query_ap))
    worst = _one_each(measured, asks[np.argsort(query_ap[asks], kind="stable")], count, set())
    best = _one_each(measured, asks[np.argsort(-query_ap[asks], kind="stable")], count, set(worst))
    return Gallery([_ask(measured, row) for row in best], [_ask(measured, row) for row in worst])


def _one_each(measured: Measured, rows: Iterable[int], count: int, taken: set[int]) -> list[int]:
    chosen: dict[str, int] = {}
    for row in map(int, rows):
        if len(chosen) < count and row not in taken:
            chosen.setdefault(measured.photos.identities[row], row)
    return list(chosen.values())


def _ask(measured: Measured, row: int) -> Query:
    photos, scores = measured.photos, measured.similarity[row]
    inside = np.ones(len(photos), dtype=np.bool_)
    if measured.groups is not None:
        members = labels_of(measured.groups)[1]
        inside = members == members[row]
    inside[row] = False
    ranked = np.flatnonzero(inside)
    ranked = ranked[np.argsort(-scores[ranked], kind="stable")]

    def answer(place: int) -> Answer:
        other = int(ranked[place])
        identity = photos.identities[other]
        right = identity == photos.identities[row]
        return Answer(photos.filenames[other], identity, place + 1, float(scores[other]), right)

    first = next(place for place, other in enumerate(ranked) if photos.identities[other] == photos.identities[row])
    answers = [answer(place) for place in range(min(ANSWERS, len(ranked)))]
    precision = float(measured.evaluation.query_ap[row])
    return Query(photos.filenames[row], photos.identities[row], precision, answers, answer(first))


def thumbnails(folder: Path, filenames: Iterable[str], spec: PreprocessSpec) -> dict[str, str]:
    """Small WebP pictures as data URIs, a mask kept, in the photos' own proportions.

    Raises:
        ImageError, LookupFailedError, OSError: a file has changed or gone since it was read first.
    """
    source = PhotoFolder(folder, label=str(folder))
    large = spec.model_copy(update={"alpha": "composite", "size": (_SIDE, _SIDE)})
    uris = {}
    for name in sorted(filenames):
        image = decode_image(source.find({name: 1})[name].read(), large, name=quote(name))
        image.thumbnail((_SIDE, _SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=_QUALITY)
        uris[name] = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return uris
