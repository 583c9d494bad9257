"""All sections of a report, measured in turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from training.evaluate import Measured
from training.pairs import Pairs, pairs_of
from training.report.background import Background, Collected, measure_background
from training.report.gallery import Gallery, pick_queries
from training.report.histogram import Histograms, compare_pairs
from training.report.mirror import Mirror, measure_mirror
from training.report.novelty import Novelty, measure_novelty
from training.report.originals import foreground_share, read_originals
from training.report.plane import Plane, project
from training.report.protocols import Protocols, compare_protocols
from training.report.provenance import Provenance, trace
from training.report.quality import Facts, Quality, measure_quality, sharpness
from training.report.roc import Roc, measure_roc
from training.report.trust import Trust, measure_trust
from training.report.values import Unknown

Stage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Identity:
    """One animal: its photos, how many of them could ask, and their mean AP; None if none could."""

    name: str
    photos: int
    queries: int
    average_precision: float | None


@dataclass(frozen=True)
class PhotoRow:
    """One photo: what it scored as a query (None if it could not ask), and its quality; None is not known."""

    filename: str
    identity: str
    average_precision: float | None
    sharpness: float | None
    megapixels: float | None
    foreground: float | None


@dataclass(frozen=True)
class Report:
    """A whole report, as `report.json` holds it beside the figures that `evaluate` prints."""

    id_map: float
    protocols: Protocols
    identities: list[Identity]
    histograms: Histograms | Unknown
    roc: Roc | Unknown
    trust: Trust | Unknown
    novelty: Novelty | Unknown
    gallery: Gallery
    plane: Plane
    background: Background | Unknown
    mirror: Mirror | Unknown
    quality: Quality
    photos: list[PhotoRow]
    provenance: Provenance


def collect(
    measured: Measured,
    *,
    sisters: Mapping[str, Mapping[str, JsonValue]],
    run: Path | None,
    seed: int = 0,
    stage: Stage,
) -> Report:
    """Measures everything that a report tells of a bundle on photos.

    sisters: by protocol, the figures of models that were trained in the same command. run: the run's folder, where
    the spread of its seeds stands if it was measured. seed: of all that is drawn.

    Raises:
        DataError: the run's `seeds.json` is damaged. ImageError, LookupFailedError: a photo changed meanwhile.
    """
    identities, groups = measured.photos.identities, measured.groups
    stage("comparing pairs", 0, 0)
    pairs, names = pairs_of(measured.similarity, identities, within=groups)
    histograms, roc, trust, mirror = _pair_sections(measured, pairs, len(names), seed, stage)
    collected, facts = _look_into_files(measured, stage)
    stage("writing the report", 0, 0)
    query_ap = measured.evaluation.query_ap
    return Report(
        id_map=measured.evaluation.id_map,
        protocols=compare_protocols(measured, sisters, run, seed),
        identities=_identities(measured),
        histograms=histograms,
        roc=roc,
        trust=trust,
        novelty=measure_novelty(measured.similarity, identities, groups, seed),
        gallery=pick_queries(measured),
        plane=project(measured.embeddings),
        background=measure_background(measured, collected, seed),
        mirror=mirror,
        quality=measure_quality(facts, query_ap, identities, seed),
        photos=_photo_rows(measured, facts),
        provenance=trace(measured),
    )


def _pair_sections(
    measured: Measured, pairs: Pairs, identities: int, seed: int, stage: Stage
) -> tuple[Histograms | Unknown, Roc | Unknown, Trust | Unknown, Mirror | Unknown]:
    """What takes pairs of both kinds."""
    if pairs.same.all():
        unknown = Unknown("no gallery holds two different animals, so there is no different pair to compare with")
        return unknown, unknown, unknown, unknown
    histograms = compare_pairs(pairs)
    mirror = measure_mirror(
        measured, histograms, seed, lambda done, total: stage("embedding mirror images", done, total)
    )
    stage("measuring trust", 0, 0)
    roc, trust = measure_roc(pairs, identities, seed), measure_trust(measured, pairs, identities, seed)
    return histograms, roc, trust, mirror


def _look_into_files(measured: Measured, stage: Stage) -> tuple[Collected, Facts]:
    """One pass over the files: their sizes and masks, and the embeddings of other backgrounds on the way."""
    photos, spec = measured.photos, measured.model.manifest.preprocess
    megapixels, foreground = np.full((2, len(photos)), np.nan)
    collected = Collected(measured.model.embedder)
    if photos.source is not None:
        for start, originals in read_originals(photos.source, photos.filenames, spec):
            collected.add(start, originals)
            for row, original in enumerate(originals, start=start):
                megapixels[row] = original.width * original.height / 1e6
                if original.cut_out is not None:
                    foreground[row] = foreground_share(original.cut_out)
            stage("changing backgrounds", start + len(originals), len(photos))
    sharp = np.array([sharpness(pixels, spec) for pixels in photos.prepared])
    return collected, Facts(sharp, megapixels, foreground)


def _identities(measured: Measured) -> list[Identity]:
    """By falling AP; those that could not ask last."""
    found: dict[str, list[float]] = {}
    for name, value in zip(measured.photos.identities, measured.evaluation.query_ap.tolist(), strict=True):
        found.setdefault(name, []).append(value)
    own = measured.evaluation.identity_ap
    rows = [
        Identity(name, len(values), int(np.isfinite(values).sum()), own.get(name)) for name, values in found.items()
    ]
    return sorted(rows, key=lambda row: -1.0 if row.average_precision is None else row.average_precision, reverse=True)


def _photo_rows(measured: Measured, facts: Facts) -> list[PhotoRow]:
    photos = measured.photos
    columns = (measured.evaluation.query_ap, facts.sharpness, facts.megapixels, facts.foreground)
    known = [[None if np.isnan(value) else round(float(value), 6) for value in column] for column in columns]
    return [PhotoRow(*row) for row in zip(photos.filenames, photos.identities, *known, strict=True)]
