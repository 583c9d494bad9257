"""The protocols side by side: measured where that is honest, else null with the reason; and the spread of seeds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, JsonValue, ValidationError

from app.reid.errors import DataError
from app.reid.metric import identity_balanced_map
from training.evaluate import Measured
from training.report.values import Estimate, Unknown

SEEDS = "seeds.json"


class Seeds(BaseModel):
    """`seeds.json`: the id-mAP of the same run with each seed, with their mean and standard deviation."""

    seeds: list[int]
    id_map: list[float]
    mean: float
    sd: float


@dataclass(frozen=True)
class Row:
    """One protocol. from_run: whether the figures are those of a sister model, trained in the same run."""

    protocol: str
    id_map: Estimate | Unknown
    rank1: float | None = None
    queries: int | None = None
    identities: int | None = None
    skipped: int | None = None
    ties: int | None = None
    from_run: bool = False


@dataclass(frozen=True)
class Protocols:
    """The rows; chance: the id-mAP of random scores on the same photos and galleries; seeds: None where not measured.

    trained_on: the protocol of the run that the seeds are of.
    """

    rows: list[Row]
    chance: float
    trained_on: str | None
    seeds: Seeds | None


def compare_protocols(
    measured: Measured, sisters: Mapping[str, Mapping[str, JsonValue]], run: Path | None, seed: int
) -> Protocols:
    """The figures of an evaluation, those of sister models by protocol, and the run's seeds.

    Raises:
        DataError: `seeds.json` is damaged.
    """
    figures: Any = measured.figures["protocols"]
    rows = []
    for protocol, found in figures.items():
        sister = found["id_map"] is None and protocol in sisters
        rows.append(_row(protocol, sisters[protocol] if sister else found, from_run=sister))
    noise = np.random.default_rng(seed).random(measured.similarity.shape)
    chance = identity_balanced_map(noise, measured.photos.identities, within=measured.groups).id_map
    trained_on = measured.model.manifest.metrics.get("protocol")
    seeds = _own_seeds(measured, run) if run else None
    return Protocols(rows, chance, str(trained_on) if trained_on else None, seeds)


def _own_seeds(measured: Measured, run: Path) -> Seeds | None:
    """The spread of this very model's run: a folder of the same name may hold that of another one."""
    seeds = read_seeds(run)
    return seeds if seeds and measured.model.manifest.metrics.get("id_map") in seeds.id_map else None


def read_seeds(run: Path) -> Seeds | None:
    """A run folder's `seeds.json`; None if there is none.

    Raises:
        DataError: it is damaged.
    """
    path = run / SEEDS
    if not path.is_file():
        return None
    try:
        return Seeds.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(f"{path} is damaged; remove it, or measure the seeds again with `fit --seeds`") from error


def _row(protocol: str, found: Mapping[str, Any], *, from_run: bool) -> Row:
    if found["id_map"] is None:
        return Row(protocol, Unknown(found["reason"]))
    low, high = found["id_map_interval"]
    estimate = Estimate(found["id_map"], low, high)
    counts = (found["rank1"], found["queries"], found["identities"], found["skipped"], found["ties"])
    return Row(protocol, estimate, *counts, from_run)
