"""Bundles: what is saved is loaded, every kind of damage is named, and the version depends on what it should."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.reid.bundle import (
    INT8_WEIGHTS,
    MANIFEST,
    ONNX_WEIGHTS,
    TORCH_WEIGHTS,
    Bundle,
    Manifest,
    check_replaceable,
    file_entry,
    open_bundle,
    probe_pixels,
    save_bundle,
    update_bundle,
)
from app.reid.calibration import Calibration, Logistic
from app.reid.embedder import load_model
from app.reid.errors import BundleError
from app.reid.spec import ModelSpec
from tests.conftest import TINY_DIM, TINY_SPEC, tiny_manifest, tiny_onnx


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "jaguar"))


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest's JSON in place."""
    values = json.loads((bundle / MANIFEST).read_text())
    change(values)
    (bundle / MANIFEST).write_text(json.dumps(values))


def refusal(bundle: Path) -> str:
    """The sentence with which a bundle is refused; it never tells where the bundle is."""
    with pytest.raises(BundleError) as caught:
        load_model(bundle)
    assert str(bundle.parent) not in str(caught.value)
    return str(caught.value)


def test_round_trip(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.manifest == tiny_manifest(tiny_onnx())
    assert bundle.read(ONNX_WEIGHTS) == tiny_onnx()
    assert bundle.manifest.model == ModelSpec(backbone="tiny", embedding_dim=TINY_DIM)
    assert sorted(path.name for path in tiny_bundle.iterdir()) == [MANIFEST, ONNX_WEIGHTS]
    assert [path.name for path in tiny_bundle.parent.iterdir()] == ["tiny"]


def test_the_files_can_be_read_by_other_users(tiny_bundle: Path) -> None:
    assert tiny_bundle.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in tiny_bundle.iterdir())


def test_the_manifest_is_json_for_people(tiny_bundle: Path) -> None:
    text = (tiny_bundle / MANIFEST).read_text(encoding="utf-8")
    values = json.loads(text)
    assert text.endswith("}\n")
    assert text.splitlines()[1] == '  "format": "jaguar-reid",'
    assert values["version"] == 1
    assert values["files"] == {
        ONNX_WEIGHTS: {"sha256": hashlib.sha256(tiny_onnx()).hexdigest(), "bytes": len(tiny_onnx())}
    }


def test_further_files_travel_along_unlisted(tmp_path: Path) -> None:
    weights = tiny_onnx()
    save_bundle(tmp_path / "b", tiny_manifest(weights), {ONNX_WEIGHTS: weights, "split.csv": b"filename\n"})
    assert (tmp_path / "b" / "split.csv").read_bytes() == b"filename\n"
    assert list(open_bundle(tmp_path / "b").manifest.files) == [ONNX_WEIGHTS]


