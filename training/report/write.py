"""Where reports go: into a folder for whoever asked, into a run's folder, and beside a bundle's weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter

from app.reid.bundle import update_bundle
from app.reid.embedder import load_model
from app.reid.errors import ConfigError
from training.data import PhotoSet
from training.evaluate import Measured, measure_photos
from training.report.collect import Report, Stage, collect
from training.report.gallery import thumbnails
from training.report.page import render_page

HTML, JSON = "report.html", "report.json"
FORMAT, VERSION = "jaguar-reid-report", 1


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Nobody watches."""


def write_report(
    measured: Measured,
    out: Path,
    *,
    sisters: Mapping[str, Mapping[str, JsonValue]] | None = None,
    run: Path | None = None,
    stage: Stage = _silent,
) -> Report:
    """Puts `report.html` and `report.json` into a folder, which is made if it is not there.

    The page shows small copies of the best and worst queries' photos. See `collect` for the rest.

    Raises:
        ConfigError: the folder cannot be written. As `collect`.
    """
    report = collect(measured, sisters=sisters or {}, run=run, stage=stage)
    source, shown = measured.photos.source, report.gallery.filenames()
    pictures = thumbnails(source, shown, measured.model.manifest.preprocess) if source is not None else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / JSON).write_text(to_json(report, measured.figures), encoding="utf-8")
        (out / HTML).write_text(render_page(report, measured.figures, pictures), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {out}: {error.strerror}") from error
    return report


def report_run(
    bundle: Path,
    photos: PhotoSet,
    run: Path,
    *,
    sisters: Mapping[str, Mapping[str, JsonValue]] | None = None,
    stage: Stage = _silent,
) -> None:
    """The report of a bundle that was just trained, on its validation photos: in the run's folder and in the bundle's.

    The bundle's copy shows no photos: bundles are handed on, and pictures of rare animals tell where they live.

    Raises:
        BundleError: the bundle is not there, or the disk is full. As `write_report`.
    """
    model = load_model(bundle)
    measured = measure_photos(bundle, model, photos, progress=lambda done, total: stage("embedding", done, total))
    report = write_report(measured, run, sisters=sisters, run=run, stage=stage)
    files = {HTML: render_page(report, measured.figures, {}), JSON: to_json(report, measured.figures)}
    update_bundle(bundle, model.manifest, {name: text.encode() for name, text in files.items()})


def to_json(report: Report, figures: Mapping[str, JsonValue]) -> str:
    """`report.json`: what `evaluate` prints, and every section; an unknown one is `{"reason": ...}`."""
    sections: dict[str, Any] = TypeAdapter(Report).dump_python(report, mode="json")
    whole = {"format": FORMAT, "version": VERSION, "figures": figures, **sections}
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"
