"""Which round of the competition photos look like, by what is hidden under their transparent pixels and by their size.

Both rounds are RGBA cut-outs in PNG. In round 1 the colour under alpha = 0 is the real background, in round 2 it is
black: exactly, since PNG loses nothing. A drawn photo of round 1's kind has black under 0 to 17 % of them, so a night
sky is no danger.
"""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from app.reid.preflight.findings import Finding, Severity, counted, places
from app.reid.preprocess import decode_image
from app.reid.spec import PreprocessSpec

# The competition's median longer side; below a third of it, photos were made smaller.
USUAL_SIDE = 3035
_SMALL_SIDE = 1000
HEADER_BYTES = 26
_HEADER = struct.Struct(">8s4x4sIIBB")  # signature, length, IHDR, width, height, depth, colour type
_RGBA = 6
# Every so many pixels across and down are enough to tell.
_STEP = 4
_BLACK = 0.99
_FLAT = 2  # grey levels
_SPEC = PreprocessSpec(jpeg_draft=False)


class Look(StrEnum):
    """What is hidden under a photo's transparent pixels."""

    BACKGROUND = "round 1: the real background"
    BLACK = "round 2: black"
    FLAT = "neither round: one colour that is not black"
    OPAQUE = "neither round: nothing is transparent"


@dataclass(frozen=True)
class Header:
    """Width and height of a PNG in pixels, and whether it is RGBA."""

    width: int
    height: int
    is_rgba: bool


def read_header(start: bytes) -> Header | None:
    """The first 26 bytes of a file -> what a PNG's header says; None for any other file."""
    if len(start) < HEADER_BYTES:
        return None
    signature, chunk, width, height, depth, colour = _HEADER.unpack_from(start)
    if signature != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR":
        return None
    return Header(width, height, depth == 8 and colour == _RGBA)


def look_at(data: bytes, name: str) -> Look:
    """A photo's bytes -> what is hidden in it. Raises ImageError."""
    pixels = np.asarray(decode_image(data, _SPEC, name=name))[::_STEP, ::_STEP]
    if pixels.shape[2] == 3:
        return Look.OPAQUE
    hidden = pixels[pixels[:, :, 3] == 0][:, :3]
    if not len(hidden):
        return Look.OPAQUE
    if (hidden == 0).all(axis=1).mean() >= _BLACK:
        return Look.BLACK
    return Look.FLAT if np.ptp(hidden, axis=0).max() <= _FLAT else Look.BACKGROUND


def find_rounds(looks: Sequence[tuple[str, Look]], training: Sequence[Look] = ()) -> list[Finding]:
    """What photos look like, each with its name; and how that goes with photos to train on, if there are any."""
    counts = Counter(look for _, look in looks)
    if not counts:
        return []
    usual = counts.most_common(1)[0][0]
    others = [(name, look) for name, look in looks if look is not usual]
    if others:
        told = ", ".join(f"{number} like {look}" for look, number in counts.most_common())
        what = f"of {counted(len(looks), 'photo')} that were looked into, {told}"
        advice = "Photos of two rounds seem to be mixed: unpack one round's archive into an empty folder."
        where = places(others, lambda other: f"{other[0]}: {other[1]}")
        return [Finding(Severity.WARNING, "rounds-mixed", what, advice, where)]
    return [_told(usual, len(looks)), *_compared(usual, training)]


def find_sizes(headers: Sequence[tuple[str, Header | None]]) -> list[Finding]:
    """Files that are no RGBA PNG, as the competition's all are; and photos that someone made smaller."""
    findings = []
    strange = [name for name, header in headers if header is None or not header.is_rgba]
    if strange:
        what = f"no PNG with alpha: {counted(len(strange), 'photo')} of {len(headers):,}"
        advice = "The competition's photos all are; a cut-out saved without alpha shows what it hid."
        findings.append(Finding(Severity.WARNING, "no-cut-out", what, advice, places(strange, str)))
    sides = [max(header.width, header.height) for _, header in headers if header is not None]
    if sides and np.median(sides) < _SMALL_SIDE:
        median = f"{np.median(sides):.0f} pixels in the median"
        what = f"the photos' longer side is {median}; the competition's is {USUAL_SIDE:,}"
        advice = "If they were made smaller, do the same to the photos that you train on, with alpha kept."
        findings.append(Finding(Severity.NOTE, "small", what, advice))
    return findings


def _told(look: Look, number: int) -> Finding:
    what = f"the photos look like {look} ({counted(number, 'photo')} looked into)"
    if look in {Look.FLAT, Look.OPAQUE}:
        advice = "Use the competition's own files: what someone saved again may have lost its alpha."
        return Finding(Severity.WARNING, "no-round", what, advice)
    advice = (
        "Train on photos of the same round, or with alpha = composite, which lays cut-outs on one colour and sees"
        " nothing of what they hide."
    )
    return Finding(Severity.NOTE, "round", what, advice)


def _compared(look: Look, training: Sequence[Look]) -> list[Finding]:
    if not training or look in training:
        return []
    usual = Counter(training).most_common(1)[0][0]
    what = f"the photos to train on look like {usual}, those to test on like {look}"
    advice = "Take both from one round; a model that was shown hidden backgrounds finds none here."
    return [Finding(Severity.WARNING, "rounds-differ", what, advice)]
