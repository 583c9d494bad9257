"""Kills a short `jaguar-train fit` with -9 at random moments, resumes it, and compares with an unbroken run.

    python tests/reliability/kill_fit.py --kills 20

Exit 0 if the final weights (network, average, head, optimiser) and the figures are identical, bit for bit.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from app.reid.embedder import load_model

ROOT = Path(__file__).parents[2]
CONFIG = """\
[model]
backbone = "test_convnext"
embedding_dim = 32
drop_path = 0.1
[preprocess]
size = 32
[split]
validation = 0.4
[sampler]
identities = 4
photos = 3
steps = 20
[optim]
epochs = 8
warmup_epochs = 1
"""


def draw(folder: Path) -> None:
    """Eight animals with eight photos each."""
    folder.mkdir()
    chance, rows = np.random.default_rng(0), ["filename,ground_truth"]
    for identity in range(8):
        coat = chance.integers(0, 200, (5, 7, 3))
        for photo in range(8):
            noisy = np.clip(coat + chance.integers(0, 40, coat.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((56, 40)).save(folder / f"{identity}_{photo}.png")
            rows.append(f"{identity}_{photo}.png,animal {identity}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")


# A network this small loses time to every further thread, and all the more where other work goes on.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Runs:
    """Fits in a temporary folder; all share data and config."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "config.toml").write_text(CONFIG)
        draw(place / "data")

    def command(self, name: str, *options: str) -> list[str]:
        files = ["--data", self.place / "data", "--out", self.place / "store" / name, "--run", self.place / name]
        words = [sys.executable, "-m", "training", "fit", self.place / "config.toml", *files, *options]
        return [str(word) for word in words]

    def finish(self, name: str, *options: str) -> None:
        subprocess.run(
            self.command(name, *options),
            check=True,
            cwd=ROOT,
            env=ENVIRONMENT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def killed(self, name: str, seconds: float) -> bool:
        """Starts or resumes, kills after so many seconds; False if it had ended before."""
        process = subprocess.Popen(
            self.command(name, "--resume"),
            cwd=ROOT,
            env=ENVIRONMENT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        if process.returncode:
            raise SystemExit(f"a resumed run exited with {process.returncode}")
        return False


def differences(one, two, path="state"):
    """Dotted names of everything that is not identical in two saved states."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, two) else [path]
    if isinstance(one, dict):
        return [d for key in one for d in differences(one[key], two[key], f"{path}.{key}")] + [
            f"{path}.{key}" for key in two if key not in one
        ]
    if isinstance(one, list):
        return [
            d for number, (a, b) in enumerate(zip(one, two, strict=True)) for d in differences(a, b, f"{path}.{number}")
        ]
    return [] if one == two else [path]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    place = Path(tempfile.mkdtemp())
    try:
        runs = Runs(place)
        started = time.perf_counter()
        runs.finish("unbroken")
        whole = time.perf_counter() - started
        kills, ended = 0, 0
        while kills < arguments.kills:
            # Half of the kills fall anywhere in a whole run; the others soon after the start, where a resumed run is.
            seconds = chance.uniform(0.1, whole * (1.0 if kills % 2 else 0.6))
            if runs.killed("killed", seconds):
                kills += 1
            else:  # it got to its end: kill another one from the start
                ended += 1
                verdict(place)
                shutil.rmtree(place / "killed")
        runs.finish("killed", "--resume")
        print(f"unbroken run {whole:.1f} s; {kills} kills, {ended} runs ended in between")
        return verdict(place)
    finally:
        shutil.rmtree(place)


def verdict(place: Path) -> int:
    one, two = (torch.load(place / name / "state.pt", weights_only=True) for name in ("unbroken", "killed"))
    differing = differences(one, two)
    best, other = (torch.load(place / name / "best.pt", weights_only=True) for name in ("unbroken", "killed"))
    differing += differences(best, other, "best")
    figures = [load_model(place / "store" / name).manifest.metrics for name in ("unbroken", "killed")]
    if differing or figures[0] != figures[1]:
        raise SystemExit(f"NOT identical: {differing[:5]} {figures}")
    print(f"identical: {len(one['model'])} network tensors, average, head, optimiser, best epoch, figures")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
