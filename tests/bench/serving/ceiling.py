"""The ceiling: read, decode and forward in plain threads of one process, without HTTP.

    echo '{"files": [...], "threads": 2, "intra": 1}' | python -m serving.ceiling

Reads a job as JSON, answers `{"seconds", "cpu_s", "latencies_ms"}`. `intra`: threads within a forward pass. Starting
and the first photos, which warm the session, are not timed.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from serving.engine import Engine, load_engine


def embed_all(engine: Engine, files: Sequence[str], threads: int) -> list[float]:
    """Embeds every file once; milliseconds of each, in no order."""
    todo, latencies = iter(files), []

    def work() -> None:
        for path in todo:  # the iterator of a list hands out each element once, whichever thread asks
            started = time.perf_counter()
            engine.embed(Path(path).read_bytes())
            latencies.append(1000 * (time.perf_counter() - started))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if len(latencies) != len(files):
        raise SystemExit("a thread of the ceiling failed")
    return latencies


def main() -> None:
    job = json.load(sys.stdin)
    engine = load_engine(job["intra"])
    embed_all(engine, job["warm"], job["threads"])
    started, cpu = time.perf_counter(), time.process_time()
    latencies = embed_all(engine, job["files"], job["threads"])
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu_s": time.process_time() - cpu, "latencies_ms": latencies}))


if __name__ == "__main__":
    main()
