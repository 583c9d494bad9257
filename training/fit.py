"""`jaguar-train fit`: photos with names -> a bundle, under one protocol or under several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from app.reid.bundle import SPLIT, open_bundle, save_bundle
from app.reid.embedder import load_model
from app.reid.errors import DataError
from app.reid.network import EmbeddingModel, load_weights
from training.config import Protocol, TrainConfig
from training.data import PhotoSet, check_trainable, load_photos
from training.distributed import ALONE, World
from training.evaluate import evaluate_photos, summary
from training.export import export_bundle
from training.report import report_run
from training.split import Split, split_photos
from training.state import BEST, STATE, RunFolder, check_places
from training.train import Trainer, Watcher
from training.trust import judge_fit


@dataclass(frozen=True)
class FitResult:
    """Where a run's bundle is, and its figures as `evaluate.summary` gives them, with the best epoch.

    label: what tells the runs of one command apart: their protocol, fold or seed.
    """

    bundle: Path
    label: str
    metrics: dict[str, JsonValue]


def fit(
    config: TrainConfig,
    data: Path,
    out: Path,
    run: Path,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    world: World = ALONE,
) -> FitResult:
    """Trains under the config's protocol and writes the bundle; its figures come from the bundle itself, through ONNX.

    Under torchrun every rank calls this, and all get the same answer.

    Raises:
        ConfigError, BundleError, DataError, TableError: as the parts say, all of it before the first step where the
            input is at fault.
    """
    watcher = watcher or Watcher()
    (folder,) = start_runs([out], [run], resume=resume, world=world)
    photos = load_photos(data, config.preprocess, watcher.on_photos)
    result = fit_photos(config, photos, out, folder, watcher, world=world)
    report_runs([result], photos, [folder], watcher, world)
    return result


def fit_protocols(
    config: TrainConfig,
    data: Path,
    out: Path,
    run: Path,
    protocols: Sequence[Protocol],
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    world: World = ALONE,
) -> list[FitResult]:
    """Trains once for each protocol, in `run/PROTOCOL`; the first one's bundle becomes `out`, the others stay there.

    Raises:
        As `fit`.
    """
    watcher = watcher or Watcher()
    outs = [out, *(run / protocol / out.name for protocol in protocols[1:])]
    folders = start_runs(outs, [run / protocol for protocol in protocols], resume=resume, world=world)
    photos = load_photos(data, config.preprocess, watcher.on_photos)
    results = []
    for protocol, target, folder in zip(protocols, outs, folders, strict=True):
        own = config.model_copy(update={"split": config.split.model_copy(update={"protocol": protocol})})
        results.append(fit_photos(own, photos, target, folder, watcher, world=world))
    sisters = {result.label: result.metrics for result in results}
    report_runs(results, photos, folders, watcher, world, sisters=sisters)
    return results


def report_runs(
    results: Sequence[FitResult],
    photos: PhotoSet,
    folders: Sequence[RunFolder],
    watcher: Watcher,
    world: World,
    *,
    sisters: Mapping[str, Mapping[str, JsonValue]] | None = None,
) -> None:
    """`report.html` and `report.json` of each run, in its folder and its bundle's; sisters: see `report.collect`."""
    for result, folder in zip(results, folders, strict=True):
        write = partial(report_run, result.bundle, photos, folder.path, sisters=sisters, stage=watcher.on_report)
        world.from_lead(write)


def start_runs(outs: Sequence[Path], runs: Sequence[Path], *, resume: bool, world: World) -> list[RunFolder]:
    """The folders of some runs, once none of them and none of their bundles would overwrite anything else.

    Raises:
        ConfigError, BundleError: one would; nothing was made then.
    """
    check_places(outs, runs)
    folders = [RunFolder(run) for run in runs]
    for writes in (False, world.leads):
        for folder in folders:
            folder.start(resume=resume, writes=writes)
    return folders


def fit_photos(
    config: TrainConfig,
    photos: PhotoSet,
    out: Path,
    run: RunFolder,
    watcher: Watcher,
    *,
    split: Split | None = None,
    world: World = ALONE,
) -> FitResult:
    """`fit` on photos that are decoded already, in a run folder that was started. Goes on where its state says.

    split: in place of the one that the config and its seed draw.
    """
    check_trainable(photos.identities)
    split = split or split_photos(photos, config.split, config.preprocess, config.seed)
    trainer = Trainer(config, photos, split, world)
    state = run.load(STATE)
    if state is not None:
        trainer.resume(state)
    if world.leads:
        run.write_text(SPLIT, split.to_csv(photos))
        run.keep_metrics(trainer.progress.step)
    trainer.fit(run, watcher)
    metrics = world.from_lead(lambda: _export_best(config, photos, split, out, run))
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
    served = load_model(draft)
    figures = summary(evaluate_photos(served.embedder, validation), seed=config.seed)
    metrics: dict[str, JsonValue] = {"protocol": split.protocol, "best_epoch": best["epoch"], **figures}
    bundle = open_bundle(draft)
    unseen = split.protocol == "identity"
    calibration, postprocess = judge_fit(served, validation, unseen=unseen, seed=config.seed)
    fields = {"name": out.name, "metrics": metrics, "calibration": calibration, "postprocess": postprocess}
    manifest = bundle.manifest.model_copy(update=fields)
    files = {name: bundle.read(name) for name in manifest.files}
    save_bundle(out, manifest, {**files, SPLIT: (draft / SPLIT).read_bytes()})
    return metrics
