"""One file per resource; here is what they share: who works for them, and what every request must be."""

from collections import Counter
from typing import Annotated, Any

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.requests import Request

from app.errors import InvalidRequestError, MediaTypeError
from app.reid.embedder import LoadedModel
from app.reid.errors import quote
from app.schemas import Answer
from app.settings import Settings
from app.workers import Workers

VERSION_HEADER = "X-Model-Version"
VERSION_DOCS = {VERSION_HEADER: {"description": "The model_version.", "schema": {"type": "string"}}}
POSTPROCESS_HEADER = "X-Postprocess"
PHOTO_TYPES = "image/jpeg, image/png, image/webp"
IMAGES_TYPES = f"{PHOTO_TYPES}, application/zip"
# The one part that may come more than once.
IMAGES = "images"


# Coroutines all of them: FastAPI takes a plain function to a thread, for each request and each of them.
async def _workers(request: Request) -> Workers:
    workers: Workers = request.app.state.workers
    return workers


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _model(request: Request) -> LoadedModel:
    """The bundle that is served now; a request keeps to the one that it began with."""
    return (await _workers(request)).model


WorkersDep = Annotated[Workers, Depends(_workers)]
SettingsDep = Annotated[Settings, Depends(_settings)]
ModelDep = Annotated[LoadedModel, Depends(_model)]


def answer(schema: type[Answer]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI: an answer that a model made, with an example put together from those of its fields."""
    example = {name: field.examples[0] for name, field in schema.model_fields.items() if field.examples}
    return {200: {"content": {"application/json": {"example": example}}, "headers": VERSION_DOCS}}


def part_types(**types: str) -> dict[str, Any]:
    """OpenAPI: the media types that each part may have."""
    encoding = {name: {"contentType": media_types} for name, media_types in types.items()}
    return {"requestBody": {"content": {"multipart/form-data": {"encoding": encoding}}}}


async def only_known(request: Request) -> None:
    """A dependency: refuses what a call would otherwise ignore, a misspelt part or parameter for one.

    Raises:
        MediaTypeError: the body is not multipart/form-data.
        InvalidRequestError: parts or query parameters that this call does not have, or a single part sent twice.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise MediaTypeError("This call takes multipart/form-data; each photo and each CSV is a part with a filename.")
    route = request.scope["route"]
    if not isinstance(route, APIRoute):
        raise TypeError("this dependency belongs to an APIRoute")
    parts = {parameter.alias for parameter in route.dependant.body_params}
    parameters = {parameter.alias for parameter in route.dependant.query_params}
    form = await request.form()  # parsed before, and bounded there
    unknown = [name for name in request.query_params if name not in parameters]
    problems = [f"{quote(name)} is no query parameter of this call" for name in unknown]
    problems += _part_problems(form, parts)
    if problems:
        raise InvalidRequestError("the request does not fit this call", problems)


def _part_problems(form: FormData, known: set[str]) -> list[str]:
    counts = Counter(name for name, _ in form.multi_items())
    parts = ", ".join(sorted(known))
    unknown = [f"{quote(name)} is no part of this call; it takes {parts}" for name in counts if name not in known]
    repeated = [f"{name} came {counts[name]} times" for name in sorted(known) if counts[name] > 1 and name != IMAGES]
    return unknown + repeated
