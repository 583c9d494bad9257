"""Maps that add up to the cosine: on real photos through the bundle that ships, and on drawn ones, both runtimes."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from app.reid.embedder import Embedder, load_model
from app.reid.errors import BundleError
from app.reid.explain import can_explain, explain
from app.reid.network import EmbeddingModel
from app.reid.preprocess import Pixels, fit
from app.reid.runtime import OnnxRuntime
from app.reid.similarity import cosine_matrix
from app.reid.spec import ModelSpec, PreprocessSpec
from app.reid.torch_runtime import TorchRuntime
from training.export import to_onnx

Build = Callable[..., EmbeddingModel]
BUNDLE = Path(__file__).parents[3] / "model_store" / "default"


@pytest.fixture(scope="module", params=["onnx", "torch"])
def shipped(request: pytest.FixtureRequest) -> Embedder:
    return load_model(BUNDLE, runtime=request.param).embedder


def check_sums(embedder: Embedder, prepared: list[Pixels]) -> None:
    """Both maps of each photo and the next add up to the cosine of `embed_prepared`, and so do all pairs of places."""
    cosines = cosine_matrix(*[embedder.embed_prepared(prepared)] * 2)
    for first, second in pairwise(range(len(prepared))):
        explanation = explain(embedder, prepared[first], prepared[second], links=64)
        assert explanation.cosine == pytest.approx(cosines[first, second], abs=1e-6)
        assert explanation.query.sum() == pytest.approx(explanation.cosine, abs=1e-4)
        assert explanation.gallery.sum() == pytest.approx(explanation.cosine, abs=1e-4)
        assert np.ptp(explanation.query) > 1e-3  # no even shares
        values = [link.value for link in explanation.links]
        assert values == sorted(values, reverse=True)


def test_real_photos(shipped: Embedder, shared_data: Callable[[str], Path]) -> None:
    files = sorted(shared_data("nyala/train").iterdir())[:8]
    check_sums(shipped, [shipped.prepare(path.read_bytes(), path.name) for path in files])


def test_drawn_photos(shipped: Embedder, draw: Callable[..., Image.Image]) -> None:
    check_sums(shipped, [fit(draw(seed, mode=mode), shipped.spec) for seed in range(2) for mode in ("RGB", "RGBA")])


def test_a_lively_network(lively: Build, draw: Callable[..., Image.Image]) -> None:
    """On an oblong input, every part of the network at work: both runtimes tell the same, and it adds up."""
    model, spec = lively(), PreprocessSpec(size=(96, 160), fit="pad")
    through_torch = Embedder(spec, TorchRuntime(model))
    through_onnx = Embedder(spec, OnnxRuntime(to_onnx(model, spec.size)))
    prepared = [fit(draw(seed, size=(100, 100)), spec) for seed in range(3)]
    for embedder in (through_torch, through_onnx):
        check_sums(embedder, prepared)
    one, other = (explain(embedder, *prepared[:2]) for embedder in (through_torch, through_onnx))
    assert one.query.shape == (3, 5)
    np.testing.assert_allclose(one.query, other.query, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one.gallery, other.gallery, rtol=0, atol=1e-5)
    assert one.links[0].value == pytest.approx(other.links[0].value, abs=1e-5)


class TestTorchRuntime:
    @pytest.mark.parametrize("training", [True, False])
    def test_places_and_the_networks_mode(self, lively: Build, images: Callable[..., Tensor], training: bool) -> None:
        model = lively().train(training)
        runtime = TorchRuntime(model)
        embeddings, places = runtime.run_with_places(images(3, 96).numpy())
        assert model.training is training
        assert (places.dtype, places.shape) == (np.float32, (3, 3, 3, 32))
        np.testing.assert_allclose(places.sum(axis=(1, 2)), embeddings, rtol=0, atol=1e-5)
        np.testing.assert_allclose(embeddings, runtime.run(images(3, 96).numpy()), rtol=0, atol=1e-6)
        with pytest.raises(RuntimeError):
            runtime.run_with_places(np.zeros((1, 4, 64, 64), dtype=np.float32))
        assert model.training is training

    def test_a_network_without_places_says_so(self, images: Callable[..., Tensor]) -> None:
        runtime = TorchRuntime(EmbeddingModel(ModelSpec(backbone="test_resnet")))
        assert not can_explain(Embedder(PreprocessSpec(size=64), runtime))
        with pytest.raises(BundleError, match="no places"):
            runtime.run_with_places(images(1).numpy())
