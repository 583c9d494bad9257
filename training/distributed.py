"""Several processes, the ranks, train as one. torchrun starts them; in one process everything here does nothing.

Each rank runs the backbone on its share of every batch. The features are gathered, with autograd, so that BatchNorm,
head and loss see the whole batch on every rank and compute the same there; SyncBatchNorm does not run on CPUs.
Gradients are then averaged over the ranks. Rank 0, the lead, is the one that writes, evaluates and prints.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

from app.reid.errors import ConfigError, DataError
from training.config import TrainConfig
from training.interrupt import sigterm_raises
from training.state import STATE, RunFolder

# A rank that dies closes its connections, which the others see at once; this is for one that hangs or a lost network.
STEP_TIMEOUT = timedelta(seconds=45)
# The others wait this long at most while rank 0 reads, evaluates or exports.
LEAD_TIMEOUT = timedelta(days=1)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class RankLostError(DataError):
    """Another rank has ended, so that this one cannot go on."""


class Launch(BaseSettings):
    """What torchrun tells each process in its environment: RANK, LOCAL_RANK (on its machine) and WORLD_SIZE."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    rank: Annotated[int, Field(ge=0)] = 0
    local_rank: Annotated[int, Field(ge=0)] = 0
    world_size: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True)
class World:
    """The ranks of a run, seen from one of them; by default there is one alone.

    steps: the group that computes, on the GPUs where there are any. control: the group that waits for rank 0.
    """

    rank: int = 0
    size: int = 1
    steps: distributed.ProcessGroup | None = None
    control: distributed.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this rank writes, evaluates and prints."""
        return self.rank == 0

    def share(self, batch: Sequence[Item]) -> list[Item]:
        """This rank's part of a batch: the shares in rank order are the batch."""
        length = len(batch) // self.size
        return list(batch[self.rank * length : (self.rank + 1) * length])

    def gather(self, rows: Tensor) -> Tensor:
        """(n, ...) on each rank -> (size x n, ...) in rank order on all of them, with autograd."""
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self)
        return gathered

    def stack(self, rows: Tensor) -> Tensor:
        """`gather` without autograd."""
        whole = rows.new_empty((self.size * len(rows), *rows.shape[1:]))
        with self._watching():
            distributed.all_gather_single(whole, rows.contiguous(), group=self.steps)
        return whole

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Puts the ranks' mean into every gradient; afterwards all ranks hold the same bits."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with self._watching():
            distributed.all_reduce(flat, group=self.steps)
        flat /= self.size
        for gradient, mean in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def reseed(self, *numbers: int) -> None:
        """Starts torch's chance anew from these numbers; in one process it runs on instead."""
        if self.size > 1:
            torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all get the same answer."""
        if self.size == 1:
            return flag
        said = torch.tensor([int(flag)])
        with self._watching():
            distributed.all_reduce(said, op=distributed.ReduceOp.MAX, group=self.control)
        return bool(said)

    def from_lead(self, work: Callable[[], Answer]) -> Answer:
        """Rank 0 does the work while the others wait; its answer, any JSON, is everybody's.

        An error ends rank 0, and that the others.
        """
        if self.size == 1:
            return work()
        if self.leads:
            answer = work()
            self._send(json.dumps(answer).encode())
            return answer
        received: Answer = json.loads(self._receive())
        return received

    def check_same(self, step: int) -> None:
        """Whether all ranks start from one state; also waits until all are there.

        Raises:
            ConfigError: on the ranks that start from another step than rank 0.
        """
        leads = self.from_lead(lambda: step)
        if leads != step:
            raise ConfigError(
                f"rank 0 goes on from step {leads} and rank {self.rank} from step {step}: --run must name one folder,"
                " on a disk that all ranks share"
            )

    def _send(self, data: bytes) -> None:
        with self._watching():
            distributed.broadcast(torch.tensor([len(data)]), 0, group=self.control)
            distributed.broadcast(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0, group=self.control)

    def _receive(self) -> bytes:
        length = torch.zeros(1, dtype=torch.int64)
        with self._watching():
            distributed.broadcast(length, 0, group=self.control)
            data = torch.empty(int(length), dtype=torch.uint8)
            distributed.broadcast(data, 0, group=self.control)
        return bytes(data.tolist())

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # all that torch says of a closed connection or a timeout
            raise RankLostError(f"rank {self.rank} of {self.size} stops: another rank has ended") from error


ALONE = World()


class _Context(FunctionCtx):
    """What `_Gather` keeps for its way back."""

    world: World
    length: int


class _Gather(torch.autograd.Function):
    """All ranks' rows. torch's own, in `torch.distributed.nn`, is deprecated.

    Every rank computes the same loss of all rows, so a rank's own rows of the gradient are all that it needs. They are
    multiplied by the number of ranks, because gradients are averaged afterwards: the mean over ranks is then the
    gradient of one process for the backbone, as it is for neck and head, whose gradients are alike on all ranks.
    """

    @staticmethod
    def forward(ctx: _Context, rows: Tensor, world: World) -> Tensor:
        ctx.world, ctx.length = world, len(rows)
        return world.stack(rows)

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        start = ctx.world.rank * ctx.length
        return gradient[start : start + ctx.length] * ctx.world.size, None


def check_shareable(world: World, config: TrainConfig, backbone: nn.Module) -> None:
    """Whether the ranks can train as one.

    Raises:
        ConfigError: the batch cannot be shared evenly, or the backbone has BatchNorm, which would see a share alone.
    """
    identities, photos = config.sampler.identities, config.sampler.photos
    if identities * photos % world.size:
        raise ConfigError(
            f"a batch of sampler.identities x sampler.photos = {identities} x {photos} = {identities * photos} photos"
            f" cannot be shared evenly by {world.size} ranks"
        )
    if world.size > 1 and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules()):
        raise ConfigError(
            f"the backbone {config.model.backbone} has BatchNorm layers, which under torchrun would see their rank's"
            " share of a batch alone: train it in one process, or take one without, such as a ConvNeXt"
        )


@contextmanager
def told_what_is_kept(run: RunFolder) -> Iterator[None]:
    """Adds to the error of a lost rank what is left of its run."""
    try:
        yield
    except RankLostError as error:
        kept = f"the last state is kept in {run.path}: start again with --resume"
        kept = kept if (run.path / STATE).exists() else "no epoch had ended, so that there is no state to resume from"
        raise RankLostError(f"{error}; {kept}") from error


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Meets the other ranks if torchrun started this process: gloo on CPUs, NCCL on GPUs. device: of `ComputeConfig`.

    Raises:
        ConfigError: the environment names a rank that cannot be, fewer GPUs than ranks, or others that do not come.
        RankLostError: SIGTERM, which torchrun sends when another rank has died.
    """
    launch = read_launch()
    if launch.world_size == 1:
        yield ALONE
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        _take_gpu(launch)
    try:
        world = _meet(launch, backend="nccl" if on_gpu else "gloo")
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is {launch.world_size}, but the other ranks were not met ({str(error).splitlines()[0]}); start"
            " with torchrun, or unset WORLD_SIZE"
        ) from error
    stop = f"rank {world.rank} of {world.size} stops: SIGTERM, which torchrun sends when another rank has ended"
    with sigterm_raises(lambda: RankLostError(stop)):
        yield world
    distributed.destroy_process_group()


def _meet(launch: Launch, backend: str) -> World:
    distributed.init_process_group("gloo", timeout=LEAD_TIMEOUT)
    steps: Any = distributed.new_group(backend=backend, timeout=STEP_TIMEOUT)  # torch's types know of no members alone
    control: Any = distributed.new_group(backend="gloo", timeout=LEAD_TIMEOUT)
    return World(launch.rank, launch.world_size, steps, control)


def read_launch() -> Launch:
    """The environment that torchrun sets. Raises ConfigError where it is no number."""
    try:
        return Launch()
    except ValidationError as error:
        faults = "; ".join(f"{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"the environment variables that torchrun sets: {faults}") from error


def _take_gpu(launch: Launch) -> None:
    found = torch.cuda.device_count()
    if launch.local_rank >= found:
        raise ConfigError(
            f"rank {launch.rank} wants GPU {launch.local_rank} of this machine, which has {found};"
            f" torchrun --nproc-per-node {found} is the most"
        )
    torch.cuda.set_device(launch.local_rank)
