"""int8: kept where it answers as float32 does and is faster, and otherwise the bundle is as it was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from typer.testing import CliRunner

from app.reid.bundle import INT8_WEIGHTS, MANIFEST, ONNX_WEIGHTS, open_bundle
from app.reid.embedder import load_model
from app.reid.errors import BundleError, DataError
from app.reid.network import EmbeddingModel
from app.reid.preprocess import to_array
from app.reid.runtime import OnnxRuntime
from app.reid.spec import ModelSpec
from training import quantize
from training.cli import app
from training.export import export_bundle
from training.quantize import Limits, draw_photos, quantizable, quantize_bundle, to_int8

SHIPPED = Path(__file__).parents[2] / "model_store" / "default"

# How fast a network of 0.2 M parameters is says nothing, and the clock is no part of a test.
NO_CLOCK = Limits(speedup=0.0)

runner = CliRunner()


def network(*, lopsided=False):
    """timm's smallest ConvNeXt whose blocks do something; lopsided: one hidden channel is 10,000 times the others.

    Lopsided, it answers in float32 as it did before. In eight bits that channel alone sets the range.
    """
    torch.manual_seed(2)
    model = EmbeddingModel(ModelSpec(backbone="test_convnext", embedding_dim=32)).eval()
    model.batch_norm.running_mean.normal_()
    model.batch_norm.running_var.uniform_(0.5, 2.0)
    with torch.no_grad():
        for stage in model.backbone.stages:
            for block in stage.blocks:
                block.gamma.uniform_(0.5, 1.0)
                torch.nn.init.xavier_normal_(block.mlp.fc1.weight)
                torch.nn.init.xavier_normal_(block.mlp.fc2.weight)
                if lopsided:
                    block.mlp.fc1.bias[0] = 10_000
                    block.mlp.fc2.weight[:, 0] = 0
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_config):
    """Two bundles, `even` and `lopsided`, each with a report that no manifest lists. Read-only."""
    folder = tmp_path_factory.mktemp("store")
    for name in ("even", "lopsided"):
        model = network(lopsided=name == "lopsided")
        export_bundle(folder / name, model, make_config(), fingerprint="f" * 64, split_csv="filename\n", metrics={})
        (folder / name / "report.html").write_text("<p>fine")
    return folder


@pytest.fixture
def copied(store, tmp_path):
    return lambda name: Path(shutil.copytree(store / name, tmp_path / name))


@pytest.fixture(scope="module")
def quantized(store, herd, tmp_path_factory):
    """The even bundle with int8 weights, and the outcome. Read-only."""
    bundle = Path(shutil.copytree(store / "even", tmp_path_factory.mktemp("quantized") / "even"))
    return bundle, quantize_bundle(bundle, herd, limits=NO_CLOCK)


def content(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def slow_parity(bundle, photos):
    """Lowest cosine and largest change of a similarity, one photo and one pair at a time."""
    full, small = load_model(bundle).embedder, load_model(bundle, precision="int8").embedder
    a = [full.embed_prepared([pixels])[0].astype(float) for pixels in photos.prepared]
    b = [small.embed_prepared([pixels])[0].astype(float) for pixels in photos.prepared]

    def cosine(x, y):
        return sum(x * y) / (sum(x * x) * sum(y * y)) ** 0.5

    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    change = max(abs((cosine(a[i], a[j]) + 1) / 2 - (cosine(b[i], b[j]) + 1) / 2) for i, j in pairs)
    return min(cosine(x, y) for x, y in zip(a, b, strict=True)), change


def test_its_figures_are_those_of_photos_it_was_not_calibrated_on(quantized, herd_photos):
    bundle, outcome = quantized
    figures = open_bundle(bundle).manifest.quantization
    assert outcome.kept
    assert figures == outcome.figures
    assert (figures.calibration_photos, figures.measured_photos, figures.seed) == (18, 18, 0)
    assert figures.data_fingerprint == herd_photos.fingerprint
    cosine, change = slow_parity(bundle, draw_photos(herd_photos, 256, 0).held_out)
    assert (figures.cosine, figures.similarity_change) == (pytest.approx(cosine), pytest.approx(change))
    assert 0.998 <= figures.cosine < 0.999999, "int8 that answers exactly as float32 is float32"
    assert figures.cosine <= figures.median_cosine <= 1


def test_the_rest_of_the_bundle_stays(quantized, store):
    bundle, _ = quantized
    before, after = content(store / "even"), content(bundle)
    assert after.keys() == before.keys() | {INT8_WEIGHTS}
    assert {name for name in before if before[name] != after[name]} == {MANIFEST}
    was, now = json.loads(before[MANIFEST]), json.loads(after[MANIFEST])
    assert now.pop("quantization") is not None
    assert now["files"].pop(INT8_WEIGHTS)["bytes"] == len(after[INT8_WEIGHTS])
    assert {**now, "quantization": None} == was


def test_only_int8_embeddings_have_another_version(quantized, store):
    bundle, _ = quantized
    assert load_model(bundle).version == load_model(store / "even").version
    assert load_model(bundle, precision="int8").version != load_model(bundle).version


def test_the_products_really_run_in_eight_bits(quantized):
    bundle, _ = quantized
    network = onnx.load(bundle / INT8_WEIGHTS)
    eight_bits = [tensor for tensor in network.graph.initializer if tensor.data_type == TensorProto.INT8]
    assert sum(len(tensor.dims) == 2 for tensor in eight_bits) == 18  # two in each of the nine blocks
    assert all(abs(onnx.numpy_helper.to_array(tensor)).max() <= 64 for tensor in eight_bits)  # seven bits
    assert (bundle / INT8_WEIGHTS).stat().st_size < (bundle / ONNX_WEIGHTS).stat().st_size


def test_batches_and_places_are_as_before(quantized, herd_photos):
    bundle, _ = quantized
    model = load_model(bundle, precision="int8").embedder
    images = np.stack([to_array(pixels, model.spec) for pixels in herd_photos.prepared[:3]])
    embeddings, places = model.runtime.run_with_places(images)
    np.testing.assert_allclose(embeddings, model.embed_prepared(herd_photos.prepared[:3]), atol=1e-6)
    np.testing.assert_allclose(places.sum(axis=(1, 2)), embeddings, atol=1e-5)


def test_the_same_photos_give_the_same_file(quantized, copied, herd):
    bundle, _ = quantized
    other = copied("even")
    quantize_bundle(other, herd, limits=NO_CLOCK)
    assert (other / INT8_WEIGHTS).read_bytes() == (bundle / INT8_WEIGHTS).read_bytes()


def test_no_path_of_this_machine_is_in_the_weights(quantized):
    data = (quantized[0] / INT8_WEIGHTS).read_bytes()
    assert not [path for path in (str(SHIPPED.parents[1]), "/tmp", "site-packages") if path.encode() in data]


def test_a_network_that_does_not_hold_is_not_kept(copied, herd):
    bundle = copied("lopsided")
    before = content(bundle)
    outcome = quantize_bundle(bundle, herd, limits=NO_CLOCK)
    failed = [check.name for check in outcome.checks if not check.holds]
    assert failed[:2] == ["lowest cosine", "largest similarity change"]
    assert content(bundle) == before


@pytest.mark.parametrize(
    ("limits", "failed"),
    [
        ({"speedup": 1e9}, "speedup"),
        ({"cosine": 1.0}, "lowest cosine"),
        ({"similarity_change": 0.0}, "largest similarity change"),
        ({"probe_cosine": 1.1}, "cosine of the probe"),
    ],
)
def test_each_limit_counts_and_former_int8_weights_stay(quantized, herd, tmp_path, limits, failed):
    bundle = Path(shutil.copytree(quantized[0], tmp_path / "even"))
    before = content(bundle)
    outcome = quantize_bundle(bundle, herd, seed=1, limits=replace(NO_CLOCK, **limits))
    assert [check.name for check in outcome.checks if not check.holds] == [failed]
    assert content(bundle) == before


def test_command_that_holds(copied, herd, monkeypatch):
    monkeypatch.setattr(quantize, "LIMITS", NO_CLOCK)
    bundle = copied("even")
    done = runner.invoke(app, ["quantize", str(bundle), "--data", str(herd), "--photos", "16", "--seed", "3"])
    assert done.exit_code == 0, done.output
    figures = open_bundle(bundle).manifest.quantization
    assert (figures.calibration_photos, figures.measured_photos, figures.seed) == (16, 16, 3)
    assert "calibrated on 16 photos, measured on 16 others" in done.output
    assert f"{figures.cosine:.5f}" in done.output
    assert f"{figures.similarity_change:.5f}" in done.output


def test_command_that_does_not_hold(copied, herd):
    bundle = copied("lopsided")
    before = content(bundle)
    done = runner.invoke(app, ["quantize", str(bundle), "--data", str(herd)])
    words = " ".join(done.output.split())
    assert done.exit_code == 1
    assert "largest similarity change" in words
    assert "at most 0.01" in words
    assert "no int8 weights were added, the bundle is as it was: lowest cosine" in words
    assert content(bundle) == before


@pytest.mark.parametrize(
    ("bundle", "data", "sentence"),
    [("gone", None, "there is no bundle gone"), ("even", "nowhere", "--data names the folder that holds it")],
)
def test_command_with_input_at_fault(store, herd, tmp_path, bundle, data, sentence):
    done = runner.invoke(app, ["quantize", str(store / bundle), "--data", str(tmp_path / data if data else herd)])
    assert (done.exit_code, sentence in " ".join(done.output.split())) == (2, True)


class TestPhotos:
    def test_no_file_is_on_both_sides_under_two_names(self, herd_photos):
        twice = herd_photos.part([*range(36), *range(36)])
        drawn = draw_photos(twice, 256, 0)
        assert (len(drawn.calibration), len(drawn.held_out)) == (18, 18)
        assert len({*drawn.calibration.sha256, *drawn.held_out.sha256}) == 36

    def test_a_seed_draws_its_photos(self, herd_photos):
        first, again, other = (draw_photos(herd_photos, 16, seed).calibration.filenames for seed in (0, 0, 1))
        assert first == again
        assert len(first) == 16
        assert first != other

    def test_too_few(self, herd_photos):
        with pytest.raises(DataError, match="31 different photos; 32 are needed"):
            draw_photos(herd_photos.part([*range(31), 0, 0]), 256, 0)


class TestQuantizable:
    def test_pointwise_convolutions_of_the_shipped_bundle(self):
        graph = onnx.load(SHIPPED / ONNX_WEIGHTS).graph
        weights = {node.name: node.input[1] for node in graph.node if len(node.input) > 1}
        names = sorted(weights[name] for name in quantizable(graph))
        assert len(names) == 24  # twelve blocks: 2 + 2 + 6 + 2
        assert {name.split(".mlp.")[1] for name in names} == {"fc1.weight", "fc2.weight"}

    def test_what_places_alone_depend_on_stays_exact(self, store):
        graph = onnx.load(store / "even" / ONNX_WEIGHTS).graph
        products = [node.name for node in graph.node if node.op_type == "MatMul"]
        assert len(products) == 19
        assert set(products) - set(quantizable(graph)) == {products[-1]}

    def test_nothing_to_quantize(self):
        graph = helper.make_graph(
            [helper.make_node("GlobalAveragePool", ["images"], ["embeddings"], name="pool")],
            "none",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 3, 1, 1])],
        )
        network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        OnnxRuntime(network.SerializeToString())
        with pytest.raises(BundleError, match="no 1 x 1 convolutions"):
            to_int8(network.SerializeToString(), None)
