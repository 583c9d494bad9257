"""Finished rounds of a bench that takes long: a line each, and what a round must share with a wanted one."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from app.reid.bundle import TORCH_WEIGHTS, open_bundle
from training.config import TrainConfig


def fingerprints(config: TrainConfig, data: Path, start: str) -> dict[str, str]:
    """Hashes of a round's config, its table and its start weights."""
    said = config.model_dump(mode="json", exclude={"compute"})
    said["model"]["pretrained"] = None  # by what it holds, not by where it lies
    bundle = Path(start)
    weights = open_bundle(bundle).manifest.files[TORCH_WEIGHTS].sha256 if bundle.is_dir() else start
    facts = {"config": json.dumps(said, sort_keys=True), "table": (data / "train.csv").read_text(), "start": weights}
    return {name: hashlib.sha256(fact.encode()).hexdigest()[:12] for name, fact in facts.items()}


def finished(path: Path) -> list[dict[str, Any]]:
    """The file's lines; what a killed process left half-written is dropped."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    return [json.loads(line) for line in whole]


def append(path: Path, record: dict[str, Any]) -> None:
    """One more line, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())
