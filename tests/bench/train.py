"""Images/s of `fit` over a bare forward/backward/step loop, in one process, in turns.

    python tests/bench/train.py --data ../shared/data/nyala

Both train the same network on batches of the same size, with clipping and the weight average. The bare loop's batches
lie in memory as float32 tensors; `fit` draws, augments, composites and stacks them from its cache of decoded photos.
Prints the ratio fit / bare of each round for augmentation off (wanted: >= 0.93) and as in the config (>= 0.85).
"""

import argparse
import contextlib
import statistics
import time
from pathlib import Path

import torch

from training.config import TrainConfig, load_config
from training.data import load_photos
from training.split import split_photos
from training.state import RunFolder
from training.train import Trainer, Watcher

ROOT = Path(__file__).parents[2]
OFF = (
    "brightness", "contrast", "saturation", "grey", "rotate", "translate", "scale", "perspective", "erase", "flip",
    "background",
)  # fmt: skip


class EndOfRoundError(Exception):
    """Ends `fit` after the steps of a round."""


def fit_rate(trainer: Trainer, steps: int) -> float:
    """Images/s of `fit` itself over its next steps, watcher included; evaluation and saving lie between epochs."""
    last = trainer.progress.step + steps
    started = time.perf_counter()

    def stop(progress, *_):
        if progress.step >= last:
            raise EndOfRoundError

    with contextlib.suppress(EndOfRoundError):
        trainer.fit(RunFolder(Path("unused")), Watcher(on_step=stop))
    return steps * trainer.batch_size / (time.perf_counter() - started)


def bare_rate(trainer: Trainer, batches: list, steps: int) -> float:
    """Images/s of the loop that everybody writes, on tensors in memory."""
    optim = trainer.config.optim
    parameters = [*trainer.model.parameters(), *trainer.head.parameters()]
    started = time.perf_counter()
    for step in range(steps):
        images, labels = batches[step % len(batches)]
        loss = trainer.head(trainer.model.neck_output(images), labels)
        trainer.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        trainer.optimizer.step()
        trainer.average.update(trainer.model, step)
    return steps * trainer.batch_size / (time.perf_counter() - started)


def compare(config: TrainConfig, photos, rounds: int, steps: int) -> list[float]:
    """The ratio of each round, bare and fit in turns."""
    endless = config.sampler.model_copy(update={"steps": 10**6})  # no epoch ends inside a round
    config = config.model_copy(update={"sampler": endless})
    split = split_photos(photos, config.split, config.preprocess, config.seed)
    trainer, bare = Trainer(config, photos, split), Trainer(config, photos, split)
    batches = [
        (images.to(memory_format=torch.channels_last), labels) for images, labels in bare.loader(0, min(steps, 8))
    ]
    bare_rate(bare, batches, 3), fit_rate(trainer, 3)
    ratios = []
    for number in range(rounds):
        slow, fast = bare_rate(bare, batches, steps), fit_rate(trainer, steps)
        ratios.append(fast / slow)
        print(f"  round {number + 1}: bare {slow:.1f} images/s, fit {fast:.1f} images/s, ratio {fast / slow:.3f}")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "nyala")
    parser.add_argument("--config", type=Path, default=ROOT / "training" / "configs" / "convnext_atto.toml")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    photos = load_photos(arguments.data, config.preprocess)
    print(
        f"{len(photos)} photos, {torch.get_num_threads()} threads, {config.model.backbone} at {config.preprocess.size}"
    )
    off = config.model_copy(update={"augment": config.augment.model_copy(update=dict.fromkeys(OFF, 0.0))})
    for title, wanted, variant in (("augmentation off", 0.93, off), (arguments.config.name, 0.85, config)):
        print(f"{title}:")
        ratios = compare(variant, photos, arguments.rounds, arguments.steps)
        spread = f"min {min(ratios):.3f}, median {statistics.median(ratios):.3f}, max {max(ratios):.3f}"
        print(f"  fit / bare: {spread}; wanted >= {wanted}")


if __name__ == "__main__":
    main()
