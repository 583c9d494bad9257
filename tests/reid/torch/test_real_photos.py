"""What the design promises of real photos, measured on wild nyala through a ConvNeXt-Atto."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.reid.embedder import Embedder
from app.reid.network import EmbeddingModel
from app.reid.preprocess import decode_image, fit, to_array
from app.reid.runtime import OnnxRuntime
from app.reid.spec import PreprocessSpec
from app.reid.torch_runtime import TorchRuntime
from training.export import to_onnx

SPEC = PreprocessSpec(size=128)


@pytest.fixture(scope="module")
def photos(shared_data: Callable[[str], Path]) -> list[bytes]:
    return [path.read_bytes() for path in sorted(shared_data("nyala/train").iterdir())[:24]]


@pytest.fixture(scope="module")
def atto(lively: Callable[..., EmbeddingModel], photos: list[bytes]) -> EmbeddingModel:
    """Random weights, but layer scales that let every block be seen, and a neck that tells these photos apart."""
    model = lively("convnext_atto", dim=512)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in model.backbone.named_parameters():
            if name.endswith("gamma"):
                nn.init.uniform_(parameter, 0.3, 1.0)
    batch = torch.from_numpy(np.stack([to_array(fit(decode_image(data, SPEC), SPEC), SPEC) for data in photos]))
    with torch.inference_mode():
        z = model.linear(model.backbone(batch))
    jitter = torch.rand(512, generator=torch.Generator().manual_seed(2))
    model.batch_norm.running_mean = z.mean(dim=0) + 0.3 * jitter * z.std(dim=0)
    model.batch_norm.running_var = z.var(dim=0) * (0.5 + jitter)
    return model


def check_places(embeddings: np.ndarray, places: np.ndarray) -> None:
    """Sums to 1e-4, and the places are no even shares of the embedding."""
    count = len(embeddings)
    assert places.shape == (count, 4, 4, 512)
    np.testing.assert_allclose(places.sum(axis=(1, 2)), embeddings, rtol=0, atol=1e-4)
    cosines = embeddings @ embeddings.T
    assert np.median(cosines) < 0.5
    parts = places.reshape(count, 16, 512).astype(np.float64)
    for a in range(count):
        for b in range(count):
            assert (parts[a] @ parts[b].T).sum() == pytest.approx(cosines[a, b], abs=1e-4)
    lengths = np.linalg.norm(parts, axis=2)
    assert np.median(lengths.max(axis=1) / lengths.min(axis=1)) > 1.2


def test_places_sum_to_the_embedding_and_in_pairs_to_the_cosine(atto: EmbeddingModel, photos: list[bytes]) -> None:
    """Through torch, and through the exported file: the same numbers."""
    embedder = Embedder(SPEC, TorchRuntime(atto))
    prepared = [embedder.prepare(data) for data in photos[:8]]
    batch = np.stack([to_array(pixels, SPEC) for pixels in prepared])
    with torch.inference_mode():
        embeddings, places = (part.numpy() for part in atto.embed_with_places(torch.from_numpy(batch)))
    np.testing.assert_allclose(embeddings, embedder.embed_prepared(prepared), rtol=0, atol=1e-5)
    check_places(embeddings, places)
    runtime = OnnxRuntime(to_onnx(atto, SPEC.size))
    exported, exported_places = runtime.run_with_places(batch)
    check_places(exported, exported_places)
    np.testing.assert_allclose(exported, embeddings, rtol=0, atol=1e-5)
    np.testing.assert_allclose(exported_places, places, rtol=0, atol=1e-5)
