"""The same as `runtime.py` through torch: for training, and for `JAGUAR_RUNTIME=torch` where torch is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from app.reid.bundle import TORCH_WEIGHTS
from app.reid.errors import BundleError, ConfigError
from app.reid.network import EmbeddingModel, load_weights
from app.reid.runtime import Float32
from app.reid.spec import ModelSpec


class TorchRuntime:
    """An `EmbeddingModel` as a runtime; it is put into eval mode for each run and back afterwards."""

    def __init__(self, model: EmbeddingModel) -> None:
        """Wraps a network where it is, without copying it."""
        self._model = model

    @classmethod
    def load(cls, spec: ModelSpec, weights: bytes) -> Self:
        """The bytes of `model.safetensors` -> a runtime.

        Raises:
            BundleError: the bytes are no safetensors file, or do not fit the spec; or timm knows no such backbone.
        """
        try:
            tensors = safetensors.torch.load(weights)
        except safetensors.SafetensorError as error:
            raise BundleError(f"{TORCH_WEIGHTS}: not a safetensors file") from error
        try:
            model = EmbeddingModel(spec)
        except ConfigError as error:
            raise BundleError(str(error)) from error
        load_weights(model, tensors, TORCH_WEIGHTS)
        return cls(model.eval())

    def run(self, images: Float32) -> Float32:
        """(N, 3, H, W) preprocessed pictures -> (N, D) unit-norm embeddings."""
        with self._evaluating() as device:
            return _to_numpy(self._model(torch.from_numpy(images).to(device)))

    @property
    def has_places(self) -> bool:
        """Whether the network tells what each place of the picture adds to the embedding."""
        return self._model.has_places

    def run_with_places(self, images: Float32) -> tuple[Float32, Float32]:
        """(N, 3, H, W) -> (N, D) embeddings and (N, h, w, D) places, which sum to the embedding over h and w.

        Raises:
            BundleError: the network has no places.
        """
        if not self.has_places:
            raise BundleError("this bundle's network has no places")
        with self._evaluating() as device:
            embeddings, places = self._model.embed_with_places(torch.from_numpy(images).to(device))
            return _to_numpy(embeddings), _to_numpy(places)

    @contextmanager
    def _evaluating(self) -> Iterator[torch.device]:
        """The network in eval mode and without gradients; where it computes."""
        training = self._model.training
        self._model.eval()
        try:
            with torch.inference_mode():
                yield next(self._model.parameters()).device
        finally:
            self._model.train(training)


def _to_numpy(tensor: Tensor) -> Float32:
    return np.asarray(tensor.float().cpu().numpy())
