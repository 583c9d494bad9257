"""The loss table: short identity-disjoint runs from one bundle, each loss under the same seeds, splits and batches.

    python tests/bench/losses.py --data ../shared/data/nyala ../shared/data/holstein --seeds 3

Every run is `fit`'s training of `--steps` steps, without a bundle, evaluated once, at its end, so that no loss gains by
choosing among epochs. A seed decides split and batches, the same for all losses; so the table gives, beside mean and
standard deviation of id-mAP over the seeds, those of the paired difference to cross-entropy. Each finished run is a
line of `--runs`; what stands there is not run again, unless the config, the photos or the start weights have changed.
"""

import argparse
import json
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rounds import append, fingerprints, finished

from app.reid.spec import PreprocessSpec
from training.config import TrainConfig, load_config
from training.data import PhotoSet, load_photos
from training.split import split_photos
from training.state import RunFolder
from training.train import Trainer, Watcher

ROOT = Path(__file__).parents[2]
PLAIN = "cross-entropy"
LOSSES: dict[str, list[str]] = {
    PLAIN: [],
    "cross-entropy, scaled cosine": ['loss.head="cosine"'],
    "arcface": ['loss.kind="arcface"'],
    "arcface, margin 0.3": ['loss.kind="arcface"', "loss.arcface_margin=0.3"],
    "cosface": ['loss.kind="cosface"'],
    "triplet": ['loss.kind="triplet"'],
    "supcon": ['loss.kind="supcon"'],
    "cross-entropy + triplet": ["loss.terms={cross_entropy = 1.0, triplet = 1.0}"],
    "cross-entropy + supcon": ["loss.terms={cross_entropy = 1.0, supcon = 1.0}"],
    "arcface + triplet": ["loss.terms={arcface = 1.0, triplet = 1.0}"],
}


def settings(arguments: argparse.Namespace, loss: str, seed: int) -> TrainConfig:
    """One run's config: a single epoch, warmed up over its first tenth."""
    overrides = [
        f"seed={seed}", f"preprocess.size={arguments.size}", f"sampler.identities={arguments.identities}",
        f"sampler.photos={arguments.photos}", f"sampler.steps={arguments.steps}", "split.protocol=identity",
        f"split.validation={arguments.validation}", "optim.epochs=1", "optim.warmup_epochs=0.1",
        f'model.pretrained="{arguments.start}"', "loss.terms={}", *LOSSES[loss], *arguments.set,
    ]  # fmt: skip
    return load_config(arguments.config, overrides)


@cache
def photos_of(data: Path, spec: PreprocessSpec) -> PhotoSet:
    """Decoded once for all runs of a data set."""
    return load_photos(data, spec)


def train(config: TrainConfig, photos: PhotoSet) -> dict[str, float]:
    """One run's id-mAP and rank-1 on the photos of the validation animals."""
    with tempfile.TemporaryDirectory(prefix="losses-") as folder:
        run = RunFolder(Path(folder))
        run.start(resume=False)
        Trainer(config, photos, split_photos(photos, config.split, config.preprocess, config.seed)).fit(run, Watcher())
        last = run.metrics()[-1]
        return {name: last[name] for name in ("id_map", "rank1")}


def run_one(arguments: argparse.Namespace, data: Path, loss: str, seed: int, known: dict[tuple, dict]) -> dict:
    """A finished run's record: found, or made now."""
    config = settings(arguments, loss, seed)
    prints = fingerprints(config, data, arguments.start)
    key = (data.name, loss, seed, *prints.values())
    if key in known:
        return known[key]
    photos = photos_of(data, config.preprocess)
    started = time.perf_counter()
    figures = train(config, photos)
    record = {
        "data": data.name, "loss": loss, "seed": seed, **prints, **figures,
        "seconds": round(time.perf_counter() - started, 1), "threads": torch.get_num_threads(),
    }  # fmt: skip
    append(arguments.runs, record)
    return record


def mean_and_spread(values: list[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation; no spread of a single value."""
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each data set and loss: id-mAP over the seeds, and its difference to cross-entropy's, seed by seed."""
    figures = {(record["data"], record["loss"], record["seed"]): record["id_map"] for record in records}
    rows = []
    for data, loss in dict.fromkeys((record["data"], record["loss"]) for record in records):
        own = {seed: value for (where, name, seed), value in figures.items() if (where, name) == (data, loss)}
        paired = [value - figures[data, PLAIN, seed] for seed, value in own.items() if (data, PLAIN, seed) in figures]
        rows.append(
            {
                "data": data,
                "loss": loss,
                "seeds": sorted(own),
                "id_map": mean_and_spread(list(own.values())),
                "over_cross_entropy": mean_and_spread(paired) if paired and loss != PLAIN else None,
            }
        )
    return rows


def text(figure: dict[str, float | None] | None, sign: str = "") -> str:
    if figure is None:
        return ""
    spread = "" if figure["sd"] is None else f" ± {figure['sd']:.4f}"
    return f"{figure['mean']:{sign}.4f}{spread}"


def show(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'data':<10} {'loss':<30} {'seeds':>5}  {'id-mAP':<18} over cross-entropy, paired")
    for row in rows:
        count, figure, over = len(row["seeds"]), text(row["id_map"]), text(row["over_cross_entropy"], "+")
        print(f"{row['data']:<10} {row['loss']:<30} {count:>5}  {figure:<18} {over}")


def parse() -> argparse.Namespace:
    shared = ROOT.parent / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[shared / "nyala", shared / "holstein"])
    parser.add_argument("--losses", nargs="+", choices=[*LOSSES], default=[*LOSSES], metavar="LOSS")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--identities", type=int, default=8)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--validation", type=float, default=0.3)
    parser.add_argument("--start", default=str(ROOT / "model_store" / "default"), help="a bundle, or none")
    parser.add_argument("--config", type=Path, default=ROOT / "training" / "configs" / "convnext_atto.toml")
    parser.add_argument("--set", action="append", default=[], help="key=value for every run")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "losses.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "losses.json")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    known = {
        (run["data"], run["loss"], run["seed"], run["config"], run["table"], run["start"]): run
        for run in finished(arguments.runs)
    }
    records = []
    for seed in range(arguments.seeds):  # seed by seed: whenever it ends, the losses can be compared
        for data in arguments.data:
            for loss in arguments.losses:
                record = run_one(arguments, data, loss, seed, known)
                records.append(record)
                print(
                    f"{data.name}, {loss}, seed {seed}: id-mAP {record['id_map']:.4f}, {record['seconds']} s",
                    flush=True,
                )
    rows = table(records)
    show(rows)
    asked = {
        name: str(value) for name, value in vars(arguments).items() if name in {"steps", "size", "identities", "photos"}
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**asked, "rows": rows, "runs": records}, indent=2) + "\n", encoding="utf-8")
    print(f"\n{arguments.out}")


if __name__ == "__main__":
    main()
