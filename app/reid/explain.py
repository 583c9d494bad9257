"""Why two photos score as they do: what each place of either adds to their cosine. A sum taken apart, no estimate.

Without GeM an embedding is a sum over places (`network.embed_with_places`), so that the cosine of two photos
is the sum, over all pairs of places, of the places' dot products. Summed over the places of one photo it is a map of
the other.
Source: Stylianou, Souvenir, Pless 2019, "Visualizing Deep Similarity Networks": the cosine of average-pooled features
taken apart by place. Here the neck and its constants are taken apart as well, so that nothing is left over.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from app.reid.embedder import Embedder
from app.reid.errors import BundleError
from app.reid.preprocess import Float32, Pixels, fitted_size, to_array
from app.reid.similarity import Float64, cosine_matrix, unit_rows
from app.reid.spec import PreprocessSpec

DEFAULT_LINKS, MAX_LINKS = 12, 64
# How far a map's sum may be from the cosine: float32 places come to 1e-6.
TOLERANCE = 1e-4
# Dot products of places that are in memory at once: 2 MB, however fine the grid.
_BLOCK = 2**18

Place = tuple[int, int]
Span = tuple[float, float]


@runtime_checkable
class PlacesRuntime(Protocol):
    """A runtime that may know what each place of a picture adds to its embedding. Safe to call from several threads."""

    @property
    def has_places(self) -> bool:
        """Whether its network tells."""

    def run_with_places(self, images: Float32) -> tuple[Float32, Float32]:
        """(N, 3, H, W) -> (N, D) embeddings and (N, h, w, D) places, which sum to the embedding over h and w."""


@dataclass(frozen=True)
class Places:
    """One photo: its (D,) unit-norm embedding, and the (h, w, D) places that sum to it."""

    embedding: Float32
    places: Float32


@dataclass(frozen=True)
class Link:
    """What one pair of places, each (row, column), adds to the cosine."""

    value: float
    query: Place
    gallery: Place


@dataclass(frozen=True)
class Explanation:
    """A cosine and its parts.

    query, gallery: (h, w) float64, what each place of that photo adds to the cosine; each sums to it.
    links: the pairs of places that add most, the largest first; equal ones in the order of the query's places.
    """

    cosine: float
    query: Float64
    gallery: Float64
    links: tuple[Link, ...]

    @property
    def largest(self) -> float:
        """The largest absolute value in both maps: the one scale on which they can be compared."""
        return float(max(np.abs(self.query).max(), np.abs(self.gallery).max()))


@dataclass(frozen=True)
class PhotoBox:
    """Where a photo lies in its grid of places: its edges, in cells from the grid's left and top. Padding is around it.

    The grid's cells are taken for equal parts of the network's input, which holds where the input's sides are multiples
    of the network's stride (32 for ConvNeXt). What a cell has seen reaches further: the receptive field of a place is
    larger than its cell.
    """

    left: float
    top: float
    right: float
    bottom: float

    def coverage(self, shape: Place) -> Float64:
        """(h, w) the share of each cell that shows the photo, in [0, 1]; 0 is all padding."""
        rows, columns = (np.arange(count) for count in shape)
        down = np.clip(np.minimum(self.bottom, rows + 1) - np.maximum(self.top, rows), 0.0, 1.0)
        across = np.clip(np.minimum(self.right, columns + 1) - np.maximum(self.left, columns), 0.0, 1.0)
        return np.outer(down, across)

    def centre(self, place: Place) -> tuple[float, float] | None:
        """The middle of what a cell shows of the photo: x and y as shares of its width and height; None in padding."""
        row, column = place
        x = _middle((column, column + 1), (self.left, self.right))
        y = _middle((row, row + 1), (self.top, self.bottom))
        return None if x is None or y is None else (x, y)


def photo_box(size: tuple[int, int], spec: PreprocessSpec, shape: Place) -> PhotoBox:
    """Where an upright picture of this width and height lies in a grid of h x w places, after `fit`."""
    height, width = spec.size
    inner_width, inner_height = fitted_size(size, spec)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    across, down = shape[1] / width, shape[0] / height
    return PhotoBox(left * across, top * down, (left + inner_width) * across, (top + inner_height) * down)


def can_explain(embedder: Embedder) -> bool:
    """Whether the network tells what each place adds; one with GeM cannot."""
    return isinstance(embedder.runtime, PlacesRuntime) and embedder.runtime.has_places


def explain(embedder: Embedder, query: Pixels, gallery: Pixels, *, links: int = DEFAULT_LINKS) -> Explanation:
    """Two prepared pictures -> their cosine, taken apart. Raises what `find_places` and `compare` do."""
    return compare(find_places(embedder, query), find_places(embedder, gallery), links=links)


def find_places(embedder: Embedder, prepared: Pixels) -> Places:
    """A prepared picture (H, W, 3 or 4) -> its embedding and its places.

    Raises:
        BundleError: the network has no places, or gave one that is not finite.
    """
    runtime = embedder.runtime
    if not isinstance(runtime, PlacesRuntime):
        raise BundleError("this bundle's network has no places")
    embeddings, places = runtime.run_with_places(to_array(prepared, embedder.spec)[None])
    if not (np.isfinite(embeddings).all() and np.isfinite(places).all()):
        raise BundleError("the network gave an embedding or a place that is not finite")
    return Places(embeddings[0], places[0])


def compare(query: Places, gallery: Places, *, links: int = DEFAULT_LINKS) -> Explanation:
    """Two photos of one network -> their cosine, taken apart, in float64.

    links: how many pairs of places to name, 0 to 64; all of them where there are fewer.

    Raises:
        ValueError: `links` is out of range.
        BundleError: the places do not sum to the embedding, so that the maps would not add up to the cosine.
    """
    if not 0 <= links <= MAX_LINKS:
        raise ValueError(f"links must be 0 to {MAX_LINKS}, not {links}")
    cosine = float(cosine_matrix(query.embedding[None], gallery.embedding[None])[0, 0])
    units = unit_rows(np.stack([query.embedding, gallery.embedding]))
    first, second = query.places.astype(np.float64), gallery.places.astype(np.float64)
    maps = first @ units[1], second @ units[0]
    for values in maps:
        difference = abs(float(values.sum()) - cosine)
        if not difference <= TOLERANCE:
            raise BundleError(
                f"the places of this bundle's network add up to something else than its embeddings: the cosine is"
                f" {cosine:.6f}, the sum of its parts {values.sum():.6f}"
            )
    return Explanation(cosine, *maps, _strongest(first, second, links))


def _strongest(query: Float64, gallery: Float64, count: int) -> tuple[Link, ...]:
    """(h, w, D) places each -> the pairs with the largest dot products, found block by block."""
    first, second = (places.reshape(-1, places.shape[2]) for places in (query, gallery))
    rows = max(1, _BLOCK // len(second))
    values, numbers = np.empty(0), np.empty(0, dtype=np.intp)
    for start in range(0, len(first) if count else 0, rows):
        block = (first[start : start + rows] @ second.T).ravel()
        better = np.flatnonzero(block > (values[-1] if len(values) == count else -np.inf))
        values = np.concatenate([values, block[better]])
        numbers = np.concatenate([numbers, start * len(second) + better])
        best = np.argsort(-values, kind="stable")[:count]
        values, numbers = values[best], numbers[best]
    return tuple(
        Link(value, _place(number // len(second), query), _place(number % len(second), gallery))
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True)
    )


def _place(number: int, places: Float64) -> Place:
    row, column = divmod(number, places.shape[1])
    return row, column


def _middle(cell: Span, photo: Span) -> float | None:
    """The middle of what a cell and a photo share, from 0 to 1 across the photo; None where that is nothing."""
    low, high = max(cell[0], photo[0]), min(cell[1], photo[1])
    return ((low + high) / 2 - photo[0]) / (photo[1] - photo[0]) if low < high else None
