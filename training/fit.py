"""`jaguar-train fit`: photos with names -> a bundle, under one protocol or under several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from app.reid.bundle import SPLIT, check_replaceable, open_bundle, save_bundle
from app.reid.embedder import load_model
from app.reid.errors import DataError
from app.reid.network import EmbeddingModel, load_weights
from training.config import Protocol, TrainConfig
from training.data import PhotoSet, check_trainable, load_photos
from training.evaluate import evaluate_photos, summary
from training.export import export_bundle
from training.split import Split, split_photos
from training.state import BEST, STATE, RunFolder
from training.train import Trainer, Watcher


@dataclass(frozen=True)
class FitResult:
    """Where a run's bundle is, and its figures as `evaluate.summary` gives them, with the best epoch."""

    bundle: Path
    protocol: Protocol
    metrics: dict[str, JsonValue]


def fit(
    config: TrainConfig, data: Path, out: Path, run: Path, *, resume: bool = False, watcher: Watcher | None = None
) -> FitResult:
    """Trains under the config's protocol and writes the bundle; its figures come from the bundle itself, through ONNX.

    Raises:
        ConfigError, BundleError, DataError, TableError: as the parts say, all of it before the first step where the
            input is at fault.
    """
    check_replaceable(out)
    folder = RunFolder(run)
    folder.start(resume=resume)
    watcher = watcher or Watcher()
    photos = load_photos(data, config.preprocess, watcher.on_photos)
    return fit_photos(config, photos, out, folder, watcher)


def fit_protocols(
    config: TrainConfig,
    data: Path,
    out: Path,
    run: Path,
    protocols: Sequence[Protocol],
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> list[FitResult]:
    """Trains once for each protocol, in `run/PROTOCOL`; the first one's bundle becomes `out`, the others stay there.

    Raises:
        As `fit`.
    """
    check_replaceable(out)
    folders = [RunFolder(run / protocol) for protocol in protocols]
    for folder in folders:
        folder.start(resume=resume)
    watcher = watcher or Watcher()
    photos = load_photos(data, config.preprocess, watcher.on_photos)
    results = []
    for protocol, folder in zip(protocols, folders, strict=True):
        own = config.model_copy(update={"split": config.split.model_copy(update={"protocol": protocol})})
        target = out if protocol == protocols[0] else folder.path / out.name
        results.append(fit_photos(own, photos, target, folder, watcher))
    return results


def fit_photos(config: TrainConfig, photos: PhotoSet, out: Path, run: RunFolder, watcher: Watcher) -> FitResult:
    """`fit` on photos that are decoded already, in a run folder that was started. Goes on where its state says."""
    check_trainable(photos.identities)
    split = split_photos(photos, config.split, config.preprocess, config.seed)
    trainer = Trainer(config, photos, split)
    state = run.load(STATE)
    if state is not None:
        trainer.resume(state)
    run.write_text(SPLIT, split.to_csv(photos))
    run.keep_metrics(trainer.progress.step)
    trainer.fit(run, watcher)
    metrics = _export_best(config, photos, split, out, run)
    return FitResult(out, config.split.protocol, metrics)


def _export_best(
    config: TrainConfig, photos: PhotoSet, split: Split, out: Path, run: RunFolder
) -> dict[str, JsonValue]:
    """The best epoch as a bundle in the run's folder, measured there, then put at `out` with its figures."""
    best = run.load(BEST)
    if best is None:
        raise DataError(f"{run.path / BEST} is gone; remove the folder to start anew")
    model = EmbeddingModel(config.model.spec)
    load_weights(model, best["model"], BEST)
    draft = run.path / "bundle"
    export_bundle(draft, model, config, fingerprint=photos.fingerprint, split_csv=split.to_csv(photos), metrics={})
    validation = photos.part(split.rows("validation"))
    figures = summary(evaluate_photos(load_model(draft).embedder, validation), seed=config.seed)
    metrics: dict[str, JsonValue] = {"protocol": split.protocol, "best_epoch": best["epoch"], **figures}
    bundle = open_bundle(draft)
    manifest = bundle.manifest.model_copy(update={"name": out.name, "metrics": metrics})
    files = {name: bundle.read(name) for name in manifest.files}
    save_bundle(out, manifest, {**files, SPLIT: (draft / SPLIT).read_bytes()})
    return metrics
