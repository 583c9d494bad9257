"""id-mAP and its company: of photos through an embedder, and of a bundle on a data set (design section 8)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from app.reid.bundle import SPLIT
from app.reid.embedder import Embedder, LoadedModel, load_model
from app.reid.errors import BundleError, DataError
from app.reid.metric import Evaluation, bootstrap_interval, identity_balanced_map
from app.reid.preprocess import Pixels
from app.reid.similarity import Float32, Float64, cosine_matrix, unit_interval
from training.config import PROTOCOLS
from training.data import PhotoSet, Progress, load_photos
from training.explanation import explanation_sanity

ZERO_SHOT = "zero-shot"


def embed_photos(embedder: Embedder, prepared: Sequence[Pixels], progress: Progress | None = None) -> Float32:
    """N prepared pictures -> (N, D) float32 unit-norm embeddings, with word of how many are done."""
    step = max(embedder.batch_size, 16)
    parts = []
    for start in range(0, len(prepared), step):
        parts.append(embedder.embed_prepared(prepared[start : start + step]))
        if progress:
            progress(min(len(prepared), start + step), len(prepared))
    return np.concatenate(parts)


def rank_photos(
    embeddings: Float32, identities: Sequence[str], within: Sequence[str] | None = None
) -> tuple[Float64, Evaluation]:
    """(N, D) embeddings -> (N, N) similarities in [0, 1], and what ranking each photo against all others came to.

    Raises:
        DataError: no photo has another of its identity in its gallery.
    """
    try:
        similarity = unit_interval(cosine_matrix(embeddings, embeddings))
        return similarity, identity_balanced_map(similarity, identities, within=within)
    except ValueError as error:
        raise DataError(str(error)) from error


def evaluate_photos(
    embedder: Embedder, photos: PhotoSet, *, within: Sequence[str] | None = None, progress: Progress | None = None
) -> Evaluation:
    """Embeds the photos and ranks each against all others; `within`: a value for each photo, galleries stay inside it.

    Raises:
        DataError: no photo has another of its identity in its gallery.
    """
    embeddings = embed_photos(embedder, photos.prepared, progress)
    return rank_photos(embeddings, photos.identities, within)[1]


def summary(evaluation: Evaluation, *, seed: int = 0) -> dict[str, JsonValue]:
    """The figures of an evaluation as JSON: id_map, its 95 % interval, rank1, queries, skipped, identities, ties."""
    low, high = bootstrap_interval(evaluation.identity_ap, seed=seed)
    return {
        "id_map": evaluation.id_map,
        "id_map_interval": [low, high],
        "rank1": evaluation.rank1,
        "queries": evaluation.queries,
        "skipped": evaluation.skipped,
        "identities": len(evaluation.identity_ap),
        "ties": evaluation.ties,
    }


@dataclass(frozen=True)
class Seen:
    """What a bundle was trained on, from its `split.csv`: the part of each photo by sha256, and the protocol."""

    parts: dict[str, str]
    protocol: str | None


def read_split(bundle: Path) -> Seen:
    """A bundle's `split.csv`.

    Raises:
        BundleError: there is none, so that nobody can tell which photos the model has seen; or it is damaged.
    """
    try:
        text = (bundle / SPLIT).read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        parts = {row["sha256"]: row["part"] for row in rows}
        protocols = {row["protocol"] for row in rows}
    except OSError as error:
        raise BundleError(
            f"bundle {bundle.name}: {SPLIT} cannot be read: {error.strerror}; without it nobody can tell"
            " which photos the model has seen"
        ) from error
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise BundleError(f"bundle {bundle.name}: {SPLIT} is damaged") from error
    return Seen(parts, min(protocols, default=None))


@dataclass(frozen=True)
class Measured:
    """A bundle on N photos that it was not trained on.

    within, groups: the column that galleries stay inside, and its value for each photo; None is one gallery for all.
    embeddings: (N, D). similarity: (N, N) in [0, 1]. figures: what `jaguar-train evaluate` prints.
    """

    model: LoadedModel
    photos: PhotoSet
    within: str | None
    groups: list[str] | None
    embeddings: Float32
    similarity: Float64
    evaluation: Evaluation
    figures: dict[str, JsonValue]


def evaluate_bundle(
    bundle: Path, data: Path, *, within: str | None = None, explain: bool = False, progress: Progress | None = None
) -> dict[str, JsonValue]:
    """A bundle on a data set -> the JSON that `jaguar-train evaluate` prints and writes. Nothing is written here.

    Raises:
        BundleError, DataError, TableError: as the readers say.
    """
    return measure_bundle(bundle, data, within=within, explain=explain, progress=progress).figures


def measure_bundle(
    bundle: Path, data: Path, *, within: str | None = None, explain: bool = False, progress: Progress | None = None
) -> Measured:
    """A bundle on a folder of photos, as `measure_photos`.

    Raises:
        BundleError, DataError, TableError: as the readers say.
    """
    model = load_model(bundle)
    read_split(bundle)  # a bundle that cannot be measured is told of before any photo is read
    photos = load_photos(data, model.manifest.preprocess, progress)
    return measure_photos(bundle, model, photos, within=within, explain=explain, progress=progress)


def measure_photos(
    bundle: Path,
    model: LoadedModel,
    photos: PhotoSet,
    *,
    within: str | None = None,
    explain: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """A bundle on photos that are decoded already.

    On photos that the model never saw: `zero-shot` over all of them. Otherwise its training photos are left out and
    the row of its own protocol is filled; the others are null, with the reason. explain: examine its heat maps as well.

    Raises:
        BundleError: no split to tell seen from unseen by. DataError: nothing to measure.
    """
    seen = read_split(bundle)
    known = [row for row, digest in enumerate(photos.sha256) if digest in seen.parts]
    rows = [row for row, digest in enumerate(photos.sha256) if seen.parts.get(digest) != "train"]
    if not rows:
        raise DataError(f"all {len(photos)} photos were trained on; there is nothing to measure")
    used = photos.part(rows)
    groups = used.column(within) if within else None
    embeddings = embed_photos(model.embedder, used.prepared, progress)
    similarity, evaluation = rank_photos(embeddings, used.identities, groups)
    sanity = {"explanation": explanation_sanity(bundle, used, progress=progress)} if explain else {}
    figures: dict[str, JsonValue] = {
        "bundle": model.manifest.name,
        "model_version": model.version,
        "data_fingerprint": photos.fingerprint,
        "photos": len(photos),
        "left_out": len(photos) - len(rows),
        "within": within,
        "protocols": _rows(seen, summary(evaluation), unseen=not known),
        **sanity,
    }
    return Measured(model, used, within, groups, embeddings, similarity, evaluation, figures)


def _rows(seen: Seen, figures: dict[str, JsonValue], *, unseen: bool) -> dict[str, JsonValue]:
    own = ZERO_SHOT if unseen else seen.protocol
    rows: dict[str, JsonValue] = {}
    for protocol in (*PROTOCOLS, ZERO_SHOT):
        if protocol == own:
            rows[protocol] = figures
        elif unseen:
            rows[protocol] = {"id_map": None, "reason": "the model never saw these photos: see zero-shot"}
        elif protocol == ZERO_SHOT:
            rows[protocol] = {"id_map": None, "reason": "the model was trained or chosen on some of these photos"}
        else:
            reason = (
                f"the model was trained under the {own} split; a figure under {protocol} takes a model trained under it"
            )
            rows[protocol] = {"id_map": None, "reason": reason}
    return rows
