"""Reliability and heat maps as the report tells them: their figures are made elsewhere, the page shows them."""

from dataclasses import replace

import numpy as np
import pytest

from app.reid.calibration import Calibration, Logistic, Scale
from app.reid.embedder import Embedder
from app.reid.runtime import OnnxRuntime
from tests.reid.placed import SQUASH, placed_onnx
from training.calibrate import calibration_figures
from training.data import load_photos
from training.explanation import sanity_figures
from training.pairs import pairs_of
from training.report import write_report
from training.report.trust import measure_trust
from training.report.values import Unknown


@pytest.fixture
def many(make_herd, tmp_path, measure):
    """Sixteen animals, enough to calibrate on."""
    return measure(make_herd(tmp_path / "many", identities=16))


@pytest.fixture
def calibrated(many):
    """The same with a calibration of the bundle's own."""
    calibration = Calibration.fitted("0" * 12, Logistic(slope=12.0, intercept=-11.0), (0.99, 0.9), {})
    return replace(many, model=replace(many.model, scale=Scale.of(calibration, 0.2)))


def test_fresh_figures_are_those_of_the_calibration(many):
    pairs, names = pairs_of(many.similarity, many.photos.identities)
    found = measure_trust(many, pairs, len(names), seed=3)
    expected = calibration_figures(many.similarity, many.photos.identities, seed=3)
    assert found.fresh.ece.value == expected["ece"]
    assert [found.fresh.gain.low, found.fresh.gain.high] == expected["log_loss_gain_interval"]
    assert [one.predicted for one in found.fresh.bins] == [one["predicted"] for one in expected["bins"]]
    assert isinstance(found.shipped, Unknown)
    assert found.version is None


def test_the_bundle_s_own_curve_is_judged_at_equal_odds(calibrated):
    pairs, names = pairs_of(calibrated.similarity, calibrated.photos.identities)
    found = measure_trust(calibrated, pairs, len(names), seed=0)
    own, other = pairs.similarities(same=True), pairs.similarities(same=False)

    def said(similarity):
        return 1 / (1 + np.exp(-(12.0 * similarity - 11.0)))

    loss = -(np.log(said(own)).mean() + np.log(1 - said(other)).mean()) / 2
    assert found.shipped.log_loss == pytest.approx(loss)
    assert found.shipped.gain.value == pytest.approx(1 - loss / np.log(2))
    gaps = [one.weight * abs(one.predicted - one.observed) for one in found.shipped.bins]
    assert found.shipped.ece.value == pytest.approx(sum(gaps))
    assert (found.same, found.different) == (0.99, 0.9)


def test_the_page_shows_diagrams_and_heat_maps(calibrated, tmp_path):
    photos = load_photos(calibrated.photos.source, SQUASH)
    placed = Embedder(SQUASH, OnnxRuntime(placed_onnx(), threads=1))
    calibrated.figures["explanation"] = sanity_figures(placed, [placed], photos, pairs=2)
    write_report(calibrated, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert text.count("reliability diagram") == 2
    assert f"Calibration {calibrated.model.scale.calibration.version}" in text
    assert "mean colour" in text
    assert "1 would be the same map" in text
