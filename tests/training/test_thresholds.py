"""Thresholds: by counting, against photos written out as often as they were drawn, and on animals not seen before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.reid.calibration import FALSE_MATCH_RATE, FALSE_NON_MATCH_RATE, Calibration, Logistic
from training.pairs import Pairs, pairs_of
from training.thresholds import CONFIDENCE, DRAWS, find_thresholds


class TestThresholds:
    @staticmethod
    def pairs(same: np.ndarray, different: np.ndarray) -> Pairs:
        similarity = np.concatenate([same, different])
        second = np.concatenate([np.zeros(len(same), np.int32), np.ones(len(different), np.int32)])
        return Pairs(similarity, np.zeros(len(similarity), np.int32), second)

    @settings(deadline=None)
    @given(st.integers(0, 1_000), st.booleans())
    def test_by_counting(self, seed: int, ties: bool) -> None:
        """The rates hold, and at the next similarity that is there they would not."""
        chance = np.random.default_rng(seed)
        own, others = chance.beta(4, 3, 150), chance.beta(3, 4, 250)
        if ties:
            own, others = own.round(2), others.round(2)
        same, different = find_thresholds(self.pairs(own, others), 0)
        assert different < same
        assert (others >= same).mean() <= 0.01
        assert (own <= different).mean() <= 0.05
        assert (others >= others[others < same].max()).mean() > 0.01
        assert (own <= own[own > different].min()).mean() > 0.05

    def test_a_network_so_good_that_they_would_cross_leaves_nothing_uncertain(self) -> None:
        own, others = np.linspace(0.8, 1, 100), np.linspace(0, 0.4, 100)
        same, different = find_thresholds(self.pairs(own, others), 0)
        assert same == different == pytest.approx((np.sort(others)[98] + own[5]) / 2)
        assert (others >= same).mean() <= 0.01
        assert (own < different).mean() <= 0.05

    def test_where_too_many_are_alike_nothing_is_called_same(self) -> None:
        same, _ = find_thresholds(self.pairs(np.linspace(0, 1, 100), np.ones(100)), 0)
        assert same > 1
        curve = Logistic(slope=1.0, intercept=0.0)
        assert Calibration.fitted("0" * 12, curve, (same, 0.1), {}).verdict(1.0) != "same"


def herd(identities: int, photos: int, seed: int) -> tuple[Pairs, int]:
    """Animals of a few looks: those of one look are alike, so that pairs of them fail together."""
    chance = np.random.default_rng(seed)
    looks = chance.standard_normal((4, 8))[chance.integers(4, size=identities)]
    centres = np.repeat(looks + 0.8 * chance.standard_normal((identities, 8)), photos, axis=0)
    rows = centres + 0.7 * chance.standard_normal(centres.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{number // photos:03}" for number in range(len(rows))]
    return pairs_of(np.clip((rows @ rows.T + 1) / 2, 0, 1), names)[0], identities


def plain(own: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The strictest thresholds that keep the rates, tried one after the other."""
    same = min(cut for cut in [*others, np.inf] if (others > cut).mean() <= FALSE_MATCH_RATE)
    different = max(cut for cut in [*own, -np.inf] if (own < cut).mean() <= FALSE_NON_MATCH_RATE)
    return float(same), float(different)


class TestAnimalsDrawnAnew:
    def test_as_if_every_pair_were_written_down_as_often_as_it_counts(self) -> None:
        pairs, identities = herd(12, 4, 3)
        drawn = np.random.default_rng((5, 7)).multinomial(identities, np.full(identities, 1 / identities), size=DRAWS)
        found = []
        for times in [np.ones(identities, dtype=np.int64), *drawn]:
            own = np.repeat(pairs.similarity[pairs.same], times[pairs.first[pairs.same]])
            apart = ~pairs.same
            others = np.repeat(pairs.similarity[apart], times[pairs.first[apart]] * times[pairs.second[apart]])
            found.append(plain(own, others))
        same, different = find_thresholds(pairs, 5)
        rank = int(np.ceil(CONFIDENCE * DRAWS))
        assert same == pytest.approx(max(found[0][0], sorted(one[0] for one in found)[rank]), abs=1e-12)
        assert different == pytest.approx(min(found[0][1], sorted(-one[1] for one in found)[rank] * -1), abs=1e-12)

    def test_they_keep_their_promise_on_others_where_the_plain_ones_do_not(self) -> None:
        """Thirty herds of 40 animals; each is judged by thresholds from the first 25 of them."""
        kept, kept_plain = [], []
        for seed in range(30):
            pairs, identities = herd(40, 4, seed)
            known = np.arange(identities) < 25
            fitted, others = pairs.inside(known), pairs.inside(~known).similarities(same=False)
            kept.append((others >= find_thresholds(fitted, 0)[0]).mean() <= FALSE_MATCH_RATE)
            cut, _ = plain(fitted.similarities(same=True), fitted.similarities(same=False))
            kept_plain.append((others > cut).mean() <= FALSE_MATCH_RATE)
        assert np.mean(kept) >= 0.8
        assert np.mean(kept_plain) < 0.7

    def test_numbers_of_animals_that_are_not_there_change_nothing(self) -> None:
        pairs, _ = herd(10, 4, 1)
        gaps = Pairs(pairs.similarity, pairs.first * 7 + 3, pairs.second * 7 + 3)
        assert find_thresholds(gaps, 2) == find_thresholds(pairs, 2)
