"""From bytes to embeddings through a bundle, and the probe that a bundle must reproduce."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from app.reid.bundle import (
    INT8_WEIGHTS,
    MANIFEST,
    ONNX_WEIGHTS,
    Bundle,
    Manifest,
    Quantization,
    file_entry,
    open_bundle,
    save_bundle,
    update_bundle,
)
from app.reid.calibration import Scale
from app.reid.embedder import Embedder, check_fitted, load_model, mean_direction
from app.reid.errors import BundleError, ConfigError, ImageError, PixelLimitError
from app.reid.runtime import OnnxRuntime
from tests.conftest import TINY_DIM, TINY_SPEC, tiny_forward, tiny_manifest, tiny_onnx

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]


def by_another_road(picture: Image.Image) -> np.ndarray:
    """The embedding of an opaque picture: Pillow's resize, then numpy."""
    height, width = TINY_SPEC.size
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    normal = (resized - TINY_SPEC.mean) / TINY_SPEC.std
    return tiny_forward(normal.transpose(2, 0, 1)[None])[0]


class Answers:
    """A runtime that answers with what it is given, and counts the pictures of each pass."""

    def __init__(self, answer: np.ndarray) -> None:
        self.answer = answer
        self.passes: list[int] = []

    def run(self, images: np.ndarray) -> np.ndarray:
        self.passes.append(len(images))
        return np.repeat(self.answer[None], len(images), axis=0)


def test_an_embedding_is_what_another_road_gives(tiny_bundle: Path, draw: Draw, encode: Encode) -> None:
    embedder = load_model(tiny_bundle).embedder
    embedding = embedder.embed(encode(draw(1)))
    assert (embedding.dtype, embedding.shape) == (np.float32, (TINY_DIM,))
    np.testing.assert_allclose(embedding, by_another_road(draw(1)), atol=1e-5)


def test_prepared_pictures_keep_their_order_and_do_not_depend_on_each_other(
    tiny_bundle: Path, draw: Draw, encode: Encode
) -> None:
    embedder = load_model(tiny_bundle).embedder
    files = [encode(draw(seed, (60 + seed, 50))) for seed in range(7)]
    together = embedder.embed_prepared([embedder.prepare(data) for data in files])
    assert together.tobytes() == np.stack([embedder.embed(data) for data in files]).tobytes()
    in_threes = Embedder(embedder.spec, embedder.runtime, batch_size=3)
    np.testing.assert_allclose(in_threes.embed_prepared([in_threes.prepare(d) for d in files]), together, atol=1e-6)


