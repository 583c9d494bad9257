"""ONNX Runtime: float32 (N, 3, H, W) in, float32 (N, D) out."""

from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.reid.cores import available_cores
from app.reid.errors import BundleError

Float32 = NDArray[np.float32]

INPUT, EMBEDDINGS, PLACES = "images", "embeddings", "places"


class Runtime(Protocol):
    """Runs a network forward. Safe to call from several threads."""

    def run(self, images: Float32) -> Float32:
        """(N, 3, H, W) preprocessed pictures -> (N, D) unit-norm embeddings."""


class OnnxRuntime:
    """A network in an ONNX file. threads: within one forward pass; all available cores by default."""

    def __init__(self, model: bytes, *, threads: int | None = None) -> None:
        """Builds the session.

        Raises:
            BundleError: the bytes are not an ONNX network with the input `images` and the output `embeddings`.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its error classes share no base below Exception
            raise BundleError("the ONNX file holds no network that ONNX Runtime can load") from error
        inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        if inputs != [INPUT] or EMBEDDINGS not in self._outputs:
            raise BundleError(f"the ONNX network must turn {INPUT!r} into {EMBEDDINGS!r}")

    @property
    def has_places(self) -> bool:
        """Whether the network tells what each place of the picture adds to the embedding."""
        return PLACES in self._outputs

    def run(self, images: Float32) -> Float32:
        """(N, 3, H, W) preprocessed pictures -> (N, D) unit-norm embeddings."""
        return np.asarray(self._session.run([EMBEDDINGS], {INPUT: images})[0])

    def run_with_places(self, images: Float32) -> tuple[Float32, Float32]:
        """(N, 3, H, W) -> (N, D) embeddings and (N, h, w, D) places, which sum to the embedding over h and w.

        Raises:
            BundleError: the network was exported without places.
        """
        if not self.has_places:
            raise BundleError("this bundle's network has no places")
        embeddings, places = self._session.run([EMBEDDINGS, PLACES], {INPUT: images})
        return np.asarray(embeddings), np.asarray(places)
