"""Looks with atheris for bytes with which `decode_image` breaks its promise (see promise.py).

    python -m tests.fuzz.fuzz_decode --seconds 60

An input that breaks it, takes too long or too much memory ends the run with a status that is not 0, and is kept in
runs/fuzz, below which `corpus` holds what led somewhere new.
"""

import argparse
import random
import sys
import warnings
import zlib
from pathlib import Path

from tests.fuzz.pngs import SIGNATURE, Chunk, chunks, png

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: `make fuzz` installs it, and so does pip install 'jaguar-reid[fuzz]'")

# The readers that are written in Python are watched on their way, so that inputs which lead elsewhere are kept.
with atheris.instrument_imports(include=["PIL", "app.reid"]):
    from PIL import JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401 - loaded late otherwise

    from tests.fuzz.promise import check
    from tests.fuzz.seeds import seeds

MAX_BYTES = 16_384
# Of one input, which takes a few milliseconds on a quiet machine; and of the whole process.
TIMEOUT_S, RSS_MIB = 25, 1024
DICTIONARY = Path(__file__).parent / "decode.dict"


def mutated(data: bytes, changed: bytes, rng: random.Random) -> bytes:
    """What libFuzzer made of `data`; of a PNG mostly with right checksums, and often with a chunk changed on purpose.

    Checksums and compression keep bytes that were changed at random from ever reaching the inside of a PNG reader.
    """
    if not data.startswith(SIGNATURE) or rng.random() < 0.3:
        return changed
    parts = list(chunks(data if rng.random() < 0.5 else changed))
    if parts and rng.random() < 0.5:
        rng.choice((_repeat, _drop, _swap, _pack))(parts, rng)
    return png(parts)


def _repeat(parts: list[Chunk], rng: random.Random) -> None:
    parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))


def _drop(parts: list[Chunk], rng: random.Random) -> None:
    del parts[rng.randrange(len(parts))]


def _swap(parts: list[Chunk], rng: random.Random) -> None:
    one, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]


def _pack(parts: list[Chunk], rng: random.Random) -> None:
    """Changes what a chunk holds below its compression."""
    place = rng.randrange(len(parts))
    kind, body = parts[place]
    try:
        raw = bytearray(zlib.decompressobj().decompress(body, MAX_BYTES))
    except zlib.error:
        raw = bytearray(body)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(raw) + 1)
        raw[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    parts[place] = kind, zlib.compress(bytes(raw), rng.randrange(10))


def _mutator(data: bytes, max_size: int, seed: int) -> bytes:
    return mutated(data, atheris.Mutate(data, max_size), random.Random(seed))[:max_size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--found", type=Path, default=Path("runs/fuzz"), help="where an input that breaks it is kept")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata
    corpus = options.found / "corpus"  # libFuzzer adds to it, and begins with what earlier runs added
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (corpus / name).write_bytes(data)
    limits = f"-max_total_time={options.seconds} -timeout={TIMEOUT_S} -rss_limit_mb={RSS_MIB} -max_len={MAX_BYTES}"
    places = [f"-dict={DICTIONARY}", f"-artifact_prefix={options.found}/", str(corpus)]
    atheris.Setup([sys.argv[0], *limits.split(), "-print_final_stats=1", *places], check, custom_mutator=_mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
