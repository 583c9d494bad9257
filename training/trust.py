"""What a bundle's manifest says of its own scores: written here, after measuring, and nowhere else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.reid.bundle import open_bundle, update_bundle
from app.reid.calibration import Calibration
from app.reid.embedder import LoadedModel
from app.reid.errors import DataError
from app.reid.postprocess import Postprocess
from app.reid.similarity import cosine_matrix, unit_interval
from training import postprocessing
from training.calibrate import MIN_IDENTITIES, Figures, Fitted, TooFew, fit_calibration
from training.data import PhotoSet, Progress
from training.evaluate import embed_photos
from training.held_out import load_held_out

# Of more, so many are drawn: similarities of all pairs are kept in memory.
MAX_PHOTOS = 4_000
_NO_USE = "these similarities do not tell pairs apart: the log-loss is not surely below the constant predictor's"


@dataclass(frozen=True)
class Calibrated:
    """The figures of a calibration, and whether the bundle has it now; `why_not` where it has not."""

    figures: Figures
    why_not: str | None


def calibrate_bundle(
    folder: Path, data: Path, *, within: str | None = None, seed: int = 0, progress: Progress | None = None
) -> Calibrated:
    """Fits a calibration on photos that the bundle was not trained on, and writes it into the manifest.

    within: a column; pairs are of photos with the same value in it. A calibration that is no better than to say one
    half of every pair is not written, and the bundle stays as it is.

    Raises:
        BundleError, DataError, TableError: as the readers say; too few identities.
    """
    held_out = load_held_out(folder, data, identities=MIN_IDENTITIES, most=MAX_PHOTOS, seed=seed, progress=progress)
    fitted = _fit_curve(held_out.model, held_out.photos, within, seed, progress)
    if isinstance(fitted, TooFew):
        raise DataError(f"{fitted.reason}; the bundle stays as it is. Measured on: {held_out.whose}")
    facts: Figures = {"measured_on": held_out.whose, "photos": len(held_out.photos), "within": within, "seed": seed}
    figures: Figures = {**fitted.figures, **facts, "data_fingerprint": held_out.fingerprint}
    if not fitted.helps:
        return Calibrated(figures, _NO_USE)
    version = held_out.model.version
    write_fitted(folder, version, calibration=Calibration.fitted(version, fitted.curve, fitted.thresholds, figures))
    return Calibrated(figures, None)


def judge_fit(
    model: LoadedModel, validation: PhotoSet, *, unseen: bool, seed: int
) -> tuple[Calibration | None, Postprocess]:
    """What a run's own validation photos say of its model: for the manifest of the bundle that it ends with.

    unseen: whether the model was trained on none of their identities; without that, there is no calibration. Nor is
    there with too few identities, or where it would not help; `jaguar-train calibrate` says why.

    Raises:
        DataError: no identity has two photos.
    """
    facts: Figures = {"measured_on": "the validation photos of the run", "photos": len(validation), "seed": seed}
    steps = measure_steps(model, validation, seed=seed)
    steps = steps.model_copy(update={"measured": {**steps.measured, **facts}})
    fitted = _fit_curve(model, validation, None, seed, None) if unseen and len(validation) <= MAX_PHOTOS else None
    if not isinstance(fitted, Fitted) or not fitted.helps:
        return None, steps
    return Calibration.fitted(model.version, fitted.curve, fitted.thresholds, {**fitted.figures, **facts}), steps


def _fit_curve(
    model: LoadedModel, photos: PhotoSet, within: str | None, seed: int, progress: Progress | None
) -> Fitted | TooFew:
    embeddings = embed_photos(model.embedder, photos.prepared, progress)
    similarity = unit_interval(cosine_matrix(embeddings, embeddings))
    groups = photos.column(within) if within else None
    return fit_calibration(similarity, photos.identities, within=groups, seed=seed)


def postprocess_bundle(
    folder: Path, data: Path, *, within: str | None = None, seed: int = 0, progress: Progress | None = None
) -> Postprocess:
    """Measures which post-processing is worth it, on photos that the bundle was not trained on, and writes that down.

    Raises:
        BundleError, DataError, TableError: as the readers say; no identity has two photos.
    """
    enough, most = postprocessing.MIN_IDENTITIES, postprocessing.MAX_PHOTOS
    held_out = load_held_out(folder, data, identities=enough, most=most, seed=seed, progress=progress)
    steps = measure_steps(held_out.model, held_out.photos, within=within, seed=seed, progress=progress)
    facts: Figures = {"measured_on": held_out.whose, "within": within, "seed": seed}
    measured = {**steps.measured, **facts, "data_fingerprint": held_out.fingerprint}
    steps = steps.model_copy(update={"measured": measured})
    write_fitted(folder, held_out.model.version, postprocess=steps)
    return steps


def measure_steps(
    model: LoadedModel,
    photos: PhotoSet,
    *,
    within: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Postprocess:
    """Which steps are worth it with a model, on photos that it was not trained on; of too many, some are drawn.

    Raises:
        DataError: no identity has two photos.
    """
    rows = np.random.default_rng((seed, 9)).permutation(len(photos))[: postprocessing.MAX_PHOTOS]
    some = photos.part(sorted(rows.tolist()))
    groups = some.column(within) if within else None
    own = embed_photos(model.embedder, some.prepared, progress)
    mirrored = embed_photos(model.embedder, [pixels[:, ::-1] for pixels in some.prepared], progress)
    try:
        return postprocessing.choose_steps(
            postprocessing.Judge.of(some.identities, own, mirrored, groups), model.version, seed=seed
        )
    except ValueError as error:
        raise DataError(str(error)) from error


def write_fitted(folder: Path, model_version: str, **fields: Calibration | Postprocess) -> None:
    """Replaces fields of a manifest that were fitted for its weights; others that were for other weights go.

    Raises:
        BundleError: as `update_bundle`.
    """
    manifest = open_bundle(folder).manifest
    before = {"calibration": manifest.calibration, "postprocess": manifest.postprocess}
    valid = {name: value if value and value.model_version == model_version else None for name, value in before.items()}
    update_bundle(folder, manifest.model_copy(update={**valid, **fields}), {})
