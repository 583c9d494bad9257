"""What a similarity means: curves by hand, another prior by counting, verdicts, and what a manifest may hold."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.reid.calibration import Calibration, Isotonic, Logistic, Scale

VERSION = "0123456789ab"
LOGISTIC = Calibration.fitted(VERSION, Logistic(slope=10, intercept=-6), (0.8, 0.4), {"ece": 0.01})
KNOTS = Isotonic(similarities=(0.2, 0.4, 0.8), probabilities=(0.1, 0.1, 0.9))
ISOTONIC = Calibration.fitted(VERSION, KNOTS, (0.8, 0.4), {})
PRIORS = st.floats(0.001, 0.999)


def test_logistic_by_hand() -> None:
    """1 / (1 + e^-(10 s - 6)): even odds at 0.6."""
    expected = [1 / (1 + math.exp(6)), 0.5, 1 / (1 + math.exp(-4))]
    assert LOGISTIC.probability(np.array([0.0, 0.6, 1.0])).tolist() == pytest.approx(expected, rel=1e-12)
    assert (LOGISTIC.method, ISOTONIC.method) == ("logistic", "isotonic")


def test_isotonic_by_hand() -> None:
    """Straight between knots, level outside."""
    found = ISOTONIC.probability(np.array([[0.0, 0.3, 0.5], [0.6, 0.7, 1.0]]))
    assert found.ravel().tolist() == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.7, 0.9], rel=1e-12)


def test_a_single_knot_is_a_constant() -> None:
    flat = Calibration.fitted(VERSION, Isotonic(similarities=(0.5,), probabilities=(0.5,)), (1, 0), {})
    assert flat.probability(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.5] * 3)


def test_steep_curves_neither_overflow_nor_leave_the_interval() -> None:
    steep = Calibration.fitted(VERSION, Logistic(slope=1e6, intercept=-5e5), (0.5, 0.5), {})
    assert steep.probability(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.0, 0.5, 1.0])


@settings(deadline=None)
@given(PRIORS)
def test_another_prior_by_counting(prior: float) -> None:
    """At similarity s, same pairs are `p` and different ones `1 - p` of a half each; make same ones `prior` of all."""
    similarity = np.array([0.3, 0.6, 0.9])
    for calibration in (LOGISTIC, ISOTONIC):
        same = calibration.probability(similarity)
        counted = same * prior / (same * prior + (1 - same) * (1 - prior))
        np.testing.assert_allclose(calibration.probability(similarity, prior), counted, rtol=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), PRIORS)
def test_probability_never_falls_with_similarity(similarities: list[float], prior: float) -> None:
    for calibration in (LOGISTIC, ISOTONIC):
        found = calibration.probability(np.sort(similarities), prior)
        assert (np.diff(found) >= -1e-12).all()
        assert (found >= 0).all()
        assert (found <= 1).all()


def test_verdicts_at_and_around_the_thresholds() -> None:
    values = [0.0, 0.4, np.nextafter(0.4, 1), 0.6, np.nextafter(0.8, 0), 0.8, 1.0]
    expected = ["different"] * 2 + ["uncertain"] * 3 + ["same"] * 2
    assert [LOGISTIC.verdict(value) for value in values] == expected


def test_where_both_thresholds_are_one_nothing_is_uncertain() -> None:
    good = Calibration.fitted(VERSION, LOGISTIC.curve, (0.5, 0.5), {})
    assert [good.verdict(value) for value in (np.nextafter(0.5, 0), 0.5)] == ["different", "same"]


def test_a_scale_reads_with_its_prior_and_the_verdict_does_not_move() -> None:
    own, rare = Scale.of(LOGISTIC, None), Scale.of(LOGISTIC, 0.1)
    assert (own.prior, rare.prior) == (0.5, 0.1)
    assert own.read(0.6) == (pytest.approx(0.5), "uncertain")
    assert rare.read(0.6) == (pytest.approx(0.1), "uncertain")
    assert rare.read(0.9)[1] == own.verdict(0.9) == "same"


@pytest.mark.parametrize("calibration", [LOGISTIC, ISOTONIC], ids=["logistic", "isotonic"])
def test_json_and_back_changes_nothing(calibration: Calibration) -> None:
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
    assert Calibration.model_validate(json.loads(calibration.model_dump_json())) == calibration


def test_the_version_is_over_all_but_what_was_measured() -> None:
    other = Calibration.fitted(VERSION, LOGISTIC.curve, (0.8, 0.4), {"ece": 0.9})
    assert other.version == LOGISTIC.version
    versions = {
        LOGISTIC.version,
        ISOTONIC.version,
        Calibration.fitted("a" * 12, LOGISTIC.curve, (0.8, 0.4), {}).version,
        Calibration.fitted(VERSION, LOGISTIC.curve, (0.8, 0.5), {}).version,
        Calibration.fitted(VERSION, LOGISTIC.curve, (0.9, 0.4), {}).version,
    }
    assert len(versions) == 5
    assert all(len(version) == 12 and int(version, 16) >= 0 for version in versions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"same": 0.3, "different": 0.4}, "must not be above"),
        ({"same": 0.81}, "they were changed after they were fitted"),
        ({"prior": 0.2}, "they were changed after they were fitted"),
        ({"prior": 1.0}, "less than 1"),
        ({"same": 1.5}, "less than 1"),
        ({"curve": {"method": "logistic", "slope": -1, "intercept": 0}}, "greater than or equal to 0"),
        ({"curve": {"method": "guess"}}, "does not match any of the expected tags"),
        ({"curve": {"method": "isotonic", "similarities": [0.1, 0.2], "probabilities": [0.5]}}, "must rise"),
        ({"curve": {"method": "isotonic", "similarities": [0.2, 0.2], "probabilities": [0.1, 0.5]}}, "must rise"),
        ({"curve": {"method": "isotonic", "similarities": [0.1, 0.2], "probabilities": [0.5, 0.4]}}, "must rise"),
        ({"curve": {"method": "isotonic", "similarities": [0.1, 0.2], "probabilities": [0.5, 1.0]}}, "less than 1"),
        ({"model_version": "short"}, "pattern"),
        ({"further": 1}, "Extra inputs"),
    ],
)
def test_what_a_manifest_must_not_hold(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Calibration.model_validate(LOGISTIC.model_dump() | changes)
