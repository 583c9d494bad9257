"""Backgrounds, mirror images, quality, the plane: pictures painted by hand, figures by slow roads."""

import numpy as np
import pytest

from app.reid.metric import identity_balanced_map
from app.reid.spec import PreprocessSpec
from training.pairs import pairs_of
from training.report import write_report
from training.report.background import VARIANTS, Collected, lay, measure_background
from training.report.histogram import compare_pairs
from training.report.mirror import by_identity, measure_mirror
from training.report.originals import CHUNK, read_originals
from training.report.plane import project
from training.report.quality import Facts, measure_quality, sharpness
from training.report.values import Estimate, Unknown


def cut_out(colour, hidden):
    """16 x 16 RGBA: an animal of one colour in the middle, the background's own colours left under the mask."""
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[..., :3] = hidden
    pixels[4:12, 4:12, :3] = colour
    pixels[4:12, 4:12, 3] = 255
    return pixels


def scene(seed):
    """(16, 16, 3) a background whose quarters differ."""
    quarters = np.random.default_rng(seed).integers(0, 256, (2, 2, 3))
    return np.repeat(np.repeat(quarters, 8, axis=0), 8, axis=1).astype(np.uint8)


def collect_backgrounds(measured):
    collected = Collected(measured.model.embedder)
    photos = measured.photos
    for start, originals in read_originals(photos.source, photos.filenames, measured.model.manifest.preprocess):
        collected.add(start, originals)
    return measure_background(measured, collected, seed=0)


class TestBackground:
    def test_pictures_by_hand(self):
        cut = np.zeros((1, 3, 4), dtype=np.uint8)
        cut[0, :, 3] = 255, 0, 51
        hidden = np.array([[[200, 0, 0], [0, 100, 0], [50, 100, 0]]], dtype=np.uint8)
        paint = {name: change(cut, hidden) for name, (_, change, _) in VARIANTS.items()}
        assert paint["real"].tolist() == hidden.tolist()
        assert paint["black"].tolist() == [[[200, 0, 0], [0, 0, 0], [10, 20, 0]]]
        assert paint["outline"].tolist() == [[[128] * 3, [255] * 3, [230] * 3]]
        # Outside weighs 0, 1 and 0.8: the mean is (40, 180, 0) / 1.8.
        assert paint["alone"].tolist() == [[[22, 100, 0], [0, 100, 0], [44, 100, 0]]]
        assert lay(hidden, hidden, cut).tolist() == hidden.tolist()

    def test_blur_leaves_the_animal_and_flattens_the_rest(self):
        hidden = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        cut = np.dstack([hidden, np.zeros((32, 32), dtype=np.uint8)])
        cut[8:24, 8:24, 3] = 255
        blurred = VARIANTS["blurred"][1](cut, hidden)
        assert (blurred[8:24, 8:24] == hidden[8:24, 8:24]).all()
        assert blurred[:8].std() < hidden[:8].std() / 4

    def test_who_knows_the_place_only_is_found_out(self, make_photos, measure):
        """Two animals of one colour, each always at its own place."""
        rows = [
            (f"{animal}_{shot}.png", animal, "left", cut_out((90, 60, 30), scene(animal == "b")))
            for animal in ("a", "b")
            for shot in range(4)
        ]
        found = collect_backgrounds(measure(make_photos(rows)))
        score = {variant.name: variant.id_map for variant in found.variants}
        assert (found.photos, found.hidden) == (8, 8)
        assert list(score) == ["as served", *VARIANTS]
        assert score["real"].value == score["alone"].value == 1
        assert score["black"].value == score["outline"].value < 0.7

    def test_paint_under_the_mask_is_no_background(self, make_photos, measure):
        rows = [
            (f"{animal}_{shot}.png", animal, "left", cut_out((colour, 60, 30), 0))
            for animal, colour in (("a", 240), ("b", 20))
            for shot in range(3)
        ]
        found = collect_backgrounds(measure(make_photos(rows)))
        score = {variant.name: variant.id_map for variant in found.variants}
        assert "6 of 6 cut-outs have one plain colour under their mask" in score["alone"].reason
        assert isinstance(score["real"], Unknown)
        assert isinstance(score["blurred"], Unknown)
        assert score["black"].value == 1

    def test_photos_without_alpha_say_nothing(self, herd, measure):
        found = collect_backgrounds(measure(herd))
        assert isinstance(found, Unknown)
        assert found.reason.startswith("none of the 36 photos is a cut-out")

    def test_cut_outs_without_a_pair(self, make_photos, measure):
        plain = np.full((16, 16, 3), 9, dtype=np.uint8)
        rows = [("0.png", "a", "left", cut_out((9, 9, 9), 0)), ("1.png", "a", "left", plain)]
        rows += [("2.png", "b", "left", plain), ("3.png", "b", "left", plain)]
        found = collect_backgrounds(measure(make_photos(rows)))
        assert found.photos == 1
        assert "no photo has another photo of its identity" in found.variants[0].id_map.reason


def test_files_are_read_in_chunks_with_their_true_size(herd, measure):
    measured = measure(herd)
    names = measured.photos.filenames * 2
    found = list(read_originals(herd, names, measured.model.manifest.preprocess))
    assert [start for start, _ in found] == [0, CHUNK]
    assert {(o.width, o.height, o.cut_out) for _, originals in found for o in originals} == {(56, 40, None)}


