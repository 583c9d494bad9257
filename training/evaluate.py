"""id-mAP and its company: of photos through an embedder, and of a bundle on a data set (design section 8)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from app.reid.bundle import SPLIT
from app.reid.embedder import Embedder, load_model
from app.reid.errors import BundleError, DataError
from app.reid.metric import Evaluation, bootstrap_interval, identity_balanced_map
from app.reid.similarity import cosine_matrix, unit_interval
from training.config import PROTOCOLS
from training.data import PhotoSet, Progress, load_photos
from training.explanation import explanation_sanity

ZERO_SHOT = "zero-shot"


def evaluate_photos(
    embedder: Embedder, photos: PhotoSet, *, within: Sequence[str] | None = None, progress: Progress | None = None
) -> Evaluation:
    """Embeds the photos and ranks each against all others; `within`: a value for each photo, galleries stay inside it.

    Raises:
        DataError: no photo has another of its identity in its gallery.
    """
    step = max(embedder.batch_size, 16)
    parts = []
    for start in range(0, len(photos), step):
        parts.append(embedder.embed_prepared(photos.prepared[start : start + step]))
        if progress:
            progress(min(len(photos), start + step), len(photos))
    embeddings = np.concatenate(parts)
    try:
        similarity = unit_interval(cosine_matrix(embeddings, embeddings))
        return identity_balanced_map(similarity, photos.identities, within=within)
    except ValueError as error:
        raise DataError(str(error)) from error


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


def evaluate_bundle(
    bundle: Path, data: Path, *, within: str | None = None, explain: bool = False, progress: Progress | None = None
) -> dict[str, JsonValue]:
    """A bundle on a data set -> the JSON that `jaguar-train evaluate` prints and writes. Nothing is written here.

    On photos that the model never saw: `zero-shot` over all of them. Otherwise its training photos are left out and
    the row of its own protocol is filled; the others are null, with the reason. explain: examine its heat maps as well.

    Raises:
        BundleError, DataError, TableError: as the readers say.
    """
    model = load_model(bundle)
    seen = read_split(bundle)
    photos = load_photos(data, model.manifest.preprocess, progress)
    known = [row for row, digest in enumerate(photos.sha256) if digest in seen.parts]
    rows = [row for row, digest in enumerate(photos.sha256) if seen.parts.get(digest) != "train"]
    if not rows:
        raise DataError(f"all {len(photos)} photos were trained on; there is nothing to measure")
    used = photos.part(rows)
    groups = used.column(within) if within else None
    figures = summary(evaluate_photos(model.embedder, used, within=groups, progress=progress))
    sanity = {"explanation": explanation_sanity(bundle, used, progress=progress)} if explain else {}
    return {
        "bundle": model.manifest.name,
        "model_version": model.version,
        "data_fingerprint": photos.fingerprint,
        "photos": len(photos),
        "left_out": len(photos) - len(rows),
        "within": within,
        "protocols": _rows(seen, figures, unseen=not known),
        **sanity,
    }


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
