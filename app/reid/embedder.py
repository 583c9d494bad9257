"""From a file's bytes to its embedding, and from a bundle's folder to something that does this."""

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from app.reid.bundle import INT8_WEIGHTS, ONNX_WEIGHTS, TORCH_WEIGHTS, Bundle, Manifest, open_bundle, probe_pixels
from app.reid.calibration import Scale
from app.reid.errors import BundleError, ConfigError
from app.reid.preprocess import DEFAULT_MAX_PIXELS, Float32, Pixels, decode_image, fit, to_array
from app.reid.runtime import OnnxRuntime, Runtime
from app.reid.spec import PreprocessSpec

RuntimeName = Literal["onnx", "torch"]
Precision = Literal["float32", "int8"]

# Rounding to eight bits is coarse, and no two kinds of CPU round alike.
PROBE_COSINE: dict[Precision, float] = {"float32": 0.9999, "int8": 0.99}


@dataclass(frozen=True)
class Embedder:
    """`embed(bytes) = embed_prepared([prepare(bytes)])`; training calls `embed_prepared` on its own cache.

    batch_size: pictures in one forward pass. At 1 an embedding does not depend on its neighbours, to the last bit,
    and on a CPU larger batches are no faster. mirror: an embedding is the mean of the picture's and its mirror image's.
    """

    spec: PreprocessSpec
    runtime: Runtime
    batch_size: int = 1
    max_pixels: int = DEFAULT_MAX_PIXELS
    mirror: bool = False

    def prepare(self, data: bytes, name: str = "image") -> Pixels:
        """A file's bytes -> (H, W, 3 or 4) uint8, decoded, upright and fitted. Raises ImageError."""
        return fit(decode_image(data, self.spec, name=name, max_pixels=self.max_pixels), self.spec)

    def embed_prepared(self, prepared: Sequence[Pixels]) -> Float32:
        """N prepared pictures -> (N, D) float32 unit-norm embeddings, in the order given; N is at least 1.

        Raises:
            BundleError: the network answered with a NaN or an infinity.
        """
        embeddings = self._forward(prepared)
        if self.mirror:
            embeddings = mean_direction(embeddings, self._forward([pixels[:, ::-1] for pixels in prepared]))
        if not np.isfinite(embeddings).all():
            raise BundleError("the network gave an embedding that is not finite")
        return embeddings

    def embed(self, data: bytes, name: str = "image") -> Float32:
        """A file's bytes -> its (D,) embedding."""
        embedding: Float32 = self.embed_prepared([self.prepare(data, name)])[0]
        return embedding

    def _forward(self, prepared: Sequence[Pixels]) -> Float32:
        parts = []
        for start in range(0, len(prepared), self.batch_size):
            batch = [to_array(pixels, self.spec) for pixels in prepared[start : start + self.batch_size]]
            parts.append(self.runtime.run(np.stack(batch)))
        return np.concatenate(parts)


def mean_direction(first: Float32, second: Float32) -> Float32:
    """Two (N, D) arrays of unit-norm rows -> (N, D) unit-norm means of each two; opposite ones have none: NaN."""
    total = first.astype(np.float64) + second
    with np.errstate(invalid="ignore"):
        mean: Float32 = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)
    return mean


@dataclass(frozen=True)
class LoadedModel:
    """A bundle that was verified and embeds.

    version: the model_version of its embeddings. scale: what its similarities mean; None while that is not known: the
    bundle is uncalibrated, or embeds in int8, whose similarities the calibration was not fitted on.
    """

    embedder: Embedder
    manifest: Manifest
    version: str
    scale: Scale | None = None

    def mirrored(self) -> "LoadedModel":
        """The same network, whose embeddings are means with the mirror image; they have a version of their own."""
        version = hashlib.sha256(f"{self.version} and its mirror image".encode()).hexdigest()[:12]
        return replace(self, embedder=replace(self.embedder, mirror=True), version=version, scale=None)


