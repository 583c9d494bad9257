"""`POST /embed`: photos in, embeddings out."""

import asyncio
import io
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, File, Header, Response, UploadFile

from app.problems import Calls, responses
from app.reid.errors import quote
from app.reid.preprocess import Float32
from app.routes import PHOTO_TYPES, VERSION_HEADER, ModelDep, SettingsDep, WorkersDep, answer, only_known, part_types
from app.schemas import Embeddings, ImageEmbedding
from app.uploads import UploadedPhoto, check_image_size

NPY = "application/x-npy"
_ANSWER = answer(Embeddings)[200]

router = APIRouter(dependencies=[Depends(only_known)])


@router.post(
    "/embed",
    tags=["compare"],
    response_class=Response,
    responses={
        200: {
            **_ANSWER,
            "model": Embeddings,
            "description": f"JSON, or with `Accept: {NPY}` a NumPy file: float32, (N, 512).",
            "content": {**_ANSWER["content"], NPY: {"schema": {"type": "string", "format": "binary"}}},
        },
        **responses(Calls.PHOTOS),
    },
    openapi_extra=part_types(images=PHOTO_TYPES),
)
async def embed(
    workers: WorkersDep,
    model: ModelDep,
    settings: SettingsDep,
    images: Annotated[list[UploadFile], File(description="JPEG, PNG or WebP, once or more.", min_length=1)],
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Unit-norm embeddings of photos, in the order sent; their dot product is the photos' cosine.

    `curl -F images=@a.jpg -F images=@b.jpg localhost:8000/embed`
    """
    for upload in images:
        check_image_size(upload, settings)
    names = [upload.filename or "" for upload in images]
    photos = [(quote(name), UploadedPhoto(upload.file)) for name, upload in zip(names, images, strict=True)]
    embeddings = await workers.embed(photos, model)
    if _wants_npy(accept):
        body, media_type = await asyncio.to_thread(_npy, embeddings), NPY
    else:
        body, media_type = await asyncio.to_thread(_json, model.version, names, embeddings), "application/json"
    return Response(body, media_type=media_type, headers={VERSION_HEADER: model.version, "Vary": "Accept"})


def _wants_npy(accept: str) -> bool:
    """Whether the Accept header names the type; a wildcard gets JSON."""
    return any(entry.partition(";")[0].strip().lower() == NPY for entry in accept.split(","))


def _npy(embeddings: Float32) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, embeddings, allow_pickle=False)
    return buffer.getvalue()


def _json(version: str, names: list[str], embeddings: Float32) -> bytes:
    """Serialised here and not by the framework, which would do it on the event loop."""
    rows = [ImageEmbedding(filename=name, embedding=row) for name, row in zip(names, embeddings.tolist(), strict=True)]
    return Embeddings(model_version=version, embeddings=rows).model_dump_json().encode()
