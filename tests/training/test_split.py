import csv
import io
from collections import Counter, defaultdict

import numpy as np
import pytest

from app.reid.errors import DataError
from app.reid.spec import PreprocessSpec
from training.config import SplitConfig
from training.data import PhotoSet
from training.split import find_bursts, split_photos

SPEC = PreprocessSpec(size=32)


def photo_set(identities, columns=None, pictures=None):
    chance = np.random.default_rng(0)
    names = [f"{row}.jpg" for row in range(len(identities))]
    if pictures is None:
        pictures = [chance.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in identities]
    return PhotoSet(names, list(identities), columns or {}, [f"{row:064x}" for row in range(len(identities))], pictures)


@pytest.fixture(scope="module")
def many():
    """30 identities with 1 to 30 photos."""
    return photo_set([f"animal {number:02}" for number in range(30) for _ in range(number + 1)])


def parts_by_identity(photos, split):
    counts = defaultdict(Counter)
    for identity, part in zip(photos.identities, split.parts, strict=True):
        counts[identity][part] += 1
    return counts


def test_random_is_stratified(many):
    split = split_photos(many, SplitConfig(), SPEC, seed=1)
    assert len(split.rows("validation")) == pytest.approx(0.2 * len(many), abs=2)
    for identity, counts in parts_by_identity(many, split).items():
        total = int(identity[-2:]) + 1
        assert counts["train"] >= 1
        assert counts["validation"] == pytest.approx(0.2 * total, abs=1.5)


def test_identity_shares_no_name(many):
    split = split_photos(many, SplitConfig(protocol="identity"), SPEC, seed=1)
    counts = parts_by_identity(many, split)
    assert all(len(parts) == 1 for parts in counts.values())
    assert 0.12 * len(many) < len(split.rows("validation")) < 0.28 * len(many)
    validation = Counter(many.identities[row] for row in split.rows("validation"))
    assert min(validation.values()) >= 2


def test_burst_shares_no_burst():
    identities = [f"animal {number}" for number in range(10) for _ in range(12)]
    encounters = [str(row // 3) for row in range(120)]
    photos = photo_set(identities, {"encounter": encounters})
    split = split_photos(photos, SplitConfig(protocol="burst"), SPEC, seed=1)
    sides = defaultdict(set)
    for encounter, part in zip(encounters, split.parts, strict=True):
        sides[encounter].add(part)
    assert all(len(parts) == 1 for parts in sides.values())
    assert 15 <= len(split.rows("validation")) <= 33


def test_the_seed_decides(many):
    first = split_photos(many, SplitConfig(), SPEC, seed=1)
    assert first == split_photos(many, SplitConfig(), SPEC, seed=1)
    assert first != split_photos(many, SplitConfig(), SPEC, seed=2)


def test_bursts_by_picture_are_transitive_and_stay_inside_an_identity():
    base = np.repeat(np.random.default_rng(2).integers(0, 200, (4, 4, 3), dtype=np.uint8), 8, axis=0).repeat(8, axis=1)
    near = base + np.uint8(9)
    other = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    photos = photo_set(["a", "a", "a", "b"], pictures=[base, near, other, base])
    assert find_bursts(photos, SplitConfig(), SPEC) == [[0, 1], [2], [3]]


def test_bursts_by_time_chain():
    times = ["20240101120000", "20240101120050", "20240101120210", "20240101130000", "", ""]
    photos = photo_set(["a"] * 6, {"recorded_at": times})
    assert find_bursts(photos, SplitConfig(burst_seconds=60), SPEC) == [[0, 1], [2], [3], [4], [5]]
    assert find_bursts(photos, SplitConfig(burst_seconds=90), SPEC) == [[0, 1, 2], [3], [4], [5]]


def test_an_empty_encounter_is_none():
    photos = photo_set(["a"] * 4, {"encounter": ["7", "", "", "7"]})
    assert find_bursts(photos, SplitConfig(), SPEC) == [[0, 3], [1], [2]]


def test_a_time_of_another_form():
    photos = photo_set(["a", "a"], {"recorded_at": ["yesterday", ""]})
    with pytest.raises(DataError, match="'yesterday' is not of the form YYYYMMDDhhmmss"):
        find_bursts(photos, SplitConfig(), SPEC)


@pytest.mark.parametrize(
    ("identities", "protocol", "share", "message"),
    [
        (["a", "a", "b", "b"], "random", 0.2, "no identity with two validation photos"),
        (["a", "a", "b", "c"], "identity", 0.2, "no identity with two validation photos"),
        (["a"] * 4 + ["b"] * 4, "identity", 0.5, "leaves 1 identity to train on"),
    ],
)
def test_too_little_to_validate_on(identities, protocol, share, message):
    config = SplitConfig(protocol=protocol, validation=share)
    with pytest.raises(DataError, match=message):
        split_photos(photo_set(identities), config, SPEC, seed=0)


def test_the_csv(many):
    split = split_photos(many, SplitConfig(), SPEC, seed=1)
    rows = list(csv.DictReader(io.StringIO(split.to_csv(many))))
    assert list(rows[0]) == ["filename", "sha256", "part", "protocol"]
    assert [row["part"] for row in rows] == split.parts
    assert rows[5]["sha256"] == many.sha256[5]
    assert {row["protocol"] for row in rows} == {"random"}