def load_model(
    folder: Path,
    *,
    runtime: RuntimeName = "onnx",
    precision: Precision = "float32",
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    prior: float | None = None,
    calibrated: bool = True,
) -> LoadedModel:
    """A bundle's folder -> an embedder that reproduced the bundle's probe.

    prior: the share of same pairs that probabilities assume, in (0, 1); the calibration's own by default. Without
    `calibrated` nothing that was fitted for the weights is looked at, for whoever is about to replace it.

    Raises:
        BundleError: the bundle is missing or damaged, has no int8 weights where they are asked for, the runtime is not
            installed, the network answers otherwise than it did when it was exported, or `check_fitted`.
        ConfigError: int8 is asked of the torch runtime.
    """
    bundle = open_bundle(folder)
    weights = _weight_file(bundle, runtime, precision)
    engine = _torch_runtime(bundle) if runtime == "torch" else OnnxRuntime(bundle.read(weights), threads=threads)
    embedder = Embedder(bundle.manifest.preprocess, engine, max_pixels=max_pixels)
    _check_probe(embedder, bundle.manifest, precision)
    scale = None
    if calibrated:
        check_fitted(bundle)
        if bundle.manifest.calibration is not None and precision == "float32":
            scale = Scale.of(bundle.manifest.calibration, prior)
    return LoadedModel(embedder, bundle.manifest, bundle.model_version(weights, runtime, precision), scale)


def check_fitted(bundle: Bundle) -> None:
    """What was measured with some weights says nothing of others: a bundle that was trained again starts without.

    Raises:
        BundleError: the calibration, or the post-processing, was fitted for other weights.
    """
    manifest = bundle.manifest
    now = bundle.model_version(ONNX_WEIGHTS, "onnx", "float32") if ONNX_WEIGHTS in manifest.files else "none"
    for field, fitted, command in (
        ("calibration", manifest.calibration, "calibrate"),
        ("postprocess", manifest.postprocess, "postprocess"),
    ):
        if fitted is not None and fitted.model_version != now:
            name = manifest.name
            raise BundleError(
                f"bundle {name}: its {field} was fitted for model_version {fitted.model_version}, and its weights are"
                f" {now}; `jaguar-train {command} model_store/{name} --data DIR` fits it anew, `null` in the manifest"
                " does without"
            )


def _weight_file(bundle: Bundle, runtime: RuntimeName, precision: Precision) -> str:
    if precision == "float32":
        return TORCH_WEIGHTS if runtime == "torch" else ONNX_WEIGHTS
    if runtime != "onnx":
        raise ConfigError(f"precision {precision} needs the onnx runtime; the {runtime} runtime computes in float32")
    if INT8_WEIGHTS not in bundle.manifest.files:
        name = bundle.manifest.name
        raise BundleError(
            f"bundle {name} has no {INT8_WEIGHTS}; `jaguar-train quantize model_store/{name} --data DIR` makes one"
        )
    return INT8_WEIGHTS


def _torch_runtime(bundle: Bundle) -> Runtime:
    """The one place that reaches for torch by name, so that the service starts without it."""
    try:
        module = importlib.import_module("app.reid.torch_runtime")
    except ImportError as error:
        raise BundleError("the torch runtime needs the `train` extra: pip install 'jaguar-reid[train]'") from error
    engine: Runtime = module.TorchRuntime.load(bundle.manifest.model, bundle.read(TORCH_WEIGHTS))
    return engine


def probe_cosine(embedder: Embedder, manifest: Manifest) -> float:
    """Cosine of an embedder's answer to the manifest's probe picture and the embedding stored there; NaN for zeros.

    Raises:
        BundleError: the network takes another size or gives another number of dimensions than the manifest says.
    """
    probe, dimensions = manifest.probe, manifest.embedding_dim
    expected = np.array(probe.embedding)
    try:
        answer = embedder.embed_prepared([probe_pixels(probe.seed, manifest.preprocess.size)])[0]
    except BundleError:
        raise
    except Exception as error:  # whatever the runtime raises on a network of other dimensions
        raise BundleError(f"bundle {manifest.name}: the network refuses a picture of the stated size") from error
    if answer.shape != (dimensions,) or expected.shape != (dimensions,):
        raise BundleError(
            f"bundle {manifest.name}: the manifest says {dimensions} dimensions, the network gives {answer.size}"
            f" and the probe has {expected.size}"
        )
    with np.errstate(all="ignore"):  # a probe of zeros has no cosine, which is not enough either
        return float(answer @ expected / (np.linalg.norm(answer) * np.linalg.norm(expected)))


def _check_probe(embedder: Embedder, manifest: Manifest, precision: Precision) -> None:
    cosine, needed = probe_cosine(embedder, manifest), PROBE_COSINE[precision]
    if not cosine >= needed:
        raise BundleError(
            f"bundle {manifest.name}: the network answers the probe with cosine {cosine:.6f} to the stored embedding;"
            f" at least {needed} is needed"
        )
