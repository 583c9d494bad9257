"""The training loop: steps, epochs, the best epoch by id-mAP, and a state from which a killed run goes on unchanged."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from app.reid.embedder import Embedder
from app.reid.errors import BundleError, ConfigError, DataError
from app.reid.metric import Evaluation
from app.reid.torch_runtime import TorchRuntime
from training.augment import Augmentation
from training.config import TrainConfig
from training.data import PhotoSet, TrainingBatches
from training.distributed import ALONE, World, check_shareable, told_what_is_kept
from training.evaluate import evaluate_photos
from training.interrupt import interrupt_flag
from training.losses import build_head
from training.optim import WeightAverage, build_optimizer, rate_factor, set_rates
from training.sampler import PKSampler
from training.size_schedule import resize_batch, size_at
from training.split import Split, burst_numbers
from training.start import build_model
from training.state import BEST, STATE, RunFolder

MAX_BAD_STEPS = 5
EVALUATION_BATCH = 32


class TrainingDivergedError(DataError):
    """Too many steps in a row had a loss or gradient that is not finite."""


class InterruptedRunError(DataError):
    """Somebody pressed Ctrl-C; the state was saved."""


@dataclass
class Progress:
    """Where a run stands; saved with the state. Losses are summed over the epoch's good steps."""

    step: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    good_steps: int = 0
    bad_in_row: int = 0
    skipped: int = 0
    best_id_map: float = -1.0
    best_epoch: int = 0


@dataclass(frozen=True)
class Watcher:
    """What is told while a run goes on; each does nothing by default.

    on_photos: photos read, of how many. on_step: where the run stands, of how many steps, the step's loss in nats and
    the epoch's images a second. on_epoch: the line of `metrics.jsonl`. on_report: what the report is at, how much of it
    is done, of how much; 0 of 0 where that is not known.
    """

    on_photos: Callable[[int, int], None] = field(default=lambda _done, _total: None)
    on_step: Callable[[Progress, int, float, float], None] = field(default=lambda _stand, _total, _loss, _rate: None)
    on_epoch: Callable[[dict[str, Any]], None] = field(default=lambda _record: None)
    on_report: Callable[[str, int, int], None] = field(default=lambda _stage, _done, _total: None)


