"""Who is on which photo: identities, flanks and bursts of a data set, before anything is drawn."""

from dataclasses import dataclass, replace

import numpy as np

from training.coats.coat import FLANKS, Flank

TRAIN_FOLDER, TEST_FOLDER = "train/train", "test/test"

# Half of the test photos show animals that train.csv names, half show new ones: the competition does not say which it
# is, and a model has to do both.
KNOWN_SHARE = 0.5
BURST_SHARE = 0.3  # photos that are the next frame of the photo before

_UNEVEN = 0.7  # standard deviation of the logarithm of test photos an identity
_PHOTOS_A_STRANGER = 8  # test photos of each new animal, about
_TEST_SCENES = 10_000_000  # scenes of the test part are counted from here


@dataclass(frozen=True)
class Shot:
    """One photo to draw. Shots with the same `scene` are one burst, of which `frame` is 0, 1, ..."""

    folder: str
    filename: str
    identity: int
    flank: Flank
    scene: int
    frame: int

    @property
    def name(self) -> str:
        """The identity as the CSVs call it."""
        return f"jaguar_{self.identity + 1:04d}"


def plan_train(seed: int, identities: int, photos: int) -> list[Shot]:
    """`photos` shots of each of the `identities`, in order of identity as in the competition."""
    rng = np.random.default_rng((seed, 6))
    return _shots(rng, np.repeat(np.arange(identities), photos).tolist(), "train", 0)


def plan_test(seed: int, identities: int, test: int) -> list[Shot]:
    """`test` shots, shuffled: `KNOWN_SHARE` of them of the train identities, the others of animals numbered beyond."""
    rng = np.random.default_rng((seed, 7))
    known = round(test * KNOWN_SHARE)
    few = min(identities, max(1, known // 2))  # a photo without another of its identity says nothing
    strangers = max(1, (test - known) // _PHOTOS_A_STRANGER)
    who = np.concatenate([rng.permutation(identities)[:few], identities + np.arange(strangers)])
    counts = np.concatenate([_deal(rng, known, few), _deal(rng, test - known, strangers)])
    owners = np.repeat(who, counts)
    shots = _shots(rng, owners.tolist(), "test", _TEST_SCENES)
    names = [shot.filename for shot in shots]
    order = rng.permutation(len(shots))
    return [replace(shots[old], filename=name) for name, old in zip(names, order, strict=True)]


def _deal(rng: np.random.Generator, photos: int, identities: int) -> list[int]:
    """How many of the photos each identity gets: at least 1, and 2 where there are enough, the rest unevenly."""
    least = min(2, photos // identities)
    weights = np.exp(_UNEVEN * rng.standard_normal(identities))
    extra = rng.multinomial(photos - least * identities, weights / weights.sum())
    return [int(count) + least for count in extra]


def _shots(rng: np.random.Generator, owners: list[int], part: str, first_scene: int) -> list[Shot]:
    """Shots of the owners in order, some of them bursts."""
    folder = TRAIN_FOLDER if part == "train" else TEST_FOLDER
    shots: list[Shot] = []
    for number, identity in enumerate(owners):
        flank = FLANKS[int(rng.integers(2))]
        scene, frame = first_scene + number, 0
        again = rng.random() < BURST_SHARE
        if again and shots and shots[-1].identity == identity:
            flank, scene, frame = shots[-1].flank, shots[-1].scene, shots[-1].frame + 1
        shots.append(Shot(folder, f"{part}_{number + 1:04d}.png", identity, flank, scene, frame))
    return shots
