"""What an engine answers, be it here or a service."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from app.cli.progress import Progress

Float32 = NDArray[np.float32]
TableName = Literal["submission", "postprocessed-submission", "batch"]


@dataclass(frozen=True)
class Compared:
    """How alike two photos are; the fields of `POST /similarity`, in its order."""

    model_version: str
    similarity: float
    cosine: float
    probability: float | None
    verdict: str | None


@dataclass(frozen=True)
class Scored:
    """Who made a table's scores, and what was done to them; None where that was not asked for."""

    model_version: str
    postprocess: str | None


class Engine(Protocol):
    """What commands ask, without knowing who answers. Photos and tables are files that were found to be there."""

    def compare(self, a: Path, b: Path) -> Compared:
        """How alike two photos are."""

    def explain(self, a: Path, b: Path) -> tuple[Compared, bytes]:
        """Likewise, and a PNG that shows where in the photos the score comes from."""

    def embed(self, photos: Sequence[Path], tell: Progress) -> tuple[str, Float32]:
        """The model_version, and (N, D) unit-norm embeddings in the order of the photos."""

    def score(self, kind: TableName, table: Path, images: Path | None, file: BinaryIO, tell: Progress) -> Scored:
        """Writes a table's scores into an open file."""

    def model(self) -> dict[str, Any]:
        """What is asked: the fields of `GET /model`, in its order."""
