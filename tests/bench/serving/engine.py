"""What every server and the ceiling share: the service's own decode, fit and to_array, and one ONNX file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.reid.bundle import ONNX_WEIGHTS, open_bundle
from app.reid.preprocess import decode_image, fit, to_array
from app.reid.runtime import OnnxRuntime
from app.reid.spec import PreprocessSpec

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "model_store" / "default"


@dataclass(frozen=True)
class Engine:
    """One session and the spec of the bundle that ships."""

    spec: PreprocessSpec
    runtime: OnnxRuntime

    def prepare(self, data: bytes) -> np.ndarray:
        """A file's bytes -> (3, H, W) float32."""
        return to_array(fit(decode_image(data, self.spec), self.spec), self.spec)

    def embed(self, data: bytes) -> np.ndarray:
        """A file's bytes -> its (512,) embedding."""
        return self.runtime.run(self.prepare(data)[None])[0]


def load_engine(threads: int) -> Engine:
    """The shipped bundle's network with so many threads within a forward pass."""
    bundle = open_bundle(BUNDLE)
    return Engine(bundle.manifest.preprocess, OnnxRuntime(bundle.read(ONNX_WEIGHTS), threads=threads))
