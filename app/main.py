"""`create_app`: puts the service together. What it does stands elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry, Counter
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from app import problems
from app.reid.embedder import LoadedModel
from app.routes import batch, embed, health, model, similarity, submission
from app.settings import Settings
from app.workers import Admission, Workers

TITLE = "Jaguar re-ID"
DESCRIPTION = """Tells whether two photos show the same jaguar, and how sure it is.

Every error is `application/problem+json` (RFC 9457) with a stable `type` and the answer's `X-Request-ID`.
`/openapi.json` describes the calls; there is no page that would load scripts from elsewhere.
"""
# Text parts have no use here: enough of them to be named in the answer, and no more.
MAX_FIELDS, MAX_FIELD_BYTES = 16, 64 * 1024


def create_app(settings: Settings, model: LoadedModel) -> ASGIApp:
    """The service over one loaded model."""
    registry = CollectorRegistry()
    embedded = Counter("jaguar_images_embedded", "Photos that went through the network.", registry=registry)
    workers = Workers(model, embedded.inc)
    app = _Application(
        title=TITLE, description=DESCRIPTION, version="1", docs_url=None, redoc_url=None, redirect_slashes=False,
        lifespan=_lifespan,
    )  # fmt: skip
    app.state.settings, app.state.workers = settings, workers
    paths = _add_routes(app, settings)
    problems.install(app)
    app.add_middleware(Admission, limit=settings.max_inflight, paths=paths)
    _add_metrics(app, registry)
    return CorrelationIdMiddleware(problems.ProblemBodies(app))


class _Application(FastAPI):
    """FastAPI whose OpenAPI page knows the schema of a problem, which no route returns by itself."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes
            )
            schemas = schema["components"]["schemas"]
            schemas["Problem"] = problems.Problem.model_json_schema()
            for name in schemas:
                if name.startswith("Body_"):  # a part that a call does not know is refused
                    schemas[name]["additionalProperties"] = False
            self.openapi_schema = schema
        return self.openapi_schema


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.workers.close()


def _add_routes(app: FastAPI, settings: Settings) -> list[str]:
    """Adds all routes, those that infer with their limits; returns the paths of those that infer."""
    inferring: tuple[tuple[APIRouter, int, int], ...] = (
        (similarity.router, settings.max_images_body_bytes, settings.max_files),
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
    app.include_router(model.router)
    app.include_router(health.router)
    return [route.path for router, _, _ in inferring for route in router.routes if isinstance(route, APIRoute)]


def _add_metrics(app: FastAPI, registry: CollectorRegistry) -> None:
    """Measures every request, refused ones included, and serves the figures at `/metrics`."""
    example = {"text/plain": {"example": "jaguar_images_embedded_total 371.0\n"}}
    Instrumentator(registry=registry).instrument(app).expose(
        app,
        tags=["service"],
        response_class=PlainTextResponse,
        responses={200: {"description": "Prometheus text format.", "content": example}, **problems.responses()},
    )
