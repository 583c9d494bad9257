"""The epochs' figures for TensorBoard, which is an extra."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.reid.errors import ConfigError


def log_epochs(folder: Path) -> Callable[[dict[str, Any]], None]:
    """A function that logs one epoch's record, each number by its name, at its step.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder)
    except ImportError as error:
        raise ConfigError("--tensorboard needs the extra: pip install 'jaguar-reid[train,tensorboard]'") from error

    def log(record: dict[str, Any]) -> None:
        for name, value in record.items():
            if name not in {"epoch", "step"} and value is not None:
                writer.add_scalar(name, value, record["step"])
        writer.flush()

    return log
