"""What commands do with embeddings."""

from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

from app.cli.answers import Float32
from app.reid.calibration import Calibration, Scale
from app.reid.similarity import cosine_matrix


def nearest(embeddings: Float32, top: int) -> list[tuple[int, float]]:
    """(1 + N, D): a query and N photos -> positions among the N and their cosines, the highest first."""
    cosines = cosine_matrix(embeddings[:1], embeddings[1:])[0]
    return [(int(place), float(cosines[place])) for place in np.argsort(-cosines, kind="stable")[:top]]


def scale_told(facts: dict[str, Any]) -> Scale | None:
    """What the fields of `GET /model` say that similarities mean; None while the model is uncalibrated."""
    told = facts["calibration"]
    return None if told is None else Scale.of(Calibration.model_validate(told), facts["prior"])


def save(embeddings: Float32, file: BinaryIO) -> None:
    """Writes a .npy file, in one piece: into a pipe NumPy itself cannot."""
    whole = BytesIO()
    np.save(whole, embeddings, allow_pickle=False)
    file.write(whole.getbuffer())
