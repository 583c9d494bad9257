"""What the service answers, as values. Fields that a newer service adds are passed over."""

import io
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from app.client.errors import AnswerError

Float32 = NDArray[np.float32]
Answer = TypeVar("Answer")

FINISHED = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True)
class Similarity:
    """How alike two photos are.

    similarity: (cosine + 1) / 2, in [0, 1]. probability: that both show the same jaguar, in [0, 1]; it and `verdict`
    are None while the model is uncalibrated. model_version: never compare figures of two versions.
    """

    model_version: str
    similarity: float
    cosine: float
    probability: float | None
    verdict: str | None


@dataclass(frozen=True)
class Model:
    """What is being served.

    preprocess, metrics, calibration: as the bundle's manifest has them. prior: the share of same pairs that
    probabilities assume. The last two are None while the model is uncalibrated, and of a service that tells neither.
    """

    model_version: str
    name: str
    created: str
    backbone: str
    embedding_dim: int
    pooling: str
    preprocess: dict[str, Any]
    metrics: dict[str, Any]
    calibrated: bool
    runtime: str
    precision: str
    calibration: dict[str, Any] | None = None
    prior: float | None = None


@dataclass(frozen=True)
class Job:
    """Where a piece of long work stands.

    kind: `submission` or `batch`. state: `queued`, `running`, `done`, `failed` or `cancelled`. done, total: photos
    that are embedded, and all of them. problem: why it failed, as the service says it.
    """

    id: str
    kind: str
    state: str
    done: int
    total: int
    created: datetime
    started: datetime | None
    finished: datetime | None
    model_version: str | None
    problem: dict[str, Any] | None

    @property
    def is_finished(self) -> bool:
        """Whether the state is final."""
        return self.state in FINISHED


@dataclass(frozen=True)
class Scores:
    """A CSV with its scores: in memory as `content`, or in the file `path` where `out` named one.

    postprocess: what was done to a submission's scores, `none` where nothing was; None where it was not asked for.
    """

    model_version: str
    content: bytes | None
    path: Path | None
    postprocess: str | None = None

    def read(self) -> bytes:
        """The CSV's bytes, wherever they are."""
        return cast(Path, self.path).read_bytes() if self.content is None else self.content


def read_json(kind: type[Answer], data: bytes) -> Answer:
    """A dataclass from its JSON. Raises AnswerError where it is something else."""
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        place = ".".join(str(step) for step in error.errors()[0]["loc"]) or "the JSON"
        raise AnswerError(f"{place} is not what a {kind.__name__} of this service has") from error


def read_npy(data: bytes, rows: int) -> Float32:
    """(rows, D) float32 from a .npy file's bytes. Raises AnswerError where it is something else."""
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise AnswerError("the embeddings are no NumPy file") from error
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 2 or len(values) != rows:
        raise AnswerError(f"the embeddings are no float32 array of {rows} rows")
    return values
