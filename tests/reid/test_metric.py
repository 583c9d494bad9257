"""Identity-balanced mAP: by hand, by a slow loop, at chance. `torch/test_metric_oracle.py` asks a peer's library."""

import csv
import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.reid.metric import average_precision, bootstrap_interval, identity_balanced_map


class Slow:
    """The definition, read aloud: one query, one rank, one photo at a time."""

    def __init__(self, similarity: np.ndarray, identities: Sequence[str], within: Sequence[str] | None = None) -> None:
        self.ties = 0
        self.query_ap = [math.nan] * len(identities)
        self.first: dict[str, list[float]] = {}
        self.aps: dict[str, list[float]] = {}
        for query, name in enumerate(identities):
            gallery = [
                i for i in range(len(identities)) if i != query and (within is None or within[i] == within[query])
            ]
            ranking = sorted(gallery, key=lambda i: -similarity[query, i])  # Python's sort is stable
            right = [identities[i] == name for i in ranking]
            if not any(right):
                continue
            precisions = [sum(right[: rank + 1]) / (rank + 1) for rank, hit in enumerate(right) if hit]
            self.query_ap[query] = sum(precisions) / len(precisions)
            self.aps.setdefault(name, []).append(self.query_ap[query])
            self.first.setdefault(name, []).append(float(right[0]))
            self.ties += sum(similarity[query, a] == similarity[query, b] for a, b in pairwise(ranking))
        self.identity_ap = {name: sum(values) / len(values) for name, values in self.aps.items()}

    @property
    def id_map(self) -> float:
        return sum(self.identity_ap.values()) / len(self.identity_ap)

    @property
    def rank1(self) -> float:
        return sum(sum(values) / len(values) for values in self.first.values()) / len(self.first)


def check(similarity: np.ndarray, identities: Sequence[str], within: Sequence[str] | None = None) -> None:
    """The engine against the slow loop, in everything that it reports."""
    fast, slow = identity_balanced_map(similarity, identities, within=within), Slow(similarity, identities, within)
    np.testing.assert_allclose(fast.query_ap, slow.query_ap, rtol=0, atol=1e-12)
    assert fast.identity_ap == pytest.approx(slow.identity_ap, abs=1e-12)
    assert fast.id_map == pytest.approx(slow.id_map, abs=1e-12)
    assert fast.rank1 == pytest.approx(slow.rank1, abs=1e-12)
    assert fast.ties == slow.ties
    assert fast.skipped == sum(math.isnan(ap) for ap in slow.query_ap)
    assert fast.queries == len(identities) - fast.skipped


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    relevant = np.array([True, False, True, False, True])
    assert average_precision(scores, relevant) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert average_precision(scores[::-1], relevant[::-1]) == average_precision(scores, relevant)


def test_average_precision_ranks_ties_in_the_order_given() -> None:
    level = np.zeros(4)
    assert average_precision(level, np.array([True, False, False, True])) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert average_precision(level, np.array([False, True, True, False])) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_average_precision_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="relevant"):
        average_precision(np.ones(3), np.zeros(3, dtype=bool))


def test_a_tiny_example_by_hand() -> None:
    """Two animals and a singleton; a's queries rank right first, b's second."""
    similarity = np.array(
        [
            [1.0, 0.9, 0.2, 0.3, 0.1],  # a: a b b c -> AP 1
            [0.9, 1.0, 0.5, 0.4, 0.3],  # a: a b b c -> AP 1
            [0.6, 0.2, 1.0, 0.5, 0.4],  # b: a b c a -> AP 1/2
            [0.7, 0.6, 0.5, 1.0, 0.4],  # b: a a b c -> AP 1/3
            [0.1, 0.2, 0.3, 0.4, 1.0],  # c: alone, does not ask
        ]
    )
    result = identity_balanced_map(similarity, ["a", "a", "b", "b", "c"])
    np.testing.assert_allclose(result.query_ap, [1, 1, 1 / 2, 1 / 3, np.nan])
    assert result.identity_ap == pytest.approx({"a": 1.0, "b": 5 / 12})
    assert result.id_map == pytest.approx((1 + 5 / 12) / 2)
    assert result.rank1 == 0.5
    assert (result.queries, result.skipped, result.ties) == (4, 1, 0)


