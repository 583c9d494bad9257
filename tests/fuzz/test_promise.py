"""The short form of `make fuzz`: what it starts from is read, and a promise that is broken is noticed."""

import random
import struct
import zlib

import pytest

from app.reid.png import decode_plain_png
from tests.fuzz.pngs import chunks, png
from tests.fuzz.promise import BrokenPromiseError, check
from tests.fuzz.seeds import SIZE, seeds

SEEDS = seeds()


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_the_promise_is_kept_for_the_seeds_and_what_is_near_them(name: str) -> None:
    data = SEEDS[name]
    for length in (len(data), len(data) - 1, len(data) // 2):
        check(data[:length])
    rng = random.Random(name)
    for _ in range(50):
        changed = bytearray(data)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        check(bytes(changed))


def test_the_seeds_are_what_their_names_say() -> None:
    fast = {name for name, data in SEEDS.items() if decode_plain_png(data) is not None}
    assert fast == {"rgb.png", "rgba.png", "plain.png"}
    headers = {name: struct.unpack(">IIBBBBB", data[16:29]) for name, data in SEEDS.items() if name.endswith(".png")}
    assert {header[:2] for header in headers.values()} == {SIZE}
    assert {name for name, header in headers.items() if header[2] == 16} == {
        "grey16.png", "grey16-clear.png", "rgb16.png", "rgba16.png", "adam7-16.png",
    }  # fmt: skip
    assert {name for name, header in headers.items() if header[6] == 1} == {"adam7.png", "adam7-16.png"}


def test_a_png_is_the_same_after_it_was_taken_apart() -> None:
    for name, data in SEEDS.items():
        if name.endswith(".png"):
            assert png(chunks(data)) == data


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast path that gets one value wrong."""
    header, (_, body), end = chunks(SEEDS["rgb.png"])
    rows = bytearray(zlib.decompress(body))
    rows[7] ^= 1
    other = png([header, (b"IDAT", zlib.compress(bytes(rows))), end])
    monkeypatch.setattr("tests.fuzz.promise.decode_plain_png", lambda _: decode_plain_png(other))
    with pytest.raises(BrokenPromiseError, match="other pixels than Pillow's"):
        check(SEEDS["rgb.png"])
