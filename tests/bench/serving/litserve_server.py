"""LitServe the way its pages show it: decode in `decode_request`, which runs in the inference worker.

    python -m serving.litserve_server --port 8000 --workers 2 --batch 8

One worker gets both cores for a forward pass, two get one each, so that neither setting has more threads than cores.
A batch waits at most 10 ms for its last photo; LitServe's default of 0 would have an idle worker spin.
"""

import argparse

import litserve
import numpy as np
from fastapi import Request

from serving.engine import Engine, load_engine
from serving.machine import CORES

BATCH_TIMEOUT_S = 0.01


class EmbedAPI(litserve.LitAPI):
    """One photo as the multipart part `images` in, its embedding as JSON out."""

    threads: int = CORES
    engine: Engine

    def setup(self, device: str) -> None:
        self.engine = load_engine(self.threads)

    def decode_request(self, request: Request) -> np.ndarray:
        return self.engine.prepare(request["images"].file.read())

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) from LitServe's `batch`, or one (3, H, W) where it does not batch."""
        return self.engine.runtime.run(x) if x.ndim == 4 else self.engine.runtime.run(x[None])[0]

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        return {"embedding": output.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    arguments = parser.parse_args()
    api = EmbedAPI(max_batch_size=arguments.batch, batch_timeout=BATCH_TIMEOUT_S, api_path="/embed")
    api.threads = max(1, CORES // arguments.workers)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=arguments.workers)
    server.run(host="127.0.0.1", port=arguments.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
