"""A model bundle: one folder with a manifest and weights. Saved atomically, verified on load, never unpickled.

The format is described in `model_store/README.md`.
"""

import glob
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, JsonValue, ValidationError, model_validator
from pydantic_core import from_json

from app.reid.calibration import Calibration
from app.reid.durable import sync_folder, write_synced
from app.reid.errors import QUOTE_LIMIT, BundleError, quote
from app.reid.postprocess import Postprocess
from app.reid.preprocess import Pixels
from app.reid.spec import ModelSpec, Pooling, PreprocessSpec, Spec

MANIFEST = "manifest.json"
TORCH_WEIGHTS = "model.safetensors"
ONNX_WEIGHTS = "model.onnx"
INT8_WEIGHTS = "model.int8.onnx"
SPLIT = "split.csv"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Errors call the bundle by it, in one line.
Name = Annotated[str, Field(pattern=r"^[^\p{C}\p{Zl}\p{Zp}]+$", max_length=255)]


class FileEntry(Spec):
    """What a weight file must be, to the byte."""

    sha256: Sha256
    bytes: int = Field(ge=1)


class Probe(Spec):
    """The embedding of a picture that everybody can draw from the seed (`probe_pixels`)."""

    seed: int
    embedding: tuple[float, ...]


class Origin(Spec):
    """A package that the weights were learnt from, and the licences that it states."""

    package: str
    version: str
    sha256: Sha256
    licence: str


class Provenance(Spec):
    """Where the weights come from. start: the same of the bundle whose weights were the start, None without one."""

    config: dict[str, JsonValue]
    seed: int
    git_commit: str | None
    data_fingerprint: str
    origins: tuple[Origin, ...] = ()
    start: "Provenance | None" = None


class Quantization(Spec):
    """How far `model.int8.onnx` is from `model.onnx`, on photos that it was not calibrated on, when it was made.

    calibration_photos, measured_photos: how many of each; none is both.
    cosine, median_cosine: of a photo's two embeddings, the lowest and the median, in [-1, 1].
    similarity_change: the largest over all pairs of the measured photos, in [0, 1].
    probe_cosine: of int8's answer to the probe picture and the stored one, in [-1, 1].
    speedup: CPU time of one photo on one thread, float32's over int8's, on the machine that made the file.
    """

    data_fingerprint: str
    seed: int
    calibration_photos: int = Field(ge=1)
    measured_photos: int = Field(ge=2)
    cosine: float = Field(ge=-1, le=1)
    median_cosine: float = Field(ge=-1, le=1)
    similarity_change: float = Field(ge=0, le=1)
    probe_cosine: float = Field(ge=-1, le=1)
    speedup: float = Field(gt=0)


class Manifest(Spec):
    """`manifest.json`: everything that is needed to serve the weights, and where they come from."""

    format: Literal["jaguar-reid"] = "jaguar-reid"
    version: Literal[1] = 1
    name: Name
    created: str
    backbone: str
    pooling: Pooling = "avg"
    embedding_dim: int
    preprocess: PreprocessSpec
    files: dict[str, FileEntry]
    probe: Probe
    quantization: Quantization | None = None
    calibration: Calibration | None = None
    postprocess: Postprocess | None = None
    provenance: Provenance
    metrics: dict[str, JsonValue]

    @model_validator(mode="after")
    def _int8_comes_with_its_figures(self) -> Self:
        if (INT8_WEIGHTS in self.files) != (self.quantization is not None):
            raise ValueError(f"{INT8_WEIGHTS} and `quantization` stand together or not at all")
        return self

    @property
    def model(self) -> ModelSpec:
        """The network's part of the manifest."""
        return ModelSpec(backbone=self.backbone, pooling=self.pooling, embedding_dim=self.embedding_dim)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read and whose weight files have the sizes and hashes that it states."""

    folder: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """A weight file's bytes, checked against the manifest.

        Raises:
            BundleError: the file is missing, or not the one that the manifest describes.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"bundle {self.folder.name}: the manifest lists no {name}")
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"bundle {self.folder.name}: {name} cannot be read: {error.strerror}") from error
        if len(data) != entry.bytes:
            raise BundleError(
                f"bundle {self.folder.name}: {name} has {len(data)} bytes; the manifest says {entry.bytes}"
            )
        if file_entry(data).sha256 != entry.sha256:
            raise BundleError(f"bundle {self.folder.name}: {name} has another sha256 than the manifest says")
        return data

    def model_version(self, weights: str, runtime: str, precision: str) -> str:
        """Twelve hex digits over all that an embedding depends on; names, dates and metrics are no part of it."""
        facts = {
            "preprocess": self.manifest.preprocess.model_dump(mode="json"),
            "backbone": self.manifest.backbone,
            "pooling": self.manifest.pooling,
            "embedding_dim": self.manifest.embedding_dim,
            "sha256": self.manifest.files[weights].sha256,
            "runtime": runtime,
            "precision": precision,
        }
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def file_entry(data: bytes) -> FileEntry:
    """Size and sha256 of a weight file."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def probe_pixels(seed: int, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 noise that every language can draw: SHAKE-256 of the seed in decimal."""
    height, width = size
    noise = hashlib.shake_256(str(seed).encode()).digest(height * width * 3)
    return np.frombuffer(noise, dtype=np.uint8).reshape(height, width, 3)


