import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from app.reid.bundle import open_bundle
from app.reid.embedder import load_model
from app.reid.errors import BundleError
from app.reid.network import EmbeddingModel
from app.reid.runtime import OnnxRuntime
from app.reid.spec import ModelSpec
from training import export
from training.export import export_bundle, git_commit, round_to_half, smallest, to_onnx


def network(backbone="test_convnext", **values):
    torch.manual_seed(1)
    model = EmbeddingModel(ModelSpec(backbone=backbone, embedding_dim=32, **values)).eval()
    model.batch_norm.running_mean.normal_()
    model.batch_norm.running_var.uniform_(0.5, 2.0)
    with torch.no_grad():
        model.batch_norm.bias.normal_()
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory, make_config):
    folder = tmp_path_factory.mktemp("store") / "herd"
    model = network()
    export_bundle(folder, model, make_config(), fingerprint="f" * 64, split_csv="filename\n", metrics={"id_map": 0.5})
    return folder, model


def test_both_runtimes_answer_as_the_network_does(exported):
    folder, model = exported
    images = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    for runtime in ("onnx", "torch"):
        loaded = load_model(folder, runtime=runtime)
        assert np.abs(loaded.embedder.runtime.run(images) - expected).max() <= 1e-5
    assert load_model(folder).version != load_model(folder, runtime="torch").version


def test_places_are_exported(exported):
    folder, _ = exported
    runtime = OnnxRuntime((folder / "model.onnx").read_bytes())
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    embeddings, places = runtime.run_with_places(images)
    assert np.abs(places.sum(axis=(1, 2)) - embeddings).max() <= 1e-5


def test_no_path_of_this_machine_is_in_the_weights(exported):
    data = (exported[0] / "model.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in data
    assert b"site-packages" not in data


def test_the_manifest_says_where_it_comes_from(exported, make_config):
    manifest = open_bundle(exported[0]).manifest
    assert (manifest.name, manifest.backbone, manifest.embedding_dim) == ("herd", "test_convnext", 32)
    assert manifest.provenance.config == json.loads(make_config().model_dump_json())
    assert manifest.provenance.data_fingerprint == "f" * 64
    assert manifest.provenance.git_commit == git_commit()
    assert manifest.metrics == {"id_map": 0.5}
    assert set(manifest.files) == {"model.onnx", "model.safetensors"}


def test_no_head_is_exported(exported):
    tensors = safetensors.torch.load_file(exported[0] / "model.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"backbone", "linear", "batch_norm"}


def test_a_backbone_without_places():
    model = network("test_efficientnet")
    assert not model.has_places
    assert not OnnxRuntime(to_onnx(model, (32, 32))).has_places


@pytest.mark.parametrize("pooling", ["gem", "grid"])
def test_networks_with_another_pooling_round_trip_through_a_bundle(tmp_path, make_config, pooling):
    model = network(pooling=pooling)
    if pooling == "gem":
        with torch.no_grad():
            model.backbone.head.global_pool.p.fill_(2.2)
    folder = tmp_path / pooling
    config = make_config(f"model.pooling={pooling}")
    export_bundle(folder, model, config, fingerprint="f" * 64, split_csv="filename\n", metrics={})
    manifest = open_bundle(folder).manifest
    assert (manifest.pooling, manifest.model) == (pooling, config.model.spec)
    images = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    for runtime in ("onnx", "torch"):
        loaded = load_model(folder, runtime=runtime).embedder.runtime
        assert loaded.has_places == (pooling == "grid")
        assert np.abs(loaded.run(images) - expected).max() <= 1e-5
        if loaded.has_places:
            _, places = loaded.run_with_places(images)
            assert np.abs(places.sum(axis=(1, 2)) - expected).max() <= 1e-5


def test_weight_files_that_disagree_are_no_bundle(monkeypatch):
    monkeypatch.setattr(export, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(BundleError, match="answers otherwise than torch"):
        to_onnx(network(), (32, 32))


def test_no_git_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit() is None


@pytest.mark.parametrize("value", [0.0, 1.0, -0.25, 65_504.0, 2.0**-24])
def test_numbers_that_float16_has_are_written_in_it(value):
    assert smallest(torch.tensor([value, 1.5])).dtype == torch.float16


@pytest.mark.parametrize("value", [0.1, 65_536.0, 2.0**-25, float("nan")])
def test_others_stay_as_they_are(value):
    assert smallest(torch.tensor([value, 1.5])).dtype == torch.float32
    assert smallest(torch.tensor([3])).dtype == torch.int64


def test_a_network_in_half_precision_is_the_same_network_in_half_the_room(tmp_path, make_config):
    model = network()
    full = safetensors.torch.save(model.state_dict())
    round_to_half(model)
    folder = tmp_path / "half"
    export_bundle(folder, model, make_config(), fingerprint="f" * 64, split_csv="filename\n", metrics={})
    assert (folder / "model.safetensors").stat().st_size < 0.6 * len(full)
    images = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    for runtime in ("onnx", "torch"):
        assert np.abs(load_model(folder, runtime=runtime).embedder.runtime.run(images) - expected).max() <= 1e-5
