"""`create_app`: puts the service together. What it does stands elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp

from app import problems
from app.access import SECURITY_SCHEMES, protect
from app.admission import Admission, Door
from app.cache import EmbeddingCache
from app.jobs import Jobs
from app.lifecycle import Lifecycle
from app.logs import AccessLog, is_request_id
from app.metrics import Metrics
from app.photo_work import PhotoWork
from app.reid.embedder import LoadedModel
from app.routes import batch, embed, explain, health, model, similarity, submission
from app.routes import jobs as job_routes
from app.routes.page import add_page
from app.settings import Settings
from app.workers import Workers

TITLE = "Jaguar re-ID"
DESCRIPTION = """Tells whether two photos show the same jaguar, and how sure it is.

Every error is `application/problem+json` (RFC 9457) with a stable `type` and the answer's `X-Request-ID`.
`/openapi.json` describes the calls; there is no page that would load scripts from elsewhere.
"""
# Text parts have no use here: enough of them to be named in the answer, and no more.
MAX_FIELDS, MAX_FIELD_BYTES = 16, 64 * 1024


@dataclass(frozen=True)
class Service:
    """A service over one bundle: `asgi` answers, `lifecycle` is what a server may ask of it."""

    asgi: ASGIApp
    lifecycle: Lifecycle
    workers: Workers


def create_app(settings: Settings, model: LoadedModel) -> ASGIApp:
    """The service over one loaded model, as an ASGI application for any server."""
    return create_service(settings, model).asgi


def create_service(settings: Settings, model: LoadedModel) -> Service:
    """The service over one loaded model.

    Raises:
        ConfigError: the folder for the cache or for jobs cannot be used.
    """
    metrics = Metrics()
    cache = _open_cache(settings)
    work = PhotoWork(cache, metrics.decoded.inc, metrics.embedded.inc)
    workers = Workers(model, work, settings.forward_timeout_s)
    door = Door(settings.max_inflight)
    jobs = Jobs(settings, workers)
    lifecycle = Lifecycle(settings, workers, door, jobs)
    app = _Application(
        title=TITLE, description=DESCRIPTION, version="1", docs_url=None, redoc_url=None, redirect_slashes=False,
        lifespan=partial(_lifespan, cache),
    )  # fmt: skip
    state = app.state
    state.settings, state.workers, state.lifecycle, state.jobs = settings, workers, lifecycle, jobs
    paths = _add_routes(app, settings)
    problems.install(app)
    app.add_exception_handler(405, _wrong_method)
    app.add_middleware(problems.ProblemBodies)
    app.add_middleware(
        Admission, door=door, paths=paths, body_timeout_s=settings.body_timeout_s, observe=metrics.observe_phase
    )
    metrics.watch(door, cache, workers, jobs)
    metrics.expose(app)
    protected = metrics.count_refused(protect(app, settings))
    return Service(CorrelationIdMiddleware(AccessLog(protected), validator=is_request_id), lifecycle, workers)


def _open_cache(settings: Settings) -> EmbeddingCache | None:
    if settings.cache_file is None:
        return None
    return EmbeddingCache(
        settings.cache_file,
        max_bytes=int(settings.max_cache_bytes),
        max_memory_bytes=int(settings.max_cache_memory_bytes),
    )


class _Application(FastAPI):
    """FastAPI whose OpenAPI page knows the schema of a problem, which no route returns by itself."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes
            )
            schemas = schema["components"]["schemas"]
            schema["components"]["securitySchemes"] = SECURITY_SCHEMES
            schema["security"] = [{}, *({name: []} for name in SECURITY_SCHEMES)]
            schemas["Problem"] = problems.Problem.model_json_schema()
            for name in schemas:
                if name.startswith("Body_"):  # a part that a call does not know is refused
                    schemas[name]["additionalProperties"] = False
            self.openapi_schema = schema
        return self.openapi_schema


async def _wrong_method(request: Request, error: Exception) -> Response:
    """405, with all methods that the page has: Starlette names those of its first route alone."""
    response = await problems.answer(request, error)
    for path, methods in request.app.openapi()["paths"].items():
        if compile_path(path)[0].match(request.scope["path"]):
            response.headers["Allow"] = ", ".join(sorted(method.upper() for method in methods))
    return response


@asynccontextmanager
async def _lifespan(cache: EmbeddingCache | None, app: FastAPI) -> AsyncIterator[None]:
    """Everything that runs beside the requests."""
    state = app.state
    watch = asyncio.create_task(state.lifecycle.watch())
    await state.jobs.start()
    try:
        yield
    finally:
        watch.cancel()
        await state.jobs.stop()
        state.workers.close()
        if cache is not None:
            cache.close()


def _add_routes(app: FastAPI, settings: Settings) -> list[str]:
    """Adds all routes, those that infer with their limits; returns the paths of those that infer."""
    inferring: tuple[tuple[APIRouter, int, int], ...] = (
        (similarity.router, settings.max_images_body_bytes, settings.max_files),
        (explain.router, settings.max_images_body_bytes, settings.max_files),
        (embed.router, settings.max_images_body_bytes, settings.max_files),
        (batch.router, settings.max_body_bytes, settings.max_files + 1),  # the CSV is a part as well
        (submission.router, settings.max_body_bytes, settings.max_files + 1),
    )
    for router, max_bytes, max_files in inferring:
        app.include_router(
            router,
            max_body_size=int(max_bytes),
            form_limits={"max_files": max_files, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES},
        )
    app.include_router(job_routes.router)
    app.include_router(model.router)
    app.include_router(health.router)
    add_page(app)
    return [route.path for router, _, _ in inferring for route in router.routes if isinstance(route, APIRoute)]
