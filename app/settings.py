"""Settings: what the environment says. The only place that reads environment variables.

Every name starts with `JAGUAR_` and has a default, so that the service needs no file. An empty value counts as unset,
because compose files pass `${NAME:-}` on. A name that means nothing stops the start, with the nearest name that does.
"""

import difflib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import limits
from pydantic import BeforeValidator, ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.reid.calibration import Prior
from app.reid.embedder import Precision, RuntimeName
from app.reid.errors import ConfigError, quote
from app.reid.preprocess import DEFAULT_MAX_PIXELS
from app.reid.tables import DEFAULT_MAX_ROWS

PREFIX = "JAGUAR_"
MIB, GIB = 2**20, 2**30

Count = Annotated[int, Field(ge=1)]
# Plain numbers are bytes; `64MiB` and `4GiB` are understood as well.
Bytes = Annotated[ByteSize, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400)]


def _split(value: object) -> object:
    """Comma-separated text, as a person writes it; pydantic-settings would want JSON."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]

# What Kubernetes puts into the environment of every container for a service called jaguar or jaguar-something.
_CLUSTER = re.compile(r"JAGUAR(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\w+)")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_CLUSTER_URL = re.compile(r"JAGUAR(_\w+)?_PORT")


class Settings(BaseSettings):
    """All settings, frozen. What stands here for each is its line in the README's table, and a test compares.

    model: a bundle's name in the store, or a path where it holds a slash.
    model_store: folder of bundles.
    image_root: folder where photos are looked up that a CSV names and no upload brought.
    runtime: `onnx`, or `torch` where the `train` extra is installed.
    precision: `float32`, or `int8` where the bundle has such a file.
    prior: share of pairs of the same animal among those asked about, in (0, 1); the calibration's own where unset.
    max_csv_rows: rows of one CSV.
    max_csv_bytes: of one CSV.
    max_image_bytes: of one photo, be it a part, a zip's member or a file below the image root.
    max_pixels: of one photo, before decoding.
    max_files: photos and zips in one request, counted as parts.
    max_body_bytes: of a request to `/submission` or `/similarity/batch`.
    max_images_body_bytes: of a request to `/similarity`, `/similarity/explain` or `/embed`.
    max_unzipped_bytes: of all zips of a request together, unzipped.
    max_unzip_ratio: unzipped over zipped bytes of one member, looked at above 1 MiB.
    max_zip_members: of all zips of a request together.
    max_inflight: requests that infer at the same time; the next one is answered 503.
    state: folder for what outlives a request: the cache and the jobs.
    cache: file of known embeddings, `cache.sqlite` in the state folder where unset; `off` turns it off.
    max_cache_bytes: of that file, where 1 GiB holds some 400,000 photos.
    max_cache_memory_bytes: of what is kept in memory in front of it.
    jobs: folder of long work and its results, `jobs` in the state folder where unset.
    max_jobs: jobs that wait or run; the next one is answered 503.
    max_jobs_bytes: of all jobs together; the oldest results go first.
    jobs_keep_s: how long a finished job is kept, in seconds.
    api_keys: keys, comma-separated; whoever calls must send one of them.
    admin_key: asked for by `POST /model/reload`, which is refused without one; comma-separated while keys change.
    rate_limit: requests of one client, for example `100/minute`; the page's files are not counted.
    cors_origins: web pages from elsewhere that may call, for example `https://a.org`; comma-separated.
    body_timeout_s: a request whose body stands still for so many seconds is answered 408.
    forward_timeout_s: a request whose photo waits for its forward pass for so many seconds is answered 503.
    stuck_exit_s: a forward pass of so many seconds ends the process with status 70, for whatever restarts it.
    grace_s: seconds that requests under way may take after SIGTERM.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", protected_namespaces=()
    )

    model: str = "default"
    model_store: Path = Path("model_store")
    image_root: Path | None = None
    runtime: RuntimeName = "onnx"
    precision: Precision = "float32"
    prior: Prior | None = None
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
    state: Path = Path("state")
    cache: Path | Literal["off"] | None = None
    max_cache_bytes: Bytes = ByteSize(GIB)
    max_cache_memory_bytes: Bytes = ByteSize(64 * MIB)
    jobs: Path | None = None
    max_jobs: Count = 100
    max_jobs_bytes: Bytes = ByteSize(16 * GIB)
    jobs_keep_s: Seconds = 7 * 86_400
    api_keys: Secrets = ()
    admin_key: Secrets = ()
    rate_limit: str | None = None
    cors_origins: Texts = ()
    body_timeout_s: Seconds = 30
    forward_timeout_s: Seconds = 30
    stuck_exit_s: Seconds = 120
    grace_s: Seconds = 25

    @field_validator("image_root")
    @classmethod
    def _is_folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"{value} is not a folder")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _is_rate(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            rates = limits.parse_many(value)
        except ValueError as error:
            raise ValueError(f"{quote(value)} is no rate; write, for example, 100/minute or 10/second") from error
        if len(rates) > 1 or rates[0].amount < 1 or rates[0].get_expiry() > 366 * 86_400:
            raise ValueError(f"{quote(value)}: one rate is needed, of one request or more in a year or less")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{quote(origin)} is no origin; write scheme://host[:port] in lower case, no path, or *"
                )
        return value

    @field_validator("api_keys", "admin_key")
    @classmethod
    def _can_be_sent(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for place, key in enumerate(value, 1):
            if not re.fullmatch("[!-~]+", key.get_secret_value()):
                raise ValueError(f"key {place} cannot be sent in a header; use printable ASCII characters, no spaces")
        return value

    @property
    def cache_file(self) -> Path | None:
        """The cache's file; None where the cache is off."""
        return None if self.cache == "off" else self.cache or self.state / "cache.sqlite"

    @property
    def jobs_folder(self) -> Path:
        """Where long work and its results lie."""
        return self.jobs or self.state / "jobs"

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
    wanted = os.environ.get("TMPDIR")
    # Decided now, for good: on a disk that is full later, Python would go on in another folder without a word.
    if wanted and Path(tempfile.gettempdir()).resolve() != Path(wanted).resolve():
        problems.append(f"TMPDIR: {quote(wanted)} is no folder that can be written, or its disk is full")
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
