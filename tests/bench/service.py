"""The service's memory at rest, and the time that a submission takes over known embeddings.

    python tests/bench/service.py

1. Starts `jaguar-reid serve` with the bundle that ships, waits until it is ready, asks one /similarity, rests, and
   reads the resident set of the process (Linux). Wanted: <= 300 MB.
2. Parses a CSV of 137,270 rows over 371 photos, scores it over embeddings that are known, and writes the answer.
   Wanted: <= 0.5 s.
"""

import contextlib
import io
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image

from app.reid.photos import Photo, PhotoFile
from app.reid.scoring import SUBMISSION, find_photos, score_pairs

PHOTOS, DIMENSIONS, ROUNDS, REST_S = 371, 512, 9, 5
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no VmRSS: this figure needs Linux")


def ask(url: str, deadline: float) -> None:
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} did not answer 200")
        time.sleep(0.05)


def similarity(url: str) -> None:
    """One `POST /similarity` of a 1781 x 1403 JPEG with itself."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1781, 1403)).save(buffer, "JPEG")
    part = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\n\r\n%s\r\n'
    body = part % (b"query_image", buffer.getvalue()) + part % (b"gallery_image", buffer.getvalue()) + b"--x--\r\n"
    request = urllib.request.Request(url, body, {"Content-Type": "multipart/form-data; boundary=x"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(f"  /similarity: {answer.status} {answer.read().decode()}")


def memory_at_rest() -> None:
    port = free_port()
    started = time.monotonic()
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAGUAR_")}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            ask(f"http://127.0.0.1:{port}/health/ready", started + 120)
            print(f"  ready after {time.monotonic() - started:.2f} s, {resident_mb(server.pid):.0f} MB")
            similarity(f"http://127.0.0.1:{port}/similarity")
            time.sleep(REST_S)
            print(f"  at rest after a request: {resident_mb(server.pid):.0f} MB; wanted <= 300 MB")
        finally:
            server.terminate()


class Everything:
    """A source that has a photo of every name, without a look at the disk."""

    def find(self, names: Mapping[str, int]) -> dict[str, Photo]:
        return {name: PhotoFile(Path(name)) for name in names}


def known_embeddings() -> None:
    names = [f"test_{number:04}.png" for number in range(1, PHOTOS + 1)]
    rows = "".join(f"{row},{query},{gallery}\n" for row, (query, gallery) in enumerate(permutations(names, 2)))
    data = f"row_id,query_image,gallery_image\n{rows}".encode()
    embeddings = np.random.default_rng(0).standard_normal((PHOTOS, DIMENSIONS)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        table = SUBMISSION.read(data, max_rows=len(data))
        scores = score_pairs(find_photos(table, Everything()), embeddings)
        text = "".join(SUBMISSION.write(table, scores))
        seconds.append(time.perf_counter() - started)
    spread = f"min {min(seconds):.3f}, median {statistics.median(seconds):.3f}, max {max(seconds):.3f} s"
    print(f"  {text.count(chr(10)) - 1} rows: {spread}; wanted <= 0.5 s")


def main() -> None:
    print("memory:")
    memory_at_rest()
    print("parse + score + write over known embeddings:")
    known_embeddings()


if __name__ == "__main__":
    main()
