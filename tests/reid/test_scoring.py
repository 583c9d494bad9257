"""Pairs of names as numbers, and their scores."""

import numpy as np
import pytest

from app.reid.scoring import index_pairs, score_pairs


def test_each_distinct_name_stands_once_in_order_of_first_use() -> None:
    index = index_pairs(["b", "a", "b"], ["a", "c", "b"])
    assert index.names == ["b", "a", "c"]
    assert index.query.tolist() == [0, 1, 0]
    assert index.gallery.tolist() == [1, 2, 0]


def test_scores_by_hand() -> None:
    index = index_pairs(["x", "x", "x", "y"], ["y", "x", "z", "x"])
    embeddings = np.array([[2, 0], [0, 3], [-1, 0]], dtype=np.float32)
    scores = score_pairs(index, embeddings)
    assert scores.cosine.tolist() == [0.0, 1.0, -1.0, 0.0]
    assert scores.similarity.tolist() == [0.5, 1.0, 0.0, 0.5]


def test_the_competition_in_small() -> None:
    """All ordered pairs without self: symmetric, and what a plain product of the unit rows gives."""
    names = [f"test_{number:04d}.png" for number in range(20)]
    pairs = [(a, b) for a in names for b in names if a != b]
    index = index_pairs([a for a, _ in pairs], [b for _, b in pairs])
    embeddings = np.random.default_rng(0).standard_normal((20, 512)).astype(np.float32)
    unit = embeddings / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    place = {name: number for number, name in enumerate(index.names)}
    table = dict(zip(pairs, score_pairs(index, embeddings).cosine.tolist(), strict=True))
    for (a, b), cosine in table.items():
        assert cosine == table[b, a]
        assert cosine == pytest.approx(float(unit[place[a]] @ unit[place[b]]), abs=1e-12)


def test_columns_of_two_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 queries and 1 gallery"):
        index_pairs(["a", "b"], ["a"])
