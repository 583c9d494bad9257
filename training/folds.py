"""`fit --folds N`: every photo validates one of N models and trains the others."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.reid.errors import ConfigError, DataError
from app.reid.spec import PreprocessSpec
from training.config import SplitConfig, TrainConfig
from training.data import PhotoSet, load_photos
from training.distributed import ALONE, World
from training.fit import FitResult, fit_photos, report_runs, start_runs
from training.split import Split, check_split, find_groups
from training.train import Watcher

ALWAYS_TRAINS = -1


def fit_folds(
    config: TrainConfig,
    data: Path,
    out: Path,
    run: Path,
    folds: int,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    world: World = ALONE,
) -> list[FitResult]:
    """Trains a model for each fold under the config's protocol, in `run/foldK`; its bundle is `OUT-foldK`.

    Raises:
        ConfigError: fewer than two folds. DataError: too few photos or identities for so many. Else as `fit`.
    """
    if folds < 2:
        raise ConfigError(f"--folds {folds}: at least two are needed")
    watcher = watcher or Watcher()
    numbers = range(1, folds + 1)
    outs = [out.with_name(f"{out.name}-fold{number}") for number in numbers]
    folders = start_runs(outs, [run / f"fold{number}" for number in numbers], resume=resume, world=world)
    photos = load_photos(data, config.preprocess, watcher.on_photos)
    splits = fold_splits(photos, config.split, config.preprocess, config.seed, folds)
    results = []
    for number, target, folder, split in zip(numbers, outs, folders, splits, strict=True):
        result = fit_photos(config, photos, target, folder, watcher, split=split, world=world)
        results.append(replace(result, label=f"{result.label}, fold {number}"))
    report_runs(results, photos, folders, watcher, world)
    return results


def fold_splits(photos: PhotoSet, config: SplitConfig, spec: PreprocessSpec, seed: int, folds: int) -> list[Split]:
    """The split of each fold; the same photos, config and seed give the same folds.

    Under the identity protocol whole identities are dealt, so that the folds have about as many photos. Under the
    others each identity's photos or bursts are, so that it has about as many in each fold. What cannot be dealt (an
    identity's only photo, or only burst) always trains.

    Raises:
        DataError: a fold has nothing to measure on, or leaves nothing to train on.
    """
    chance = np.random.default_rng((seed, 4))
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for group in find_groups(photos, config, spec):
        if config.protocol != "identity":
            strata[photos.identities[group[0]]].append(group)
        elif len(group) >= 2:
            strata[""].append(group)
    fold_of = _deal([strata[name] for name in chance.permutation(sorted(strata))], len(photos), folds, chance)
    splits = [
        Split(config.protocol, ["validation" if fold == number else "train" for fold in fold_of])
        for number in range(folds)
    ]
    for number, split in enumerate(splits, start=1):
        try:
            check_split(split, photos)
        except DataError as error:
            raise DataError(f"fold {number} of {folds}: {error}; or fewer folds") from error
    return splits


def _deal(strata: Sequence[list[list[int]]], photos: int, folds: int, chance: np.random.Generator) -> list[int]:
    """The fold of each photo: groups, large ones first, to where their stratum has fewest photos, or else all have."""
    fold_of = [ALWAYS_TRAINS] * photos
    total = [0] * folds
    for groups in strata:
        if len(groups) < 2:
            continue
        own = [0] * folds
        shuffled = [groups[number] for number in chance.permutation(len(groups))]
        for group in sorted(shuffled, key=len, reverse=True):
            fold = min(range(folds), key=lambda number: (own[number], total[number]))
            own[fold] += len(group)
            total[fold] += len(group)
            for row in group:
                fold_of[row] = fold
    return fold_of
