"""The sanity figures of heat maps: what they are made of, by hand, and that they tell a map from none."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.reid.embedder import Embedder, load_model
from app.reid.errors import BundleError, DataError
from app.reid.explain import explain
from app.reid.runtime import OnnxRuntime
from app.reid.spec import PreprocessSpec
from tests.reid.placed import GRID, SQUASH, placed_onnx
from training.data import PhotoSet, load_photos
from training.explanation import (
    DEFAULT_PAIRS,
    FILLS,
    NETWORKS,
    draw_pairs,
    explanation_sanity,
    sanity_figures,
    spearman,
)
from training.export import export_bundle
from training.start import build_model

CHOICES = {"top", "random", "randomised", "top_minus_random", "top_minus_randomised"}


class Permuted:
    """The placed network as if its cells were elsewhere: its maps point at the wrong places, its cosines are right."""

    has_places = True

    def __init__(self, runtime, seed):
        self.runtime, self.order = runtime, np.random.default_rng(seed).permutation(GRID[0] * GRID[1])

    def run(self, images):
        return self.runtime.run(images)

    def run_with_places(self, images):
        embeddings, places = self.runtime.run_with_places(images)
        flat = places.reshape(len(places), -1, places.shape[3])
        return embeddings, flat[:, self.order].reshape(places.shape)


@pytest.fixture(scope="module")
def placed():
    return Embedder(SQUASH, OnnxRuntime(placed_onnx(), threads=1))


@pytest.fixture(scope="module")
def herd_photos(herd):
    return load_photos(herd, SQUASH)


@pytest.fixture(scope="module")
def lively_bundle(tmp_path_factory, make_config) -> Path:
    """A bundle with 3 x 3 places."""
    config = make_config("preprocess.size=96", "model.layer_scale=0.5")
    folder = tmp_path_factory.mktemp("store") / "lively"
    model = build_model(config.model).eval()
    export_bundle(folder, model, config, fingerprint="f" * 64, split_csv="filename\n", metrics={})
    return folder


class TestSpearman:
    def test_by_hand(self):
        assert spearman(np.array([1.0, 2, 3]), np.array([10.0, 20, 90])) == pytest.approx(1)
        assert spearman(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
        assert spearman(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3])) == pytest.approx(1 - 6 * 4 / (4 * 15))
        assert spearman(np.array([1.0, 1, 2]), np.array([1.0, 2, 2])) == pytest.approx(0.5)
        assert spearman(np.ones(4), np.arange(4.0)) == 0

    def test_against_scipy(self):
        stats = pytest.importorskip("scipy.stats")
        rng = np.random.default_rng(0)
        for _ in range(20):
            first, second = rng.integers(0, 9, (2, 5, 4)).astype(float)
            assert spearman(first, second) == pytest.approx(stats.spearmanr(first.ravel(), second.ravel()).statistic)


class TestPairs:
    IDENTITIES = (*["a"] * 50, *["b"] * 3, *["c"] * 2, "d", "e")

    @pytest.mark.parametrize("count", [2, 7, 30])
    def test_half_of_one_animal_half_of_two(self, count):
        pairs = draw_pairs(self.IDENTITIES, count, seed=3)
        same = [self.IDENTITIES[a] == self.IDENTITIES[b] for a, b in pairs]
        assert same == [True] * ((count + 1) // 2) + [False] * (count // 2)
        assert all(a != b for a, b in pairs)

    def test_animals_take_turns(self):
        asked = Counter(self.IDENTITIES[a] for a, _ in draw_pairs(self.IDENTITIES, 30, seed=0)[:15])
        assert asked == {"a": 5, "b": 5, "c": 5}
        asked = Counter(self.IDENTITIES[a] for a, _ in draw_pairs(self.IDENTITIES, 30, seed=0)[15:])
        assert asked == {"a": 3, "b": 3, "c": 3, "d": 3, "e": 3}

    def test_chance_is_an_argument(self):
        assert draw_pairs(self.IDENTITIES, 30, 1) == draw_pairs(self.IDENTITIES, 30, 1)
        assert draw_pairs(self.IDENTITIES, 30, 1) != draw_pairs(self.IDENTITIES, 30, 2)

    @pytest.mark.parametrize("identities", [["a", "a"], ["a", "b", "c"], []])
    def test_there_must_be_pairs(self, identities):
        with pytest.raises(DataError, match="at least two animals, one of them with two photos"):
            draw_pairs(identities, 4, 0)


class TestFigures:
    def test_pairs_by_hand(self, placed, herd_photos):
        """Two pairs, and of each the drop of the covered picture, cell by cell, through the network's own formula."""
        figures = sanity_figures(placed, [placed], two(herd_photos), pairs=2, share=0.25)
        pairs = draw_pairs(two(herd_photos).identities, 2, 0)
        drops = []
        for a, b in pairs:
            query, gallery = (two(herd_photos).prepared[row] for row in (a, b))
            own = explain(placed, query, gallery)
            covered = query.copy()
            for place in sorted(np.ndindex(GRID), key=lambda place: -own.query[place])[:6]:
                covered[place[0] * 8 : place[0] * 8 + 8, place[1] * 8 : place[1] * 8 + 8] = SQUASH.background
            drops.append(own.cosine - explain(placed, covered, gallery).cosine)
        assert figures["masked_places"] == 6
        assert figures["grid"] == list(GRID)
        assert figures["masking"]["background"]["top"]["mean"] == pytest.approx(np.mean(drops), abs=1e-6)

    def test_a_map_that_points_right_and_one_that_does_not(self, placed, herd_photos):
        """Where a place is its cell and nothing else, what the map says of covering holds; shuffled, it does not."""
        wrong = [replace(placed, runtime=Permuted(placed.runtime, seed)) for seed in range(2)]
        right = sanity_figures(placed, wrong, herd_photos, pairs=40)
        assert right["additivity"] < 1e-5
        assert abs(right["randomised_weights"]["mean"]) < 0.3
        assert right["networks"] == 2
        shuffled = sanity_figures(wrong[0], [placed], herd_photos, pairs=40)
        for fill in FILLS:
            found = right["masking"][fill]
            assert set(found) == {*CHOICES, "pairs_above_random"}
            assert found["top_minus_random"]["mean"] == pytest.approx(found["top"]["mean"] - found["random"]["mean"])
            low, high = found["top_minus_random"]["interval"]
            assert low <= found["top_minus_random"]["mean"] <= high
        for name in ("top_minus_random", "top_minus_randomised"):
            assert right["masking"]["mean_colour"][name]["interval"][0] > 0
        assert shuffled["masking"]["mean_colour"]["top_minus_randomised"]["interval"][1] < 0

    def test_the_same_map_has_rank_correlation_1(self, placed, herd_photos):
        figures = sanity_figures(placed, [placed], herd_photos, pairs=4)
        assert figures["randomised_weights"]["mean"] == pytest.approx(1)
        assert figures["masking"]["blur"]["top_minus_randomised"]["mean"] == 0

    @pytest.mark.parametrize(("pairs", "share"), [(1, 0.2), (4, 0.0), (4, 1.0), (4, float("nan"))])
    def test_ranges(self, placed, herd_photos, pairs, share):
        with pytest.raises(ValueError, match="share must be in"):
            sanity_figures(placed, [placed], herd_photos, pairs=pairs, share=share)


