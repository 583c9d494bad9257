"""CoatHerd: animals whose photos are drawn when asked for, fast enough for a training loader."""

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import TypeVar

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from app.reid.errors import DataError
from training.coats.animal import Animal, animal
from training.coats.backdrop import backdrop
from training.coats.coat import FLANKS, Flank
from training.coats.noise import Pixels
from training.coats.photo import render
from training.coats.scene import draw_scene, nudge
from training.coats.skin import planes
from training.coats.species import KINDS, Kind

MIN_SIDE = 32
_HALF = 300  # a photo's longer side up to which half of the coat's rows and columns are enough
_ROOM = 1.6  # a backdrop's sides over a photo's: photos show a part of it
_WIDE = 0.1, 0.5  # mean of the logarithm of the aspect ratio, and the most that it differs from that
_Held = TypeVar("_Held")


class CoatHerd:
    """`identities` animals, of which every photo is a function of (seed, identity, flank, number, frame) alone.

    herd = CoatHerd(seed=0, identities=512, size=(192, 192))
    herd.photo(7, "left", 0)                      (192, 192, 4) uint8, RGBA
    herd.batch([7, 7, 8], ["left", "left", "right"], [0, 1, 0])      (3, 192, 192, 4) uint8
    on_ground(herd.batch(...), (255, 255, 255))   (3, 192, 192, 3) uint8, cut out and laid on white

    Alpha is 255 on the animal and 0 around it; what lies under alpha 0 is the photo's real background, so dropping
    alpha (`[..., :3]`) gives the whole photo. `number` counts photos without end; `frame` > 0 is a later frame of the
    burst that photo is the first of. Both flanks of an identity have a pattern of their own: a metric that is to
    match patterns takes (identity, flank) as its class. Identities `i` and `j` are of one species, alike in all but
    the arrangement of their marks, where `herd.species(i) == herd.species(j)`: the hard negatives.

    Threads may share a herd; a pickled one starts with nothing held, so it can be given to loader processes. It holds
    at most `keep` coats, about 0.4 MB each (1.6 MB for photos above 300 px), and draws the others anew: about
    0.03 s of one core for a coat, 0.01 s for a photo of 192 px. Ask for several photos of a coat at a time.
    """

    def __init__(
        self,
        seed: int,
        identities: int,
        size: tuple[int, int] = (192, 192),
        kinds: Sequence[Kind] = KINDS,
        *,
        alike: int = 8,
        aspect: float = 0.2,
        keep: int = 512,
        backdrops: int = 96,
    ) -> None:
        """size: width, height in pixels. kinds: of coats, in turn by species. alike: identities a species.

        aspect: photos have an aspect ratio of their own, of this standard deviation of its logarithm, and are
        squashed to `size`; 0 draws them at `size`. backdrops: how many backgrounds all animals share.

        Raises:
            DataError: a number below its limit or a kind that is none; the message names it and the limit.
        """
        check(
            [
                ("seed", seed, 0),
                ("identities", identities, 1),
                ("width", size[0], MIN_SIDE),
                ("height", size[1], MIN_SIDE),
                ("alike", alike, 1),
                ("aspect", aspect, 0),
                ("keep", keep, 1),
                ("backdrops", backdrops, 1),
            ],
            kinds,
        )
        self.seed, self.identities, self.size, self.kinds, self.alike = seed, identities, size, tuple(kinds), alike
        self._aspect, self._keep, self._backdrops = aspect, keep, backdrops
        self._detail = 1 if max(size) <= _HALF else 2
        self._hold()

    def __getstate__(self) -> dict[str, object]:
        """What a herd was made of: locks and coats do not travel."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_animals", "_behind")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Starts with nothing held."""
        vars(self).update(state)
        self._hold()

    def _hold(self) -> None:
        self._lock = Lock()
        self._animals: LRUCache[Hashable, Animal] = LRUCache(self._keep)
        self._behind: LRUCache[Hashable, Pixels] = LRUCache(self._backdrops)

    def species(self, identity: int) -> int:
        """The number of an identity's species."""
        return identity // self.alike

    def kind(self, identity: int) -> Kind:
        """The kind of an identity's coat."""
        return self.kinds[self.species(identity) % len(self.kinds)]

    def photo(self, identity: int, flank: Flank, number: int, frame: int = 0) -> Pixels:
        """One photo, (height, width, 4) uint8.

        Raises:
            DataError: no such identity or flank, or a negative number or frame.
        """
        self._check_photo(identity, flank, number, frame)
        side = FLANKS.index(flank)
        chance = np.random.default_rng((self.seed, 10, identity, side, number))
        scene = draw_scene(chance)
        size = self._vary(chance)
        behind = self._around(chance, size)
        own = np.random.default_rng((self.seed, 11, identity, side, number, frame))
        if frame:
            scene = nudge(scene, own)
        subject = self._get(self._animals, (identity, flank), lambda: self._animal(identity, flank))
        return render(subject, scene, own, size=size, flank=flank, behind=behind, squash=self.size)

    def batch(
        self,
        identities: Sequence[int],
        flanks: Sequence[Flank],
        numbers: Sequence[int],
        frames: Sequence[int] | None = None,
    ) -> Pixels:
        """B photos, (B, height, width, 4) uint8, in the order of the arguments, of which all have length B."""
        later = [0] * len(identities) if frames is None else frames
        shots = zip(identities, flanks, numbers, later, strict=True)
        return np.stack([self.photo(*shot) for shot in shots])

    def _check_photo(self, identity: int, flank: Flank, number: int, frame: int) -> None:
        if not 0 <= identity < self.identities:
            raise DataError(f"identity is {identity}; this herd has 0 to {self.identities - 1}")
        if flank not in FLANKS:
            raise DataError(f"flank is {flank!r}; it is one of {', '.join(FLANKS)}")
        check([("number", number, 0), ("frame", frame, 0)], self.kinds)

    def _vary(self, rng: np.random.Generator) -> tuple[int, int]:
        """A photo's own size before it is squashed: the same area, mostly wider."""
        swing = float(rng.normal())
        if not self._aspect:
            return self.size
        root = float(np.exp(0.5 * (_WIDE[0] + np.clip(self._aspect * swing, -_WIDE[1], _WIDE[1]))))
        return max(MIN_SIDE, round(self.size[0] * root)), max(MIN_SIDE, round(self.size[1] / root))

    def _around(self, rng: np.random.Generator, size: tuple[int, int]) -> Pixels:
        """(3, height, width) of a background: a part of one of the herd's, one way round or the other."""
        number = int(rng.integers(self._backdrops))
        whole = self._get(self._behind, number, lambda: self._backdrop(number))
        left = int(rng.integers(whole.shape[2] - size[0] + 1))
        top = int(rng.integers(whole.shape[1] - size[1] + 1))
        part = whole[:, top : top + size[1], left : left + size[0]]
        return part[:, :, ::-1] if rng.random() < 0.5 else part

    def _animal(self, identity: int, flank: Flank) -> Animal:
        return animal(self.seed, identity, flank, kinds=self.kinds, alike=self.alike, detail=self._detail)

    def _backdrop(self, number: int) -> Pixels:
        size = round(self.size[0] * _ROOM) + 1, round(self.size[1] * _ROOM) + 1
        return planes(backdrop(np.random.default_rng((self.seed, 12, number)), size))

    def _get(self, cache: "LRUCache[Hashable, _Held]", key: Hashable, make: Callable[[], _Held]) -> _Held:
        """From the cache or made. Two threads may make the same thing, which costs time and changes nothing."""
        with self._lock:
            held = cache.get(key)
        if held is None:
            held = make()
            with self._lock:
                cache[key] = held
        return held


def on_ground(photos: Pixels, colour: tuple[int, int, int]) -> Pixels:
    """(..., 4) RGBA -> (..., 3): the animals cut out and laid on one colour."""
    alpha = photos[..., 3:].astype(np.uint16)
    ground: NDArray[np.uint16] = np.array(colour, dtype=np.uint16)
    mixed = photos[..., :3] * alpha + ground * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def check(limits: Sequence[tuple[str, float, float]], kinds: Sequence[str]) -> None:
    """Numbers against their least values, and kinds against `KINDS`.

    Raises:
        DataError: all that is wrong.
    """
    wrong = [f"{name} is {value}; at least {limit} is needed" for name, value, limit in limits if value < limit]
    wrong += [f"kind {kind!r} is none; there are {', '.join(KINDS)}" for kind in kinds if kind not in KINDS]
    if not kinds:
        wrong.append(f"no kind of coat; there are {', '.join(KINDS)}")
    if wrong:
        raise DataError("these coats cannot be drawn", wrong)
