from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.reid.errors import DataError
from training.config import SamplerConfig
from training.sampler import PKSampler

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
