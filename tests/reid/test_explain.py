"""The cosine taken apart: against slow loops over a network that numpy knows as well."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from app.reid.embedder import load_model
from app.reid.errors import BundleError
from app.reid.explain import (
    MAX_LINKS,
    Explanation,
    Link,
    PhotoBox,
    Places,
    can_explain,
    compare,
    explain,
    find_places,
    photo_box,
)
from app.reid.preprocess import decode_image, fit, to_array
from app.reid.similarity import cosine_matrix
from app.reid.spec import PreprocessSpec
from tests.reid.placed import GRID, PAD, SQUASH, placed_forward, save_placed


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return load_model(save_placed(tmp_path_factory.mktemp("store") / "placed")).embedder


@pytest.fixture
def pair(draw):
    """Two prepared pictures."""
    return [fit(draw(seed), SQUASH) for seed in (1, 2)]


def scattered(shape, seed):
    """Places of norm about 1 / sqrt(h w), whose sum is made the embedding."""
    places = np.random.default_rng(seed).standard_normal((*shape, 64)).astype(np.float32)
    places /= np.linalg.norm(places.sum(axis=(0, 1)))
    return Places(places.sum(axis=(0, 1)), places)


def all_pairs(first, second):
    """(value, place, place) of every pair, one dot product at a time, in float64."""
    return [
        (float(np.dot(first[i].astype(np.float64), second[j].astype(np.float64))), i, j)
        for i in np.ndindex(first.shape[:2])
        for j in np.ndindex(second.shape[:2])
    ]


def test_every_number_by_a_loop(embedder, pair):
    embeddings, places = placed_forward(np.stack([to_array(pixels, SQUASH) for pixels in pair]))
    explanation = explain(embedder, *pair, links=7)
    assert explanation.cosine == pytest.approx(embeddings[0] @ embeddings[1], abs=1e-6)
    assert (explanation.query.shape, explanation.query.dtype) == (GRID, np.float64)
    parts = all_pairs(places[0], places[1])
    for row, column in np.ndindex(GRID):
        mine = sum(value for value, i, _ in parts if i == (row, column))
        theirs = sum(value for value, _, j in parts if j == (row, column))
        assert explanation.query[row, column] == pytest.approx(mine, abs=1e-6)
        assert explanation.gallery[row, column] == pytest.approx(theirs, abs=1e-6)
    strongest = sorted(parts, reverse=True)[:7]
    for link, (value, i, j) in zip(explanation.links, strongest, strict=True):
        assert link.value == pytest.approx(value, abs=1e-6)
        assert (link.query, link.gallery) == (i, j)


def test_it_adds_up(embedder, draw):
    for seed in range(10):
        explanation = explain(embedder, fit(draw(seed), SQUASH), fit(draw(seed + 1), SQUASH), links=0)
        assert explanation.query.sum() == pytest.approx(explanation.cosine, abs=1e-6)
        assert explanation.gallery.sum() == pytest.approx(explanation.cosine, abs=1e-6)
        assert explanation.links == ()
        assert explanation.largest == max(abs(explanation.query).max(), abs(explanation.gallery).max())


def test_the_cosine_is_the_one_that_is_served(embedder, pair):
    embeddings = embedder.embed_prepared(pair)
    assert explain(embedder, *pair).cosine == cosine_matrix(embeddings[:1], embeddings[1:])[0, 0]


def test_photos_exchanged(embedder, pair):
    there, back = explain(embedder, *pair), explain(embedder, *reversed(pair))
    assert there.cosine == back.cosine
    np.testing.assert_allclose(there.query, back.gallery, rtol=0, atol=1e-12)
    np.testing.assert_allclose(there.gallery, back.query, rtol=0, atol=1e-12)
    assert [(link.query, link.gallery) for link in there.links] == [(link.gallery, link.query) for link in back.links]


def test_the_same_again(embedder, pair):
    first, second = explain(embedder, *pair, links=64), explain(embedder, *pair, links=64)
    np.testing.assert_array_equal(first.query, second.query)
    assert first.links == second.links


class TestLinks:
    def test_all_of_them_make_the_cosine(self):
        first, second = scattered((2, 3), 1), scattered((2, 3), 2)
        explanation = compare(first, second, links=64)
        assert len(explanation.links) == 36
        assert sum(link.value for link in explanation.links) == pytest.approx(explanation.cosine, abs=1e-6)
        assert all(isinstance(link, Link) for link in explanation.links)

    @pytest.mark.parametrize("block", [1, 7, 200, 1_000])
    def test_blocks_make_no_difference(self, monkeypatch, block):
        first, second = scattered((7, 5), 3), scattered((7, 5), 4)
        expected = compare(first, second, links=50).links
        monkeypatch.setattr("app.reid.explain._BLOCK", block)
        links = compare(first, second, links=50).links
        assert [(link.query, link.gallery) for link in links] == [(link.query, link.gallery) for link in expected]
        np.testing.assert_allclose([link.value for link in links], [link.value for link in expected], atol=1e-15)

    def test_equal_ones_keep_the_order_of_the_places(self, monkeypatch):
        monkeypatch.setattr("app.reid.explain._BLOCK", 8)
        places = np.zeros((2, 2, 4), dtype=np.float32)
        places[:, :, 0] = 0.25
        even = Places(np.array([1, 0, 0, 0], dtype=np.float32), places)
        links = compare(even, even, links=6).links
        assert {link.value for link in links} == {0.0625}
        order = [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert [(link.query, link.gallery) for link in links] == [
            *((order[0], place) for place in order),
            *((order[1], place) for place in order[:2]),
        ]

    @pytest.mark.parametrize("count", [-1, MAX_LINKS + 1])
    def test_how_many_may_be_asked_for(self, count):
        with pytest.raises(ValueError, match=f"links must be 0 to 64, not {count}"):
            compare(scattered((2, 2), 1), scattered((2, 2), 2), links=count)

    def test_a_fine_grid_needs_little_memory(self):
        """96 x 96 places each: all pairs at once would be 680 MB; the places in float64 are 9 MB."""
        first, second = scattered((96, 96), 5), scattered((96, 96), 6)
        tracemalloc.start()
        links = compare(first, second, links=5).links
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 2**20
        flat = [places.places.reshape(-1, 64).astype(np.float64) for places in (first, second)]
        best = max(float((flat[0][start : start + 96] @ flat[1].T).max()) for start in range(0, 9_216, 96))
        assert links[0].value == pytest.approx(best, rel=1e-12)


class TestRefusals:
    def test_a_bundle_without_places(self, tiny_bundle, pair):
        embedder = load_model(tiny_bundle).embedder
        assert not can_explain(embedder)
        with pytest.raises(BundleError, match="no places"):
            explain(embedder, *pair)

    def test_a_runtime_that_knows_of_none(self, embedder, pair):
        class Plain:
            def run(self, images):
                return embedder.runtime.run(images)

        plain = replace(embedder, runtime=Plain())
        assert can_explain(embedder)
        assert not can_explain(plain)
        with pytest.raises(BundleError, match="no places"):
            find_places(plain, pair[0])

    def test_places_that_do_not_add_up(self, tmp_path, pair):
        wrong = load_model(save_placed(tmp_path / "wrong", factor=0.5)).embedder
        with pytest.raises(BundleError, match=r"the cosine is (-?\d\.\d+), the sum of its parts -?\d\.\d+"):
            explain(wrong, *pair)

    @pytest.mark.parametrize("spoilt", [0, 1])
    def test_what_is_not_finite(self, embedder, pair, spoilt):
        class Broken:
            has_places = True

            def run_with_places(self, images):
                answer = [part.copy() for part in embedder.runtime.run_with_places(images)]
                answer[spoilt].flat[5] = np.nan
                return tuple(answer)

        with pytest.raises(BundleError, match="not finite"):
            find_places(replace(embedder, runtime=Broken()), pair[0])


class TestGeometry:
    def test_a_squashed_photo_fills_the_grid(self):
        box = photo_box((3_035, 1_964), SQUASH, GRID)
        assert box == PhotoBox(0, 0, 6, 4)
        np.testing.assert_array_equal(box.coverage(GRID), np.ones(GRID))
        assert box.centre((0, 0)) == pytest.approx((1 / 12, 1 / 8))
        assert box.centre((3, 5)) == pytest.approx((11 / 12, 7 / 8))

    def test_a_padded_photo_by_hand(self):
        """A square in 48 x 32 px is 32 px wide, with 8 px, one cell, of padding at either side."""
        box = photo_box((500, 500), PAD, GRID)
        assert box == PhotoBox(1, 0, 5, 4)
        np.testing.assert_array_equal(box.coverage(GRID), [[0, 1, 1, 1, 1, 0]] * 4)
        assert box.centre((1, 0)) is None
        assert box.centre((1, 5)) is None
        assert box.centre((1, 1)) == pytest.approx((1 / 8, 3 / 8))

    def test_cells_that_are_part_padding(self):
        """Twice as wide as high: 48 x 24 px, so that 4 px above, half a cell, are padding."""
        box = photo_box((200, 100), PAD, GRID)
        assert box == PhotoBox(0, 0.5, 6, 3.5)
        np.testing.assert_array_equal(box.coverage(GRID), [[0.5] * 6, [1] * 6, [1] * 6, [0.5] * 6])
        assert box.centre((0, 0)) == pytest.approx((1 / 12, 1 / 12))

    @pytest.mark.parametrize("size", [(120, 80), (80, 120), (37, 201), (301, 17), (1, 500), (48, 32)])
    @pytest.mark.parametrize("spec", [SQUASH, PAD])
    def test_it_is_where_fit_puts_the_photo(self, size, spec, draw):
        """A white photo on a dark ground: each cell's share of white is its coverage."""
        dark = spec.model_copy(update={"background": (0, 0, 0)})
        white = draw(1, size=size).point(lambda _: 255)
        fitted = fit(white, dark)[:, :, 0] / 255
        share = fitted.reshape(4, 8, 6, 8).mean(axis=(1, 3))
        np.testing.assert_allclose(photo_box(size, dark, GRID).coverage(GRID), share, atol=1e-12)

    def test_places_of_the_upright_photo(self, draw, encode):
        """A camera held sideways: the box is that of the picture as a person sees it."""
        sideways = encode(draw(1, size=(120, 60)), "JPEG", exif=_turned(6))
        upright = decode_image(sideways, PAD)
        assert upright.size == (60, 120)
        box = photo_box(upright.size, PAD, GRID)
        assert box == PhotoBox(2, 0, 4, 4)

    def test_any_grid(self):
        spec = PreprocessSpec(size=(224, 224), fit="pad")
        assert photo_box((448, 224), spec, (7, 7)) == PhotoBox(0, 1.75, 7, 5.25)


def _turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_an_explanation_of_nothing_has_a_scale():
    zeros = np.zeros((2, 2))
    assert Explanation(0.0, zeros, zeros, ()).largest == 0.0
