"""`POST /similarity/batch`: a CSV of pairs in, the same CSV with their scores out."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, File, UploadFile
from starlette.responses import StreamingResponse

from app.reid.scoring import Scores
from app.reid.tables import format_score, read_pairs, write_scored_pairs
from app.routes import IMAGES_TYPES, SettingsDep, WorkersDep, only_known, part_types
from app.routes.pairs import IMAGES_HELP, csv_answer, csv_responses, score_table
from app.uploads import read_csv

PAIRS = "query_image,gallery_image,site\na.jpg,b.jpg,river\n"
EXAMPLE = """query_image,gallery_image,site,cosine,similarity,probability,verdict
a.jpg,b.jpg,river,0.746818246,0.873409123,,
"""

router = APIRouter(dependencies=[Depends(only_known)])


@router.post(
    "/similarity/batch",
    tags=["tables"],
    response_class=StreamingResponse,
    responses=csv_responses(EXAMPLE),
    openapi_extra=part_types(pairs="text/csv", images=IMAGES_TYPES),
)
async def batch(
    workers: WorkersDep,
    settings: SettingsDep,
    pairs: Annotated[
        UploadFile, File(description="CSV with query_image, gallery_image, and any more.", examples=[PAIRS])
    ],
    images: Annotated[list[UploadFile], File(description=IMAGES_HELP, default_factory=list)],
) -> StreamingResponse:
    """Many pairs at once: the CSV's own columns, then `cosine,similarity,probability,verdict`, in its order.

    The last two stay empty while the bundle is uncalibrated.

    `curl -F pairs=@pairs.csv -F images=@a.jpg -F images=@b.jpg localhost:8000/similarity/batch`
    """
    data = await read_csv(pairs, "pairs", settings)
    table = await asyncio.to_thread(partial(read_pairs, data, max_rows=settings.max_csv_rows))
    scores = await score_table(table, images, settings, workers)
    return csv_answer(write_scored_pairs(table, _columns(scores)), "pairs.csv", workers)


def _columns(scores: Scores) -> Iterator[tuple[str, str, str, str]]:
    """What the answer adds to each row; probability and verdict are empty while the bundle is uncalibrated."""
    for cosine, similarity in zip(scores.cosine.tolist(), scores.similarity.tolist(), strict=True):
        yield format_score(cosine), format_score(similarity), "", ""