def test_identities_count_the_same_however_many_photos_they_have() -> None:
    """Nine photos of a rank perfectly, two of b rank last: the mean over queries would say 0.83."""
    identities = ["a"] * 9 + ["b"] * 2
    similarity = np.full((11, 11), 0.5)
    similarity[:9, :9] = 0.9
    similarity[9:, 9:] = 0.1
    result = identity_balanced_map(similarity, identities)
    assert result.identity_ap == pytest.approx({"a": 1.0, "b": 0.1})
    assert result.id_map == pytest.approx(0.55)


def test_a_photo_never_answers_its_own_query() -> None:
    similarity = np.array([[9.0, 0.1, 0.2], [0.1, 9.0, 0.2], [0.2, 0.1, 9.0]])
    result = identity_balanced_map(similarity, ["a", "a", "b"])
    np.testing.assert_allclose(result.query_ap, [1 / 2, 1 / 2, np.nan])
    assert result.rank1 == 0.0


@given(
    st.integers(2, 12).flatmap(
        lambda count: st.tuples(
            arrays(np.float64, (count, count), elements=st.sampled_from([-0.5, 0.0, 0.1, 0.2, 0.3, 1.0])),
            st.lists(st.sampled_from("abc"), min_size=count, max_size=count),
            st.none() | st.lists(st.sampled_from(["left", "right"]), min_size=count, max_size=count),
        )
    )
)
@settings(max_examples=300)
def test_equals_the_slow_loop_with_many_ties(case: tuple[np.ndarray, list[str], list[str] | None]) -> None:
    similarity, identities, within = case
    if all(math.isnan(ap) for ap in Slow(similarity, identities, within).query_ap):
        with pytest.raises(ValueError, match="no photo has another"):
            identity_balanced_map(similarity, identities, within=within)
    else:
        check(similarity, identities, within)


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150, 1e-250])
def test_equals_the_slow_loop_without_ties_on_any_scale(scale: float) -> None:
    rng = np.random.default_rng(0)
    identities = [f"animal {number}" for number in rng.integers(9, size=90)]
    check(rng.standard_normal((90, 90)) * scale, identities)
    check(rng.standard_normal((90, 90)) * scale, identities, ["lr"[number] for number in rng.integers(2, size=90)])


def test_similarities_closer_than_the_coarse_steps_keep_their_order() -> None:
    """Neighbours in float64, and one far away that stretches the scale: order and ties are still exact."""
    rng = np.random.default_rng(1)
    similarity = 0.5 + rng.integers(0, 40, (60, 60)) * 2.0**-53
    similarity[:, 0] = rng.choice([-1e6, 1e6], 60)
    check(similarity, ["abcd"[number] for number in rng.integers(4, size=60)])


def test_rows_that_tie_and_rows_that_do_not_share_a_block() -> None:
    rng = np.random.default_rng(2)
    similarity = rng.standard_normal((50, 50))
    similarity[::3] = np.round(similarity[::3])
    check(similarity, ["abcd"[number] for number in rng.integers(4, size=50)])


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    similarity = np.round(rng.standard_normal((37, 37)), 1)
    identities = ["abcd"[number] for number in rng.integers(4, size=37)]
    for entries in (1, 37 * 5, 37 * 36):
        monkeypatch.setattr("app.reid.metric._BLOCK_ENTRIES", entries)
        check(similarity, identities)


