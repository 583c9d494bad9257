"""The torch runtime: the network's own numbers, from a bundle without an ONNX file."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from app.reid.bundle import TORCH_WEIGHTS, Manifest, Probe, Provenance, file_entry, probe_pixels, save_bundle
from app.reid.embedder import Embedder, load_model
from app.reid.errors import BundleError
from app.reid.network import EmbeddingModel
from app.reid.preprocess import to_array
from app.reid.spec import ModelSpec, PreprocessSpec
from app.reid.torch_runtime import TorchRuntime

Build = Callable[..., EmbeddingModel]

SPEC = PreprocessSpec(size=64)


def save(folder: Path, model: EmbeddingModel, weights: bytes | None = None) -> Path:
    """A bundle of the torch weights alone, with the probe that the network gives."""
    weights = weights or safetensors.torch.save(model.state_dict())
    pixels = to_array(probe_pixels(1, SPEC.size), SPEC)[None]
    with torch.inference_mode():
        probe = model(torch.from_numpy(pixels))[0].tolist()
    manifest = Manifest(
        name="torch",
        created="2026-11-24T00:00:00Z",
        backbone=model.spec.backbone,
        embedding_dim=model.spec.embedding_dim,
        preprocess=SPEC,
        files={TORCH_WEIGHTS: file_entry(weights)},
        probe=Probe(seed=1, embedding=tuple(probe)),
        provenance=Provenance(config={}, seed=0, git_commit=None, data_fingerprint="none"),
        metrics={},
    )
    save_bundle(folder, manifest, {TORCH_WEIGHTS: weights})
    return folder


def test_it_answers_as_the_network_does(lively: Build, images: Callable[..., Tensor]) -> None:
    model, batch = lively(), images(5)
    answer = TorchRuntime(model).run(batch.numpy())
    with torch.inference_mode():
        np.testing.assert_array_equal(answer, model(batch).numpy())
    assert (answer.dtype, answer.shape) == (np.float32, (5, 32))


@pytest.mark.parametrize("training", [True, False])
def test_the_networks_mode_is_put_back(lively: Build, images: Callable[..., Tensor], training: bool) -> None:
    model = lively()
    expected = TorchRuntime(model).run(images(2).numpy())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train(training)
    np.testing.assert_array_equal(TorchRuntime(model).run(images(2).numpy()), expected)
    assert model.training is training
    with pytest.raises(RuntimeError):
        TorchRuntime(model).run(np.zeros((1, 4, 64, 64), dtype=np.float32))
    assert model.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_many_threads_may_use_one_network(lively: Build, images: Callable[..., Tensor]) -> None:
    runtime = TorchRuntime(lively())
    expected = [runtime.run(images(1, seed=seed).numpy()) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: runtime.run(images(1, seed=seed).numpy()), range(20)))
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_a_bundle_of_torch_weights_serves(lively: Build, tmp_path: Path, draw: Callable[..., Image.Image]) -> None:
    model = lively()
    loaded = load_model(save(tmp_path / "b", model), runtime="torch")
    data = io.BytesIO()
    draw(1).save(data, "PNG")
    own = Embedder(SPEC, TorchRuntime(model))
    np.testing.assert_array_equal(loaded.embedder.embed(data.getvalue()), own.embed(data.getvalue()))
    with pytest.raises(BundleError, match="the manifest lists no model.onnx"):
        load_model(tmp_path / "b")


def test_weights_that_are_not_finite_are_refused(lively: Build, tmp_path: Path) -> None:
    model = lively()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["batch_norm.running_var"][3] = torch.nan
    with pytest.raises(BundleError, match="tensor batch_norm.running_var is not finite"):
        load_model(save(tmp_path / "b", model, safetensors.torch.save(weights)), runtime="torch")


def test_another_networks_weights_do_not_reproduce_the_probe(lively: Build, tmp_path: Path) -> None:
    other = safetensors.torch.save(lively(seed=5).state_dict())
    with pytest.raises(BundleError, match="answers the probe with cosine"):
        load_model(save(tmp_path / "b", lively(), other), runtime="torch")


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    """What `torch.save` writes, with a trap in it."""

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    data = io.BytesIO()
    torch.save({"linear.weight": Trap()}, data)
    for content in (data.getvalue(), b"", b"\x80\x04."):
        with pytest.raises(BundleError, match="^model.safetensors: not a safetensors file$"):
            TorchRuntime.load(ModelSpec(backbone="test_convnext"), content)
    assert not (tmp_path / "sprung").exists()


def test_a_backbone_that_timm_does_not_know_is_a_fault_of_the_bundle(lively: Build) -> None:
    with pytest.raises(BundleError, match="timm knows no backbone 'tiny'"):
        TorchRuntime.load(ModelSpec(backbone="tiny"), safetensors.torch.save(lively().state_dict()))


def test_weights_of_another_width_are_a_fault_of_the_bundle(lively: Build) -> None:
    with pytest.raises(BundleError, match=r"has the shape \(32[^)]*\); the network has \(16"):
        TorchRuntime.load(
            ModelSpec(backbone="test_convnext", embedding_dim=16), safetensors.torch.save(lively().state_dict())
        )
