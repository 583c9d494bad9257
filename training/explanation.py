"""Whether a bundle's heat maps say something of its network: the sanity figures of `evaluate --explain`.

Sources: Adebayo et al. 2018, "Sanity Checks for Saliency Maps": a map must change when the weights are drawn anew.
Petsiuk, Das, Saenko 2018, "RISE", the deletion metric: covering what a map points at must lower the score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pydantic import JsonValue

from app.reid.bundle import TORCH_WEIGHTS, open_bundle
from app.reid.embedder import Embedder, load_model
from app.reid.errors import BundleError, DataError
from app.reid.explain import Explanation, can_explain, explain
from app.reid.metric import bootstrap_interval
from app.reid.network import EmbeddingModel, load_weights
from app.reid.preprocess import Pixels, composite
from app.reid.similarity import Float64, cosine_matrix
from app.reid.spec import PreprocessSpec
from app.reid.torch_runtime import TorchRuntime
from training.data import PhotoSet, Progress

DEFAULT_PAIRS, DEFAULT_SHARE = 200, 0.2
# Networks with other weights, and random masks of each pair: what one of them shows may be chance.
NETWORKS, _RANDOM_MASKS = 3, 8

Mask = NDArray[np.bool_]
Pair = tuple[int, int]
Fill = Callable[[Pixels, PreprocessSpec], Pixels]


def explanation_sanity(
    bundle: Path,
    photos: PhotoSet,
    *,
    pairs: int = DEFAULT_PAIRS,
    share: float = DEFAULT_SHARE,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, JsonValue]:
    """A bundle's maps on pairs of photos -> `sanity_figures`, its own against those with a backbone drawn anew.

    Raises:
        BundleError: the bundle's network has no places. Whatever `load_model` and `sanity_figures` do.
    """
    model = load_model(bundle)
    if not can_explain(model.embedder):
        raise BundleError(f"bundle {model.manifest.name}: its network has no places, and so no heat maps to examine")
    others = [replace(model.embedder, runtime=_randomised(bundle, seed + number)) for number in range(NETWORKS)]
    return sanity_figures(model.embedder, others, photos, pairs=pairs, share=share, seed=seed, progress=progress)


def sanity_figures(
    embedder: Embedder,
    others: Sequence[Embedder],
    photos: PhotoSet,
    *,
    pairs: int = DEFAULT_PAIRS,
    share: float = DEFAULT_SHARE,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, JsonValue]:
    """A network's maps, and those of at least one with other weights -> figures as JSON.

    Each mean comes with its 95 % interval over the pairs, of which half show one animal and half two.
    share: of the query's places that are covered, in (0, 1).

    additivity: how far the sum of a map is from the cosine, at most.
    randomised_weights: Spearman's rank correlation of a map with that of networks whose backbone was drawn anew and
    whose neck stays; 1 is the same map, and a map that only follows the picture would stay near it.
    masking: how far the cosine falls where the query's places with the largest values are covered, where as many
    random ones are, and where those are that the first of the networks with other weights points at; for three ways
    to cover. `top_minus_random` and `top_minus_randomised` are the differences pair by pair: an interval above 0 is
    what a map must reach.

    Raises:
        DataError: no two photos of one animal, or one animal only. ValueError: share or pairs is out of range.
    """
    if not 0 < share < 1 or pairs < 2:
        raise ValueError(f"share must be in (0, 1) and pairs at least 2, not {share} and {pairs}")
    drawn = draw_pairs(photos.identities, pairs, seed)
    findings = []
    for done, (query, gallery) in enumerate(drawn, start=1):
        prepared = photos.prepared[query], photos.prepared[gallery]
        findings.append(_examine(embedder, others, prepared, share, np.random.default_rng((seed, done))))
        if progress:
            progress(done, len(drawn))
    same = sum(photos.identities[a] == photos.identities[b] for a, b in drawn)
    return {"pairs": pairs, "same_animal": same, "seed": seed, "networks": len(others), **_figures(findings)}


def draw_pairs(identities: Sequence[str], count: int, seed: int) -> list[Pair]:
    """So many pairs of photos, by number: the first half (rounded up) of one animal, the rest of two.

    Queries go round the animals in random order, so that one with many photos counts no more than another.

    Raises:
        DataError: no two photos of one animal, or one animal only.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list[int]] = {}
    for row, identity in enumerate(identities):
        rows.setdefault(identity, []).append(row)
    if len(rows) < 2 or max(map(len, rows.values())) < 2:
        raise DataError("pairs of one animal and of two take at least two animals, one of them with two photos")
    several = [name for name, found in rows.items() if len(found) > 1]
    same = [_draw(rng, rows[name], 2) for name in _round(rng, several, (count + 1) // 2)]
    different = []
    for name in _round(rng, list(rows), count // 2):
        stranger = str(rng.choice([other for other in rows if other != name]))
        different.append(_draw(rng, rows[name], 1) + _draw(rng, rows[stranger], 1))
    return [(pair[0], pair[1]) for pair in (*same, *different)]


def spearman(first: Float64, second: Float64) -> float:
    """Rank correlation of two arrays of one shape, in [-1, 1]; equal values share their mean rank.

    0 where all values of one are equal. Source: Spearman 1904; Pearson's correlation of ranks.
    """
    one, other = _ranks(first) - (first.size - 1) / 2, _ranks(second) - (second.size - 1) / 2
    length = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / length if length > 0 else 0.0


@dataclass(frozen=True)
class _Finding:
    """One pair. drops: by way to cover and by choice of places, how far the cosine falls."""

    grid: tuple[int, ...]
    masked: int
    additivity: float
    spearman: float
    drops: dict[str, dict[str, float]]


def _examine(
    embedder: Embedder,
    others: Sequence[Embedder],
    prepared: tuple[Pixels, Pixels],
    share: float,
    rng: np.random.Generator,
) -> _Finding:
    spec = embedder.spec
    query, gallery = (composite(pixels, spec) for pixels in prepared)
    own = explain(embedder, query, gallery, links=0)
    random = [explain(other, query, gallery, links=0) for other in others]
    count = max(1, round(share * own.query.size))
    masks = {
        "top": [_top(own.query, count)],
        "random": [_random(rng, own.query.shape, count) for _ in range(_RANDOM_MASKS)],
        "randomised": [_top(random[0].query, count)],
    }
    target = embedder.embed_prepared([gallery])
    drops = {}
    for name, fill in FILLS.items():
        cover = fill(query, spec)
        drops[name] = {
            choice: own.cosine - _cosine(embedder, [_masked(query, cover, mask) for mask in chosen], target)
            for choice, chosen in masks.items()
        }
    return _Finding(own.query.shape, count, _additivity(own), _correlation(own, random), drops)


def _figures(findings: Sequence[_Finding]) -> dict[str, JsonValue]:
    return {
        "grid": list(findings[0].grid),
        "masked_places": findings[0].masked,
        "additivity": max(finding.additivity for finding in findings),
        "randomised_weights": _mean([finding.spearman for finding in findings]),
        "masking": {fill: _masking([finding.drops[fill] for finding in findings]) for fill in FILLS},
    }


def _additivity(explanation: Explanation) -> float:
    return max(abs(float(values.sum()) - explanation.cosine) for values in (explanation.query, explanation.gallery))


def _correlation(own: Explanation, others: Sequence[Explanation]) -> float:
    """Spearman's, the mean over both maps and all networks."""
    values = [spearman(*maps) for other in others for maps in ((own.query, other.query), (own.gallery, other.gallery))]
    return float(np.mean(values))


def _cosine(embedder: Embedder, pictures: Sequence[Pixels], target: NDArray[np.float32]) -> float:
    """The mean cosine of pictures to one (1, D) embedding."""
    return float(cosine_matrix(embedder.embed_prepared(pictures), target).mean())


def _top(values: Float64, count: int) -> Mask:
    """The places with the largest values; equal ones in their order."""
    mask = np.zeros(values.size, dtype=np.bool_)
    mask[np.argsort(-values.ravel(), kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def _random(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> Mask:
    return _top(rng.random(shape), count)


def _masked(picture: Pixels, cover: Pixels, mask: Mask) -> Pixels:
    """(H, W, 3) with the cells of a mask (h, w) taken from the cover."""
    height, width = picture.shape[:2]
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    return np.where(mask[rows[:, None], columns][:, :, None], cover, picture)


def _background(picture: Pixels, spec: PreprocessSpec) -> Pixels:
    return np.broadcast_to(np.array(spec.background, dtype=np.uint8), picture.shape)


def _mean_colour(picture: Pixels, _: PreprocessSpec) -> Pixels:
    return np.broadcast_to(np.rint(picture.mean(axis=(0, 1))).astype(np.uint8), picture.shape)


def _blurred(picture: Pixels, _: PreprocessSpec) -> Pixels:
    """Blurred until no pattern is left: by an eighth of the shorter side."""
    radius = min(picture.shape[:2]) / 8
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


FILLS: Mapping[str, Fill] = {"background": _background, "mean_colour": _mean_colour, "blur": _blurred}


def _masking(drops: Sequence[dict[str, float]]) -> dict[str, JsonValue]:
    """The drops of all pairs under one way to cover."""
    top, random, randomised = (np.array([drop[name] for drop in drops]) for name in ("top", "random", "randomised"))
    return {
        "top": _mean(top.tolist()),
        "random": _mean(random.tolist()),
        "randomised": _mean(randomised.tolist()),
        "top_minus_random": _mean((top - random).tolist()),
        "top_minus_randomised": _mean((top - randomised).tolist()),
        "pairs_above_random": float(np.mean(top > random)),
    }


def _mean(values: Sequence[float]) -> dict[str, JsonValue]:
    """A mean over pairs and its 95 % interval when pairs are drawn anew."""
    low, high = bootstrap_interval({str(number): value for number, value in enumerate(values)})
    return {"mean": float(np.mean(values)), "interval": [low, high]}


def _randomised(bundle: Path, seed: int) -> TorchRuntime:
    """The bundle's network with the backbone's weights drawn anew.

    Layer scales stay: timm starts them at 1e-6, where a backbone is hardly more than its stem.
    """
    opened = open_bundle(bundle)
    trained = safetensors.torch.load(opened.read(TORCH_WEIGHTS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EmbeddingModel(opened.manifest.model)
    fresh = model.state_dict()
    kept = {
        name: tensor for name, tensor in trained.items() if not name.startswith("backbone.") or name.endswith(".gamma")
    }
    load_weights(model, {**fresh, **kept}, TORCH_WEIGHTS)
    return TorchRuntime(model.eval())


def _ranks(values: Float64) -> Float64:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse.ravel()]


def _draw(rng: np.random.Generator, rows: Sequence[int], count: int) -> list[int]:
    return [int(row) for row in rng.choice(rows, count, replace=False)]


def _round(rng: np.random.Generator, names: Sequence[str], count: int) -> list[str]:
    """So many names, each as often as any other to within one."""
    order: list[str] = []
    while len(order) < count:
        order += [names[number] for number in rng.permutation(len(names))]
    return order[:count]
