"""The PK sampler: P identities, K photos each, so that every batch holds pairs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.reid.errors import DataError
from training.config import SamplerConfig


class Draw(NamedTuple):
    """One photo in one batch. number: counts all draws of a run, so that a repeated photo is augmented afresh."""

    photo: int
    number: int


class PKSampler:
    """Batches of P x K draws; the whole sequence is a function of the labels, the config and the seed.

    After any number of batches the draw counts of two identities differ by at most one: identities come in rounds,
    each round is a fresh shuffle of all, and where a batch spans two rounds no identity stands in it twice.
    With fewer than K photos, an identity gives all of them and then repeats. Where bursts are given, its photos come
    from as many of them as can be: one photo of each before a second one of any.
    Source: Hermans et al. 2017, "In Defense of the Triplet Loss", section 2; the even rounds are ours.
    """

    def __init__(
        self, labels: Sequence[int], config: SamplerConfig, seed: int, bursts: Sequence[int] | None = None
    ) -> None:
        """labels: the identity's number of each photo. bursts: the burst's number of each photo; None: all alike.

        Raises:
            DataError: fewer identities than a batch needs.
        """
        photos: dict[int, list[int]] = {}
        for photo, label in enumerate(labels):
            photos.setdefault(label, []).append(photo)
        least = 1 if config.singletons else 2
        self._photos = [np.array(group) for _, group in sorted(photos.items()) if len(group) >= least]
        if len(self._photos) < config.identities:
            raise DataError(
                f"a batch needs sampler.identities = {config.identities} identities; the training part has"
                f" {len(self._photos)} with at least {least} photo{'s' if least > 1 else ''}"
            )
        self._bursts = None if bursts is None else np.asarray(bursts)
        self._config = config
        self._seed = seed

    def batches(self, start: int, stop: int) -> Iterator[list[Draw]]:
        """The batches with numbers start to stop - 1."""
        size = self._config.identities * self._config.photos
        for step, identities in enumerate(self._identities(stop)):
            if step >= start:
                yield [
                    Draw(int(photo), step * size + position)
                    for position, photo in enumerate(self._pick(identities, step))
                ]

    def _identities(self, batches: int) -> Iterator[NDArray[np.intp]]:
        """P identities for each batch from the first on."""
        queue = np.array([], dtype=np.intp)
        cycle, wanted = 0, self._config.identities
        for _ in range(batches):
            if len(queue) < wanted:
                shuffled = np.random.default_rng((self._seed, 0, cycle)).permutation(len(self._photos))
                clash = np.isin(shuffled, queue)  # these wait until the batch that spans both rounds is full
                spare = shuffled[~clash]
                missing = wanted - len(queue)
                rest = np.concatenate([spare[missing:], shuffled[clash]])
                rest = np.random.default_rng((self._seed, 1, cycle)).permutation(rest)
                queue = np.concatenate([queue, spare[:missing], rest])
                cycle += 1
            yield queue[:wanted]
            queue = queue[wanted:]

    def _pick(self, identities: NDArray[np.intp], step: int) -> NDArray[np.intp]:
        chance = np.random.default_rng((self._seed, 2, step))
        return np.concatenate([self._choose(self._photos[identity], chance) for identity in identities])

    def _choose(self, photos: NDArray[np.intp], chance: np.random.Generator) -> NDArray[np.intp]:
        wanted = self._config.photos
        if self._bursts is not None:
            return np.resize(self._by_turns(photos, self._bursts[photos], chance), wanted)
        if len(photos) >= wanted:
            return chance.choice(photos, wanted, replace=False)
        repeats = chance.choice(photos, wanted - len(photos))
        return np.concatenate([chance.permutation(photos), repeats])

    def _by_turns(
        self, photos: NDArray[np.intp], bursts: NDArray[np.intp], chance: np.random.Generator
    ) -> NDArray[np.intp]:
        """All photos of an identity in a chance order that takes one of each burst, then a second one of each, ..."""
        order = chance.permutation(len(photos))
        _, burst = np.unique(bursts[order], return_inverse=True)
        turn = np.array([np.count_nonzero(burst[:position] == own) for position, own in enumerate(burst)])
        return photos[order[np.lexsort((chance.permutation(len(order)), turn))]]  # in each turn, any burst may be first
