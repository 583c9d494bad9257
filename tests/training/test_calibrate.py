"""Calibration: curves against slow loops, thresholds by counting, figures on data whose truth is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.reid.calibration import Calibration
from training import reliability as rel
from training.calibrate import (
    MIN_IDENTITIES,
    PARTS,
    Fitted,
    TooFew,
    _judge,
    calibration_figures,
    deal,
    fit_calibration,
)
from training.curves import Weighted, fit_isotonic, fit_logistic, weigh
from training.pairs import Pairs, pairs_of


def herd(identities: int, photos: int, spread: float, seed: int = 0, width: int = 16) -> tuple[np.ndarray, list[str]]:
    """Similarities of photos that lie around a point for each animal; the larger the spread, the harder."""
    chance = np.random.default_rng(seed)
    centres = np.repeat(chance.standard_normal((identities, width)), photos, axis=0)
    rows = centres + spread * chance.standard_normal(centres.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"animal {number // photos}" for number in range(identities * photos)]
    return np.clip((rows @ rows.T + 1) / 2, 0, 1), names


class TestPairs:
    def test_each_pair_once(self) -> None:
        similarity = np.array([[1, 0.9, 0.2], [0.9, 1, 0.3], [0.2, 0.3, 1]])
        pairs, names = pairs_of(similarity, ["b", "b", "a"])
        assert names == ["a", "b"]
        assert list(zip(pairs.similarity, pairs.first, pairs.second, strict=True)) == [
            (0.9, 1, 1), (0.2, 1, 0), (0.3, 1, 0)
        ]  # fmt: skip
        assert pairs.same.tolist() == [True, False, False]
        assert pairs.similarities(same=False).tolist() == [0.2, 0.3]
        assert len(pairs.inside(np.array([False, True]))) == 1

    def test_within(self) -> None:
        pairs, _ = pairs_of(np.eye(4), ["a", "a", "a", "b"], within=["left", "right", "left", "left"])
        assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 1)]

    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"similarity is \(2, 2\); 3 identities need \(3, 3\)"):
            pairs_of(np.eye(2), ["a", "b", "c"])


def slow_isotonic(values: list[float], weights: list[float]) -> list[float]:
    """Pool adjacent violators (Ayer et al. 1955): merge neighbours that fall until none does."""
    blocks = [[value, weight, 1] for value, weight in zip(values, weights, strict=True)]
    place = 0
    while place + 1 < len(blocks):
        (a, v, n), (b, w, m) = blocks[place], blocks[place + 1]
        if a > b:
            blocks[place : place + 2] = [[(a * v + b * w) / (v + w), v + w, n + m]]
            place = max(0, place - 1)
        else:
            place += 1
    return [value for value, _, count in blocks for _ in range(count)]


class TestCurves:
    @staticmethod
    def weighted(seed: int, size: int = 40) -> Weighted:
        """Some similarities, with any weight of either kind, same pairs rather at the higher ones."""
        chance = np.random.default_rng(seed)
        x = np.sort(chance.uniform(0, 1, size))
        same, different = chance.uniform(0, 1, size) * x, chance.uniform(0, 1, size)
        return Weighted(x, same / same.sum() / 2, different / different.sum() / 2, 0.02)

    @settings(deadline=None)
    @given(st.integers(0, 1_000))
    def test_isotonic_is_what_the_slow_loop_pools(self, seed: int) -> None:
        """Of fewer points than groups, each is its own group; knots are the blocks' middles."""
        some = self.weighted(seed, 12)
        mass = some.same + some.different
        group = np.minimum((np.cumsum(mass) - mass / 2) * 200, 199).astype(int)
        if len(set(group.tolist())) < 12:
            return
        pooled = slow_isotonic((some.same / mass).tolist(), mass.tolist())
        knots = []
        for level, members in itertools.groupby(range(12), key=lambda place: pooled[place]):
            rows = list(members)
            middle = np.average(some.similarity[rows], weights=mass[rows])
            knots.append((middle, min(max(level, 0.02), 0.98)))
        curve = fit_isotonic(some)
        np.testing.assert_allclose(curve.similarities, [x for x, _ in knots], rtol=1e-9)
        np.testing.assert_allclose(curve.probabilities, [y for _, y in knots], rtol=1e-9)

    @given(st.integers(0, 1_000))
    @settings(max_examples=20, deadline=None)
    def test_logistic_is_where_the_loss_is_level(self, seed: int) -> None:
        """By the gradient of Platt's loss, in a plain loop: both sums are 0 at the optimum of a convex function."""
        some = self.weighted(seed)
        curve = fit_logistic(some)
        if curve.slope == 0:
            return
        by_intercept = by_slope = 0.0
        for x, same, different in zip(some.similarity, some.same, some.different, strict=True):
            said = 1 / (1 + math.exp(-(curve.slope * x + curve.intercept)))
            excess = same * (said - 0.98) + different * (said - 0.02)
            by_intercept += excess
            by_slope += excess * x
        assert (by_intercept, by_slope) == pytest.approx((0, 0), abs=1e-5)

    def test_where_higher_means_fewer_the_line_is_level(self) -> None:
        x = np.linspace(0, 1, 9)
        some = Weighted(x, x[::-1] / x.sum() / 2, x / x.sum() / 2, 0.02)
        assert (fit_logistic(some).slope, fit_logistic(some).intercept) == (0, 0)
        assert fit_isotonic(some).probabilities == pytest.approx([0.5])

    def test_pairs_that_fall_apart_have_a_finite_slope_and_no_certainty(self) -> None:
        similarity, names = herd(16, 4, 0.01)
        some = weigh(pairs_of(similarity, names)[0])
        assert some.floor == 1 / 18
        assert some.same.sum() == pytest.approx(0.5)
        assert some.different.sum() == pytest.approx(0.5)
        assert 0 < fit_logistic(some).slope < 1e4
        assert min(fit_isotonic(some).probabilities) == pytest.approx(1 / 18)
        assert max(fit_isotonic(some).probabilities) == pytest.approx(17 / 18)

    def test_pairs_of_one_similarity(self) -> None:
        pairs = Pairs(np.full(4, 0.5), np.array([0, 0, 0, 1], np.int32), np.array([0, 1, 1, 0], np.int32))
        for curve in (fit_logistic(weigh(pairs)), fit_isotonic(weigh(pairs))):
            calibration = Calibration.fitted("0" * 12, curve, (1, 0), {})
            assert calibration.probability(np.array([0.5]))[0] == pytest.approx(0.5, abs=1e-6)


