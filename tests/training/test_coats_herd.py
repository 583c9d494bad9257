"""The herd: photos on the fly that hang on their arguments alone, in any order, thread and process."""

import multiprocessing
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from app.reid.errors import DataError
from training.coats import FLANKS, KINDS, Animal, CoatHerd, animal, draw_scene, nudge, on_ground, render

SIZE = (72, 64)
SHOTS = [(identity, flank, number) for identity in (0, 5, 11) for flank in FLANKS for number in (0, 3)]


def small(**changes: object) -> CoatHerd:
    return CoatHerd(**{"seed": 6, "identities": 12, "size": SIZE, "alike": 2, "backdrops": 4, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    herd = small()
    return [herd.photo(*shot) for shot in SHOTS]


def test_photos_are_rgba_of_the_size_asked_for(photos: list[np.ndarray]) -> None:
    assert {(photo.shape, str(photo.dtype)) for photo in photos} == {((SIZE[1], SIZE[0], 4), "uint8")}
    assert all(photo[..., 3].max() > 200 for photo in photos)
    assert min(int(photo[..., 3].min()) for photo in photos) == 0
    hidden = [photo[..., :3][photo[..., 3] == 0] for photo in photos if (photo[..., 3] == 0).mean() > 0.1]
    assert len(hidden) > 3
    assert all(colours.std() > 1.0 for colours in hidden)


def test_a_photo_hangs_on_its_arguments_alone(photos: list[np.ndarray]) -> None:
    """Backwards, from a herd that forgets nearly everything at once, and of one that knows more animals."""
    for herd in (small(keep=1, backdrops=4), small(identities=500)):
        again = [herd.photo(*shot) for shot in reversed(SHOTS)]
        assert all(np.array_equal(first, second) for first, second in zip(photos, reversed(again), strict=True))
    other = small(seed=7)
    assert all(not np.array_equal(photo, other.photo(*shot)) for photo, shot in zip(photos, SHOTS, strict=True))


def test_no_two_photos_are_the_same(photos: list[np.ndarray]) -> None:
    assert len({photo.tobytes() for photo in photos}) == len(photos)


def test_threads_share_a_herd(photos: list[np.ndarray]) -> None:
    herd = small(keep=2)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda shot: herd.photo(*shot), SHOTS))
    assert all(np.array_equal(first, second) for first, second in zip(photos, drawn, strict=True))


def test_a_herd_travels_to_other_processes(photos: list[np.ndarray]) -> None:
    herd = small()
    herd.photo(*SHOTS[0])
    assert len(pickle.dumps(herd)) < 1_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        drawn = pool.starmap(herd.photo, SHOTS)
    assert all(np.array_equal(first, second) for first, second in zip(photos, drawn, strict=True))


def test_a_batch_is_its_photos(photos: list[np.ndarray]) -> None:
    identities, flanks, numbers = zip(*SHOTS, strict=True)
    assert np.array_equal(small().batch(identities, flanks, numbers), np.stack(photos))


def test_frames_of_a_burst_are_nearer_than_photos() -> None:
    herd = small(aspect=0.0)

    def apart(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.abs(first[..., :3].astype(float) - second[..., :3]).mean())

    numbers = range(8)
    burst = [apart(herd.photo(2, "left", number), herd.photo(2, "left", number, 1)) for number in numbers]
    others = [apart(herd.photo(2, "left", number), herd.photo(2, "left", number + 1)) for number in numbers]
    assert min(burst) > 0.0
    assert np.mean(burst) < 0.5 * np.mean(others)


def test_species_take_turns_and_are_shared() -> None:
    herd = small()
    assert [herd.species(identity) for identity in range(6)] == [0, 0, 1, 1, 2, 2]
    assert tuple(herd.kind(2 * number) for number in range(6)) == KINDS


