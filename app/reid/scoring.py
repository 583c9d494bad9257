"""Scoring pairs of named photos: each distinct photo is embedded once, each pair is one dot product."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.reid.similarity import Float32, Float64, Index, cosine_pairs, unit_interval


@dataclass(frozen=True)
class PairIndex:
    """Pairs as numbers: the distinct names in order of first use, and two (M,) indices into them."""

    names: list[str]
    query: Index
    gallery: Index


@dataclass(frozen=True)
class Scores:
    """(M,) cosine in [-1, 1] and similarity in [0, 1] of each pair, in the pairs' order."""

    cosine: Float64
    similarity: Float64


def index_pairs(query: Sequence[str], gallery: Sequence[str]) -> PairIndex:
    """Two columns of names -> the distinct names and the pairs as numbers.

    Raises:
        ValueError: one column is longer than the other.
    """
    if len(query) != len(gallery):
        raise ValueError(f"{len(query)} queries and {len(gallery)} gallery names are no pairs")
    names = list(dict.fromkeys([*query, *gallery]))
    number = {name: position for position, name in enumerate(names)}
    return PairIndex(
        names,
        np.fromiter((number[name] for name in query), dtype=np.intp, count=len(query)),
        np.fromiter((number[name] for name in gallery), dtype=np.intp, count=len(gallery)),
    )


def score_pairs(index: PairIndex, embeddings: Float32) -> Scores:
    """(len(index.names), D) embeddings, in the order of `index.names` -> the scores of all pairs."""
    cosine = cosine_pairs(embeddings, index.query, index.gallery)
    return Scores(cosine, unit_interval(cosine))
