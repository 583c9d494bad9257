"""Looking at bundles: which there are, and whether one is whole."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.cli.exits import CommandError
from app.reid.bundle import INT8_WEIGHTS, MANIFEST, ONNX_WEIGHTS, TORCH_WEIGHTS, open_bundle
from app.reid.embedder import Precision, RuntimeName, load_model, probe_cosine
from app.reid.errors import ReidError
from app.settings import Settings, load_settings

_NETWORKS: tuple[tuple[str, RuntimeName, Precision], ...] = (
    (ONNX_WEIGHTS, "onnx", "float32"),
    (INT8_WEIGHTS, "onnx", "int8"),
    (TORCH_WEIGHTS, "torch", "float32"),
)


@dataclass(frozen=True)
class Check:
    """One look at a bundle; `holds` is None where it could not be taken here. told: a figure, or the reason."""

    what: str
    holds: bool | None
    told: str


def named(settings: Settings, name: str | None) -> Settings:
    """The settings with another bundle in JAGUAR_MODEL's place, if one is named."""
    return settings if name is None else settings.model_copy(update={"model": name})


def names_in_store() -> list[str]:
    """The bundles below JAGUAR_MODEL_STORE; none where the settings or the folder cannot be read."""
    try:
        store = load_settings().model_store
        return sorted(path.parent.name for path in store.glob(f"*/{MANIFEST}"))
    except (ReidError, OSError):
        return []


def verify(settings: Settings, name: str | None) -> tuple[str, list[Check]]:
    """A bundle's folder and every look at it.

    Raises:
        CommandError: there is no such bundle.
    """
    folder = named(settings, name).bundle_folder
    try:
        bundle = open_bundle(folder)
    except ReidError as error:
        if not folder.is_dir():
            known = ", ".join(names_in_store())
            advice = f"There are: {known}." if known else "JAGUAR_MODEL_STORE names the folder of bundles."
            raise CommandError(" ".join(str(error).split()), advice=advice) from error
        return str(folder), [Check("files", False, " ".join(str(error).split()))]
    sizes = sum(entry.bytes for entry in bundle.manifest.files.values())
    files = f"{MANIFEST} and {len(bundle.manifest.files)} files of {sizes:,} bytes are what it says"
    return str(folder), [Check("files", True, files), *_networks(folder, set(bundle.manifest.files), settings)]


def _networks(folder: Path, files: set[str], settings: Settings) -> Iterator[Check]:
    """The probe picture through every network of the bundle."""
    if ONNX_WEIGHTS not in files:
        yield Check(ONNX_WEIGHTS, False, "the manifest lists none, and it is what a service loads")
    for weights, runtime, precision in _NETWORKS:
        if weights not in files:
            continue
        if runtime == "torch" and importlib.util.find_spec("torch") is None:
            yield Check(weights, None, "torch is not installed here: the `train` extra brings it")
            continue
        try:
            model = load_model(folder, runtime=runtime, precision=precision, threads=1, max_pixels=settings.max_pixels)
            cosine = probe_cosine(model.embedder, model.manifest)
        except ReidError as error:
            yield Check(weights, False, " ".join(str(error).split()))
        else:
            yield Check(weights, True, f"probe cosine {cosine:.6f}, model_version {model.version}")
