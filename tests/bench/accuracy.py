"""`fit` against the documented ArcFace training of wildlife-tools, and against its own start from random weights.

    python tests/bench/accuracy.py --data ../shared/data/nyala --within side --seeds 5

In each round, for one seed: the same identity-disjoint split, the same start weights (a bundle's, backbone and neck),
the same photos at the same size, one after the other on the same machine. `fit` runs `--epochs` epochs of the config;
then wildlife-tools trains for as many of its own epochs as fit into the same wall-clock (its first one is timed; photos
are decoded beforehand for both). What it does is what its documentation shows: RandAugment(2, 20), ArcFace with margin
0.5 and scale 64, SGD with rate 0.001 and momentum 0.9, a cosine to a thousandth, batches of 64, two batches a step.
Both are measured by the project's metric on the validation identities. The bound is a ratio of mean id-mAP of 1.25 and
a bootstrap interval of the paired difference, over the validation identities of all rounds, above 0; else status 1.

Finished rounds are lines of `--runs` and are not run again, unless the config, the photos or the start weights have
changed, or random weights are asked for beside rounds without them.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torchvision.transforms as T
from PIL import Image
from rounds import append, fingerprints, finished
from torch import Tensor, nn
from torch.utils.data import Dataset
from wildlife_tools.train import ArcFaceLoss, BasicTrainer, set_seed

from app.reid.embedder import Embedder, load_model
from app.reid.metric import bootstrap_interval
from app.reid.network import EmbeddingModel
from app.reid.preprocess import composite
from app.reid.torch_runtime import TorchRuntime
from training.config import TrainConfig, load_config
from training.data import PhotoSet, load_photos
from training.evaluate import evaluate_photos
from training.fit import fit_photos
from training.split import Split, split_photos
from training.start import build_model
from training.state import RunFolder
from training.train import Watcher

ROOT = Path(__file__).parents[2]
WANTED = 1.25
OURS, THEIRS, SCRATCH, START = "fit", "wildlife-tools", "fit from random weights", "the start itself"


class Photos(Dataset[tuple[Tensor, int]]):
    """The training photos as wildlife-tools wants them, under the transforms of its documentation."""

    def __init__(self, photos: PhotoSet, config: TrainConfig) -> None:
        spec = config.preprocess
        self._images = [Image.fromarray(composite(pixels, spec)) for pixels in photos.prepared]
        names = sorted(set(photos.identities))
        self._labels = [names.index(identity) for identity in photos.identities]
        self.num_classes = len(names)
        self._transform = T.Compose(
            [T.RandAugment(num_ops=2, magnitude=20), T.ToTensor(), T.Normalize(mean=spec.mean, std=spec.std)]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self._transform(self._images[row]), self._labels[row]


def train_theirs(config: TrainConfig, photos: PhotoSet, seconds: float) -> tuple[EmbeddingModel, dict[str, float]]:
    """wildlife-tools' training for about this long, at least one epoch."""
    dataset = Photos(photos, config)

    def trainer(epochs: int) -> BasicTrainer:
        set_seed(config.seed)
        model: nn.Module = build_model(config.model)
        objective = ArcFaceLoss(
            num_classes=dataset.num_classes, embedding_size=config.model.embedding_dim, margin=0.5, scale=64
        )
        parameters = itertools.chain(model.parameters(), objective.parameters())
        optimizer = torch.optim.SGD(params=parameters, lr=0.001, momentum=0.9)
        least = optimizer.defaults["lr"] * 1e-3
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=least)
        return BasicTrainer(
            dataset=dataset, model=model, objective=objective, optimizer=optimizer, scheduler=scheduler,
            batch_size=64, accumulation_steps=2, num_workers=0, epochs=epochs, device="cpu",
        )  # fmt: skip

    started = time.perf_counter()
    trainer(1).train()
    one = time.perf_counter() - started
    epochs = max(1, round(seconds / one))
    run = trainer(epochs)
    started = time.perf_counter()
    run.train()
    return run.model.eval(), {"seconds": time.perf_counter() - started, "epochs": epochs}


def train_ours(config: TrainConfig, photos: PhotoSet) -> tuple[Embedder, dict[str, float]]:
    """`fit`, with its evaluations and its export, and how long it took."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.start(resume=False)
        fit_photos(config, photos, Path(folder) / "bundle", run, Watcher())
        seconds = time.perf_counter() - started
        return load_model(Path(folder) / "bundle").embedder, {"seconds": seconds, "epochs": config.optim.epochs}


def measured(embedder: Embedder, photos: PhotoSet, within: str | None) -> dict[str, Any]:
    evaluation = evaluate_photos(embedder, photos, within=photos.column(within) if within else None)
    return {"id_map": evaluation.id_map, "identity_ap": dict(evaluation.identity_ap)}


def settings(arguments: argparse.Namespace, seed: int, *start: str) -> TrainConfig:
    """A round's config; start: what it says of the start weights."""
    overrides = [f"seed={seed}", "split.protocol=identity", f"optim.epochs={arguments.epochs}", *arguments.set]
    return load_config(arguments.config, [*overrides, *start])


