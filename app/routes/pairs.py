"""What `/submission` and `/similarity/batch` share: a table of pairs and its photos in, the pairs' scores out."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from fastapi import UploadFile
from starlette.responses import StreamingResponse

from app.problems import Calls, responses
from app.reid.errors import quote
from app.reid.photos import Photo, PhotoSource
from app.reid.scoring import PairIndex, Scores, index_pairs, score_pairs
from app.reid.tables import GALLERY, QUERY, Table
from app.routes import VERSION_DOCS, VERSION_HEADER
from app.settings import Settings
from app.uploads import photo_source
from app.workers import Workers

IMAGES_HELP = (
    "Photos, zips of photos, or both; a CSV's names are looked up among them. Without any, the service looks below its"
    " image root."
)


def csv_responses(example: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI: a CSV that looks like `example`, or a problem."""
    content = {"text/csv": {"schema": {"type": "string"}, "example": example}}
    made = {"description": "A CSV.", "content": content, "headers": VERSION_DOCS}
    return {200: made, **responses(Calls.PHOTOS, Calls.TABLES)}


async def score_table(table: Table, images: Sequence[UploadFile], settings: Settings, workers: Workers) -> Scores:
    """The scores of a table's pairs, in its order. Every photo is embedded once, under however many names it goes.

    Raises:
        NoImagesError, LookupFailedError, ArchiveError, FileLimitError...: before any photo is embedded.
        ImageError: a photo that cannot be read.
    """
    source = await photo_source(images, settings)
    index = await asyncio.to_thread(index_pairs, table.column(QUERY), table.column(GALLERY))
    photos, pairs = await asyncio.to_thread(_distinct, table, source, index)
    embeddings = await workers.embed(photos)
    return await asyncio.to_thread(score_pairs, pairs, embeddings)


def csv_answer(pieces: Iterator[str], filename: str, workers: Workers) -> StreamingResponse:
    """The pieces as a file to keep."""
    headers = {
        "Content-Disposition": f'attachment; filename="{filename}"',
        VERSION_HEADER: workers.model.version,
    }
    return StreamingResponse(pieces, media_type="text/csv", headers=headers)


def _distinct(table: Table, source: PhotoSource, index: PairIndex) -> tuple[list[tuple[str, Photo]], PairIndex]:
    """The photos behind the names, each once with the first name that it goes by, and the pairs as numbers of those."""
    found = source.find(table.first_lines(QUERY, GALLERY))
    names: dict[Photo, str] = {}
    for name in index.names:
        names.setdefault(found[name], name)
    number = {photo: position for position, photo in enumerate(names)}
    rows = np.fromiter((number[found[name]] for name in index.names), dtype=np.intp, count=len(index.names))
    photos = [(quote(name), photo) for photo, name in names.items()]
    return photos, PairIndex(list(names.values()), rows[index.query], rows[index.gallery])
