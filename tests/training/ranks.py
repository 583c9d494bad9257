"""Trains a herd for some steps, as one rank or alone, and leaves what it computed in a file; see `test_distributed`.

torchrun --nproc-per-node 2 ranks.py CONFIG HERD FOLDER
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from training.config import TrainConfig, load_config
from training.data import PhotoSet, load_photos
from training.distributed import World, joined
from training.split import split_photos
from training.train import Trainer

STEPS = 6
# Augmentation stays on: a photo's chance hangs on its draw, not on the rank that reads it. Clipping is off, since it
# would hide gradients that are twice as large.
SAME = ("model.drop_path=0.0", "optim.clip_norm=1e9")
VARIANTS = {
    "plain": SAME,
    "gem": (*SAME, 'model.pooling="gem"'),
    "pairs": (*SAME, "loss.terms={arcface=1.0, triplet=0.5}"),
    "drop_path": ("model.drop_path=0.3",),
}


def train(config: TrainConfig, photos: PhotoSet, world: World) -> dict[str, object]:
    """The gradients of the first step, the loss of each step, and the weights after the last."""
    trainer = Trainer(config, photos, split_photos(photos, config.split, config.preprocess, config.seed), world)
    losses, gradients = [], {}
    for number, (images, labels) in enumerate(trainer.loader(0, STEPS)):
        losses.append(trainer.run_step(images, labels))
        if number == 0:
            gradients = {name: parameter.grad.clone() for name, parameter in parameters(trainer)}
    weights = {**trainer.model.state_dict(), **trainer.head.state_dict(prefix="head.")}
    return {"losses": losses, "gradients": gradients, "weights": weights, "shared": len(images)}


def parameters(trainer: Trainer) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """All that has a gradient, by name."""
    yield from trainer.model.named_parameters()
    yield from trainer.head.named_parameters(prefix="head")


def main() -> None:
    """Each variant, in each rank's own file."""
    config, herd, folder = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    with joined("cpu") as world:
        photos = load_photos(herd, load_config(config).preprocess)
        for name, overrides in VARIANTS.items():
            torch.save(train(load_config(config, overrides), photos, world), folder / f"{name}{world.rank}.pt")


if __name__ == "__main__":
    main()
