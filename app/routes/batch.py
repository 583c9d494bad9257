"""`POST /similarity/batch`: a CSV of pairs in, the same CSV with their scores out."""

from typing import Annotated

from fastapi import APIRouter, Depends, File, Response, UploadFile
from starlette.responses import StreamingResponse

from app.reid.scoring import BATCH
from app.routes import IMAGES_TYPES, only_known, part_types
from app.routes.pairs import IMAGES_HELP, TableCall, csv_responses

PAIRS = "query_image,gallery_image,site\na.jpg,b.jpg,river\n"
EXAMPLE = """query_image,gallery_image,site,cosine,similarity,probability,verdict
a.jpg,b.jpg,river,0.746818246,0.873409123,0.913402117,uncertain
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
    call: Annotated[TableCall, Depends()],
    pairs: Annotated[
        UploadFile, File(description="CSV with query_image, gallery_image, and any more.", examples=[PAIRS])
    ],
    images: Annotated[list[UploadFile], File(description=IMAGES_HELP, default_factory=list)],
) -> Response:
    """Many pairs at once: the CSV's own columns, then `cosine,similarity,probability,verdict`, in its order.

    The last two stay empty while the bundle is uncalibrated.

    `curl -F pairs=@pairs.csv -F images=@a.jpg -F images=@b.jpg localhost:8000/similarity/batch`
    """
    return await call.answer(BATCH, pairs, images)
