"""The calls that are one question, or some side by side, as programs."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any
from urllib.parse import urlencode

import numpy as np

from app.client.answers import Float32, Model, Similarity, read_json, read_npy
from app.client.effects import Local, Program, Reply, Request, Together, do
from app.client.errors import AnswerError, BusyError, ConnectionFailedError, InputError, ModelChangedError
from app.client.exchange import Exchange
from app.client.form import Form
from app.client.sources import Photo, Source, is_file, photo_source
from app.reid.tables import GALLERY, QUERY

# Is told how far a call is: done, total, and of what, see `Client`.
Progress = Callable[[int, int, str], object]

VERSION_HEADER = "x-model-version"
NPY, PNG = "application/x-npy", "image/png"
RUNNING = "running"


@dataclass(frozen=True)
class Split:
    """How many photos are sent at once. A single photo may have more than `max_bytes`.

    The defaults stay well below what a service takes, and below what it takes to its disk.
    """

    max_photos: int = 100
    max_bytes: int = 32 * 2**20
    at_once: int = 2

    def __post_init__(self) -> None:
        """Raises InputError."""
        if min(self.max_photos, self.max_bytes, self.at_once) < 1:
            raise InputError(f"{self} cannot be: all are 1 or more")

    def groups(self, photos: Sequence[Source]) -> list[list[Source]]:
        """The photos in order, in as few groups as fit."""
        groups: list[list[Source]] = []
        size = 0
        for photo in photos:
            size += photo.size or 0
            if not groups or len(groups[-1]) == self.max_photos or size > self.max_bytes:
                groups.append([])
                size = photo.size or 0
            groups[-1].append(photo)
        return groups


def similarity(exchange: Exchange, a: Photo, b: Photo) -> Program[Similarity]:
    """`POST /similarity`."""
    form = yield from do(Local(partial(_pair, a, b)))
    request = Request("POST", "/similarity", exchange.timeouts.until(exchange.timeouts.answer_s), form=form)
    reply = yield from exchange.ask(request)
    return read_json(Similarity, reply.content)


def explain(
    exchange: Exchange, a: Photo, b: Photo, media_type: str, options: dict[str, float | None]
) -> Program[bytes]:
    """`POST /similarity/explain`: the answer's bytes. options: query parameters; None for the service's default."""
    form = yield from do(Local(partial(_pair, a, b)))
    query = urlencode({name: value for name, value in options.items() if value is not None})
    path = "/similarity/explain" + (f"?{query}" if query else "")
    request = Request("POST", path, exchange.timeouts.until(exchange.timeouts.answer_s), media_type, form=form)
    reply = yield from exchange.ask(request)
    return reply.content


def explain_json(exchange: Exchange, a: Photo, b: Photo, links: int | None) -> Program[dict[str, Any]]:
    """The same as JSON."""
    content = yield from explain(exchange, a, b, "application/json", {"links": links})
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise AnswerError("the explanation is no JSON") from error
    if not isinstance(answer, dict):
        raise AnswerError("the explanation is no JSON object")
    return answer


def embed(
    exchange: Exchange, photos: Iterable[Photo], split: Split, model_version: str | None, progress: Progress | None
) -> Program[Float32]:
    """`POST /embed`, as often as it takes: (N, D) float32 in the order of the photos, all of one model."""
    sources = yield from do(Local(partial(_photos, photos)))
    groups = split.groups(sources)
    ends = np.cumsum([len(group) for group in groups]).tolist()

    def finished(place: int) -> None:
        if progress is not None:
            progress(ends[place], len(sources), RUNNING)

    parts = yield from do(Together([_embed(exchange, group) for group in groups], split.at_once, finished))
    versions = {version for version, _ in parts} | ({model_version} if model_version else set())
    if len(versions) > 1:
        raise ModelChangedError(
            f"the embeddings are of different models ({', '.join(sorted(versions))}), which must not be compared;"
            " embed all photos again"
        )
    return np.concatenate([values for _, values in parts])


def model(exchange: Exchange) -> Program[Model]:
    """`GET /model`."""
    reply = yield from exchange.ask(_status_request(exchange, "GET", "/model"))
    return read_json(Model, reply.content)


def reload(exchange: Exchange) -> Program[Model]:
    """`POST /model/reload`."""
    timeout = exchange.timeouts.until(exchange.timeouts.answer_s)
    reply = yield from exchange.ask(Request("POST", "/model/reload", timeout))
    return read_json(Model, reply.content)


def ready(exchange: Exchange) -> Program[bool]:
    """`GET /health/ready`, asked once."""
    try:
        yield from exchange.ask(_status_request(exchange, "GET", "/health/ready"), once=True)
    except (BusyError, ConnectionFailedError):
        return False
    return True


def version_of(reply: Reply) -> str:
    """The model that made an answer. Raises AnswerError where it does not say."""
    version: str = reply.headers.get(VERSION_HEADER, "")
    if not version:
        raise AnswerError(
            "the answer does not say which model made it (X-Model-Version); a proxy must let that through"
        )
    return version


def _status_request(exchange: Exchange, method: str, path: str) -> Request:
    return Request(method, path, exchange.timeouts.until(exchange.timeouts.status_s))


def _embed(exchange: Exchange, photos: Sequence[Source]) -> Program[tuple[str, Float32]]:
    form = Form(tuple(("images", photo) for photo in photos))
    request = Request("POST", "/embed", exchange.timeouts.until(exchange.timeouts.answer_s), NPY, form=form)
    reply = yield from exchange.ask(request)
    return version_of(reply), read_npy(reply.content, len(photos))


def _pair(a: Photo, b: Photo) -> Form:
    return Form(tuple((part, photo_source(photo, otherwise=part)) for part, photo in ((QUERY, a), (GALLERY, b))))


def _photos(photos: Iterable[Photo]) -> list[Source]:
    if isinstance(photos, str | bytes | bytearray | memoryview | PathLike) or is_file(photos):
        raise InputError("several photos are needed; of a single one, make a list: [photo]")
    found = list(_numbered(photos))
    if not found:
        raise InputError("there are no photos")
    return found


def _numbered(photos: Iterable[Photo]) -> Iterator[Source]:
    for place, photo in enumerate(photos):
        yield photo_source(photo, otherwise=f"photos[{place}]")
