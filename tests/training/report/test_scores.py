"""Pairs, ROC and new individuals, against slow loops over every pair."""

import numpy as np
import pytest

from training.pairs import pairs_of
from training.report.histogram import common_edges, compare_pairs, describe
from training.report.novelty import Novelty, best_matches, measure_novelty
from training.report.roc import auroc, auroc_of_masses, measure_roc
from training.report.values import Estimate, Unknown


def slow_auroc(positive, negative):
    """Every positive against every negative."""
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    return np.mean(wins)


@pytest.fixture
def crowd():
    """Twenty-four photos of six animals whose similarities tell a little, with ties."""
    rng = np.random.default_rng(4)
    identities = [f"animal {number % 6}" for number in range(24)]
    noise = rng.random((24, 24))
    same = np.array(identities)[:, None] == np.array(identities)[None]
    similarity = np.round((noise + noise.T) / 4 + 0.2 + 0.15 * same, 2)
    return similarity, identities, ["left" if number % 5 else "right" for number in range(24)]


def slow_pairs(similarity, identities, groups=None):
    same, different = [], []
    for i in range(len(identities)):
        for j in range(i):
            if groups is None or groups[i] == groups[j]:
                (same if identities[i] == identities[j] else different).append(similarity[i, j])
    return np.array(same), np.array(different)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_the_right_order(seed):
    rng = np.random.default_rng(seed)
    positive, negative = rng.integers(3, 9, 30) / 10, rng.integers(0, 7, 41) / 10
    assert auroc(positive, negative) == pytest.approx(slow_auroc(positive, negative))


def test_auroc_of_weights_is_that_of_values_repeated():
    values = np.array([0.1, 0.4, 0.4, 0.9])
    weights = np.array([[1, 0, 2, 3], [2, 2, 0, 1]])
    others = np.array([[2, 1, 0, 1], [0, 3, 1, 0]])
    found = auroc_of_masses(weights[:, [0, 1, 3]] + 0.0, others[:, [0, 1, 3]] + 0.0)
    distinct = values[[0, 1, 3]]
    for row in range(2):
        one = np.repeat(distinct, weights[row, [0, 1, 3]])
        other = np.repeat(distinct, others[row, [0, 1, 3]])
        assert found[row] == pytest.approx(slow_auroc(one, other))
    assert np.isnan(auroc_of_masses(np.zeros((1, 2)), np.ones((1, 2)))[0])


@pytest.mark.parametrize("grouped", [False, True])
def test_roc_against_a_slow_scan(crowd, grouped):
    similarity, identities, sides = crowd
    groups = sides if grouped else None
    pairs, names = pairs_of(similarity, identities, within=groups)
    roc = measure_roc(pairs, len(names), seed=1)
    same, different = slow_pairs(similarity, identities, groups)
    assert roc.auroc.value == pytest.approx(slow_auroc(same, different))
    assert roc.auroc.low < roc.auroc.value < roc.auroc.high
    for point in (roc.fmr_1, roc.fnmr_5, roc.equal_error):
        assert point.false_match_rate == np.mean(different >= point.threshold)
        assert point.false_non_match_rate == np.mean(same < point.threshold)
    assert roc.fmr_1.false_match_rate <= 0.01
    assert roc.fnmr_5.false_non_match_rate <= 0.05
    # A threshold a little lower, or higher, breaks the promise.
    assert np.mean(different >= roc.fmr_1.threshold - 1e-9) > 0.01
    assert np.mean(same < roc.fnmr_5.threshold + 1e-9) > 0.05
    for rate, found in zip(roc.false_match, roc.true_match, strict=True):
        reached = [
            np.mean(same >= cut) for cut in {*same, *different, 2.0} if np.mean(different >= cut) <= rate + 1e-12
        ]
        assert found == pytest.approx(max(reached))
    assert (roc.false_match[0], roc.false_match[-1], roc.true_match[-1]) == (0, 1, 1)


def test_roc_of_pairs_that_are_told_apart():
    identities = ["a", "a", "b", "b"]
    similarity = np.where(np.array(identities)[:, None] == np.array(identities)[None], 0.9, 0.2)
    roc = measure_roc(*_with_count(pairs_of(similarity, identities)), seed=0)
    assert roc.auroc.value == 1
    assert (roc.equal_error.false_match_rate, roc.equal_error.false_non_match_rate) == (0, 0)


def _with_count(found):
    return found[0], len(found[1])


def test_histograms_hold_every_pair_once(crowd):
    similarity, identities, _ = crowd
    found = compare_pairs(pairs_of(similarity, identities)[0])
    same, different = slow_pairs(similarity, identities)
    for kind, values in ((found.same, same), (found.different, different)):
        assert kind.count == len(values)
        assert sum(kind.shares) == pytest.approx(1)
        assert kind.mean == pytest.approx(values.mean())
        assert kind.median == pytest.approx(np.median(values))
        counted = [
            np.sum((values >= low) & (values < high)) / len(values)
            for low, high in zip(found.edges[:-1], found.edges[1:], strict=True)
        ]
        assert kind.shares[:-1] == pytest.approx(counted[:-1])


def test_values_beyond_the_edges_are_in_the_outer_bins():
    edges = common_edges(np.array([0.2, 0.4]))
    found = describe(np.array([0.0, 1.0, 1.0, 0.3]), edges)
    assert (found.shares[0], found.shares[-1], sum(found.shares)) == (0.25, 0.5, 1)
    assert (np.diff(common_edges(np.array([0.5, 0.5]))) > 0).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_new_individuals_against_slow_loops(crowd, grouped):
    similarity, identities, sides = crowd
    groups = sides if grouped else None
    present, absent, names = [], [], []
    for i, name in enumerate(identities):
        gallery = [j for j in range(24) if j != i and (groups is None or groups[i] == groups[j])]
        own = [similarity[i, j] for j in gallery if identities[j] == name]
        strangers = [similarity[i, j] for j in gallery if identities[j] != name]
        if own and strangers:
            present.append(max(own + strangers))
            absent.append(max(strangers))
            names.append(name)
    found = measure_novelty(similarity, identities, groups, seed=0)
    assert isinstance(found, Novelty)
    assert found.queries == len(names)
    assert found.present.mean == pytest.approx(np.mean(present))
    weight = [1 / names.count(name) for name in names]
    slow = sum(
        a * b * slow_auroc([p], [n])
        for p, a in zip(present, weight, strict=True)
        for n, b in zip(absent, weight, strict=True)
    )
    assert found.auroc.value == pytest.approx(slow / sum(weight) ** 2)
    assert found.auroc.low <= found.auroc.value <= found.auroc.high


def test_a_photo_alone_has_no_match():
    present, absent = best_matches(np.eye(3), np.array([0, 0, 1]), None)
    assert present.tolist() == [0, 0, -np.inf]
    assert absent.tolist() == [0, 0, 0]
    assert isinstance(measure_novelty(np.eye(2), ["a", "a"], None, seed=0), Unknown)


def test_estimates_with_too_little_to_draw_from():
    assert Estimate.of_means({"a": 0.5}, 0) == Estimate(0.5, None, None)
    assert Estimate.of_draws(0.5, np.array([np.nan, np.nan, 0.4])) == Estimate(0.5, None, None)
    found = Estimate.of_draws(0.5, np.linspace(0, 1, 1001))
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