class Trainer:
    """One run: its network, head, optimiser, average and batches."""

    def __init__(self, config: TrainConfig, photos: PhotoSet, split: Split, world: World = ALONE) -> None:
        """Builds everything from the config; the seed decides all start weights that are drawn.

        Raises:
            ConfigError, BundleError: start weights that cannot be used, or a batch or backbone that the ranks cannot
                share. DataError: too few identities for a batch.
        """
        torch.manual_seed(config.seed)
        self.config, self.world = config, world
        self.device = _device(config.compute.device)
        self._train, self._validation = photos.part(split.rows("train")), photos.part(split.rows("validation"))
        self._fingerprints = {"the photos": photos.fingerprint, "the split": split.fingerprint}
        names = sorted(set(self._train.identities))
        labels = [names.index(identity) for identity in self._train.identities]
        model = build_model(config.model)
        check_shareable(world, config, model.backbone)
        self.head = build_head(config.loss, config.model.embedding_dim, len(names)).to(self.device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.average = WeightAverage(self.model, config.optim.ema_decay)
        self.optimizer = build_optimizer(self.model, self.head, config.optim)
        spread = config.sampler.spread_bursts
        bursts = burst_numbers(self._train, config.split, config.preprocess) if spread else None
        self.sampler = PKSampler(labels, config.sampler, config.seed, bursts)
        augmentation = Augmentation(config.augment, config.preprocess, self._train.prepared)
        self.batches = TrainingBatches(self._train, labels, config.preprocess, augmentation, config.seed)
        self.progress = Progress()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.optim.epochs * self.config.sampler.steps

    @property
    def batch_size(self) -> int:
        """Photos in a batch, P x K."""
        return self.config.sampler.identities * self.config.sampler.photos

    def loader(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share of the batches start to stop - 1: (N, 3, H, W) float32 and (N,) labels, on the CPU."""
        batches = map(self.world.share, self.sampler.batches(start, stop))
        pinned = self.device.type == "cuda"
        return iter(self.batches.loader(batches, workers=self.config.compute.workers, pin_memory=pinned))

    def run_step(self, images: Tensor, labels: Tensor) -> float:
        """One batch: forward, backward, clipping, AdamW, average. Returns the loss, in nats.

        A loss or gradient that is not finite changes nothing but the count of bad steps.
        """
        progress, optim = self.progress, self.config.optim
        warmup = round(optim.warmup_epochs * self.config.sampler.steps)
        set_rates(self.optimizer, rate_factor(progress.step, warmup=warmup, total=self.total_steps))
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        images = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        size = size_at(self.config.size_schedule, self.config.preprocess.size, progress.step, self.total_steps)
        loss = self._loss(resize_batch(images, size), labels.to(self.device, non_blocking=True))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [*self.model.parameters(), *self.head.parameters()]
        self.world.average_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        value = float(loss.detach())
        progress.step += 1
        if math.isfinite(value) and math.isfinite(float(norm)):
            self.optimizer.step()
            self.average.update(self.model, progress.updates)
            progress.updates += 1
            progress.loss_sum += value
            progress.good_steps += 1
            progress.bad_in_row = 0
        else:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)  # BatchNorm has met the bad batch already
            progress.skipped += 1
            progress.bad_in_row += 1
        return value

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of the whole batch, on every rank, from the rank's own photos and labels.

        Ranks share a seed, so they are seeded apart for the backbone's stochastic depth, and alike for what follows.
        """
        world, numbers = self.world, (self.config.seed, self.progress.step)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            world.reseed(*numbers, 1 + world.rank)
            features = world.gather(self.model.features(images))
            world.reseed(*numbers, 0)
            neck_output = self.model.neck(features)
        loss: Tensor = self.head(neck_output.float(), world.gather(labels))
        return loss

    def evaluate(self) -> Evaluation:
        """The averaged network on the validation photos, through the engine that serves."""
        runtime = TorchRuntime(self.average.model)
        embedder = Embedder(self.config.preprocess, runtime, batch_size=EVALUATION_BATCH)
        return evaluate_photos(embedder, self._validation)

    def fit(self, run: RunFolder, watcher: Watcher) -> None:
        """Trains to the last epoch; the best epoch's weights are then in `best.pt`.

        Raises:
            TrainingDivergedError: 5 bad steps in a row; the last good state is kept.
            InterruptedRunError: Ctrl-C; the state was saved at the step that had just ended.
            RankLostError: another rank has died; the last state is kept.
        """
        with interrupt_flag(insist=self.world.size == 1) as interrupted, told_what_is_kept(run):
            self.world.check_same(self.progress.step)
            started, first = time.perf_counter(), self.progress.step
            for images, labels in self.loader(self.progress.step, self.total_steps):
                loss = self.run_step(images, labels)
                rate = (self.progress.step - first) * self.batch_size / (time.perf_counter() - started)
                watcher.on_step(self.progress, self.total_steps, loss, rate)
                if self.progress.step % self.config.sampler.steps == 0:
                    watcher.on_epoch(self.world.from_lead(partial(self._end_epoch, run, rate)))
                    started, first = time.perf_counter(), self.progress.step
                self._stop_if_needed(run, self.world.any(interrupted()))

    def _stop_if_needed(self, run: RunFolder, interrupted: bool) -> None:
        if self.progress.bad_in_row >= MAX_BAD_STEPS:
            self.world.from_lead(lambda: run.save(STATE, self.state()))  # bad steps changed no weight
            raise TrainingDivergedError(
                f"{MAX_BAD_STEPS} steps in a row had a loss or gradient that is not finite (the last is step"
                f" {self.progress.step}); the last good state is kept in {run.path}. A lower optim.learning_rate helps"
            )
        if interrupted:
            self.world.from_lead(lambda: run.save(STATE, self.state()))
            raise InterruptedRunError(f"interrupted at step {self.progress.step}; --resume goes on from there")

    def _end_epoch(self, run: RunFolder, rate: float) -> dict[str, Any]:
        """The epoch's figures, recorded and saved; the lead alone does this and keeps count of losses and best."""
        progress = self.progress
        epoch = progress.step // self.config.sampler.steps
        try:
            evaluation = self.evaluate()
        except BundleError as error:
            raise TrainingDivergedError(
                f"epoch {epoch}: {error}; the last good state is kept in {run.path}. A lower optim.learning_rate helps"
            ) from error
        mean_loss = progress.loss_sum / progress.good_steps if progress.good_steps else None
        record = {
            "epoch": epoch,
            "step": progress.step,
            "loss": mean_loss,
            "id_map": evaluation.id_map,
            "rank1": evaluation.rank1,
            "skipped_steps": progress.skipped,
            "images_per_second": round(rate, 1),
        }
        progress.loss_sum, progress.good_steps = 0.0, 0
        if evaluation.id_map > progress.best_id_map:
            progress.best_id_map, progress.best_epoch = evaluation.id_map, epoch
            run.save(BEST, {"model": self.average.model.state_dict(), "epoch": epoch, "id_map": evaluation.id_map})
        run.append_metrics(record)
        run.save(STATE, self.state())
        return record

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on: tensors and plain values only."""
        return {
            "identity": self._identity(),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" and self.world.size == 1 else [],
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state.

        Raises:
            ConfigError: the state belongs to another config or other photos; what differs is named.
        """
        mine, other = self._identity(), state["identity"]
        differing = [name for name in {**mine, **other} if mine.get(name) != other.get(name)]
        if differing:
            raise ConfigError(f"--resume: the run was started with other values of {', '.join(differing)}")
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])

    def _identity(self) -> dict[str, Any]:
        """What a resumed run must share with the one that was interrupted, by dotted name."""
        config = self.config.model_dump(mode="json", exclude={"compute"})
        return {**_flatten(config), **self._fingerprints}


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError('compute.device = "cuda": torch finds no GPU here; use "auto" or "cpu"')
    return torch.device(name)
