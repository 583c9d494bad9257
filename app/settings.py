"""Settings: what the environment says. The only place that reads environment variables.

Every name starts with `JAGUAR_` and has a default, so that the service needs no file. An empty value counts as unset,
because compose files pass `${NAME:-}` on. A name that means nothing stops the start, with the nearest name that does.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.reid.embedder import Precision, RuntimeName
from app.reid.errors import ConfigError, quote
from app.reid.preprocess import DEFAULT_MAX_PIXELS
from app.reid.tables import DEFAULT_MAX_ROWS

PREFIX = "JAGUAR_"
MIB, GIB = 2**20, 2**30

Count = Annotated[int, Field(ge=1)]
# Plain numbers are bytes; `64MiB` and `4GiB` are understood as well.
Bytes = Annotated[ByteSize, Field(ge=1)]

# What Kubernetes puts into the environment of every container for a service called jaguar or jaguar-something.
_CLUSTER = re.compile(r"JAGUAR(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\w+)")
_CLUSTER_URL = re.compile(r"JAGUAR(_\w+)?_PORT")


class Settings(BaseSettings):
    """All settings, frozen.

    model: a bundle's name in `model_store`, or a path where it holds a slash.
    image_root: where photos are looked up that a CSV names and no upload brought; none by default.
    max_csv_rows, max_csv_bytes: of one CSV.
    max_image_bytes: of one photo, be it a part, a zip's member or a file below `image_root`.
    max_pixels: of one photo, before decoding.
    max_files: photos and zips in one request, counted as parts.
    max_body_bytes: of a request to `/submission` or `/similarity/batch`.
    max_images_body_bytes: of a request to `/similarity` or `/embed`.
    max_unzipped_bytes: of all zips of a request together, unzipped.
    max_unzip_ratio: unzipped over zipped bytes of one member, looked at above 1 MiB.
    max_zip_members: of all zips of a request together.
    max_inflight: requests that infer at the same time; the next one is answered 503.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", protected_namespaces=()
    )

    model: str = "default"
    model_store: Path = Path("model_store")
    image_root: Path | None = None
    runtime: RuntimeName = "onnx"
    precision: Precision = "float32"
    max_csv_rows: Count = DEFAULT_MAX_ROWS
    max_csv_bytes: Bytes = ByteSize(64 * MIB)
    max_image_bytes: Bytes = ByteSize(64 * MIB)
    max_pixels: Count = DEFAULT_MAX_PIXELS
    max_files: Count = 1_000
    max_body_bytes: Bytes = ByteSize(4 * GIB)
    max_images_body_bytes: Bytes = ByteSize(128 * MIB)
    max_unzipped_bytes: Bytes = ByteSize(8 * GIB)
    max_unzip_ratio: Count = 100
    max_zip_members: Count = 20_000
    max_inflight: Count = 32

    @field_validator("image_root")
    @classmethod
    def _is_folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"{value} is not a folder")
        return value

    @property
    def bundle_folder(self) -> Path:
        """Where the bundle lies that `model` names."""
        return Path(self.model) if "/" in self.model else self.model_store / self.model


def load_settings() -> Settings:
    """The settings that the environment asks for.

    Raises:
        ConfigError: a `JAGUAR_` name that means nothing, or a value that cannot be used; all of them, in one line.
    """
    problems = unknown_names(os.environ)
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [_sentence(str(found["loc"][0]), found["msg"]) for found in error.errors()]
    if problems:
        raise ConfigError("; ".join(problems))
    return settings


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """One sentence for every `JAGUAR_` name that is no setting and that no cluster injects."""
    known = [name.upper() for name in Settings.model_fields]
    sentences = []
    for name, value in sorted(environment.items()):
        upper = name.upper()
        stem = upper.removeprefix(PREFIX)
        if not upper.startswith(PREFIX) or stem in known or _is_injected(upper, value):
            continue
        close = difflib.get_close_matches(stem, known, n=1)
        everything = ", ".join(PREFIX + setting for setting in known)
        hint = f"; did you mean {PREFIX}{close[0]}?" if close else f"; known are {everything}"
        sentences.append(f"unknown setting {quote(name)}{hint}")
    return sentences


def _is_injected(name: str, value: str) -> bool:
    """`JAGUAR_PORT` is a cluster's only where it holds a URL: a person who sets it to a number expects it to work."""
    return bool(_CLUSTER.fullmatch(name)) or (bool(_CLUSTER_URL.fullmatch(name)) and "://" in value)


def _sentence(field: str, message: str) -> str:
    return f"{PREFIX}{field.upper()}: {message.removeprefix('Value error, ')}"