class TestBundles:
    def test_seeded_and_whole(self, lively_bundle, herd):
        photos = load_photos(herd, load_model(lively_bundle).manifest.preprocess)
        seen = []
        figures = explanation_sanity(lively_bundle, photos, pairs=6, progress=lambda *stand: seen.append(stand))
        assert seen == [(done, 6) for done in range(1, 7)]
        assert figures == explanation_sanity(lively_bundle, photos, pairs=6)
        assert (figures["pairs"], figures["same_animal"], figures["grid"]) == (6, 3, [3, 3])
        assert figures["additivity"] < 1e-4
        assert figures["networks"] == NETWORKS
        assert figures["randomised_weights"]["mean"] < 0.9
        assert set(figures["masking"]) == set(FILLS)
        assert DEFAULT_PAIRS >= 60

    def test_a_bundle_without_places(self, tiny_bundle, herd_photos):
        with pytest.raises(BundleError, match="bundle tiny: its network has no places"):
            explanation_sanity(tiny_bundle, herd_photos)


class TestCovers:
    PICTURE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    SPEC = PreprocessSpec(size=(32, 48), background=(1, 2, 3))

    def test_they_hide_the_pattern(self):
        for name, fill in FILLS.items():
            cover = fill(self.PICTURE, self.SPEC)
            assert (cover.shape, cover.dtype) == ((32, 48, 3), np.uint8)
            assert cover.std(axis=(0, 1)).max() < self.PICTURE.std(axis=(0, 1)).max() / 8, name
        assert FILLS["background"](self.PICTURE, self.SPEC)[5, 7].tolist() == [1, 2, 3]
        mean = np.rint(self.PICTURE.mean(axis=(0, 1)))
        assert FILLS["mean_colour"](self.PICTURE, self.SPEC)[5, 7].tolist() == mean.tolist()


def two(photos: PhotoSet) -> PhotoSet:
    """Three photos of two animals: two pairs can be drawn."""
    return photos.part([0, 1, 6])