def from_bundle(arguments: argparse.Namespace, seed: int) -> TrainConfig:
    return settings(arguments, seed, f'model.pretrained="{arguments.start}"')


def play(arguments: argparse.Namespace, seed: int, photos: PhotoSet) -> dict[str, Any]:
    """One round: the three trainings and the start, on one split."""
    config = from_bundle(arguments, seed)
    split: Split = split_photos(photos, config.split, config.preprocess, config.seed)
    train, validation = photos.part(split.rows("train")), photos.part(split.rows("validation"))
    prints = fingerprints(config, arguments.data, arguments.start)
    record: dict[str, Any] = {"seed": seed, **prints, "within": arguments.within, "validation_photos": len(validation)}

    def embedder(model: EmbeddingModel) -> Embedder:
        return Embedder(config.preprocess, TorchRuntime(model), batch_size=32)

    record[START] = measured(embedder(build_model(config.model).eval()), validation, arguments.within)
    ours, cost = train_ours(config, photos)
    record[OURS] = {**measured(ours, validation, arguments.within), **cost}
    theirs, cost = train_theirs(config, train, cost["seconds"])
    record[THEIRS] = {**measured(embedder(theirs), validation, arguments.within), **cost}
    if not arguments.no_scratch:
        scratch = settings(arguments, seed, 'model.pretrained="none"', "model.layer_scale=0.1")
        model, cost = train_ours(scratch, photos)
        record[SCRATCH] = {**measured(model, validation, arguments.within), **cost}
    return record


def known(arguments: argparse.Namespace, seed: int) -> dict[str, Any] | None:
    """This round as it was finished before, on the same photos and from the same weights."""
    prints = fingerprints(from_bundle(arguments, seed), arguments.data, arguments.start)
    wanted = {"seed": seed, **prints, "within": arguments.within}.items()
    same = [record for record in finished(arguments.runs) if wanted <= record.items()]
    return next((record for record in same if arguments.no_scratch or SCRATCH in record), None)


def difference(records: list[dict[str, Any]], first: str, second: str) -> tuple[float, float]:
    """95 % bootstrap interval of the mean paired difference in AP, over the validation identities of all rounds."""
    gaps = [
        record[first]["identity_ap"][name] - record[second]["identity_ap"][name]
        for record in records
        for name in record[first]["identity_ap"]
    ]
    return bootstrap_interval({str(number): gap for number, gap in enumerate(gaps)}, seed=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nyala")
    parser.add_argument("--within", help="a column; galleries share its value")
    parser.add_argument("--config", type=Path, default=ROOT / "training" / "configs" / "convnext_atto.toml")
    parser.add_argument("--start", default=str(ROOT / "model_store" / "default"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--no-scratch", action="store_true")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-accuracy.jsonl")
    arguments = parser.parse_args()
    photos = load_photos(arguments.data, load_config(arguments.config, arguments.set).preprocess)
    records = []
    for seed in range(arguments.seeds):
        record = known(arguments, seed)
        if record is None:
            record = play(arguments, seed, photos)
            append(arguments.runs, record)
            figures = {name: round(one["id_map"], 4) for name, one in record.items() if isinstance(one, dict)}
            print(figures, flush=True)
        records.append(record)
    return report(records)


def report(records: list[dict[str, Any]]) -> int:
    names = [name for name in (START, OURS, THEIRS, SCRATCH) if all(name in record for record in records)]
    for name in names:
        values = [record[name]["id_map"] for record in records]
        spread = f" (sd {statistics.stdev(values):.4f})" if len(values) > 1 else ""
        cost = [record[name].get("seconds", 0.0) for record in records]
        print(f"{name:24} id-mAP {statistics.fmean(values):.4f}{spread}, {statistics.fmean(cost):.0f} s a round")
    verdicts = []
    for other in names[2:]:
        ratio = statistics.fmean(record[OURS]["id_map"] for record in records) / statistics.fmean(
            record[other]["id_map"] for record in records
        )
        low, high = difference(records, OURS, other)
        print(f"fit over {other}: {ratio:.2f}x, difference {low:+.4f} to {high:+.4f}")
        verdicts.append(other != THEIRS or (ratio >= WANTED and low > 0))
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
