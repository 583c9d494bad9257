"""`fit --seeds N`: the same run under N seeds, to see how far chance alone moves its figure."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

from app.reid.errors import ConfigError
from training.config import TrainConfig
from training.data import load_photos
from training.distributed import ALONE, World
from training.fit import FitResult, fit_photos, report_runs, start_runs
from training.report.protocols import SEEDS, Seeds
from training.split import split_photos
from training.state import RunFolder, replace_file
from training.train import Watcher


def fit_seeds(
    config: TrainConfig,
    data: Path,
    out: Path,
    run: Path,
    seeds: int,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    world: World = ALONE,
) -> list[FitResult]:
    """Trains under the config's seed and those that follow it, in `run/seedK`, and writes `run/seeds.json`.

    All runs share the split that the config's own seed draws, so that the spread is that of training alone. The first
    seed's bundle becomes `out`, whatever its figure; the others stay in their run's folder.

    Raises:
        ConfigError: fewer than two seeds, which have no spread. Else as `fit`.
    """
    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: a spread takes at least two")
    watcher = watcher or Watcher()
    numbers = [config.seed + number for number in range(seeds)]
    runs = [run / f"seed{number}" for number in numbers]
    outs = [out, *(folder / out.name for folder in runs[1:])]
    folders = start_runs(outs, runs, resume=resume, world=world)
    photos = load_photos(data, config.preprocess, watcher.on_photos)
    split = split_photos(photos, config.split, config.preprocess, config.seed)
    results = []
    for number, target, folder in zip(numbers, outs, folders, strict=True):
        own = config.model_copy(update={"seed": number})
        result = fit_photos(own, photos, target, folder, watcher, split=split, world=world)
        results.append(replace(result, label=f"{result.label}, seed {number}"))
    spread = seed_spread(numbers, [float(str(result.metrics["id_map"])) for result in results])
    if world.leads:
        text = json.dumps(spread.model_dump(), indent=2) + "\n"
        replace_file(run / SEEDS, lambda file: file.write(text.encode()))
    report_runs(results[:1], photos, [RunFolder(run)], watcher, world)  # with the spread
    return results


def seed_spread(seeds: list[int], id_map: list[float]) -> Seeds:
    """Two seeds at least, each with its id-mAP -> mean and sample standard deviation."""
    return Seeds(seeds=seeds, id_map=id_map, mean=statistics.mean(id_map), sd=statistics.stdev(id_map))
