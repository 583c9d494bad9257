"""Where a report's figures come from: data, weights, config, code and libraries."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from pydantic import JsonValue

from training.evaluate import Measured
from training.export import git_commit

LIBRARIES = ("jaguar-reid", "numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Provenance:
    """created: UTC. commit: of the code that made this report. trained_*: of the run that made the weights.

    input_size: height and width in pixels.
    """

    created: str
    commit: str | None
    data_fingerprint: str
    trained_data_fingerprint: str
    trained_commit: str | None
    trained_config: dict[str, JsonValue]
    bundle_created: str
    backbone: str
    embedding_dim: int
    input_size: tuple[int, int]
    python: str
    machine: str
    libraries: dict[str, str | None]


def trace(measured: Measured) -> Provenance:
    """Everything that somebody needs to get the same figures again."""
    manifest = measured.model.manifest
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=git_commit(),
        data_fingerprint=str(measured.figures["data_fingerprint"]),
        trained_data_fingerprint=manifest.provenance.data_fingerprint,
        trained_commit=manifest.provenance.git_commit,
        trained_config=manifest.provenance.config,
        bundle_created=manifest.created,
        backbone=manifest.backbone,
        embedding_dim=manifest.embedding_dim,
        input_size=manifest.preprocess.size,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        libraries={name: _version(name) for name in LIBRARIES},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
