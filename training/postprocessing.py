"""Which post-processing surely brings something on validation photos: measured step by step, each on top of the last.

Settings are chosen on other identities than the gain is measured on, so that a choice among many is no gain by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from app.reid.embedder import mean_direction
from app.reid.metric import bootstrap_interval, identity_balanced_map
from app.reid.postprocess import Postprocess, QueryExpansion, Rerank, postprocess
from app.reid.similarity import Float32

Float64 = NDArray[np.float64]

# Fewer agree by chance too often.
MIN_IDENTITIES = 6
# As many photos as a submission has, and some; each setting compares all with all.
MAX_PHOTOS = 800
_PARTS = 5

EXPANSIONS = tuple(QueryExpansion(neighbours=near, alpha=alpha) for near in (1, 2, 4) for alpha in (1.0, 3.0))
RERANKS = tuple(
    Rerank(k1=k1, k2=k2, weight=weight) for k1, k2 in ((6, 2), (12, 3), (20, 6)) for weight in (0.3, 0.6, 0.8)
)


@dataclass(frozen=True, eq=False)
class Judge:
    """N photos' names, (N, D) embeddings, and those with the mirror image.

    within: N values; a photo's gallery is the others with the same one. Photos of other values still are neighbours.
    """

    identities: Sequence[str]
    plain: Float32
    flipped: Float32
    within: Sequence[str] | None = None

    @classmethod
    def of(
        cls, identities: Sequence[str], own: Float32, mirrored: Float32, within: Sequence[str] | None = None
    ) -> "Judge":
        """From the (N, D) embeddings of photos and those of their mirror images."""
        return cls(identities, own, mean_direction(own, mirrored), within)

    def identity_ap(self, steps: Postprocess) -> dict[str, float]:
        """Mean AP of each identity that has two photos to compare. Raises ValueError where none has."""
        scores = postprocess(self.flipped if steps.flip else self.plain, steps)
        return identity_balanced_map(scores, self.identities, within=self.within).identity_ap


def choose_steps(judge: Judge, model_version: str, *, seed: int = 0) -> Postprocess:
    """Flip, query expansion, re-ranking: each kept if the interval of its paired gain in id-mAP is above 0.

    The gain is that over identities of the difference in AP, and its 95 % interval is by drawing identities anew.
    `measured` has it for each step, kept or not; or a reason where there are too few identities.

    Raises:
        ValueError: no photo has another of its identity in its gallery.
    """
    steps = Postprocess(model_version=model_version)
    before = judge.identity_ap(steps)
    if len(before) < MIN_IDENTITIES:
        reason = f"too few identities to measure on: {len(before)}, and {MIN_IDENTITIES} are needed"
        return steps.model_copy(update={"measured": {"reason": reason}})
    measured: dict[str, JsonValue] = {"id_map": float(np.mean(list(before.values()))), "identities": len(before)}
    candidates: dict[str, Sequence[object]] = {"flip": (True,), "query_expansion": EXPANSIONS, "rerank": RERANKS}
    for name, settings in candidates.items():
        after = [judge.identity_ap(steps.model_copy(update={name: setting})) for setting in settings]
        gains = np.array([[found[identity] - before[identity] for identity in before] for found in after])
        fair = _gain_elsewhere(gains, seed)
        low, high = bootstrap_interval(dict(zip(before, fair.tolist(), strict=True)), seed=seed)
        kept = low > 0
        measured[name] = {"gain": float(fair.mean()), "interval": [low, high], "kept": kept}
        if kept:
            best = int(gains.mean(axis=1).argmax())
            steps, before = steps.model_copy(update={name: settings[best]}), after[best]
    return steps.model_copy(update={"measured": measured})


def _gain_elsewhere(gains: Float64, seed: int) -> Float64:
    """(S, I) gains by setting and identity -> (I,) each identity's with the setting that is best for other ones."""
    identities = gains.shape[1]
    part = np.random.default_rng((seed, 8)).permutation(identities) % min(_PARTS, identities)
    fair = np.empty(identities)
    for own in range(part.max() + 1):
        best = int(gains[:, part != own].mean(axis=1).argmax())
        fair[part == own] = gains[best, part == own]
    return fair
