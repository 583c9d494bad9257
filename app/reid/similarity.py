"""Cosine and similarity of embeddings, in float64."""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Index = NDArray[np.intp]

_CHUNK_ROWS = 1_024
# Up to so many entries of the whole matrix for each pair asked for, the matrix is the shorter way.
_DENSE = 4


def unit_interval(cosine: Float64) -> Float64:
    """Similarity in [0, 1] of a cosine in [-1, 1]: (cosine + 1) / 2."""
    return (cosine + 1.0) / 2.0


def unit_rows(embeddings: Float32) -> Float64:
    """(N, D) float64 rows of norm 1; a row of norm 0 has no direction and is a ValueError."""
    wide = embeddings.astype(np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    if not np.all(norms > 0):
        raise ValueError("an embedding of norm 0 has no cosine")
    return np.asarray(wide / norms[:, None])


def cosine_matrix(queries: Float32, gallery: Float32) -> Float64:
    """(Q, D) and (G, D) embeddings -> (Q, G) cosines in [-1, 1].

    Computed in float64, where rounding reaches 4e-16: the bound to [-1, 1] takes away that much and nothing else.
    """
    return np.clip(unit_rows(queries) @ unit_rows(gallery).T, -1.0, 1.0)


def cosine_pairs(embeddings: Float32, query: Index, gallery: Index) -> Float64:
    """(N, D) embeddings and two (M,) indices into them -> (M,) cosines in [-1, 1].

    Where the pairs are a good part of all that there can be, as in a submission, one symmetric matrix product gives
    them; else they are worked through in chunks that fit a core's cache: 8 MB for 512 dimensions, however many pairs
    there are. Both are the same with query and gallery exchanged, and agree to rounding in float64.
    """
    rows = unit_rows(embeddings)
    if len(rows) ** 2 <= _DENSE * len(query):
        return np.clip((rows @ rows.T)[query, gallery], -1.0, 1.0)
    out = np.empty(len(query), dtype=np.float64)
    for start in range(0, len(query), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        out[part] = np.einsum("md,md->m", rows[query[part]], rows[gallery[part]])
    return np.clip(out, -1.0, 1.0)
