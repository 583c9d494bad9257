"""ONNX Runtime: what it computes, in which shapes, and what is no network."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.reid.errors import BundleError
from app.reid.runtime import OnnxRuntime
from tests.conftest import TINY_DIM, TINY_SPEC, tiny_forward, tiny_onnx


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, *TINY_SPEC.size)).astype(np.float32)


def places_network() -> bytes:
    """Answers with the mean over the places, and with the places: channels are the embedding."""
    nodes = [
        helper.make_node("Transpose", ["images"], ["places"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["images"], ["embeddings"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "places",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("places", TensorProto.FLOAT, ["n", "h", "w", 3]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_it_computes_what_the_network_says(count: int, threads: int | None) -> None:
    embeddings = OnnxRuntime(tiny_onnx(), threads=threads).run(pictures(count))
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (count, TINY_DIM))
    np.testing.assert_allclose(embeddings, tiny_forward(pictures(count)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_many_threads_may_use_one_session() -> None:
    runtime = OnnxRuntime(tiny_onnx(), threads=1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: runtime.run(pictures(1, seed)), range(100)))
    expected = [runtime.run(pictures(1, seed)) for seed in range(100)]
    np.testing.assert_array_equal(answers, expected)


def test_places_are_fetched_where_there_are_any() -> None:
    runtime = OnnxRuntime(places_network())
    images = pictures(2)
    embeddings, places = runtime.run_with_places(images)
    assert runtime.has_places
    np.testing.assert_array_equal(places, images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(embeddings, images.mean(axis=(2, 3)), atol=1e-6)
    np.testing.assert_array_equal(runtime.run(images), embeddings)


def test_a_network_without_places_says_so() -> None:
    runtime = OnnxRuntime(tiny_onnx())
    assert not runtime.has_places
    with pytest.raises(BundleError, match="no places"):
        runtime.run_with_places(pictures(1))


@pytest.mark.parametrize("model", [b"", b"PK\x03\x04", b"\x80\x04.", b"<html>", tiny_onnx()[:5_000]])
def test_what_is_no_network_is_refused(model: bytes) -> None:
    with pytest.raises(BundleError, match="holds no network that ONNX Runtime can load"):
        OnnxRuntime(model)


@pytest.mark.parametrize(("old", "new"), [("images", "pixels"), ("embeddings", "vectors")])
def test_inputs_and_outputs_go_by_their_names(old: str, new: str) -> None:
    model = onnx.load_model_from_string(tiny_onnx())
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    with pytest.raises(BundleError, match="must turn 'images' into 'embeddings'"):
        OnnxRuntime(model.SerializeToString())
