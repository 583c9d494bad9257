"""Photos a second that a herd of drawn animals gives one core, everything included but drawing the coats themselves.

    python tests/bench/coats.py [--size 192] [--photos 400] [--rounds 5]

Prints photos a second (median and range over rounds of CPU time and of wall-clock) for warm coats, the seconds of one
core a coat takes by kind, and the rate of a loader that takes 8 photos of each fresh coat. Exit 1 where the median by
CPU time is below 100 a second at 192 px.
"""

import argparse
import statistics
import sys
import time

from training.coats import FLANKS, KINDS, CoatHerd, coat

WANTED = 100.0
ANIMALS, SHOTS = 24, 8


def rounds(herd: CoatHerd, photos: int, count: int) -> tuple[list[float], list[float]]:
    """Photos a second in each round, by CPU time and by the clock."""
    by_cpu, by_clock = [], []
    for turn in range(count):
        cpu, clock = time.process_time(), time.perf_counter()
        for number in range(photos):
            herd.photo(number % ANIMALS, FLANKS[number // ANIMALS % 2], 1_000 + turn * photos + number)
        by_cpu.append(photos / (time.process_time() - cpu))
        by_clock.append(photos / (time.perf_counter() - clock))
    return by_cpu, by_clock


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    size = arguments.size, arguments.size
    herd = CoatHerd(0, ANIMALS, size, alike=4)
    for number in range(400):  # coats and backdrops, most of them
        herd.photo(number % ANIMALS, FLANKS[number // ANIMALS % 2], number)
    by_cpu, by_clock = rounds(herd, arguments.photos, arguments.rounds)
    print(f"{arguments.size} px, one thread: {spread(by_cpu)} photos/s of CPU time, {spread(by_clock)} by the clock")
    for kind in KINDS:
        start = time.process_time()
        for identity in range(8):
            coat(1, identity, "left", kinds=(kind,), detail=1)
        print(f"  a coat of {kind}: {(time.process_time() - start) / 8:.3f} s")
    fresh = CoatHerd(2, ANIMALS * 2, size)
    start = time.process_time()
    for identity in range(fresh.identities):
        for number in range(SHOTS):
            fresh.photo(identity, "left", number)
    rate = fresh.identities * SHOTS / (time.process_time() - start)
    print(f"  {SHOTS} photos of each fresh coat, backdrops drawn on the way: {rate:.1f} photos/s")
    return 0 if statistics.median(by_cpu) >= WANTED or arguments.size != 192 else 1


if __name__ == "__main__":
    sys.exit(main())
