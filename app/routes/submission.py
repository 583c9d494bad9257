"""`POST /submission`: the competition's `test.csv` and its photos in, `submission.csv` out."""

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, File, UploadFile
from starlette.responses import StreamingResponse

from app.reid.tables import ROW_ID, read_test, write_submission
from app.routes import IMAGES_TYPES, SettingsDep, WorkersDep, only_known, part_types
from app.routes.pairs import IMAGES_HELP, csv_answer, csv_responses, score_table
from app.uploads import read_csv

TEST = "row_id,query_image,gallery_image\n0,a.jpg,b.jpg\n1,a.jpg,c.jpg\n"
EXAMPLE = "row_id,similarity\n0,0.873409123\n1,0.412208557\n"

router = APIRouter(dependencies=[Depends(only_known)])


@router.post(
    "/submission",
    tags=["tables"],
    response_class=StreamingResponse,
    responses=csv_responses(EXAMPLE),
    openapi_extra=part_types(test_csv="text/csv", images=IMAGES_TYPES),
)
async def submission(
    workers: WorkersDep,
    settings: SettingsDep,
    test_csv: Annotated[UploadFile, File(description="CSV with row_id, query_image, gallery_image.", examples=[TEST])],
    images: Annotated[list[UploadFile], File(description=IMAGES_HELP, default_factory=list)],
) -> StreamingResponse:
    """The whole competition in one call: exactly `row_id,similarity`, in the order of the test CSV.

    `curl -F test_csv=@test.csv -F images=@test.zip localhost:8000/submission -o submission.csv`
    """
    data = await read_csv(test_csv, "test_csv", settings)
    table = await asyncio.to_thread(partial(read_test, data, max_rows=settings.max_csv_rows))
    scores = await score_table(table, images, settings, workers)
    return csv_answer(write_submission(table.column(ROW_ID), scores.similarity.tolist()), "submission.csv", workers)