@pytest.mark.parametrize(("size", "passes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (64, [5])])
def test_passes_hold_as_many_pictures_as_the_batch_size(size: int, passes: list[int]) -> None:
    runtime = Answers(np.ones(3, dtype=np.float32))
    pixels = np.zeros((*TINY_SPEC.size, 3), dtype=np.uint8)
    assert Embedder(TINY_SPEC, runtime, batch_size=size).embed_prepared([pixels] * 5).shape == (5, 3)
    assert runtime.passes == passes


def test_cut_outs_and_plain_pictures_share_a_pass(draw: Draw) -> None:
    embedder = Embedder(TINY_SPEC, OnnxRuntime(tiny_onnx()), batch_size=2)
    opaque = np.asarray(draw(2, (48, 32)))
    cut_out = np.dstack([opaque, np.full((32, 48), 255, np.uint8)])
    plain, same = embedder.embed_prepared([opaque, cut_out])
    np.testing.assert_array_equal(plain, same)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_is_an_error(bad: float) -> None:
    embedder = Embedder(TINY_SPEC, Answers(np.array([0.0, bad], dtype=np.float32)))
    with pytest.raises(BundleError, match="not finite"):
        embedder.embed_prepared([np.zeros((*TINY_SPEC.size, 3), dtype=np.uint8)])


def test_limits_and_names_reach_the_decoder(tiny_bundle: Path, draw: Draw, encode: Encode) -> None:
    embedder = load_model(tiny_bundle, max_pixels=99).embedder
    with pytest.raises(PixelLimitError, match="^'a.png': 10 x 10 = 100 pixels; the limit is 99$"):
        embedder.embed(encode(draw(3, (10, 10))), "'a.png'")
    with pytest.raises(ImageError, match="^'b.png': the file is empty$"):
        embedder.prepare(b"", "'b.png'")


def test_a_loaded_model_knows_its_manifest_and_version(tiny_bundle: Path) -> None:
    model = load_model(tiny_bundle, threads=1)
    assert model.manifest == open_bundle(tiny_bundle).manifest
    assert model.version == open_bundle(tiny_bundle).model_version(ONNX_WEIGHTS, "onnx", "float32")
    assert model.embedder.batch_size == 1


class TestMirror:
    """The mean with the mirror image: a direction of its own, under a version of its own."""

    def test_by_another_road(self, tiny_bundle: Path, draw: Draw, encode: Encode) -> None:
        model = load_model(tiny_bundle)
        mirrored = model.mirrored()
        mean = by_another_road(draw(1)) + by_another_road(draw(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        found = mirrored.embedder.embed(encode(draw(1)))
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)
        assert found.dtype == np.float32
        turned = mirrored.embedder.embed(encode(draw(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        np.testing.assert_allclose(turned, found, atol=1e-6)

    def test_it_has_a_version_of_its_own(self, calibrated_bundle: Path) -> None:
        """And no scale: its similarities are others than those that were calibrated."""
        model = load_model(calibrated_bundle)
        assert len({model.version, model.mirrored().version}) == 2
        assert model.mirrored().version == load_model(calibrated_bundle).mirrored().version
        assert model.mirrored().scale is None
        assert int(model.mirrored().version, 16) >= 0

    def test_opposite_directions_have_no_mean(self) -> None:
        ones = np.ones((1, 4), dtype=np.float32) / 2
        assert np.isnan(mean_direction(ones, -ones)).all()


class TestScale:
    """What similarities mean comes with the bundle, for the weights that it was fitted for and no others."""

    @staticmethod
    def no_draft(values: dict[str, Any]) -> None:
        values["preprocess"].update(jpeg_draft=False)

    def test_it_is_the_manifests(self, calibrated_bundle: Path, tiny_bundle: Path) -> None:
        assert load_model(tiny_bundle).scale is None
        manifest = open_bundle(calibrated_bundle).manifest
        scale, rare = load_model(calibrated_bundle).scale, load_model(calibrated_bundle, prior=0.1).scale
        assert scale == Scale(manifest.calibration, 0.5)
        assert rare == Scale(manifest.calibration, 0.1)

    def test_other_weights_void_it(self, calibrated_bundle: Path, tmp_path: Path) -> None:
        changed = TestProbe.change(
            calibrated_bundle, tmp_path / "b", lambda v: v["preprocess"].update(jpeg_draft=False)
        )
        with pytest.raises(BundleError, match="^bundle tiny: its calibration was fitted for model_version "):
            load_model(changed)
        assert load_model(changed, calibrated=False).scale is None

    def test_a_bundle_without_the_network_that_it_was_fitted_for(self, calibrated_bundle: Path) -> None:
        bundle = open_bundle(calibrated_bundle)
        bare = Bundle(bundle.folder, bundle.manifest.model_copy(update={"files": {}}))
        with pytest.raises(BundleError, match="and its weights are none;"):
            check_fitted(bare)

    def test_int8_has_none(self, calibrated_bundle: Path, tmp_path: Path) -> None:
        """Its similarities are others, by up to a hundredth."""
        bundle, weights = Path(shutil.copytree(calibrated_bundle, tmp_path / "both")), tiny_onnx()
        manifest = open_bundle(bundle).manifest
        figures = Quantization(
            data_fingerprint="none", seed=0, calibration_photos=16, measured_photos=16, cosine=1, median_cosine=1,
            similarity_change=0, probe_cosine=1, speedup=2,
        )  # fmt: skip
        files = {**manifest.files, INT8_WEIGHTS: file_entry(weights)}
        small = manifest.model_copy(update={"files": files, "quantization": figures})
        update_bundle(bundle, small, {INT8_WEIGHTS: weights})
        assert load_model(bundle).scale is not None
        assert load_model(bundle, precision="int8").scale is None


class TestProbe:
    """The network must answer the probe as it did when it was exported."""

    @staticmethod
    def change(bundle: Path, copy: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
        shutil.copytree(bundle, copy)
        values = json.loads((copy / MANIFEST).read_text())
        edit(values)
        (copy / MANIFEST).write_text(json.dumps(values))
        return copy

    @staticmethod
    def tilted(cosine: float) -> tuple[float, ...]:
        """The tiny bundle's probe, turned away by a stated cosine."""
        probe = np.array(tiny_manifest(tiny_onnx()).probe.embedding)
        aside = np.random.default_rng(0).standard_normal(TINY_DIM)
        aside -= aside @ probe * probe
        aside /= np.linalg.norm(aside)
        return tuple((cosine * probe + np.sqrt(1 - cosine**2) * aside).tolist())

    @pytest.mark.parametrize("cosine", [1.0, 0.99991])
    def test_a_small_difference_is_another_cpu(self, tiny_bundle: Path, tmp_path: Path, cosine: float) -> None:
        load_model(self.change(tiny_bundle, tmp_path / "b", lambda v: v["probe"].update(embedding=self.tilted(cosine))))

    @pytest.mark.parametrize(("cosine", "shown"), [(0.99989, "0.999890"), (0.0, "0.000000"), (-1.0, "-1.000000")])
    def test_a_larger_one_is_another_network(
        self, tiny_bundle: Path, tmp_path: Path, cosine: float, shown: str
    ) -> None:
        changed = self.change(tiny_bundle, tmp_path / "b", lambda v: v["probe"].update(embedding=self.tilted(cosine)))
        with pytest.raises(BundleError, match=f"bundle tiny: the network answers the probe with cosine -?{shown} to"):
            load_model(changed)

    def test_a_probe_of_zeros_is_never_reproduced(self, tiny_bundle: Path, tmp_path: Path) -> None:
        changed = self.change(tiny_bundle, tmp_path / "b", lambda v: v["probe"].update(embedding=[0.0] * TINY_DIM))
        with pytest.raises(BundleError, match="cosine nan"):
            load_model(changed)

    def test_another_seed_is_another_picture(self, tiny_bundle: Path, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="answers the probe with cosine"):
            load_model(self.change(tiny_bundle, tmp_path / "b", lambda v: v["probe"].update(seed=4)))

    @pytest.mark.parametrize("mean", [[0.1, 0.9, 0.1]])
    def test_another_preprocessing_shows_in_the_probe(
        self, tiny_bundle: Path, tmp_path: Path, mean: list[float]
    ) -> None:
        with pytest.raises(BundleError, match="answers the probe with cosine"):
            load_model(self.change(tiny_bundle, tmp_path / "b", lambda v: v["preprocess"].update(mean=mean)))

    @pytest.mark.parametrize(
        ("edit", "sentence"),
        [
            (lambda v: v.update(embedding_dim=511), "says 511 dimensions, the network gives 512 and the probe has 512"),
            (
                lambda v: v["probe"]["embedding"].pop(),
                "says 512 dimensions, the network gives 512 and the probe has 511",
            ),
        ],
    )
    def test_dimensions_must_agree(
        self, tiny_bundle: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], object], sentence: str
    ) -> None:
        with pytest.raises(BundleError, match=sentence):
            load_model(self.change(tiny_bundle, tmp_path / "b", edit))

    def test_a_size_that_the_network_does_not_take(self, tiny_bundle: Path, tmp_path: Path) -> None:
        changed = self.change(tiny_bundle, tmp_path / "b", lambda v: v["preprocess"].update(size=[64, 64]))
        with pytest.raises(BundleError, match="bundle tiny: the network refuses a picture of the stated size"):
            load_model(changed)

    def test_weights_that_are_not_finite(self, tmp_path: Path) -> None:
        model = onnx.load_model_from_string(tiny_onnx())
        values = numpy_helper.to_array(model.graph.initializer[0]).copy()
        values[3, 3] = np.nan
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "projection"))
        weights = model.SerializeToString()
        save_bundle(tmp_path / "b", tiny_manifest(weights), {ONNX_WEIGHTS: weights})
        with pytest.raises(BundleError, match="not finite"):
            load_model(tmp_path / "b")


def test_the_torch_runtime_is_reached_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is not installed, asking for it is an error with the way out."""
    weights = tiny_onnx()
    files = {ONNX_WEIGHTS: file_entry(weights), "model.safetensors": file_entry(weights)}
    manifest: Manifest = tiny_manifest(weights).model_copy(update={"files": files})
    save_bundle(tmp_path / "b", manifest, dict.fromkeys(files, weights))
    monkeypatch.setitem(sys.modules, "app.reid.torch_runtime", None)
    with pytest.raises(BundleError, match=r"needs the `train` extra: pip install 'jaguar-reid\[train\]'"):
        load_model(tmp_path / "b", runtime="torch")


class TestPrecision:
    """int8 is asked for by name, comes from its own file, and never stands in for float32 or the other way round."""

    @staticmethod
    def rounded() -> bytes:
        """The tiny network with its weights rounded to eighths: near, and not the same."""
        model = onnx.load_model_from_string(tiny_onnx())
        values = numpy_helper.to_array(model.graph.initializer[0])
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.round(values * 8) / 8, "projection"))
        return model.SerializeToString()

    @pytest.fixture
    def both(self, tiny_bundle: Path, tmp_path: Path) -> Path:
        """The tiny bundle with the rounded network as its int8 weights."""
        bundle, weights = Path(shutil.copytree(tiny_bundle, tmp_path / "both")), self.rounded()
        manifest = open_bundle(bundle).manifest
        figures = Quantization(
            data_fingerprint="none",
            seed=0,
            calibration_photos=16,
            measured_photos=16,
            cosine=0.999,
            median_cosine=0.999,
            similarity_change=0.001,
            probe_cosine=0.999,
            speedup=1.5,
        )
        files = {**manifest.files, INT8_WEIGHTS: file_entry(weights)}
        update_bundle(
            bundle, manifest.model_copy(update={"files": files, "quantization": figures}), {INT8_WEIGHTS: weights}
        )
        return bundle

    def test_each_precision_loads_its_own_file(self, both: Path, draw: Draw, encode: Encode) -> None:
        data = encode(draw(1))
        full, small = load_model(both), load_model(both, precision="int8")
        np.testing.assert_allclose(full.embedder.embed(data), by_another_road(draw(1)), atol=1e-5)
        by_hand = Embedder(TINY_SPEC, OnnxRuntime(self.rounded())).embed(data)
        assert small.embedder.embed(data).tobytes() == by_hand.tobytes()
        assert by_hand.tobytes() != full.embedder.embed(data).tobytes()
        assert small.version == open_bundle(both).model_version(INT8_WEIGHTS, "onnx", "int8") != full.version

    def test_a_bundle_without_int8_weights_says_how_to_make_them(self, tiny_bundle: Path) -> None:
        way_out = "bundle tiny has no model.int8.onnx; `jaguar-train quantize model_store/tiny --data DIR` makes one"
        with pytest.raises(BundleError, match=way_out):
            load_model(tiny_bundle, precision="int8")

    def test_torch_computes_in_float32_alone(self, both: Path) -> None:
        with pytest.raises(ConfigError, match="precision int8 needs the onnx runtime"):
            load_model(both, runtime="torch", precision="int8")

    @pytest.mark.parametrize(("cosine", "loads"), [(0.991, True), (0.989, False)])
    def test_the_probe_is_held_to_less(self, both: Path, cosine: float, loads: bool) -> None:
        """Of the rounded network's answer, whose own distance to the probe is a few hundred thousandths."""
        values = json.loads((both / MANIFEST).read_text())
        values["probe"]["embedding"] = TestProbe.tilted(cosine)
        (both / MANIFEST).write_text(json.dumps(values))
        with pytest.raises(BundleError, match="at least 0.9999 is needed"):
            load_model(both)
        if loads:
            load_model(both, precision="int8")
        else:
            with pytest.raises(BundleError, match=r"at least 0\.99 is needed"):
                load_model(both, precision="int8")
