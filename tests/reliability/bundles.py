"""Bundles that are as they should be, and bundles that are not."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from app.reid.bundle import MANIFEST, ONNX_WEIGHTS, Probe, file_entry, probe_pixels, save_bundle
from app.reid.preprocess import to_array
from tests.conftest import TINY_SPEC, tiny_forward, tiny_manifest, tiny_onnx, tiny_projection


def turned_projection(seed: int) -> np.ndarray:
    """The tiny network's weights with their outputs in another order."""
    return tiny_projection()[:, np.random.default_rng(seed).permutation(tiny_projection().shape[1])]


def order(seed: int) -> np.ndarray:
    """Where the outputs of `save_turned(..., seed)` stand in the tiny bundle's embedding."""
    return np.random.default_rng(seed).permutation(tiny_projection().shape[1])


def save_turned(folder: Path, seed: int) -> None:
    """A whole and right bundle whose embeddings are the tiny bundle's with their values in another order."""
    network = onnx.load_from_string(tiny_onnx())
    network.graph.initializer[0].CopyFrom(numpy_helper.from_array(turned_projection(seed), "projection"))
    weights = network.SerializeToString()
    manifest = tiny_manifest(weights)
    probe = tiny_forward(to_array(probe_pixels(manifest.probe.seed, TINY_SPEC.size), TINY_SPEC)[None])[0][order(seed)]
    stored = Probe(seed=manifest.probe.seed, embedding=tuple(float(value) for value in probe))
    save_bundle(
        folder, manifest.model_copy(update={"probe": stored, "name": f"turned-{seed}"}), {ONNX_WEIGHTS: weights}
    )


def _missing(folder: Path) -> None:
    shutil.rmtree(folder)


def _wrong_hash(folder: Path) -> None:
    data = bytearray((folder / ONNX_WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / ONNX_WEIGHTS).write_bytes(data)


def _wrong_dimensions(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["embedding_dim"] = 256
    (folder / MANIFEST).write_text(json.dumps(manifest))


class _Bait:
    """Unpickling this leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)


def _pickle(folder: Path) -> None:
    _replace_weights(folder, pickle.dumps(_Bait(folder.parent / "unpickled")))


def _nan_weights(folder: Path) -> None:
    network = onnx.load_from_string(tiny_onnx())
    weights = tiny_projection()
    weights[3, 5] = np.nan
    network.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "projection"))
    _replace_weights(folder, network.SerializeToString())


def _half_copied(folder: Path) -> None:
    data = (folder / ONNX_WEIGHTS).read_bytes()
    (folder / ONNX_WEIGHTS).write_bytes(data[: len(data) // 2])


def _half_manifest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: len(text) // 2])


def _replace_weights(folder: Path, data: bytes) -> None:
    """Other weights under a manifest that states them, so that only their content is wrong."""
    (folder / ONNX_WEIGHTS).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][ONNX_WEIGHTS] = file_entry(data).model_dump()
    assert manifest["files"][ONNX_WEIGHTS]["sha256"] == hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


# Each spoils a good bundle in place; what the sentence about it must hold.
SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (_missing, "there is no bundle"),
    "wrong hash": (_wrong_hash, "sha256"),
    "wrong dimensions": (_wrong_dimensions, "256 dimensions"),
    "a pickle": (_pickle, "no network"),
    "NaN weights": (_nan_weights, "not finite"),
    "half-copied weights": (_half_copied, "bytes; the manifest says"),
    "half-copied manifest": (_half_manifest, "manifest.json"),
}
