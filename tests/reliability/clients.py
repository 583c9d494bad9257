"""Many clients at once, in a process of their own, so that they share no interpreter with whoever measures.

    python -m tests.reliability.clients --port 8000 --clients 128 --seconds 60 --pause 1 < requests

Standard input holds whole requests, each after its length as 8 bytes. Every client sends one after the other, each over
a connection of its own, and after a 503 it waits for `--pause` seconds; Retry-After asks for 1. Standard
output gets one JSON object: `rows` of [sent, first byte, end, status, slug or problem], times of the monotonic clock.
Status 0 is an answer that never came: the connection was refused, reset or closed; -1 a connect that was refused.
"""

import argparse
import asyncio
import json
import struct
import sys
import time
from collections.abc import Sequence

Row = tuple[float, float, float, int, str]
PATIENCE_S = 90.0


async def ask(port: int, request: bytes) -> Row:
    """One request over a connection of its own."""
    sent = first = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        return sent, first, time.monotonic(), -1, type(error).__name__
    try:
        writer.write(request)
        sent = first = time.monotonic()
        start = await reader.read(65_536)
        first = time.monotonic()
        answer = start + await reader.read()
        return sent, first, time.monotonic(), *judge(answer)
    except OSError as error:
        return sent, first, time.monotonic(), 0, type(error).__name__
    finally:
        writer.close()


def judge(answer: bytes) -> tuple[int, str]:
    """Status, and what kind of problem it is; 0 for what is no whole answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        return 0, "closed"
    status = int(head[9:12])
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if len(body) != int(headers.get(b"content-length", len(body))):
        return 0, "cut short"
    if status < 400:
        return status, ""
    if headers[b"content-type"] != b"application/problem+json":
        return status, "no problem+json"
    kind = json.loads(body)["type"].rpartition(":")[2]
    return status, kind if status != 503 or b"retry-after" in headers else f"{kind} without Retry-After"


async def client(port: int, requests: Sequence[bytes], start: int, end: float, pause_s: float) -> list[Row]:
    """Asks until the end; the request that is under way then is waited for."""
    rows, place = [], start
    while time.monotonic() < end:
        row = await asyncio.wait_for(ask(port, requests[place % len(requests)]), PATIENCE_S)
        rows.append(row)
        place += 1
        if row[3] != 200:
            await asyncio.sleep(pause_s)
    return rows


async def run(arguments: argparse.Namespace, requests: Sequence[bytes]) -> list[Row]:
    end = time.monotonic() + arguments.seconds
    work = (client(arguments.port, requests, start, end, arguments.pause) for start in range(arguments.clients))
    return [row for rows in await asyncio.gather(*work) for row in rows]


def read_requests() -> list[bytes]:
    requests = []
    while length := sys.stdin.buffer.read(8):
        requests.append(sys.stdin.buffer.read(struct.unpack(">Q", length)[0]))
    return requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--pause", type=float, required=True)
    arguments = parser.parse_args()
    print(json.dumps({"rows": asyncio.run(run(arguments, read_requests()))}))


if __name__ == "__main__":
    main()
