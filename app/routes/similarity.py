"""`POST /similarity`: two photos in, how alike they are out."""

from typing import Annotated

from fastapi import APIRouter, Depends, File, Response, UploadFile

from app.problems import Calls, responses
from app.reid.errors import quote
from app.reid.similarity import cosine_matrix, unit_interval
from app.reid.tables import GALLERY, QUERY
from app.routes import PHOTO_TYPES, VERSION_HEADER, ModelDep, SettingsDep, WorkersDep, answer, only_known, part_types
from app.schemas import Similarity
from app.uploads import UploadedPhoto, check_image_size

router = APIRouter(dependencies=[Depends(only_known)])


@router.post(
    "/similarity",
    tags=["compare"],
    responses={**answer(Similarity), **responses(Calls.PHOTOS)},
    openapi_extra=part_types(query_image=PHOTO_TYPES, gallery_image=PHOTO_TYPES),
)
async def similarity(
    response: Response,
    workers: WorkersDep,
    model: ModelDep,
    settings: SettingsDep,
    query_image: Annotated[UploadFile, File(description="JPEG, PNG or WebP.")],
    gallery_image: Annotated[UploadFile, File(description="JPEG, PNG or WebP.")],
) -> Similarity:
    """Do two photos show the same jaguar? `similarity` is in [0, 1], and the same with the photos exchanged.

    `curl -F query_image=@a.jpg -F gallery_image=@b.jpg localhost:8000/similarity`
    """
    photos = []
    for part, upload in ((QUERY, query_image), (GALLERY, gallery_image)):
        check_image_size(upload, settings)
        photos.append((f"{part} {quote(upload.filename or '')}", UploadedPhoto(upload.file)))
    embeddings = await workers.embed(photos, model)
    cosine = cosine_matrix(embeddings[:1], embeddings[1:])
    score = float(unit_interval(cosine)[0, 0])
    probability, verdict = (None, None) if model.scale is None else model.scale.read(score)
    response.headers[VERSION_HEADER] = model.version
    return Similarity(
        model_version=model.version,
        similarity=score,
        cosine=float(cosine[0, 0]),
        probability=probability,
        verdict=verdict,
    )
