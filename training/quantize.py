"""`jaguar-train quantize`: a bundle -> its `model.int8.onnx`, which is kept only if it answers as float32 does.

The recipe was measured on the default bundle, with photos of nyala and cows and with drawn coats: 1 x 1 convolutions
and matrix products hold nearly all of the work and lose least in eight bits. The stem, depthwise and downsampling
convolutions lose most and stay in float32, as do normalisation, GELU and the neck. An activation's range is from the
smallest to the largest value seen (Jacob et al. 2018); entropy found the same ranges and percentiles worse ones.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from app.reid.bundle import INT8_WEIGHTS, ONNX_WEIGHTS, Manifest, Quantization, file_entry, open_bundle, update_bundle
from app.reid.embedder import PROBE_COSINE, Embedder, load_model, probe_cosine
from app.reid.errors import BundleError, DataError
from app.reid.preprocess import Float32, Pixels, to_array
from app.reid.runtime import EMBEDDINGS, INPUT, OnnxRuntime
from app.reid.similarity import cosine_matrix, unit_interval
from app.reid.spec import PreprocessSpec
from training.data import PhotoSet, load_photos

# Below 16 photos to calibrate on, ranges were too narrow for the next photo; 64 and more made no further difference.
MIN_PHOTOS, DEFAULT_PHOTOS = 16, 256
_TIMED_ROUNDS = 50

# What is being done, how far it is, and how far it goes.
Stages = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Limits:
    """What an int8 network must reach to be kept: lowest cosine, largest similarity change, least speedup."""

    cosine: float = 0.998
    similarity_change: float = 0.01
    speedup: float = 1.4
    probe_cosine: float = PROBE_COSINE["int8"]


LIMITS = Limits()


@dataclass(frozen=True)
class Check:
    """One figure, what it had to be, and whether it is."""

    name: str
    measured: float
    needed: str
    holds: bool


@dataclass(frozen=True)
class Outcome:
    """What was measured and whether the bundle has the network now: it has where all checks hold."""

    figures: Quantization
    checks: list[Check]

    @property
    def kept(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


def quantize_bundle(
    folder: Path,
    data: Path,
    *,
    photos: int = DEFAULT_PHOTOS,
    seed: int = 0,
    limits: Limits | None = None,
    progress: Stages | None = None,
) -> Outcome:
    """Calibrates int8 on up to `photos` photos, measures it on as many others, and adds it to the bundle if it holds.

    Otherwise the bundle stays as it is, with the int8 network that it may have had. The speedup is one of the limits:
    a network that rounds and is no faster is good for nothing.

    Raises:
        BundleError, DataError, TableError: as the readers say; too few photos; nothing in the network to quantize.
    """
    report = progress or (lambda *_: None)
    full = load_model(folder, threads=1).embedder
    bundle = open_bundle(folder)
    found = load_photos(data, full.spec, lambda done, total: report("reading photos", done, total))
    drawn = draw_photos(found, photos, seed)
    weights = to_int8(bundle.read(ONNX_WEIGHTS), _Images(drawn.calibration.prepared, full.spec, report))
    figures = _measure(full, Embedder(full.spec, OnnxRuntime(weights, threads=1)), bundle.manifest, drawn, report)
    outcome = Outcome(figures, _checks(figures, limits or LIMITS))
    if outcome.kept:
        files = {**bundle.manifest.files, INT8_WEIGHTS: file_entry(weights)}
        manifest = bundle.manifest.model_copy(update={"files": files, "quantization": figures})
        update_bundle(folder, manifest, {INT8_WEIGHTS: weights})
    return outcome


@dataclass(frozen=True)
class Drawn:
    """Photos to calibrate on and as many others to measure on; `fingerprint` is that of the data set they come from."""

    fingerprint: str
    seed: int
    calibration: PhotoSet
    held_out: PhotoSet


def draw_photos(photos: PhotoSet, count: int, seed: int) -> Drawn:
    """At most `count` photos to calibrate on and as many to measure on; no file, by content, is in both.

    Raises:
        DataError: fewer than 32 different photos.
    """
    first = {digest: row for row, digest in reversed(list(enumerate(photos.sha256)))}
    if len(first) < 2 * MIN_PHOTOS:
        raise DataError(
            f"{len(first)} different photos; {2 * MIN_PHOTOS} are needed, half to calibrate on and half to measure on"
        )
    rows = np.random.default_rng((seed, 4)).permutation(sorted(first.values())).tolist()
    half = min(count, len(rows) // 2)
    return Drawn(photos.fingerprint, seed, photos.part(rows[:half]), photos.part(rows[half : 2 * half]))


def to_int8(network: bytes, images: CalibrationDataReader) -> bytes:
    """A float32 ONNX network -> one whose large products run in int8; the same inputs, outputs and dynamic batch.

    Weights have seven bits and a scale for each channel: with eight, CPUs without VNNI saturate, and the figures
    measured on one CPU would not be another's.

    Raises:
        BundleError: the network has no such products.
    """
    with tempfile.TemporaryDirectory() as place:
        source, prepared, quantized = (Path(place, f"{name}.onnx") for name in ("source", "prepared", "quantized"))
        source.write_bytes(network)
        # Shapes only. The optimiser would fold each block's layer scale into the product before it: 3 % faster, and
        # similarities changed by up to 40 % more.
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        names = quantizable(onnx.load(prepared).graph)
        if not names:
            raise BundleError("the network has no 1 x 1 convolutions and no products with a matrix to quantize")
        quantize_static(
            prepared,
            quantized,
            images,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul"],
            nodes_to_quantize=names,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # What follows a product is computed in float32 anyway; rounding in between costs time and exactness.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return quantized.read_bytes()


def quantizable(graph: onnx.GraphProto) -> list[str]:
    """Names of the 1 x 1 convolutions and the products with a constant matrix that the embeddings depend on.

    The neck is none of them (it is a `Gemm`), nor is what `places` alone depends on: places still sum to the embedding.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    needed = {EMBEDDINGS}
    names = []
    for node in reversed(graph.node):  # ONNX keeps nodes in the order in which they run
        if needed.isdisjoint(node.output):
            continue
        needed.update(node.input)
        shape = shapes.get(node.input[1]) if node.op_type in {"Conv", "MatMul"} else None
        if shape is not None and (node.op_type == "MatMul" or set(shape[2:]) == {1}):
            names.append(node.name)
    return names