def test_on_ground_is_alpha_compositing(photos: list[np.ndarray]) -> None:
    """Pixel by pixel, in whole numbers rounded: colour * alpha + ground * (1 - alpha)."""
    laid = on_ground(photos[0], (255, 120, 0))
    share = photos[0][..., 3:].astype(float) / 255.0
    expected = photos[0][..., :3] * share + np.array([255.0, 120.0, 0.0]) * (1.0 - share)
    assert laid.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(laid - expected).max() <= 0.501
    assert np.array_equal(on_ground(np.stack(photos[:2]), (255, 120, 0))[0], laid)


def pattern_of(photo: np.ndarray) -> np.ndarray:
    """The animal's brightness without its slow parts (light, shape), unit norm, 0 around it."""
    inside = photo[..., 3] > 250
    grey = np.log1p(photo[..., :3].astype(float).mean(axis=2)) * inside

    def smooth(values: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            for shift in (1, 2, 4):
                values = (np.roll(values, shift, axis) + values + np.roll(values, -shift, axis)) / 3
        return values

    fine = (grey - smooth(grey) / np.maximum(smooth(inside.astype(float)), 0.05)) * inside
    return fine / np.linalg.norm(fine)


def best_match(first: np.ndarray, second: np.ndarray) -> float:
    """The largest correlation over all shifts of up to 6 pixels."""
    cross = np.fft.ifft2(np.fft.fft2(first) * np.conj(np.fft.fft2(second))).real
    return float(np.roll(cross, (6, 6), (0, 1))[:13, :13].max())


@pytest.mark.parametrize("kind", KINDS)
def test_look_alikes_are_told_apart_by_arrangement(kind: str) -> None:
    """Five animals of one species, photographed twice: another moment, another light, side on.

    Plain correlation of their patterns finds each animal's other photo; brightness and share of marks do not.
    """
    count = 5
    herd = [animal(8, identity, "right", kinds=(kind,), alike=count, detail=1) for identity in range(count)]  # type: ignore[arg-type]
    queries, gallery = ([shoot(subject, first) for subject in herd] for first in (20, 40))
    scores = np.array([[best_match(query, other) for other in gallery] for query in queries])
    assert scores.argmax(axis=1).tolist() == list(range(count)), scores.round(2)


def shoot(subject: Animal, number: int) -> np.ndarray:
    """A photo from the side in one pose and frame, moved a little, in a light of its own."""
    scene = draw_scene(np.random.default_rng(1))
    chance = np.random.default_rng(number)
    camera = replace(scene.camera, yaw=0.1, roll=0.1, tilt=0.0, depth=0.2, window=1.02, place=(0.5, 0.5))
    light = replace(draw_scene(chance).light, dapple=0.1)
    scene = replace(nudge(replace(scene, camera=camera), chance), light=light, noise=2.0, blur=0.0, cut=0, over=0)
    scene = replace(scene, seed=number, motion=(0.0, 0.0), quality=60)
    return pattern_of(render(subject, scene, chance, size=(160, 120)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(seed=-1), "seed is -1; at least 0 is needed"),
        (lambda: small(identities=0), "identities is 0; at least 1 is needed"),
        (lambda: small(size=(31, 64)), "width is 31; at least 32 is needed"),
        (lambda: small(alike=0), "alike is 0; at least 1 is needed"),
        (lambda: small(aspect=-0.1), "aspect is -0.1; at least 0 is needed"),
        (lambda: small(keep=0), "keep is 0; at least 1 is needed"),
        (lambda: small(kinds=("plaid",)), "kind 'plaid' is none; there are rosettes, spots"),
        (lambda: small().photo(12, "left", 0), "identity is 12; this herd has 0 to 11"),
        (lambda: small().photo(-1, "left", 0), "identity is -1; this herd has 0 to 11"),
        (lambda: small().photo(0, "top", 0), "flank is 'top'; it is one of left, right"),
        (lambda: small().photo(0, "left", -2), "number is -2; at least 0 is needed"),
    ],
)
def test_what_cannot_be_drawn_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        make()
