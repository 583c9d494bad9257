from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.reid.errors import DataError
from app.reid.spec import PreprocessSpec
from training.config import SamplerConfig, SplitConfig
from training.data import PhotoSet
from training.sampler import PKSampler
from training.split import burst_numbers, find_bursts, split_photos
from training.train import Trainer

LABELS = [0] * 5 + [1] * 2 + [2] + [3] * 9 + [4] * 3


def sampler(seed=1, **values):
    return PKSampler(LABELS, SamplerConfig(**{"identities": 3, "photos": 4, "steps": 5, **values}), seed)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=4, max_size=12),
    identities=st.integers(2, 4),
    photos=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_identities_are_drawn_evenly_and_never_twice_in_a_batch(sizes, identities, photos, seed):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    config = SamplerConfig(identities=identities, photos=photos, steps=1)
    drawn = Counter(dict.fromkeys(range(len(sizes)), 0))
    for batch in PKSampler(labels, config, seed).batches(0, 25):
        in_batch = Counter(labels[draw.photo] for draw in batch)
        assert len(in_batch) == identities
        assert set(in_batch.values()) == {photos}
        drawn.update(in_batch.keys())
        assert max(drawn.values()) - min(drawn.values()) <= 1


def test_photos_of_an_identity_repeat_only_when_it_has_too_few():
    for batch in sampler().batches(0, 40):
        by_identity = {}
        for draw in batch:
            by_identity.setdefault(LABELS[draw.photo], []).append(draw.photo)
        for label, photos in by_identity.items():
            assert len(set(photos)) == min(4, LABELS.count(label))


def test_every_draw_has_its_own_number():
    numbers = [draw.number for batch in sampler().batches(0, 10) for draw in batch]
    assert numbers == list(range(120))


def test_the_sequence_is_a_function_of_the_seed_and_can_start_anywhere():
    whole = list(sampler().batches(0, 20))
    assert whole == list(sampler().batches(0, 20))
    assert list(sampler().batches(13, 20)) == whole[13:]
    assert whole != list(sampler(seed=2).batches(0, 20))


def test_singletons_take_part_or_not():
    def labels(**values):
        return {LABELS[draw.photo] for batch in sampler(**values).batches(0, 10) for draw in batch}

    assert labels() == {0, 1, 2, 3, 4}
    assert labels(singletons=False) == {0, 1, 3, 4}


def test_too_few_identities():
    with pytest.raises(DataError, match="sampler.identities = 5 identities; the training part has 4 with at least 2"):
        sampler(identities=5, singletons=False)


@settings(max_examples=60, deadline=None)
@given(
    bursts=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), min_size=2, max_size=4),
    photos=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_an_identity_s_photos_come_from_as_many_bursts_as_can_be(bursts, photos, seed):
    """No burst gives a photo more than another one that still had some."""
    labels = [label for label, own in enumerate(bursts) for _ in own]
    numbers = [10 * label + burst for label, own in enumerate(bursts) for burst in own]
    config = SamplerConfig(identities=len(bursts), photos=photos, steps=1)
    for batch in PKSampler(labels, config, seed, numbers).batches(0, 6):
        drawn = Counter(draw.photo for draw in batch)
        for label in range(len(bursts)):
            own = [photo for photo in range(len(labels)) if labels[photo] == label]
            assert sum(drawn[photo] for photo in own) == photos
            assert max(drawn[photo] for photo in own) <= -(-photos // len(own))  # repeats are spread, too
            if photos <= len(own):
                taken, had = Counter(), Counter(numbers[photo] for photo in own)
                taken.update(numbers[photo] for photo in own if drawn[photo])
                unfinished = [burst for burst in had if taken[burst] < had[burst]]
                assert all(taken[burst] >= max(taken.values()) - 1 for burst in unfinished)


def test_every_photo_has_its_turn_where_bursts_are_spread():
    config = SamplerConfig(identities=2, photos=2, steps=1)
    spread = PKSampler([0] * 7 + [1] * 4, config, 0, [1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4])
    drawn = Counter(draw.photo for batch in spread.batches(0, 200) for draw in batch)
    assert set(drawn) == set(range(11))
    assert max(drawn[photo] for photo in range(5)) < min(drawn[5], drawn[6])  # a big burst weighs no more than a small
    assert list(spread.batches(3, 9)) == list(spread.batches(0, 9))[3:]


def test_bursts_are_drawn_alike_whatever_their_size():
    """Nine photos of one moment and one each of three others, two at a time: each burst in half of the batches."""
    config = SamplerConfig(identities=2, photos=2, steps=1)
    bursts = [0] * 9 + [1, 2, 3] + [4, 5]
    spread = PKSampler([0] * 12 + [1] * 2, config, 0, bursts)
    drawn = Counter(bursts[draw.photo] for batch in spread.batches(0, 1000) for draw in batch)
    assert all(440 < drawn[burst] < 560 for burst in range(4))


def encounters(photos_each):
    """Two animals, each with three encounters of so many photos, every photo another noise."""
    chance = np.random.default_rng(0)
    identities = [name for name in "ab" for _ in range(3 * photos_each)]
    rows = range(len(identities))
    pictures = [chance.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in rows]
    columns = {"encounter": [str(row // photos_each) for row in rows]}
    return PhotoSet([f"{row}.png" for row in rows], identities, columns, [f"{row:064x}" for row in rows], pictures)


def test_bursts_are_those_of_the_split():
    photos, config, spec = encounters(4), SplitConfig(burst_distance=0), PreprocessSpec(size=32)
    numbers = burst_numbers(photos, config, spec)
    for burst, rows in enumerate(find_bursts(photos, config, spec)):
        assert {numbers[row] for row in rows} == {burst}
    assert len(set(numbers)) == 6


@pytest.mark.parametrize("spread", [False, True])
def test_a_run_spreads_bursts_if_asked_to(make_config, spread):
    config = make_config(
        "sampler.identities=2", "sampler.photos=3", "split.burst_distance=0",
        f"sampler.spread_bursts={str(spread).lower()}",
    )  # fmt: skip
    photos = encounters(6)
    trainer = Trainer(config, photos, split_photos(photos, config.split, config.preprocess, 0))
    names = trainer._train.columns["encounter"]
    seen = [len({names[draw.photo] for draw in batch[:3]}) for batch in trainer.sampler.batches(0, 20)]
    assert (set(seen) == {3}) == spread
