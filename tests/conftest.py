"""What many tests share: a bundle small enough to check by hand, drawn photos, and a disk that is soon full."""

import io
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.reid.bundle import ONNX_WEIGHTS, Bundle, Manifest, Probe, Provenance, file_entry, probe_pixels, save_bundle
from app.reid.calibration import Calibration, Logistic
from app.reid.preprocess import decode_image, fit, to_array
from app.reid.spec import PreprocessSpec

# What a script starts in the background has Ctrl-C ignored, and so have its children: those that test it would fail.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_SPEC = PreprocessSpec(size=(32, 48), background=(200, 120, 40))
TINY_DIM = 512
_CELL = 8


def tiny_projection() -> np.ndarray:
    """(72, 512): the only weights of the tiny network."""
    cells = 3 * (TINY_SPEC.size[0] // _CELL) * (TINY_SPEC.size[1] // _CELL)
    return np.random.default_rng(7).standard_normal((cells, TINY_DIM)).astype(np.float32)


def tiny_forward(images: np.ndarray) -> np.ndarray:
    """What the tiny network computes, in numpy: means of 8 x 8 cells, a projection, the unit sphere."""
    n, c, h, w = images.shape
    cells = images.reshape(n, c, h // _CELL, _CELL, w // _CELL, _CELL).mean(axis=(3, 5)).reshape(n, -1)
    z = cells.astype(np.float64) @ tiny_projection()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def tiny_onnx() -> bytes:
    """The tiny network as an ONNX file, built without torch."""
    height, width = TINY_SPEC.size
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[_CELL, _CELL], strides=[_CELL, _CELL]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "projection"], ["z"]),
        helper.make_node("LpNormalization", ["z"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, height, width])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", TINY_DIM])],
        [numpy_helper.from_array(tiny_projection(), "projection")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tiny_manifest(weights: bytes) -> Manifest:
    """The manifest that goes with `tiny_onnx()`."""
    probe = tiny_forward(to_array(probe_pixels(3, TINY_SPEC.size), TINY_SPEC)[None])[0]
    return Manifest(
        name="tiny",
        created="2026-11-24T00:00:00Z",
        backbone="tiny",
        embedding_dim=TINY_DIM,
        preprocess=TINY_SPEC,
        files={ONNX_WEIGHTS: file_entry(weights)},
        probe=Probe(seed=3, embedding=tuple(float(value) for value in probe)),
        provenance=Provenance(config={}, seed=0, git_commit=None, data_fingerprint="none"),
        metrics={"id_map": 0.5},
    )


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose answers `tiny_forward` tells by another road. Read-only: copy it before changing it."""
    folder = tmp_path_factory.mktemp("store") / "tiny"
    weights = tiny_onnx()
    save_bundle(folder, tiny_manifest(weights), {ONNX_WEIGHTS: weights})
    return folder


@pytest.fixture(scope="session")
def calibrated_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a calibration: even odds at a similarity of 0.6; `same` from 0.8, `different` to 0.4."""
    folder = tmp_path_factory.mktemp("calibrated") / "tiny"
    weights = tiny_onnx()
    manifest = tiny_manifest(weights)
    version = Bundle(folder, manifest).model_version(ONNX_WEIGHTS, "onnx", "float32")
    curve = Logistic(slope=10, intercept=-6)
    calibration = Calibration.fitted(version, curve, (0.8, 0.4), {"ece": 0.01, "log_loss_gain": 0.4})
    save_bundle(folder, manifest.model_copy(update={"calibration": calibration}), {ONNX_WEIGHTS: weights})
    return folder


@pytest.fixture(scope="session")
def tiny_embedding() -> Callable[[bytes], np.ndarray]:
    """What the tiny bundle must answer for a file's bytes, (512,) float64, without Embedder and ONNX Runtime."""

    def embedding(data: bytes) -> np.ndarray:
        return tiny_forward(to_array(fit(decode_image(data, TINY_SPEC), TINY_SPEC), TINY_SPEC)[None])[0]

    return embedding


@pytest.fixture(scope="session")
def draw() -> Callable[..., Image.Image]:
    """Draws a smooth picture that differs with every seed: `draw(seed, size=(w, h), mode="RGB")`."""

    def picture(seed: int, size: tuple[int, int] = (120, 80), mode: str = "RGB") -> Image.Image:
        bands = len(Image.new(mode, (1, 1)).getbands())
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, bands), dtype=np.uint8)
        planes = [Image.fromarray(coarse[:, :, band]).resize(size, Image.Resampling.BICUBIC) for band in range(bands)]
        return Image.merge(mode, planes)

    return picture


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """A picture as a file's bytes: `encode(picture, "PNG", **options)`."""

    def to_bytes(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return buffer.getvalue()

    return to_bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here; test_a_limit_on_file_size says the same")
    yield place
    subprocess.run(["umount", str(place)], check=True)