class TestDamage:
    def test_no_such_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="there is no bundle gone"):
            open_bundle(tmp_path / "gone")

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "jaguar").write_text("x")
        with pytest.raises(BundleError, match="there is no bundle jaguar"):
            open_bundle(tmp_path / "jaguar")

    def test_no_manifest(self, broken: Path) -> None:
        (broken / MANIFEST).unlink()
        assert refusal(broken) == "bundle jaguar: manifest.json cannot be read: No such file or directory"

    def test_a_manifest_that_is_not_utf8(self, broken: Path) -> None:
        (broken / MANIFEST).write_bytes(b"\xff\xfe{\0}\0")
        assert refusal(broken) == "bundle jaguar: manifest.json is not UTF-8"

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "jaguar-reid"}', "[" * 100_000])
    def test_a_manifest_that_is_none(self, broken: Path, text: str) -> None:
        (broken / MANIFEST).write_text(text)
        assert refusal(broken).startswith("bundle jaguar: manifest.json: ")

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            (lambda v: v.update(version=2), "version"),
            (lambda v: v.update(format="other"), "format"),
            (lambda v: v.update(colour="red"), "colour"),
            (lambda v: v.pop("probe"), "probe"),
            (lambda v: v["preprocess"].update(crop=3), "preprocess.crop"),
            (lambda v: v["preprocess"].update(size=[8, 8]), "preprocess.size.0"),
            (lambda v: v["probe"].update(embedding=["x"]), "probe.embedding.0"),
            (lambda v: v["files"][ONNX_WEIGHTS].update(sha256="0" * 63), "files.model.onnx.sha256"),
            (lambda v: v["files"][ONNX_WEIGHTS].update(bytes=0), "files.model.onnx.bytes"),
            (lambda v: v.update(pooling="max"), "pooling"),
        ],
    )
    def test_a_manifest_field_that_cannot_be_used_is_named(
        self, broken: Path, change: Callable[[dict[str, Any]], object], where: str
    ) -> None:
        rewrite(broken, change)
        assert refusal(broken).startswith(f"bundle jaguar: manifest.json: {where}: ")

    def test_a_probe_that_is_not_finite(self, broken: Path) -> None:
        rewrite(broken, lambda v: v["probe"]["embedding"].__setitem__(5, float("nan")))
        assert "probe.embedding.5" in refusal(broken)

    def test_missing_weights(self, broken: Path) -> None:
        (broken / ONNX_WEIGHTS).unlink()
        assert refusal(broken) == "bundle jaguar: model.onnx cannot be read: No such file or directory"

    @pytest.mark.parametrize("kept", [0, 1, 10_000])
    def test_truncated_weights(self, broken: Path, kept: int) -> None:
        whole = (broken / ONNX_WEIGHTS).read_bytes()
        (broken / ONNX_WEIGHTS).write_bytes(whole[:kept])
        assert refusal(broken) == f"bundle jaguar: model.onnx has {kept} bytes; the manifest says {len(whole)}"

    def test_weights_that_are_longer(self, broken: Path) -> None:
        with (broken / ONNX_WEIGHTS).open("ab") as file:
            file.write(b"\0")
        assert f"has {len(tiny_onnx()) + 1} bytes" in refusal(broken)

    @pytest.mark.parametrize("position", [0, 5_000, -1])
    def test_one_bit_of_the_weights(self, broken: Path, position: int) -> None:
        data = bytearray((broken / ONNX_WEIGHTS).read_bytes())
        data[position] ^= 1
        (broken / ONNX_WEIGHTS).write_bytes(data)
        assert refusal(broken) == "bundle jaguar: model.onnx has another sha256 than the manifest says"

    def test_a_weight_file_that_is_listed_and_not_needed_is_verified_too(self, broken: Path) -> None:
        entry = {"sha256": "0" * 64, "bytes": 3}
        rewrite(broken, lambda v: v["files"].update({TORCH_WEIGHTS: entry}))
        assert "model.safetensors cannot be read" in refusal(broken)
        (broken / TORCH_WEIGHTS).write_bytes(b"abc")
        assert "model.safetensors has another sha256" in refusal(broken)

    def test_no_weights_for_this_runtime(self, broken: Path) -> None:
        rewrite(broken, lambda v: v.update(files={}))
        assert refusal(broken) == "bundle jaguar: the manifest lists no model.onnx"

    @pytest.mark.parametrize("name", ["../other/model.onnx", "/etc/passwd", "sub/model.onnx", "a\0b", "."])
    def test_a_file_outside_the_bundle_is_not_touched(self, broken: Path, name: str) -> None:
        rewrite(broken, lambda v: v["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
        assert refusal(broken) == "bundle jaguar: manifest.json lists a file outside the bundle"

    @pytest.mark.parametrize("name", ["..", ""])
    def test_a_folder_is_no_file(self, broken: Path, name: str) -> None:
        rewrite(broken, lambda v: v["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
        assert "cannot be read: Is a directory" in refusal(broken)

    def test_a_pickle_instead_of_a_network_is_never_opened(self, broken: Path, tmp_path: Path) -> None:
        """With the right size and hash: whoever made it, it must not run."""

        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return Path.touch, (tmp_path / "sprung",)

        data = pickle.dumps(Trap())
        (broken / ONNX_WEIGHTS).write_bytes(data)
        rewrite(broken, lambda v: v["files"].update({ONNX_WEIGHTS: file_entry(data).model_dump()}))
        assert refusal(broken) == "the ONNX file holds no network that ONNX Runtime can load"
        assert not (tmp_path / "sprung").exists()


FIGURES: dict[str, Any] = {
    "data_fingerprint": "none",
    "seed": 0,
    "calibration_photos": 16,
    "measured_photos": 16,
    "cosine": 0.999,
    "median_cosine": 0.9995,
    "similarity_change": 0.004,
    "probe_cosine": 0.999,
    "speedup": 1.6,
}


def quantized(weights: bytes) -> Manifest:
    """The tiny bundle's manifest, with these bytes as its int8 weights."""
    values = tiny_manifest(tiny_onnx()).model_dump()
    values["files"][INT8_WEIGHTS] = file_entry(weights).model_dump()
    return Manifest.model_validate({**values, "quantization": FIGURES})


class TestInt8:
    def test_figures_are_written_and_read(self, broken: Path) -> None:
        update_bundle(broken, quantized(b"small"), {INT8_WEIGHTS: b"small"})
        bundle = open_bundle(broken)
        assert bundle.read(INT8_WEIGHTS) == b"small"
        assert json.loads((broken / MANIFEST).read_text())["quantization"] == FIGURES
        assert bundle.manifest == quantized(b"small")

    def test_a_manifest_from_before_int8_is_read(self, broken: Path) -> None:
        rewrite(broken, lambda v: v.pop("quantization"))
        assert load_model(broken).manifest.quantization is None

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            (lambda v: v["quantization"].update(cosine=1.5), "quantization.cosine"),
            (lambda v: v["quantization"].update(speedup=float("nan")), "quantization.speedup"),
            (lambda v: v["quantization"].update(colour="red"), "quantization.colour"),
            (lambda v: v["quantization"].pop("seed"), "quantization.seed"),
            (lambda v: v.update(quantization=None), "the file"),
            (lambda v: v["files"].pop(INT8_WEIGHTS), "the file"),
        ],
    )
    def test_figures_are_strict_and_go_with_the_weights(
        self, broken: Path, change: Callable[[dict[str, Any]], object], where: str
    ) -> None:
        update_bundle(broken, quantized(b"small"), {INT8_WEIGHTS: b"small"})
        rewrite(broken, change)
        assert refusal(broken).startswith(f"bundle jaguar: manifest.json: {where}: ")

    def test_damaged_int8_weights_stop_float32_as_well(self, broken: Path) -> None:
        update_bundle(broken, quantized(b"small"), {INT8_WEIGHTS: b"small"})
        (broken / INT8_WEIGHTS).write_bytes(b"smaLl")
        assert refusal(broken) == "bundle jaguar: model.int8.onnx has another sha256 than the manifest says"


class TestUpdate:
    def test_files_that_no_manifest_lists_stay(self, broken: Path) -> None:
        (broken / "split.csv").write_text("filename\n")
        update_bundle(broken, quantized(b"small"), {INT8_WEIGHTS: b"small"})
        names = [MANIFEST, INT8_WEIGHTS, ONNX_WEIGHTS, "split.csv"]
        assert sorted(path.name for path in broken.iterdir()) == names
        assert (broken / "split.csv").read_text() == "filename\n"
        assert (broken / ONNX_WEIGHTS).read_bytes() == tiny_onnx()
        assert [path.name for path in broken.parent.iterdir()] == ["jaguar"]

    def test_a_bundle_that_somebody_else_replaced_meanwhile_stays(self, broken: Path) -> None:
        (broken / ONNX_WEIGHTS).write_bytes(tiny_onnx()[:-1] + b"!")
        before = {path.name: path.read_bytes() for path in broken.iterdir()}
        with pytest.raises(BundleError, match=r"model\.onnx has another sha256"):
            update_bundle(broken, quantized(b"small"), {INT8_WEIGHTS: b"small"})
        assert {path.name: path.read_bytes() for path in broken.iterdir()} == before

    def test_a_folder_inside_would_be_lost(self, broken: Path) -> None:
        (broken / "notes").mkdir()
        with pytest.raises(BundleError, match="bundle jaguar: notes is no file and would be lost"):
            update_bundle(broken, quantized(b"small"), {INT8_WEIGHTS: b"small"})
        assert (broken / "notes").is_dir()

    def test_after_a_kill_between_the_renames(self, broken: Path) -> None:
        broken.rename(broken.parent / ".jaguar.previous")
        update_bundle(broken, quantized(b"small"), {INT8_WEIGHTS: b"small"})
        assert open_bundle(broken).read(ONNX_WEIGHTS) == tiny_onnx()
        assert [path.name for path in broken.parent.iterdir()] == ["jaguar"]


class TestVersion:
    WEIGHTS = tiny_onnx()

    def version(self, **changes: object) -> str:
        manifest = Manifest.model_validate({**tiny_manifest(self.WEIGHTS).model_dump(), **changes})
        return Bundle(Path("anywhere"), manifest).model_version(ONNX_WEIGHTS, "onnx", "float32")

    def test_by_hand(self) -> None:
        """The canonical JSON, written out; the same on every machine and in every later release."""
        preprocess = (
            '{"alpha":"composite","background":[200,120,40],"fit":"squash","interpolation":"bicubic",'
            '"jpeg_draft":true,"mean":[0.485,0.456,0.406],"size":[32,48],"std":[0.229,0.224,0.225]}'
        )
        canonical = (
            '{"backbone":"tiny","embedding_dim":512,"pooling":"avg","precision":"float32",'
            f'"preprocess":{preprocess},"runtime":"onnx","sha256":"{hashlib.sha256(self.WEIGHTS).hexdigest()}"}}'
        )
        assert self.version() == hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @pytest.mark.parametrize(
        "changes",
        [
            {"backbone": "other"},
            {"embedding_dim": 256},
            {"preprocess": TINY_SPEC.model_copy(update={"jpeg_draft": False})},
            {"preprocess": TINY_SPEC.model_copy(update={"background": (200, 120, 41)})},
            {"preprocess": TINY_SPEC.model_copy(update={"mean": (0.485, 0.456, 0.407)})},
            {"files": {ONNX_WEIGHTS: file_entry(b"other weights")}},
        ],
    )
    def test_depends_on_what_an_embedding_depends_on(self, changes: dict[str, object]) -> None:
        assert self.version(**changes) != self.version()

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "other"},
            {"created": "1999-01-01"},
            {"metrics": {"id_map": 0.9}},
            {"calibration": Calibration.fitted("0" * 12, Logistic(slope=2, intercept=0), (1, 0), {})},
            {"probe": {"seed": 4, "embedding": [1.0]}},
            {"provenance": {"config": {"a": 1}, "seed": 9, "git_commit": "abc", "data_fingerprint": "x"}},
            {"files": {ONNX_WEIGHTS: file_entry(WEIGHTS), TORCH_WEIGHTS: file_entry(b"x")}},
            {
                "files": {ONNX_WEIGHTS: file_entry(WEIGHTS), INT8_WEIGHTS: file_entry(b"x")},
                "quantization": FIGURES,
            },
        ],
    )
    def test_depends_on_nothing_else(self, changes: dict[str, object]) -> None:
        assert self.version(**changes) == self.version()

    def test_runtimes_and_precisions_are_told_apart(self) -> None:
        bundle = Bundle(Path("anywhere"), tiny_manifest(self.WEIGHTS))
        versions = {bundle.model_version(ONNX_WEIGHTS, r, p) for r in ("onnx", "torch") for p in ("float32", "int8")}
        assert len(versions) == 4
        assert all(len(version) == 12 and int(version, 16) >= 0 for version in versions)


