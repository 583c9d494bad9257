"""Patterns: waves of the length asked for, upright where stripes stand upright, the same statistics for look-alikes."""

import re

import numpy as np
import pytest

from app.reid.errors import DataError
from training.coats import KINDS, animal, coat, kinds_of
from training.coats.species import species
from training.coats.turing import PLANE, WAVE, turing


def spectrum(field: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.fft2(field - field.mean())) ** 2


def test_a_turing_pattern_has_the_wave_that_it_was_asked_for() -> None:
    """The strongest ring of its power spectrum lies at one wave per WAVE places."""
    field = turing(np.random.default_rng(1), quadratic=1.2, anisotropy=0.0)[::2, ::2]
    assert field.shape == (PLANE, PLANE)
    assert (abs(float(field.mean())) < 1e-3, float(field.std())) == (True, pytest.approx(1.0, abs=0.05))
    waves = np.hypot(*np.meshgrid(*[np.fft.fftfreq(PLANE) * PLANE] * 2))
    power = np.bincount(waves.round().astype(int).ravel(), spectrum(field).ravel())
    assert int(power.argmax()) == pytest.approx(PLANE / WAVE, abs=2)


def test_stripes_stand_upright_and_spots_lie_apart() -> None:
    stripes = spectrum(turing(np.random.default_rng(2), quadratic=0.0, anisotropy=0.6))
    plain = spectrum(turing(np.random.default_rng(2), quadratic=1.5, anisotropy=0.0))
    places = np.abs(np.fft.fftfreq(len(stripes)))
    upright = places[None, :] > places[:, None]
    assert (stripes * upright).sum() / stripes.sum() > 0.95
    assert 0.3 < (plain * upright).sum() / plain.sum() < 0.7
    spots = turing(np.random.default_rng(2), quadratic=1.5, anisotropy=0.0)
    assert float((spots**3).mean()) > 0.3  # few high places in a low plain
    assert abs(float((turing(np.random.default_rng(2), quadratic=0.0, anisotropy=0.0) ** 3).mean())) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_look_alikes_share_statistics_and_no_layout(kind: str) -> None:
    """Animals of one species, and an animal's two flanks: as much ink, in other places."""
    pairs = [(0, "left"), (1, "left"), (0, "right")]
    sides = [coat(3, number, flank, kinds=(kind,), alike=4, detail=1)[:220] for number, flank in pairs]
    grey = [side.astype(float).mean(axis=2) for side in sides]
    flat = [(side - side.mean(axis=1, keepdims=True)).ravel() for side in grey]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(flat[first], flat[second])[0, 1]) < 0.35
    means = np.array([side.mean(axis=(0, 1)) for side in sides])
    assert np.ptp(means, axis=0).max() < (60 if kind == "blotches" else 20)


@pytest.mark.parametrize("kind", KINDS)
def test_half_the_detail_is_the_same_coat(kind: str) -> None:
    """A coat drawn with half the texels is the whole one made smaller."""
    whole, half = (
        coat(4, 1, "left", kinds=(kind,), detail=detail)[: 220 * detail].astype(float).mean(axis=2) for detail in (2, 1)
    )
    smaller = whole.reshape(220, 2, 320, 2).mean(axis=(1, 3))
    assert np.corrcoef(smaller.ravel(), half.ravel())[0, 1] > 0.85


def test_one_species_has_one_build_and_kinds_take_turns() -> None:
    builds = [animal(5, identity, "left", kinds=KINDS, alike=2, detail=1).build for identity in range(4)]
    assert np.array_equal(builds[0].girth, builds[1].girth)
    assert (builds[0].leg, builds[2].leg) == (builds[1].leg, builds[3].leg)
    assert builds[0].leg != builds[2].leg
    assert [species(5, number, KINDS).kind for number in range(7)] == [*KINDS, KINDS[0]]


def test_with_rosettes_alone_all_are_jaguars() -> None:
    assert {species(6, number).form for number in range(20)} == {"cat"}
    assert len({species(6, number).side for number in range(20)}) == 1
    assert len({species(6, number).character for number in range(20)}) == 20


def test_all_forms_of_body_occur() -> None:
    forms = {species(7, number, KINDS).form for number in range(120)}
    assert forms == {"cat", "antelope", "cow", "face"}


def test_kinds_are_read_from_names() -> None:
    assert kinds_of("stripes, spots,stripes") == ("stripes", "spots", "stripes")
    with pytest.raises(DataError, match=re.escape("kind 'stripe' is none; there are rosettes, spots")):
        kinds_of("spots,stripe")
    with pytest.raises(DataError, match=re.escape("kind '' is none")):
        kinds_of("")