def slow_reliability(probability: np.ndarray, same: np.ndarray, bins: int) -> tuple[float, float]:
    """ECE and log-loss, pair by pair."""
    weight = [0.5 / same.sum() if kind else 0.5 / (~same).sum() for kind in same]
    order = sorted(range(len(same)), key=lambda pair: probability[pair])
    filled, error = 0.0, 0.0
    said = so = 0.0
    place = 1
    for pair in order:
        said, so = said + weight[pair] * probability[pair], so + weight[pair] * same[pair]
        filled += weight[pair]
        if filled >= place / bins - 1e-12 or pair == order[-1]:
            error += abs(said - so)
            said = so = 0.0
            place += 1
    loss = -sum(w * math.log(p if kind else 1 - p) for w, p, kind in zip(weight, probability, same, strict=True))
    return error, loss


class TestReliability:
    @staticmethod
    def judged(seed: int) -> tuple[Pairs, np.ndarray]:
        """All pairs of 20 identities' photos, with a probability that has something to it."""
        similarity, names = herd(20, 4, 0.8, seed)
        pairs, _ = pairs_of(similarity, names)
        noise = np.random.default_rng(seed).normal(0, 0.5, len(pairs))
        return pairs, 1 / (1 + np.exp(-(8 * (pairs.similarity - 0.6) + noise)))

    @pytest.mark.parametrize("seed", range(3))
    def test_against_plain_loops(self, seed: int) -> None:
        pairs, probability = self.judged(seed)
        figures = rel.reliability(pairs, probability, 20, seed=0)
        ece, loss = slow_reliability(probability, pairs.same, 15)
        assert figures["ece"] == pytest.approx(ece, abs=2e-3)  # a pair at an edge may fall on either side
        assert figures["log_loss"] == pytest.approx(loss, rel=1e-9)
        assert figures["log_loss"] == pytest.approx(rel.balanced_log_loss(probability, pairs.same), rel=1e-9)
        assert figures["log_loss_gain"] == pytest.approx(1 - loss / math.log(2), rel=1e-9)
        assert len(figures["bins"]) == 15
        assert sum(entry["weight"] for entry in figures["bins"]) == pytest.approx(1)
        for entry in figures["bins"]:
            assert entry["weight"] == pytest.approx(1 / 15, abs=0.005)
        distance = sum(entry["weight"] * abs(entry["predicted"] - entry["observed"]) for entry in figures["bins"])
        assert distance == pytest.approx(figures["ece"], rel=1e-9)

    def test_resamples_are_of_identities(self) -> None:
        """One draw by hand: identities repeated as often as drawn, pairs of two copies of one animal left out."""
        pairs, probability = self.judged(1)
        times = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=1)
        _, loss = rel._figures(rel._sum_up(pairs, probability, 20), times.astype(float))
        totals, weights = [0.0, 0.0], [0.0, 0.0]
        for first, second, said in zip(pairs.first, pairs.second, probability, strict=True):
            kind = int(first == second)
            weight = times[0, first] if kind else times[0, first] * times[0, second]
            weights[kind] += weight
            totals[kind] -= weight * math.log(said if kind else 1 - said)
        assert loss[0] == pytest.approx((totals[0] / weights[0] + totals[1] / weights[1]) / 2, rel=1e-9)

    def test_a_constant_is_calibrated_and_gains_nothing(self) -> None:
        pairs, probability = self.judged(2)
        figures = rel.reliability(pairs, np.full(len(probability), 0.5), 20, seed=0)
        assert figures["ece"] == pytest.approx(0, abs=1e-12)
        assert figures["log_loss_gain"] == pytest.approx(0, abs=1e-12)
        assert [(entry["predicted"], entry["weight"]) for entry in figures["bins"]] == [pytest.approx((0.5, 1.0))]

    def test_the_interval_holds_the_gain(self) -> None:
        figures = rel.reliability(*self.judged(0), 20, seed=0)
        low, high = figures["log_loss_gain_interval"]
        assert low < figures["log_loss_gain"] < high
        assert figures == rel.reliability(*self.judged(0), 20, seed=0)