class TestMirror:
    def test_galleries_of_one_group_are_those_of_the_metric(self):
        rng = np.random.default_rng(1)
        identities, groups = [f"{n}" for n in rng.integers(0, 5, 30)], [f"{n}" for n in rng.integers(0, 2, 30)]
        similarity = rng.random((30, 30))
        inside = np.array(groups)[:, None] == np.array(groups)[None]
        np.fill_diagonal(inside, val=False)
        expected = identity_balanced_map(similarity, identities, within=groups).identity_ap
        assert by_identity(similarity, identities, inside) == pytest.approx(expected)

    def test_mirror_images_of_who_sees_no_sides(self, make_photos, measure):
        """Animals whose colours are the same left and right: a mirror image is the photo itself."""
        rows = []
        for number, colour in enumerate((40, 120, 230)):
            for shot in range(4):
                pixels = np.full((16, 16, 3), colour, dtype=np.uint8)
                pixels[:8, :, number] = 10 + shot
                rows.append((f"{number}_{shot}.png", f"animal {number}", "left" if shot < 2 else "right", pixels))
        measured = measure(make_photos(rows))
        histograms = compare_pairs(pairs_of(measured.similarity, measured.photos.identities)[0])
        told = []
        found = measure_mirror(measured, histograms, 0, lambda done, total: told.append((done, total)))
        assert told[-1] == (12, 12)
        assert found.own.median == pytest.approx(1)
        assert found.above_same == 1
        assert found.gallery_mirrored.value == found.flanks.across.value == found.flanks.mirrored.value == 1
        assert found.flanks.same.value == 1
        assert found.flanks.queries == 12
        assert 0 < found.flanks.chance < 1

    def test_without_sides_the_flanks_are_unknown(self, make_photos, measure):
        pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
        names = ["a", "a", "b", "b"]
        rows = [(f"{n}.png", names[n], "left", pixels[n]) for n in range(4)]
        folder = make_photos(rows)
        measured = measure(folder)
        histograms = compare_pairs(pairs_of(measured.similarity, measured.photos.identities)[0])
        assert measure_mirror(measured, histograms, 0).flanks.reason == "no animal was photographed from two sides"
        del measured.photos.columns["side"]
        assert "no column `side`" in measure_mirror(measured, histograms, 0).flanks.reason


class TestQuality:
    SPEC = PreprocessSpec(size=16)

    def test_sharpness_by_a_slow_loop(self):
        pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        grey = [[0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] for p in row] for row in pixels.astype(float)]
        values = [
            grey[y - 1][x] + grey[y + 1][x] + grey[y][x - 1] + grey[y][x + 1] - 4 * grey[y][x]
            for y in range(1, 5)
            for x in range(1, 4)
        ]
        assert sharpness(pixels, self.SPEC) == pytest.approx(np.var(values))
        assert sharpness(np.full((6, 5, 3), 7, dtype=np.uint8), self.SPEC) == pytest.approx(0)

    def test_the_edge_of_a_mask_is_not_sharpness(self):
        pixels = np.zeros((16, 16, 4), dtype=np.uint8)
        pixels[4:12, 4:12] = 90, 90, 90, 255
        assert sharpness(pixels, self.SPEC) == pytest.approx(0)
        assert np.isnan(sharpness(np.zeros((16, 16, 4), dtype=np.uint8), self.SPEC))

    def test_correlations(self):
        ap = np.concatenate([np.linspace(0, 1, 20), [np.nan]])
        facts = Facts(np.append(ap[:20] ** 3, 5.0), np.ones(21), np.full(21, np.nan))
        identities = [f"animal {number % 4}" for number in range(21)]
        found = measure_quality(facts, ap, identities, seed=0)
        assert found.sharpness.queries == 20
        assert found.sharpness.rho.value == pytest.approx(1)
        assert found.sharpness.rho.low == pytest.approx(1)
        assert found.megapixels.reason == "the size is the same for all queries"
        assert found.foreground.reason.endswith("known for 0 queries; 10 are needed")


class TestPlane:
    def test_against_a_singular_value_decomposition(self):
        embeddings = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        plane = project(embeddings)
        u, s, _ = np.linalg.svd(embeddings - embeddings.mean(axis=0), full_matrices=False)
        for axis, found in enumerate((plane.x, plane.y)):
            expected = u[:, axis] * s[axis]
            expected *= np.sign(expected @ found)
            assert found == pytest.approx(expected, abs=1e-4)
        assert plane.explained == pytest.approx(tuple((s**2 / (s**2).sum())[:2]), rel=1e-5)

    def test_embeddings_that_do_not_spread(self):
        plane = project(np.ones((3, 2), dtype=np.float32))
        assert plane.explained == (0, 0)
        line = project(np.array([[1.0], [-1.0]], dtype=np.float32))
        assert line.y == [0, 0]
        assert line.explained == (1, 0)


def test_an_interval_is_an_estimate_s(herd, measure):
    evaluation = measure(herd).evaluation
    found = Estimate.of_retrieval(evaluation, seed=0)
    assert found.value == pytest.approx(evaluation.id_map)
    assert found.low <= found.value <= found.high


def test_the_page_shows_changed_backgrounds(make_photos, measure, tmp_path):
    rows = [
        (f"{animal}_{shot}.png", animal, "left", cut_out((colour + shot, 60, 30), scene(shot)))
        for animal, colour in (("a", 230), ("b", 20))
        for shot in range(3)
    ]
    report = write_report(measure(make_photos(rows)), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for variant in report.background.variants:
        assert f'<th scope="row">{variant.name}</th>' in text
    assert report.photos[0].foreground == pytest.approx(0.25, abs=1e-6)
    assert report.photos[0].megapixels == pytest.approx(256e-6)
