"""The Python client: `Client` and, with the same calls to be awaited, `AsyncClient`.

Layers, from the top: `sync | aio` (the two faces) > `options` (what both begin with) > `tables` > `calls` (what is
asked, as programs that know neither face) > `exchange` (one question, and when it is asked again) > `effects` (how
programs are carried out) > `form | images | sinks` > `zips` > `sources` (what is sent, where answers go) >
`answers | retries` > `errors`.

It needs nothing of the service but what it says over HTTP, and imports neither ONNX Runtime nor the server.
"""

try:
    import httpx2 as _httpx2  # noqa: F401 - looked for first, so that its absence is told in words
except ImportError as error:
    raise ImportError(
        "the Python client needs httpx2, which is not installed here: pip install 'httpx2>=2.16'"
    ) from error

from app.client.aio import AsyncClient
from app.client.answers import Job, Model, Scores, Similarity
from app.client.calls import Progress, Split
from app.client.errors import (
    AnswerError,
    BadInputError,
    BusyError,
    ClientError,
    ConnectionFailedError,
    InputError,
    ModelChangedError,
    NotFoundError,
    Problem,
    ProblemError,
    ServerError,
    TooLargeError,
    UnauthorizedError,
)
from app.client.exchange import Timeouts
from app.client.images import Images
from app.client.retries import Retries
from app.client.sources import Photo, Table
from app.client.sync import Client

__all__ = [
    "AnswerError",
    "AsyncClient",
    "BadInputError",
    "BusyError",
    "Client",
    "ClientError",
    "ConnectionFailedError",
    "Images",
    "InputError",
    "Job",
    "Model",
    "ModelChangedError",
    "NotFoundError",
    "Photo",
    "Problem",
    "ProblemError",
    "Progress",
    "Retries",
    "Scores",
    "ServerError",
    "Similarity",
    "Split",
    "Table",
    "Timeouts",
    "TooLargeError",
    "UnauthorizedError",
]