class TestProbe:
    def test_by_hand(self) -> None:
        """SHAKE-256 of "3", row by row; the first bytes are those that any other implementation prints."""
        drawn = probe_pixels(3, (2, 5))
        assert (drawn.shape, drawn.dtype) == ((2, 5, 3), np.uint8)
        assert drawn.tobytes() == hashlib.shake_256(b"3").digest(30)
        assert hashlib.shake_256(b"").hexdigest(8) == "46b9dd2b0ba88d13"  # NIST's test vector

    def test_seeds_differ(self) -> None:
        assert not np.array_equal(probe_pixels(3, (4, 4)), probe_pixels(4, (4, 4)))


class TestReplaceable:
    """`--out` must never cost anybody a folder of photos."""

    def save(self, folder: Path) -> None:
        save_bundle(folder, tiny_manifest(tiny_onnx()), {ONNX_WEIGHTS: tiny_onnx()})

    def test_a_new_folder_an_empty_one_and_a_bundle_are(self, tmp_path: Path, broken: Path) -> None:
        (tmp_path / "empty").mkdir()
        for folder in (tmp_path / "deep" / "new", tmp_path / "empty", broken):
            check_replaceable(folder)
            self.save(folder)
            assert open_bundle(folder).manifest.name == "tiny"

    def test_a_folder_of_other_things_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.png").write_bytes(b"dear")
        with pytest.raises(BundleError, match="^photos is there and is no bundle"):
            self.save(tmp_path / "photos")
        assert [path.name for path in tmp_path.iterdir()] == ["photos"]
        assert (tmp_path / "photos" / "a.png").read_bytes() == b"dear"

    def test_a_file_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "notes").write_text("dear")
        with pytest.raises(BundleError, match="^notes is there and is no bundle"):
            self.save(tmp_path / "notes")
        assert (tmp_path / "notes").read_text() == "dear"

    def test_a_link_to_a_bundle_stays_a_link(self, tmp_path: Path) -> None:
        self.save(tmp_path / "v1")
        (tmp_path / "default").symlink_to("v1")
        for _ in range(2):
            self.save(tmp_path / "default")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["default", "v1"]
        assert (tmp_path / "default").is_symlink()
        assert open_bundle(tmp_path / "default").manifest.name == "tiny"
