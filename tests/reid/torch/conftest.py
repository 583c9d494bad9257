"""A small network whose every part does something: no weight is 0, no variance 1."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from app.reid.network import EmbeddingModel
from app.reid.spec import ModelSpec, Pooling


@pytest.fixture(scope="session")
def lively() -> Callable[..., EmbeddingModel]:
    """`lively("test_convnext", dim=32)` -> a network in eval mode with random BatchNorm and LayerNorm statistics."""

    def build(
        backbone: str = "test_convnext", dim: int = 32, seed: int = 0, pooling: Pooling = "avg"
    ) -> EmbeddingModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = EmbeddingModel(ModelSpec(backbone=backbone, pooling=pooling, embedding_dim=dim))
            for module in model.modules():
                if isinstance(module, (nn.LayerNorm, nn.BatchNorm1d)):
                    nn.init.uniform_(module.weight, 0.5, 2.0)
                    nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(model.linear.bias, std=0.3)
            nn.init.normal_(model.batch_norm.get_buffer("running_mean"), std=0.3)
            nn.init.uniform_(model.batch_norm.get_buffer("running_var"), 0.2, 3.0)
        return model.eval()

    return build


@pytest.fixture
def images() -> Callable[..., torch.Tensor]:
    """`images(n, size=64, seed=0)` -> (n, 3, size, size) float32 noise."""

    def draw(count: int, size: int = 64, seed: int = 0) -> torch.Tensor:
        return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))

    return draw
