"""The training head: a classifier over the identities, and the loss on its logits. Never part of a bundle."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import LossConfig


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
