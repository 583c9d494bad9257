"""What `/metrics` tells: every request, the phases of those that infer, photos, the cache, the jobs, the bundle."""

from collections.abc import Iterator

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import problems
from app.admission import Door
from app.cache import EmbeddingCache
from app.jobs import Jobs
from app.workers import Workers

_REFUSED = frozenset({401, 403, 429})
_PHASE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One service's figures, in a registry of their own."""

    def __init__(self) -> None:
        """Counts from 0."""
        self._registry = CollectorRegistry()
        self.decoded = Counter("jaguar_images_decoded", "Photos that were decoded.", registry=self._registry)
        self.embedded = Counter(
            "jaguar_images_embedded", "Photos that went through the network.", registry=self._registry
        )
        self._phases = Histogram(
            "jaguar_phase_seconds",
            "Seconds that requests which infer spend, by phase; photos of one request add up.",
            ["phase"],
            buckets=_PHASE_SECONDS,
            registry=self._registry,
        )

        self._refused = Counter(
            "jaguar_refused_requests",
            "Requests that a key, a rate or a page's origin kept out; no other figure has them.",
            ["status"],
            registry=self._registry,
        )

    def count_refused(self, app: ASGIApp) -> ASGIApp:
        """Wraps an application: counts what it answers with 401, 403 or 429."""

        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_counting(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] in _REFUSED:
                    self._refused.labels(str(message["status"])).inc()
                await send(message)

            await app(scope, receive, send_counting)

        return counting

    def observe_phase(self, phase: str, seconds: float) -> None:
        """One request's time in one phase."""
        self._phases.labels(phase).observe(seconds)

    def watch(self, door: Door, cache: EmbeddingCache | None, workers: Workers, jobs: Jobs) -> None:
        """Also tells what these know whenever somebody asks."""
        self._registry.register(_Present(door, cache, workers, jobs))

    def expose(self, app: FastAPI) -> None:
        """Measures every request that was let in, and serves the figures at `/metrics`."""
        example = {"text/plain": {"example": "jaguar_images_embedded_total 371.0\n"}}
        Instrumentator(registry=self._registry).instrument(app).expose(
            app,
            tags=["service"],
            response_class=PlainTextResponse,
            responses={200: {"description": "Prometheus text format.", "content": example}, **problems.responses()},
        )


class _Present(Collector):
    """What is true when somebody asks."""

    def __init__(self, door: Door, cache: EmbeddingCache | None, workers: Workers, jobs: Jobs) -> None:
        self._door, self._cache, self._workers, self._jobs = door, cache, workers, jobs

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("jaguar_inflight_requests", "Requests that infer, now.", self._door.inside)
        yield GaugeMetricFamily("jaguar_jobs_waiting", "Jobs that wait.", self._jobs.waiting)
        yield GaugeMetricFamily("jaguar_jobs_running", "Jobs that are worked on.", self._jobs.running)
        yield InfoMetricFamily("jaguar_model", "What is served.", {"model_version": self._workers.model.version})
        if self._cache is not None:
            yield CounterMetricFamily("jaguar_cache_hits", "Embeddings that were known.", self._cache.hits)
            yield CounterMetricFamily("jaguar_cache_misses", "Embeddings that were not.", self._cache.misses)
            yield CounterMetricFamily("jaguar_cache_failures", "Troubles with the cache's file.", self._cache.failures)
