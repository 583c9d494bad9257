"""Scores of a whole table at once: what its other photos say of a pair. For submissions, where all are compared.

Both methods look only at the photos of the table, never at their names. `training/postprocessing.py` measures what
each brings, and the manifest holds those that were surely worth it.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, model_validator

from app.reid.errors import RowLimitError
from app.reid.similarity import Float32, Float64, unit_interval, unit_rows
from app.reid.spec import Spec

Mask = NDArray[np.bool_]

# Memory and time grow with the square of the photos: so many take 1 GB and about a minute.
MAX_PHOTOS = 4_000
_HALF = 2  # of k1, for the neighbours of neighbours
_SHARED = 2 / 3


class QueryExpansion(Spec):
    """Each photo becomes the mean of itself and its nearest ones, weighted by cosine to the power of alpha.

    Source: Radenović, Tolias and Chum 2018, "Fine-tuning CNN Image Retrieval with No Human Annotation", section 3.4.
    """

    neighbours: int = Field(ge=1, le=1_000)
    alpha: float = Field(gt=0, le=100)

    def __str__(self) -> str:
        """As the `X-Postprocess` header names it."""
        return f"query_expansion(neighbours={self.neighbours},alpha={self.alpha:g})"


class Rerank(Spec):
    """Photos are alike whose neighbours are alike.

    k1: neighbours that must be mutual. k2: nearest ones whose neighbourhoods are averaged, itself the first; 1 averages
    nothing. weight: of the plain similarity beside that of neighbourhoods, in [0, 1] (the paper's lambda).
    Source: Zhong, Zheng, Cao and Li 2017, "Re-ranking Person Re-identification with k-reciprocal Encoding", eq. 2-12.
    """

    k1: int = Field(ge=1, le=1_000)
    k2: int = Field(ge=1, le=1_000)
    weight: float = Field(ge=0, le=1)

    def __str__(self) -> str:
        """As the `X-Postprocess` header names it."""
        return f"rerank(k1={self.k1},k2={self.k2},weight={self.weight:g})"


class Postprocess(Spec):
    """What is done to a submission's scores where that is asked for, in this order.

    model_version: of the float32 network that it was measured with, in ONNX Runtime; other weights void it.
    flip: a photo's embedding is the mean of its own and its mirror image's.
    measured: of each step the gain in id-mAP with its interval, kept or not.
    """

    model_version: str = Field(pattern="^[0-9a-f]{12}$")
    flip: bool = False
    query_expansion: QueryExpansion | None = None
    rerank: Rerank | None = None
    measured: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.rerank is not None and self.rerank.k2 > self.rerank.k1:
            raise ValueError("rerank: k2 must not be above k1")
        return self

    def __str__(self) -> str:
        """The steps, as the `X-Postprocess` header names them; `none` where there are none."""
        steps = ["flip"] if self.flip else []
        steps += [str(step) for step in (self.query_expansion, self.rerank) if step is not None]
        return ",".join(steps) or "none"


def postprocess(embeddings: Float32, steps: Postprocess) -> Float64:
    """(N, D) embeddings of all photos of a table -> (N, N) similarities in [0, 1], symmetric; N is at least 1.

    The flip has its place in the embedder; without other steps this is the plain similarity.

    Raises:
        RowLimitError: more photos than can be compared all with all.
    """
    check_photos(len(embeddings))
    rows = unit_rows(embeddings)
    if steps.query_expansion is not None:
        rows = expand(rows, steps.query_expansion)
    cosine = np.clip(rows @ rows.T, -1.0, 1.0)
    cosine = (cosine + cosine.T) / 2  # a product of matrices may round either half its own way
    similarity = unit_interval(cosine)
    return similarity if steps.rerank is None else rerank(similarity, steps.rerank)


def check_photos(count: int) -> None:
    """Raises RowLimitError where so many photos are more than can be compared all with all."""
    if count > MAX_PHOTOS:
        raise RowLimitError(
            f"the table has {count} photos; post-processing compares all with all, and {MAX_PHOTOS} is its limit; ask"
            " without it"
        )


def expand(rows: Float64, how: QueryExpansion) -> Float64:
    """(N, D) rows of norm 1 -> likewise, each drawn towards its nearest."""
    cosine = rows @ rows.T
    near = nearest(cosine, how.neighbours + 1)
    weights = np.take_along_axis(np.maximum(cosine, 0.0), near, axis=1) ** how.alpha
    mixed = np.einsum("nk,nkd->nd", weights, rows[near])
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))


def rerank(similarity: Float64, how: Rerank) -> Float64:
    """(N, N) symmetric similarities in [0, 1] -> likewise, by the overlap of k-reciprocal neighbourhoods.

    The distance between rows of norm 1, squared, is 2 - 2 cosine = 4 (1 - similarity). As in the authors' own code,
    the weights of a neighbourhood sum to 1.
    """
    near = nearest(similarity, how.k1 + 1)
    mutual = _expanded(_mutual(near), _mutual(near[:, : how.k1 // _HALF + 1]))
    encoding = np.where(mutual, np.exp(-4 * (1 - similarity)), 0.0)
    encoding /= encoding.sum(axis=1, keepdims=True)
    if how.k2 > 1:
        encoding = encoding[near[:, : how.k2]].mean(axis=1)
    return how.weight * similarity + (1 - how.weight) * jaccard(encoding)


def nearest(similarity: Float64, count: int) -> NDArray[np.intp]:
    """(N, N) -> (N, min(count, N)) the most alike of each row, itself first; ties in the order given."""
    own = similarity.copy()
    np.fill_diagonal(own, np.inf)
    return np.argsort(-own, axis=1, kind="stable")[:, :count]


def jaccard(encoding: Float64) -> Float64:
    """(N, G) weights of neighbours, each row of sum 1 -> (N, N) shared weight over joint weight, in [0, 1]; eq. 10."""
    shared = np.empty((len(encoding), len(encoding)))
    for place, row in enumerate(encoding):
        there = np.flatnonzero(row)
        shared[place] = np.minimum(row[there], encoding[:, there]).sum(axis=1)
    shared = np.minimum((shared + shared.T) / 2, 1.0)
    return shared / (2.0 - shared)


def _mutual(near: NDArray[np.intp]) -> Mask:
    """(N, K) neighbours -> (N, N) who is among whose neighbours in both directions; eq. 3."""
    among = np.zeros((len(near), len(near)), dtype=np.bool_)
    np.put_along_axis(among, near, values=True, axis=1)
    return among & among.T


def _expanded(mutual: Mask, half: Mask) -> Mask:
    """Eq. 5: the half neighbourhoods of mutual neighbours join, of which two thirds are mutual neighbours already."""
    shared = mutual.astype(np.float32) @ half.T.astype(np.float32)
    joins = mutual & (shared >= _SHARED * half.sum(axis=1) - 1e-6)
    return np.asarray(mutual | (joins.astype(np.float32) @ half.astype(np.float32) > 0))
