"""What a network is trained on: losses over the neck's output and the labels. Never part of a bundle.

Each is a module that maps (N, D) BatchNorm output and (N,) labels to a scalar, and owns the weights it needs: a vector
for each identity in `cross_entropy`, `arcface` and `cosface`, none in `triplet` and `supcon`.
"""

import math
from collections.abc import Callable

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import LossConfig, LossKind


def build_head(config: LossConfig, embedding_dim: int, identities: int) -> nn.Module:
    """The config's loss for embeddings of this length and labels 0 to `identities` - 1."""
    parts = {kind: _BUILDERS[kind](config, embedding_dim, identities) for kind in config.weights}
    if list(config.weights.values()) == [1.0]:
        return next(iter(parts.values()))
    return WeightedSum(parts, config.weights)


class ClassifierHead(nn.Module):
    """Cross-entropy with label smoothing over the neck's output.

    `bnneck` classifies the BatchNorm output itself: its length carries the confidence that a unit vector lacks.
    Source: Luo et al. 2019, section III.F. `cosine` classifies by `scale * cos`; source: Wang et al. 2017, eq. 8.
    """

    def __init__(self, config: LossConfig, embedding_dim: int, identities: int) -> None:
        """A weight vector for each identity, drawn from a normal distribution of standard deviation 0.01."""
        super().__init__()
        self._config = config
        self.weight = nn.Parameter(torch.randn(identities, embedding_dim) * 0.01)

    def forward(self, neck_output: Tensor, labels: Tensor) -> Tensor:
        """(N, D) BatchNorm output and (N,) labels -> the mean loss, a scalar in nats."""
        return F.cross_entropy(self.logits(neck_output), labels, label_smoothing=self._config.label_smoothing)

    def logits(self, neck_output: Tensor) -> Tensor:
        """(N, D) -> (N, identities)."""
        if self._config.head == "cosine":
            return self._config.scale * F.linear(F.normalize(neck_output), F.normalize(self.weight))
        return F.linear(neck_output, self.weight)


class MetricLoss(nn.Module):
    """A loss of pytorch-metric-learning on the unit embedding; with a miner, over the tuples that it picks."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        """loss, miner: modules of pytorch-metric-learning."""
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(self, neck_output: Tensor, labels: Tensor) -> Tensor:
        """(N, D) BatchNorm output and (N,) labels -> the loss, a scalar."""
        embeddings = F.normalize(neck_output)
        picked = None if self.miner is None else self.miner(embeddings, labels)
        value: Tensor = self.loss(embeddings, labels, picked)
        return value


class WeightedSum(nn.Module):
    """The sum of several losses, each times its weight."""

    def __init__(self, parts: dict[LossKind, nn.Module], weights: dict[LossKind, float]) -> None:
        """parts, weights: with the same keys."""
        super().__init__()
        self.parts = nn.ModuleDict({str(kind): part for kind, part in parts.items()})
        self._weights = weights

    def forward(self, neck_output: Tensor, labels: Tensor) -> Tensor:
        """(N, D) BatchNorm output and (N,) labels -> the loss, a scalar."""
        return torch.stack(
            [weight * self.parts[kind](neck_output, labels) for kind, weight in self._weights.items()]
        ).sum()


def _arcface(config: LossConfig, embedding_dim: int, identities: int) -> nn.Module:
    """`cos(angle + margin)` for the own identity, mean cross-entropy in nats. Source: Deng et al. 2019, eq. 3.

    The library counts in degrees. Beyond pi - margin, where the cosine would rise again, it goes on falling along
    `cos(angle) - margin sin(margin)`.
    """
    margin = math.degrees(config.arcface_margin)
    return MetricLoss(losses.ArcFaceLoss(identities, embedding_dim, margin=margin, scale=config.scale))


def _cosface(config: LossConfig, embedding_dim: int, identities: int) -> nn.Module:
    """`cos(angle) - margin` for the own identity, mean cross-entropy in nats. Source: Wang et al. 2018, eq. 4."""
    return MetricLoss(losses.CosFaceLoss(identities, embedding_dim, margin=config.cosface_margin, scale=config.scale))


def _triplet(config: LossConfig, _embedding_dim: int, _identities: int) -> nn.Module:
    """For each photo its farthest positive and its nearest negative, mean over those that violate the margin.

    Source: Hermans et al. 2017, eq. 5, "batch hard", on Euclidean distances between unit vectors.
    """
    return MetricLoss(losses.TripletMarginLoss(margin=config.triplet_margin), miners.BatchHardMiner())


def _supcon(config: LossConfig, _embedding_dim: int, _identities: int) -> nn.Module:
    """Mean over the photos that have a positive in the batch. Source: Khosla et al. 2020, eq. 2."""
    return MetricLoss(losses.SupConLoss(temperature=config.supcon_temperature))


_BUILDERS: dict[LossKind, Callable[[LossConfig, int, int], nn.Module]] = {
    "cross_entropy": ClassifierHead,
    "arcface": _arcface,
    "cosface": _cosface,
    "triplet": _triplet,
    "supcon": _supcon,
}
