"""What commands do with embeddings."""

from typing import BinaryIO

import numpy as np

from app.cli.answers import Float32
from app.reid.similarity import cosine_matrix


def nearest(embeddings: Float32, top: int) -> list[tuple[int, float]]:
    """(1 + N, D): a query and N photos -> positions among the N and their cosines, the highest first."""
    cosines = cosine_matrix(embeddings[:1], embeddings[1:])[0]
    return [(int(place), float(cosines[place])) for place in np.argsort(-cosines, kind="stable")[:top]]


def save(embeddings: Float32, file: BinaryIO) -> None:
    """Writes a .npy file."""
    np.save(file, embeddings, allow_pickle=False)
