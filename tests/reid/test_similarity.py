"""Cosines by a slow loop, their symmetry, and the ends of the scale."""

import math

import numpy as np
import pytest

from app.reid.similarity import cosine_matrix, cosine_pairs, unit_interval, unit_rows


def loop_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """By exact summation."""
    dot = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(float(x) ** 2 for x in a) * math.fsum(float(y) ** 2 for y in b))


def rows(count: int, seed: int = 0, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_similarity_is_half_of_cosine_plus_one() -> None:
    assert unit_interval(np.array([-1.0, -0.5, 0.0, 1.0])).tolist() == [0.0, 0.25, 0.5, 1.0]


def test_matrix_agrees_with_a_loop() -> None:
    queries, gallery = rows(5), rows(7, seed=1)
    expected = [[loop_cosine(a, b) for b in gallery] for a in queries]
    np.testing.assert_allclose(cosine_matrix(queries, gallery), expected, rtol=0, atol=1e-15)


def test_pairs_agree_with_a_loop_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = rows(9)
    rng = np.random.default_rng(2)
    query, gallery = rng.integers(9, size=(2, 100))
    expected = [loop_cosine(embeddings[q], embeddings[g]) for q, g in zip(query, gallery, strict=True)]
    np.testing.assert_allclose(cosine_pairs(embeddings, query, gallery), expected, rtol=0, atol=1e-15)  # by the matrix
    monkeypatch.setattr("app.reid.similarity._DENSE", 0)
    whole = cosine_pairs(embeddings, query, gallery)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-15)
    monkeypatch.setattr("app.reid.similarity._CHUNK_ROWS", 7)
    assert cosine_pairs(embeddings, query, gallery).tobytes() == whole.tobytes()


@pytest.mark.parametrize("dense", [0, 4])
def test_a_pair_and_its_reverse_are_equal_to_the_bit(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.reid.similarity._DENSE", dense)
    embeddings = rows(40, width=512)
    query, gallery = np.divmod(np.arange(1600), 40)
    forth = cosine_pairs(embeddings, query, gallery).reshape(40, 40)
    assert (forth == forth.T).all()
    np.testing.assert_allclose(forth, cosine_matrix(embeddings, embeddings), rtol=0, atol=1e-15)


def test_values_stay_in_range_however_the_rounding_falls() -> None:
    embeddings = np.concatenate([rows(200, width=512), -rows(200, width=512)])
    matrix = cosine_matrix(embeddings, embeddings)
    assert matrix.max() <= 1.0
    assert matrix.min() >= -1.0
    np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=0, atol=1e-15)
    every = np.arange(400)
    own = cosine_pairs(embeddings, every, (every + 200) % 400)
    assert own.min() >= -1.0
    np.testing.assert_allclose(own, -1.0, rtol=0, atol=1e-15)


def test_length_does_not_matter_and_no_length_is_an_error() -> None:
    embeddings = rows(3)
    scaled = embeddings * np.array([[1e-18], [1e-18], [1e18]], dtype=np.float32)
    np.testing.assert_allclose(unit_rows(scaled), unit_rows(embeddings), rtol=0, atol=1e-6)
    embeddings[1] = 0
    with pytest.raises(ValueError, match="norm 0"):
        cosine_matrix(embeddings, rows(1))


def test_no_pairs_are_no_cosines() -> None:
    nothing = np.empty(0, dtype=np.intp)
    assert cosine_pairs(rows(2), nothing, nothing).shape == (0,)
