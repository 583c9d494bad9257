"""Post-processing: query expansion by hand, k-reciprocal re-ranking against sets and loops, and what always holds."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.reid import postprocess as module
from app.reid.errors import RowLimitError
from app.reid.postprocess import Postprocess, QueryExpansion, Rerank, expand, nearest, postprocess, rerank
from app.reid.similarity import cosine_matrix

VERSION = "0123456789ab"


def steps(**values: Any) -> Postprocess:
    return Postprocess(model_version=VERSION, **values)


def embeddings(count: int, seed: int = 0, width: int = 6) -> np.ndarray:
    """Some animals, three photos each."""
    chance = np.random.default_rng(seed)
    centres = np.repeat(chance.standard_normal((count // 3 + 1, width)), 3, axis=0)[:count]
    return (centres + 0.5 * chance.standard_normal((count, width))).astype(np.float32)


class TestQueryExpansion:
    def test_by_hand(self) -> None:
        """Three rows in the plane; the nearest of the first is the second, at a cosine of 0.8."""
        rows = np.array([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
        mixed = np.array([1.0, 0.0]) + 0.8**3 * np.array([0.8, 0.6])
        expected = mixed / np.sqrt(mixed @ mixed)
        found = expand(rows, QueryExpansion(neighbours=1, alpha=3))
        np.testing.assert_allclose(found[0], expected, rtol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)

    def test_what_points_away_has_no_weight(self) -> None:
        rows = np.array([[1.0, 0.0], [-0.8, 0.6]])
        np.testing.assert_allclose(expand(rows, QueryExpansion(neighbours=9, alpha=1)), rows)

    def test_in_the_whole(self) -> None:
        rows = embeddings(12)
        unit = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
        mixed = expand(unit, QueryExpansion(neighbours=2, alpha=1))
        found = postprocess(rows, steps(query_expansion=QueryExpansion(neighbours=2, alpha=1)))
        np.testing.assert_allclose(found, (mixed @ mixed.T + 1) / 2, atol=1e-12)


def slow_encodings(similarity: np.ndarray, k1: int, k2: int) -> list[list[float]]:
    """V of Zhong et al. 2017 with sets and loops, equation by equation; distances are 4 (1 - similarity)."""
    everyone = range(len(similarity))

    def near(p: int, k: int) -> list[int]:
        """N(p, k), eq. 2, with p itself in front."""
        others = sorted((g for g in everyone if g != p), key=lambda g: -similarity[p, g])
        return [p, *others[:k]]

    def reciprocal(p: int, k: int) -> set[int]:
        """R(p, k), eq. 3."""
        return {g for g in near(p, k) if p in near(g, k)}

    encodings = []
    for p in everyone:
        own = reciprocal(p, k1)
        halves = [reciprocal(q, k1 // 2) for q in own]  # eq. 5
        wide = own.union(*(half for half in halves if len(own & half) >= 2 / 3 * len(half)))
        row = [math.exp(-4 * (1 - similarity[p, g])) if g in wide else 0.0 for g in everyone]  # eq. 7
        encodings.append([value / sum(row) for value in row])
    if k2 == 1:
        return encodings
    return [[sum(encodings[q][g] for q in near(p, k2 - 1)) / len(near(p, k2 - 1)) for g in everyone] for p in everyone]


def slow_rerank(similarity: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """Its distance as a similarity."""
    encodings = slow_encodings(similarity, k1, k2)  # eq. 11
    result = np.empty_like(similarity)
    for p, own in enumerate(encodings):
        for g, other in enumerate(encodings):
            overlap = sum(map(min, own, other)) / sum(map(max, own, other))  # eq. 10
            result[p, g] = (1 - weight) * overlap + weight * similarity[p, g]  # eq. 12
    return result


class TestRerank:
    @given(
        st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 8), st.integers(1, 8), st.sampled_from([0, 0.3, 1])
    )
    @settings(max_examples=60, deadline=None)
    def test_against_sets_and_loops(self, seed: int, count: int, k1: int, k2: int, weight: float) -> None:
        rows = embeddings(count, seed)
        similarity = (cosine_matrix(rows, rows) + 1) / 2
        similarity = (similarity + similarity.T) / 2
        how = Rerank(k1=k1, k2=min(k1, k2), weight=weight)
        found = postprocess(rows, steps(rerank=how))
        np.testing.assert_allclose(found, slow_rerank(similarity, k1, min(k1, k2), weight), atol=1e-9)

    def test_it_brings_together_whom_others_bring_together(self) -> None:
        """A chain: photos 0 and 2 are not alike, but both are like 1; photo 3 is as like 0 as 2 is, and alone."""
        similarity = np.array([[1, 0.9, 0.5, 0.5], [0.9, 1, 0.9, 0.1], [0.5, 0.9, 1, 0.1], [0.5, 0.1, 0.1, 1]])
        found = rerank(similarity, Rerank(k1=2, k2=1, weight=0.3))
        assert found[0, 2] > found[0, 3]


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_scores_stay_in_the_interval_and_symmetric(seed: int, count: int) -> None:
    how = steps(flip=True, query_expansion=QueryExpansion(neighbours=3, alpha=2), rerank=Rerank(k1=8, k2=3, weight=0.2))
    found = postprocess(embeddings(count, seed), how)
    assert found.shape == (count, count)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.array_equal(found, found.T)


def test_duplicates_change_nothing_but_ties() -> None:
    """A photo that is there twice has itself, and not its copy, as its first neighbour."""
    rows = np.repeat(embeddings(6), 2, axis=0)
    similarity = (cosine_matrix(rows, rows) + 1) / 2
    assert nearest(similarity, 1).ravel().tolist() == list(range(12))
    found = postprocess(rows, steps(rerank=Rerank(k1=4, k2=2, weight=0.3)))
    assert np.array_equal(found, found.T)


def test_without_steps_it_is_the_plain_similarity() -> None:
    rows = embeddings(9)
    np.testing.assert_allclose(postprocess(rows, steps()), (cosine_matrix(rows, rows) + 1) / 2, atol=1e-15)


def test_more_photos_than_can_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PHOTOS", 8)
    with pytest.raises(RowLimitError, match="the table has 9 photos; .* and 8 is its limit; ask without it"):
        postprocess(embeddings(9), steps())


def test_as_a_header_names_it() -> None:
    assert str(steps()) == "none"
    assert str(steps(flip=True)) == "flip"
    whole = steps(
        flip=True, query_expansion=QueryExpansion(neighbours=2, alpha=3), rerank=Rerank(k1=20, k2=6, weight=0.3)
    )
    assert str(whole) == "flip,query_expansion(neighbours=2,alpha=3),rerank(k1=20,k2=6,weight=0.3)"
    assert Postprocess.model_validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rerank": {"k1": 3, "k2": 4, "weight": 0.3}}, "k2 must not be above k1"),
        ({"rerank": {"k1": 0, "k2": 0, "weight": 0.3}}, "greater than or equal to 1"),
        ({"rerank": {"k1": 3, "k2": 1, "weight": 1.3}}, "less than or equal to 1"),
        ({"query_expansion": {"neighbours": 3, "alpha": 0}}, "greater than 0"),
        ({"flop": True}, "Extra inputs"),
    ],
)
def test_what_a_manifest_must_not_hold(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Postprocess.model_validate({"model_version": VERSION, **values})
