"""The files of a run's folder: written atomically, read without unpickling anything but tensors and plain values."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import torch

from app.reid.bundle import check_replaceable
from app.reid.errors import ConfigError, DataError

STATE, BEST, METRICS, SPLIT = "state.pt", "best.pt", "metrics.jsonl", "split.csv"


def check_places(outs: Sequence[Path], runs: Sequence[Path]) -> None:
    """Makes sure, before hours are spent, that writing these bundles will destroy neither a run nor anything else.

    Raises:
        BundleError: a bundle's folder is there and holds something else.
        ConfigError: a run's folder is a bundle's, or lies in one.
    """
    for out in outs:
        check_replaceable(out)
    for out, run in product(outs, runs):
        if run.resolve().is_relative_to(out.resolve()):
            raise ConfigError(
                f"--run {run} is the bundle's own folder or lies in it (--out {out}); name another --run or --out"
            )


class RunFolder:
    """`split.csv`, `metrics.jsonl`, `state.pt` (the last step saved) and `best.pt` (the best epoch's weights)."""

    def __init__(self, path: Path) -> None:
        """Names the folder; nothing is made yet."""
        self.path = path

    def start(self, *, resume: bool, writes: bool = True) -> None:
        """Makes the folder, or makes sure that it holds no run that would be lost; who does not write only looks.

        Raises:
            ConfigError: a run is there and `resume` was not asked for, or the folder cannot be made.
        """
        if not resume and (self.path / STATE).exists():
            raise ConfigError(f"{self.path} holds a run already; add --resume to go on with it, or name another --run")
        if not writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--run {self.path}: {error.strerror}") from error
        for left in self.path.glob(".*.part"):  # what a killed save left
            left.unlink()

    def save(self, name: str, value: dict[str, Any]) -> None:
        """Puts tensors and plain values into a file, in one step as far as any reader or crash can see.

        Raises:
            DataError: the disk is full or cannot be written; the former file stays.
        """
        self._replace(name, lambda file: torch.save(value, file))

    def write_text(self, name: str, text: str) -> None:
        """Like `save`, for text."""
        self._replace(name, lambda file: file.write(text.encode()))

    def load(self, name: str) -> dict[str, Any] | None:
        """What `save` wrote, on the CPU; None if there is no such file.

        Raises:
            DataError: the file is damaged.
        """
        path = self.path / name
        if not path.exists():
            return None
        try:
            loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # zip, pickle and refusal errors share no base
            raise DataError(
                f"{path} cannot be read ({type(error).__name__}); remove the folder to start anew"
            ) from error
        return loaded

    def append_metrics(self, record: dict[str, Any]) -> None:
        """One more line of `metrics.jsonl`.

        Raises:
            DataError: the disk is full or cannot be written.
        """
        try:
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise DataError(f"{self.path / METRICS} cannot be written: {error.strerror}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        path = self.path / METRICS
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def keep_metrics(self, step: int) -> None:
        """Drops the lines of `metrics.jsonl` after a step, half-written ones included: they will be run again."""
        path = self.path / METRICS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        self.write_text(METRICS, "".join(kept))

    def _replace(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        replace_file(self.path / name, write)


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file in one step as far as any reader or crash can see.

    Raises:
        DataError: the disk is full or cannot be written; the former file stays.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise DataError(f"{path} cannot be saved: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        Path(temporary).unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path} cannot be saved: {reason}; the former file stays") from error
