"""`POST /submission`: the competition's `test.csv` and its photos in, `submission.csv` out."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Query, Response, UploadFile
from starlette.responses import StreamingResponse

from app.reid.scoring import POSTPROCESSED, SUBMISSION
from app.routes import IMAGES_TYPES, only_known, part_types
from app.routes.pairs import IMAGES_HELP, TableCall, csv_responses

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
    call: Annotated[TableCall, Depends()],
    test_csv: Annotated[UploadFile, File(description="CSV with row_id, query_image, gallery_image.", examples=[TEST])],
    images: Annotated[list[UploadFile], File(description=IMAGES_HELP, default_factory=list)],
    postprocess: Annotated[
        Literal["manifest"] | None,
        Query(description="`manifest`: do to the scores what the bundle's manifest says; `X-Postprocess` names it."),
    ] = None,
) -> Response:
    """The whole competition in one call: exactly `row_id,similarity`, in the order of the test CSV.

    The similarity is (cosine + 1) / 2, unless post-processing is asked for; it is then in [0, 1] and symmetric as well.

    `curl -F test_csv=@test.csv -F images=@test.zip localhost:8000/submission -o submission.csv`
    """
    return await call.answer(SUBMISSION if postprocess is None else POSTPROCESSED, test_csv, images)
