"""The whitened neck, against plain algebra."""

import numpy as np
import pytest
import torch

from app.reid.network import EmbeddingModel
from app.reid.spec import ModelSpec
from training.distill.whitening import whiten_neck


@pytest.fixture
def model() -> EmbeddingModel:
    torch.manual_seed(0)
    model = EmbeddingModel(ModelSpec(backbone="test_convnext", pooling="grid", embedding_dim=8))
    norm = model.batch_norm
    for tensor in (norm.get_buffer("running_mean"), norm.bias, model.linear.bias):
        torch.nn.init.normal_(tensor, std=0.3)
    for tensor in (norm.get_buffer("running_var"), norm.weight):
        torch.nn.init.uniform_(tensor, 0.3, 2.0)
    return model.eval()


@pytest.fixture
def pooled() -> torch.Tensor:
    """Features of 200 views, of very different spread."""
    spread = torch.logspace(0, -1.5, 256)
    return torch.randn(200, 256, generator=torch.Generator().manual_seed(1)) * spread + 0.2


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@torch.no_grad()
def test_each_direction_is_divided_by_its_deviation(model: EmbeddingModel, pooled: torch.Tensor, power: float) -> None:
    before = model.neck(pooled)
    whiten_neck(model, before, power)
    after = model.neck(pooled).double().numpy()
    centred = before.double().numpy() - before.double().numpy().mean(axis=0)
    left, deviations, directions = np.linalg.svd(centred, full_matrices=False)
    expected = left * deviations / (deviations / 200**0.5) ** power @ directions
    np.testing.assert_allclose(after, expected, atol=1e-4)


@torch.no_grad()
def test_training_sees_the_same_network(model: EmbeddingModel, pooled: torch.Tensor) -> None:
    """BatchNorm's own statistics are those of the views, so that a batch of them all is answered as it was."""
    whiten_neck(model, model.neck(pooled), 0.5)
    still = model.neck(pooled)
    model.batch_norm.train()
    torch.testing.assert_close(model.neck(pooled), still, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_direction_that_nothing_is_known_of_stays_finite(model: EmbeddingModel, pooled: torch.Tensor) -> None:
    model.linear.weight[3] = 0.0
    whiten_neck(model, model.neck(pooled), 1.0)
    assert torch.isfinite(model.neck(pooled)).all()
