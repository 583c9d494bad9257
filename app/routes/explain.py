"""`POST /similarity/explain`: two photos in, where their score comes from out."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, File, Header, Query, Response, UploadFile

from app.errors import ExplainUnavailableError
from app.photo_work import Named
from app.problems import Calls, responses
from app.reid.embedder import Embedder, LoadedModel
from app.reid.errors import ImageError, quote
from app.reid.explain import (
    DEFAULT_LINKS,
    MAX_LINKS,
    PhotoBox,
    Place,
    Places,
    can_explain,
    compare,
    find_places,
    photo_box,
)
from app.reid.overlay import DEFAULT_OPACITY, Panel, draw_overlay, thumbnail
from app.reid.photos import Photo
from app.reid.preprocess import decode_image, fit
from app.reid.similarity import Float64, unit_interval
from app.reid.tables import GALLERY, QUERY
from app.routes import PHOTO_TYPES, VERSION_HEADER, ModelDep, SettingsDep, WorkersDep, answer, only_known, part_types
from app.schemas import ExplainedPhoto, LinkEnd, PlaceLink, SimilarityExplanation
from app.uploads import UploadedPhoto, check_image_size

PNG = "image/png"
_ANSWER = answer(SimilarityExplanation)[200]

router = APIRouter(dependencies=[Depends(only_known)])


@router.post(
    "/similarity/explain",
    tags=["compare"],
    response_class=Response,
    responses={
        200: {
            **_ANSWER,
            "model": SimilarityExplanation,
            "description": f"JSON, or with `Accept: {PNG}` both photos under their maps, with the links.",
            "content": {**_ANSWER["content"], PNG: {"schema": {"type": "string", "format": "binary"}}},
        },
        **responses(Calls.PHOTOS, Calls.EXPLAIN),
    },
    openapi_extra=part_types(query_image=PHOTO_TYPES, gallery_image=PHOTO_TYPES),
)
async def explain(
    workers: WorkersDep,
    model: ModelDep,
    settings: SettingsDep,
    query_image: Annotated[UploadFile, File(description="JPEG, PNG or WebP.")],
    gallery_image: Annotated[UploadFile, File(description="JPEG, PNG or WebP.")],
    links: Annotated[int, Query(ge=0, le=MAX_LINKS, description="Pairs of places to name.")] = DEFAULT_LINKS,
    opacity: Annotated[float, Query(ge=0, le=1, description="Of the maps in the PNG.")] = DEFAULT_OPACITY,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Why do two photos score as they do? What each place of either adds to their cosine; it adds up to it.

    `curl -F query_image=@a.jpg -F gallery_image=@b.jpg -H 'Accept: image/png' localhost:8000/similarity/explain`
    """
    if not can_explain(model.embedder):
        raise ExplainUnavailableError(
            f"The network of the bundle {quote(model.manifest.name)} does not tell what each place of a photo adds to"
            " the score; a ConvNeXt with pooling avg or grid does."
        )
    photos: list[Named] = []
    for part, upload in ((QUERY, query_image), (GALLERY, gallery_image)):
        check_image_size(upload, settings)
        photos.append((f"{part} {quote(upload.filename or '')}", UploadedPhoto(upload.file)))
    drawn = _accepts_png(accept)
    # One after the other: where the client leaves, or the first cannot be read, the second is not taken up.
    query, gallery = [await workers.run(partial(_look_at, model.embedder, *photo, drawn=drawn)) for photo in photos]
    body = await workers.run(partial(_write, model, query, gallery, links, opacity))
    headers = {VERSION_HEADER: model.version, "Vary": "Accept"}
    return Response(body, media_type=PNG if drawn else "application/json", headers=headers)


def _accepts_png(accept: str) -> bool:
    """Whether the Accept header names the type; a wildcard gets JSON."""
    return any(entry.partition(";")[0].strip().lower() == PNG for entry in accept.split(","))


@dataclass(frozen=True)
class _Seen:
    """A photo after the network: its places, where it lies among them, its width and height, and what to draw on."""

    places: Places
    box: PhotoBox
    size: tuple[int, int]
    panel: Panel | None


def _look_at(embedder: Embedder, name: str, photo: Photo, *, drawn: bool) -> _Seen:
    """Reads, decodes and embeds a photo; the decoded picture is let go. Raises ImageError."""
    try:
        data = photo.read()
    except OSError as error:  # its own words hold a path
        raise ImageError(f"{name}: the file cannot be read") from error
    spec = embedder.spec
    picture = decode_image(data, spec, name=name, max_pixels=embedder.max_pixels)
    places = find_places(embedder, fit(picture, spec))
    rows, columns, _ = places.places.shape
    box = photo_box(picture.size, spec, (rows, columns))
    return _Seen(places, box, picture.size, Panel(thumbnail(picture, spec), box) if drawn else None)


def _write(model: LoadedModel, query: _Seen, gallery: _Seen, links: int, opacity: float) -> bytes:
    """The answer's body: a PNG where there is something to draw on, else JSON."""
    explanation = compare(query.places, gallery.places, links=links)
    if query.panel is not None and gallery.panel is not None:
        return draw_overlay(explanation, query.panel, gallery.panel, opacity=opacity)
    rows, columns = explanation.query.shape
    links_told = [
        PlaceLink(value=link.value, query=_end(query.box, link.query), gallery=_end(gallery.box, link.gallery))
        for link in explanation.links
    ]
    similarity = unit_interval(np.array([explanation.cosine])).item()
    probability, verdict = (None, None) if model.scale is None else model.scale.read(similarity)
    answered = SimilarityExplanation(
        model_version=model.version,
        cosine=explanation.cosine,
        similarity=similarity,
        probability=probability,
        verdict=verdict,
        grid_shape=(rows, columns),
        query=_photo(query, explanation.query),
        gallery=_photo(gallery, explanation.gallery),
        links=links_told,
    )
    return answered.model_dump_json().encode()


def _photo(seen: _Seen, values: Float64) -> ExplainedPhoto:
    rows, columns = values.shape
    box = seen.box
    return ExplainedPhoto(
        grid=values.tolist(),
        coverage=box.coverage((rows, columns)).tolist(),
        box=(box.left, box.top, box.right, box.bottom),
        size=seen.size,
    )


def _end(box: PhotoBox, place: Place) -> LinkEnd:
    x, y = box.centre(place) or (None, None)
    return LinkEnd(row=place[0], column=place[1], x=x, y=y)
