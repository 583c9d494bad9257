"""A bundle with places that is small enough to check by hand: each cell of a picture has weights of its own."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.reid.bundle import ONNX_WEIGHTS, Manifest, Probe, Provenance, file_entry, probe_pixels, save_bundle
from app.reid.preprocess import to_array
from app.reid.spec import PreprocessSpec

SQUASH = PreprocessSpec(size=(32, 48), background=(200, 120, 40))
PAD = SQUASH.model_copy(update={"fit": "pad"})
GRID = (4, 6)
DIM = 512
_CELL = 8


def placed_weights() -> np.ndarray:
    """(3, 4, 6, 512): what a cell's colour is multiplied by."""
    return np.random.default_rng(11).standard_normal((3, *GRID, DIM)).astype(np.float32)


def placed_forward(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 32, 48) -> (N, 512) embeddings and (N, 4, 6, 512) places, cell by cell in float64."""
    weights = placed_weights().astype(np.float64)
    places = np.zeros((len(images), *GRID, DIM))
    for n, image in enumerate(images):
        for row in range(GRID[0]):
            for column in range(GRID[1]):
                cell = image[:, row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL]
                for channel in range(3):
                    places[n, row, column] += cell[channel].mean(dtype=np.float64) * weights[channel, row, column]
    norms = np.linalg.norm(places.sum(axis=(1, 2)), axis=1)
    places /= norms[:, None, None, None]
    return places.sum(axis=(1, 2)), places


def placed_onnx(factor: float = 1.0) -> bytes:
    """The same as an ONNX file. factor: what the places are multiplied by; 1 is right."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[_CELL, _CELL], strides=[_CELL, _CELL]),
        helper.make_node("Einsum", ["cells", "weights"], ["shares"], equation="ncij,cijd->nijd"),
        helper.make_node("ReduceSum", ["shares", "axes"], ["z"], keepdims=0),
        helper.make_node("ReduceL2", ["z", "last"], ["norm"], keepdims=1),
        helper.make_node("Div", ["z", "norm"], ["embeddings"]),
        helper.make_node("Reshape", ["norm", "shape"], ["norms"]),
        helper.make_node("Div", ["shares", "norms"], ["right"]),
        helper.make_node("Mul", ["right", "factor"], ["places"]),
    ]
    constants = {
        "weights": placed_weights(),
        "axes": np.array([1, 2]),
        "last": np.array([1]),
        "shape": np.array([-1, 1, 1, 1]),
        "factor": np.array(factor, dtype=np.float32),
    }
    height, width = SQUASH.size
    graph = helper.make_graph(
        nodes,
        "placed",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, height, width])],
        [
            helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", DIM]),
            helper.make_tensor_value_info("places", TensorProto.FLOAT, ["n", *GRID, DIM]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def save_placed(folder: Path, spec: PreprocessSpec = SQUASH, factor: float = 1.0) -> Path:
    """Writes the bundle."""
    weights = placed_onnx(factor)
    probe = placed_forward(to_array(probe_pixels(3, spec.size), spec)[None])[0][0]
    manifest = Manifest(
        name=folder.name,
        created="2026-11-24T00:00:00Z",
        backbone="placed",
        embedding_dim=DIM,
        preprocess=spec,
        files={ONNX_WEIGHTS: file_entry(weights)},
        probe=Probe(seed=3, embedding=tuple(float(value) for value in probe)),
        provenance=Provenance(config={}, seed=0, git_commit=None, data_fingerprint="none"),
        metrics={},
    )
    save_bundle(folder, manifest, {ONNX_WEIGHTS: weights})
    return folder
