"""The same as `runtime.py` through torch: for training, and for `JAGUAR_RUNTIME=torch` where torch is installed."""

from typing import Self

import numpy as np
import safetensors
import safetensors.torch
import torch

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
        training = self._model.training
        device = next(self._model.parameters()).device
        self._model.eval()
        try:
            with torch.inference_mode():
                embeddings = self._model(torch.from_numpy(images).to(device))
        finally:
            self._model.train(training)
        return np.asarray(embeddings.float().cpu().numpy())