def test_float32_similarities_are_ranked_as_they_are() -> None:
    rng = np.random.default_rng(4)
    similarity = rng.uniform(0.9, 1.0, (80, 80)).astype(np.float32)
    check(similarity, ["abcdefgh"[number] for number in rng.integers(8, size=80)])


def test_within_keeps_the_gallery_to_photos_of_the_same_value() -> None:
    """A left flank is never asked for a right one; the animal's AP is over all its queries, left and right."""
    identities = ["a", "a", "b", "a", "a", "b"]
    sides = ["left", "left", "left", "right", "right", "right"]
    similarity = np.zeros((6, 6))
    similarity[0, [1, 2]] = 0.9, 0.1  # right first: AP 1
    similarity[1, [0, 2]] = 0.1, 0.9  # wrong first: AP 1/2
    similarity[3, [4, 5]] = 0.9, 0.1
    similarity[4, [3, 5]] = 0.9, 0.1
    similarity[0, [3, 4, 5]] = similarity[3, [0, 1, 2]] = 5.0  # the other side would win
    result = identity_balanced_map(similarity, identities, within=sides)
    np.testing.assert_allclose(result.query_ap, [1, 1 / 2, np.nan, 1, 1, np.nan])
    assert result.identity_ap == pytest.approx({"a": 3.5 / 4})
    assert (result.queries, result.skipped) == (4, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    similarity = np.ones((3, 3))
    similarity[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or an infinity"):
        identity_balanced_map(similarity, ["a", "a", "b"])


@pytest.mark.parametrize("shape", [(3, 3), (2, 3), (4,)])
def test_shapes_must_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="4 identities need"):
        identity_balanced_map(np.ones(shape), ["a", "a", "b", "b"])


def test_nothing_to_ask_is_an_error() -> None:
    with pytest.raises(ValueError, match="no photo has another"):
        identity_balanced_map(np.eye(3), ["a", "b", "c"])
    with pytest.raises(ValueError, match="0 identities"):
        identity_balanced_map(np.empty((0, 0)), [])


def test_chance_on_the_competitions_class_sizes_is_about_four_hundredths(shared_data: Callable[[str], Path]) -> None:
    with shared_data("kaggle/train.csv").open(encoding="utf-8", newline="") as file:
        identities = [row["ground_truth"] for row in csv.DictReader(file)]
    sizes = Counter(identities).values()
    assert (len(identities), len(sizes), min(sizes), max(sizes)) == (1895, 31, 13, 183)
    result = identity_balanced_map(np.random.default_rng(0).random((1895, 1895)), identities)
    assert result.id_map == pytest.approx(0.04, abs=0.005)
    assert result.rank1 == pytest.approx(0.03, abs=0.02)


def test_the_bootstrap_interval_is_that_of_a_mean() -> None:
    """Against the normal approximation, and against a loop over the same draws."""
    values = np.random.default_rng(5).random(400)
    named = {str(number): float(value) for number, value in enumerate(values)}
    low, high = bootstrap_interval(named, seed=1, resamples=4_000)
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    few = dict(list(named.items())[:5])
    draws = np.random.default_rng(3).integers(5, size=(50, 5))
    means = sorted(sum(list(few.values())[i] for i in draw) / 5 for draw in draws)
    low, high = bootstrap_interval(few, seed=3, resamples=50, level=0.9)
    assert low == pytest.approx(means[2] + 0.45 * (means[3] - means[2]))  # the 5 % quantile of 50: rank 2.45
    assert high == pytest.approx(means[46] + 0.55 * (means[47] - means[46]))


def test_the_bootstrap_repeats_and_one_identity_has_no_spread() -> None:
    named = {"a": 0.1, "b": 0.5, "c": 0.9}
    assert bootstrap_interval(named, seed=7) == bootstrap_interval(named, seed=7)
    assert bootstrap_interval(named, seed=7, resamples=20) != bootstrap_interval(named, seed=8, resamples=20)
    assert bootstrap_interval({"a": 0.3}) == (0.3, 0.3)