class _Images(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime ships no types
    """Prepared photos, one at a time, as the calibrator asks for them."""

    def __init__(self, prepared: Sequence[Pixels], spec: PreprocessSpec, report: Stages) -> None:
        self._prepared, self._spec, self._report = prepared, spec, report
        self._feeds = self._all()

    def get_next(self) -> dict[str, Float32] | None:
        """The next photo as the network's input; None after the last."""
        return next(self._feeds, None)

    def _all(self) -> Iterator[dict[str, Float32]]:
        for done, pixels in enumerate(self._prepared, start=1):
            yield {INPUT: to_array(pixels, self._spec)[None]}
            self._report("calibrating", done, len(self._prepared))


def _measure(full: Embedder, small: Embedder, manifest: Manifest, drawn: Drawn, report: Stages) -> Quantization:
    """How far the answers of the int8 network are from those of the float32 one, and how much sooner they come."""
    expected, answers = [], []
    for done, pixels in enumerate(drawn.held_out.prepared, start=1):
        expected.append(full.embed_prepared([pixels])[0])
        answers.append(small.embed_prepared([pixels])[0])
        report("measuring", done, len(drawn.held_out))
    cosines = np.diagonal(cosine_matrix(np.stack(expected), np.stack(answers)))
    before, after = (unit_interval(cosine_matrix(rows, rows)) for rows in (np.stack(expected), np.stack(answers)))
    return Quantization(
        data_fingerprint=drawn.fingerprint,
        seed=drawn.seed,
        calibration_photos=len(drawn.calibration),
        measured_photos=len(drawn.held_out),
        cosine=float(cosines.min()),
        median_cosine=float(np.median(cosines)),
        similarity_change=float(np.abs(before - after).max()),
        probe_cosine=min(1.0, probe_cosine(small, manifest)),
        speedup=_speedup(full, small, drawn.held_out.prepared[0]),
    )


def _speedup(full: Embedder, small: Embedder, pixels: Pixels) -> float:
    """Least CPU time for one picture, float32's over int8's; in turns, many times.

    Both have one thread, this one, whose own CPU time leaves out what other programs do. They still share the caches,
    which only ever adds: hence the least.
    """
    image = to_array(pixels, full.spec)[None]
    spent: tuple[list[int], list[int]] = ([], [])
    for _ in range(_TIMED_ROUNDS):
        for embedder, times in zip((full, small), spent, strict=True):
            start = time.thread_time_ns()
            embedder.runtime.run(image)
            times.append(time.thread_time_ns() - start)
    return min(spent[0]) / min(spent[1])


def _checks(figures: Quantization, limits: Limits) -> list[Check]:
    change = figures.similarity_change
    most = limits.similarity_change
    return [
        _at_least("lowest cosine", figures.cosine, limits.cosine),
        Check("largest similarity change", change, f"at most {most}", change <= most),
        _at_least("cosine of the probe", figures.probe_cosine, limits.probe_cosine),
        _at_least("speedup", figures.speedup, limits.speedup),
    ]


def _at_least(name: str, measured: float, limit: float) -> Check:
    return Check(name, measured, f"at least {limit}", measured >= limit)