class TestFigures:
    def test_of_a_good_network(self) -> None:
        similarity, names = herd(60, 5, 0.45)
        figures = calibration_figures(similarity, names, seed=1)
        assert figures["ece"] < 0.05
        assert figures["log_loss_gain_interval"][0] > 0.1
        assert (figures["prior"], figures["identities"], figures["same_pairs"]) == (0.5, 60, 600)
        assert figures["method"] in {"logistic", "isotonic"}
        thresholds = figures["thresholds"]
        assert thresholds["different"] <= thresholds["same"]
        assert thresholds["false_match_rate"] < 0.02
        assert thresholds["false_non_match_rate"] < 0.08
        assert figures == calibration_figures(similarity, names, seed=1)

    def test_of_a_network_that_knows_nothing(self) -> None:
        """Neither an invented gain, nor a calibration that anybody should use."""
        chance = np.random.default_rng(0)
        similarity = chance.uniform(0, 1, (150, 150))
        similarity = (similarity + similarity.T) / 2
        names = [f"animal {number // 5}" for number in range(150)]
        fitted = fit_calibration(similarity, names)
        assert isinstance(fitted, Fitted)
        assert fitted.figures["log_loss_gain"] < 0.01
        assert not fitted.helps

    def test_no_identity_is_judged_by_what_was_fitted_on_it(self) -> None:
        """Similarities inside a part turned upside down change nothing of what is said of a similarity there."""
        similarity, names = herd(30, 5, 0.5)
        pairs, _ = pairs_of(similarity, names)
        parts = deal(pairs, 30, 0)
        before = _judge(pairs, parts, 2, 0)
        inside = (parts[pairs.first] == 2) & (parts[pairs.second] == 2)
        changed = Pairs(np.where(inside, 1 - pairs.similarity, pairs.similarity), pairs.first, pairs.second)
        after = _judge(changed, parts, 2, 0)
        assert (after.thresholds, after.scores) == (before.thresholds, before.scores)
        order = np.argsort(before.pairs.similarity)
        expected = np.interp(
            after.pairs.similarity, before.pairs.similarity[order], before.probability[order], left=np.nan, right=np.nan
        )
        known = ~np.isnan(expected)
        assert known.sum() > 20
        np.testing.assert_allclose(after.probability[known], expected[known], atol=0.05)

    def test_parts_share_the_animals_and_their_pairs(self) -> None:
        names = [f"animal {number}" for number in range(25) for _ in range(2 + number % 7)]
        pairs, _ = pairs_of(np.eye(len(names)), names)
        parts = deal(pairs, 25, 3)
        assert np.bincount(parts).tolist() == [5] * PARTS
        counts = [int(pairs.inside(parts == part).same.sum()) for part in range(PARTS)]
        assert max(counts) < 1.5 * min(counts)
        assert parts.tolist() != deal(pairs, 25, 4).tolist()

    @pytest.mark.parametrize(
        ("identities", "photos", "reason"),
        [
            (MIN_IDENTITIES - 1, 6, "14 identities with two photos to compare, 210 same"),
            (40, 1, "0 identities with two photos to compare, 0 same and 780 different pairs"),
            (20, 2, "20 identities with two photos to compare, 20 same"),
        ],
    )
    def test_too_few_are_said_and_no_figure_is_made_up(self, identities: int, photos: int, reason: str) -> None:
        similarity, names = herd(identities, photos, 0.5)
        ((key, said),) = calibration_figures(similarity, names).items()
        assert key == "reason"
        assert said.startswith(f"too few: {reason}")

    def test_galleries_that_leave_one_kind_of_pair_only(self) -> None:
        similarity, names = herd(20, 5, 0.5)
        sites = [name if int(name.split()[1]) > 3 else "river" for name in names]
        some = fit_calibration(similarity, names, within=sites)
        assert isinstance(some, TooFew)
        assert some.reason == "too few: of 5 parts of the identities, one lacks same or different pairs to compare"
        alone = fit_calibration(similarity, names, within=names)
        assert isinstance(alone, TooFew)
        assert "0 different pairs" in alone.reason
