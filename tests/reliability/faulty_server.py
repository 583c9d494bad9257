"""`jaguar-reid` whose network can be told to fail.

    FAULT_FILE=/some/file python tests/reliability/faulty_server.py serve --port 8000

Runs the very CLI; only the forward pass of ONNX Runtime is wrapped. Before each pass the file is read:
absent or empty: nothing; `raise`: an error; `memory`: MemoryError; `slow 0.2`: so many seconds later;
`hang 60`: so many seconds later, or as soon as the file says something else.
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from app import cli  # noqa: E402 (the tree that this file lies in, not whatever is installed)
from app.reid.preprocess import Float32  # noqa: E402
from app.reid.runtime import OnnxRuntime  # noqa: E402

FAULT = Path(os.environ["FAULT_FILE"])
run = OnnxRuntime.run


def words() -> list[str]:
    """What the file says now."""
    try:
        return FAULT.read_text().split()
    except FileNotFoundError:
        return []


def faulty_run(self: OnnxRuntime, images: Float32) -> Float32:
    """The forward pass, or what happens instead of it."""
    match words():
        case ["raise"]:
            raise RuntimeError(f"injected: {ROOT} is on fire")
        case ["memory"]:
            raise MemoryError("injected")
        case ["slow", seconds]:
            time.sleep(float(seconds))
        case ["hang", seconds] as told:
            end = time.monotonic() + float(seconds)
            while time.monotonic() < end and words() == told:
                time.sleep(0.02)
    return run(self, images)


if __name__ == "__main__":
    OnnxRuntime.run = faulty_run  # type: ignore[method-assign]
    cli.app()