def open_bundle(folder: Path) -> Bundle:
    """Reads the manifest and verifies every weight file that it lists.

    Raises:
        BundleError: no such bundle, a manifest that cannot be used, or a weight file that is not the stated one.
    """
    place = _readable(folder)
    try:
        text = (place / MANIFEST).read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"bundle {folder.name}: {MANIFEST} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"bundle {folder.name}: {MANIFEST} is not UTF-8") from error
    try:
        manifest = Manifest.model_validate(from_json(text))  # model_validate_json lets a NaN into the metrics
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        shown = field if field.isprintable() and len(field) <= QUOTE_LIMIT else quote(field)
        raise BundleError(f"bundle {folder.name}: {MANIFEST}: {shown}: {first['msg']}") from error
    except ValueError as error:
        raise BundleError(f"bundle {folder.name}: {MANIFEST}: no JSON: {error}") from error
    bundle = Bundle(place, manifest)
    for name in manifest.files:
        if not name.isprintable() or Path(name).name != name:
            raise BundleError(f"bundle {folder.name}: {MANIFEST} lists a file outside the bundle")
        bundle.read(name)
    return bundle


def save_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Writes a whole bundle beside `folder` and then puts it in its place.

    A kill at any moment leaves a bundle that `open_bundle` loads: the new one, or the one that was there.

    Raises:
        BundleError: the disk is full or cannot be written, or the folder holds something else than a bundle; what was
            there stays.
    """
    folder = folder.resolve()
    try:
        check_replaceable(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _write_and_swap(folder, {**files, MANIFEST: manifest.model_dump_json(indent=2).encode() + b"\n"})
    except OSError as error:
        _remove_unfinished(folder)  # on a full disk every byte counts
        raise BundleError(f"bundle {folder.name} cannot be saved: {error.strerror}; the former one stays") from error


def update_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Saves a bundle anew, as `save_bundle` does, with `files` added or replaced; its other files stay as they are.

    Raises:
        BundleError: a weight file of the manifest is neither in `files` nor the same in the folder, so that somebody
            else has replaced the bundle meanwhile; or as `save_bundle`. What was there stays.
    """
    place = _readable(folder)
    kept = {name: Bundle(place, manifest).read(name) for name in manifest.files if name not in files}
    for path in place.iterdir():
        if not path.is_file():
            raise BundleError(f"bundle {folder.name}: {path.name} is no file and would be lost; move it elsewhere")
        if path.name not in kept:
            kept[path.name] = path.read_bytes()
    save_bundle(folder, manifest, {**kept, **files})


def check_replaceable(folder: Path) -> None:
    """Makes sure that saving a bundle to `folder` would destroy nothing but a bundle.

    Raises:
        BundleError: the folder is a file, or has files but no manifest.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file()):
        raise BundleError(f"{folder.name} is there and is no bundle; name a folder that is new, empty or a bundle's")


def _write_and_swap(folder: Path, files: Mapping[str, bytes]) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
    fresh.chmod(0o755)  # mkdtemp's 0700 would keep the service's own user out
    for name, data in files.items():
        write_synced(fresh / name, data)
    sync_folder(fresh)
    if folder.exists():
        folder.rename(_previous(folder))
    fresh.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(_previous(folder), ignore_errors=True)


def _previous(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.previous"


def _readable(folder: Path) -> Path:
    """The bundle, or the one before it where a kill came between the two renames of `save_bundle`."""
    if folder.is_dir():
        return folder
    if _previous(folder).is_dir():
        return _previous(folder)
    raise BundleError(f"there is no bundle {folder.name}: {folder} is not a folder")


def _sweep(folder: Path) -> None:
    """Takes away what killed saves left, and keeps whatever is the only loadable bundle."""
    _remove_unfinished(folder)
    if folder.exists():
        shutil.rmtree(_previous(folder), ignore_errors=True)
    elif _previous(folder).exists():
        _previous(folder).rename(folder)


def _remove_unfinished(folder: Path) -> None:
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
