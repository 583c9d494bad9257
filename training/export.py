"""From trained weights to a bundle: both weight files, checked against each other, and the manifest."""

import subprocess
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import safetensors.torch
import torch
from pydantic import JsonValue
from torch import Tensor, nn

from app.reid.bundle import (
    ONNX_WEIGHTS,
    SPLIT,
    TORCH_WEIGHTS,
    Manifest,
    Origin,
    Probe,
    Provenance,
    file_entry,
    open_bundle,
    probe_pixels,
    save_bundle,
)
from app.reid.embedder import Embedder
from app.reid.errors import BundleError
from app.reid.network import EmbeddingModel
from app.reid.runtime import EMBEDDINGS, INPUT, PLACES, OnnxRuntime
from app.reid.spec import PreprocessSpec
from app.reid.torch_runtime import TorchRuntime
from training.config import ModelConfig

MAX_DIFFERENCE = 1e-5
PROBE_SEED = 20_261_124
_CHECKED_PICTURES = 3


class Made(Protocol):
    """A config that a bundle is made by, of `fit` or of `distill`."""

    @property
    def seed(self) -> int: ...
    @property
    def model(self) -> ModelConfig: ...
    @property
    def preprocess(self) -> PreprocessSpec: ...
    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


class _WithPlaces(nn.Module):
    """The network with both outputs, as the ONNX file has them."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.embed_with_places(images)


def to_onnx(model: EmbeddingModel, size: tuple[int, int]) -> bytes:
    """A network in eval mode on the CPU -> an ONNX file for pictures of this height and width, any number at a time.

    Raises:
        BundleError: ONNX Runtime answers otherwise than torch does, by more than 1e-5.
    """
    exported = _WithPlaces(model) if model.has_places else model
    outputs = [EMBEDDINGS, PLACES] if model.has_places else [EMBEDDINGS]
    example = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing that a person here can act on
        program = torch.onnx.export(
            exported.eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes={"images": {0: torch.export.Dim("n", min=1, max=4096)}},
        )
    if program is None:
        raise BundleError("torch's exporter gave no ONNX program")
    data: bytes = _without_traces(program.model_proto).SerializeToString()
    _check_parity(model, data, size)
    return data


def smallest(tensor: Tensor) -> Tensor:
    """The same numbers in float16 where that loses none of them; else the tensor itself."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Every number of the network to the nearest that float16 has, so that its file is half as large."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())


def export_bundle(
    folder: Path,
    model: EmbeddingModel,
    config: Made,
    *,
    fingerprint: str,
    split_csv: str,
    metrics: dict[str, JsonValue],
    origins: tuple[Origin, ...] = (),
) -> None:
    """Writes the bundle, atomically. origins: packages that the weights were learnt from, as far as they are known.

    Raises:
        BundleError: the two weight files disagree, or the folder cannot be written.
    """
    model = model.to("cpu").to(memory_format=torch.contiguous_format).eval()
    weights = {name: smallest(tensor.contiguous()) for name, tensor in model.state_dict().items()}
    files = {TORCH_WEIGHTS: safetensors.torch.save(weights), ONNX_WEIGHTS: to_onnx(model, config.preprocess.size)}
    embedder = Embedder(config.preprocess, OnnxRuntime(files[ONNX_WEIGHTS]))
    probe = embedder.embed_prepared([probe_pixels(PROBE_SEED, config.preprocess.size)])[0]
    manifest = Manifest(
        name=folder.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backbone=config.model.backbone,
        pooling=config.model.pooling,
        embedding_dim=config.model.embedding_dim,
        preprocess=config.preprocess,
        files={name: file_entry(data) for name, data in files.items()},
        probe=Probe(seed=PROBE_SEED, embedding=tuple(float(value) for value in probe)),
        provenance=Provenance(
            config=config.model_dump(mode="json"),
            seed=config.seed,
            git_commit=git_commit(),
            data_fingerprint=fingerprint,
            origins=origins,
            start=_start(config.model),
        ),
        metrics=metrics,
    )
    save_bundle(folder, manifest, {**files, SPLIT: split_csv.encode()})


def _start(model: ModelConfig) -> Provenance | None:
    """Where the start weights come from, if they are a bundle's."""
    folder = Path(model.pretrained)
    return open_bundle(folder).manifest.provenance if folder.is_dir() else None


def git_commit() -> str | None:
    """The commit of this code, with `-dirty` where files differ from it; None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None


def _without_traces(network: onnx.ModelProto) -> onnx.ModelProto:
    """Takes out what the exporter notes of its own run: stack traces, with the paths of the machine it ran on."""
    graph = network.graph
    for noted in (network, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    return network


def _check_parity(model: EmbeddingModel, network: bytes, size: tuple[int, int]) -> None:
    pictures = np.random.default_rng(0).standard_normal((_CHECKED_PICTURES, 3, *size)).astype(np.float32)
    difference = np.abs(OnnxRuntime(network).run(pictures) - TorchRuntime(model).run(pictures)).max()
    if not difference <= MAX_DIFFERENCE:
        raise BundleError(
            f"the ONNX file answers otherwise than torch: by {difference:.2e}; the limit is {MAX_DIFFERENCE}"
        )
