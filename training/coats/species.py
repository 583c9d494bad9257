"""What a whole group of animals shares: kind of coat, its statistics and colours, and the body's shape.

Animals of one species differ in nothing but where their marks lie, so that an animal cannot be told from its like by
colour, size or density of the marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from app.reid.errors import DataError, quote
from training.coats.rosettes import Character, draw_character

Kind = Literal["rosettes", "spots", "stripes", "blotches", "reticulated", "faint"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Form = Literal["cat", "antelope", "cow", "face"]
Colour = tuple[float, float, float]

# Mean colours of fur in daylight, of the jaguar first.
_JAGUAR = (186.0, 128.0, 66.0), (208.0, 156.0, 92.0), (238.0, 226.0, 206.0), (24.0, 17.0, 13.0)
# How often a kind is worn by which body.
_WEARERS: dict[Kind, tuple[tuple[Form, ...], tuple[float, ...]]] = {
    "rosettes": (("cat",), (1.0,)),
    "spots": (("cat", "antelope", "cow"), (0.6, 0.35, 0.05)),
    "stripes": (("cat", "antelope", "cow"), (0.3, 0.5, 0.2)),
    "blotches": (("cow", "face", "cat", "antelope"), (0.45, 0.35, 0.1, 0.1)),
    "reticulated": (("antelope", "cow", "cat"), (0.5, 0.3, 0.2)),
    "faint": (("antelope", "cat", "cow"), (0.65, 0.2, 0.15)),
}


def kinds_of(text: str) -> tuple[Kind, ...]:
    """Kinds from their names with commas between.

    Raises:
        DataError: a name that is none of `KINDS`, or no name at all.
    """
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise DataError(f"kind {', '.join(map(quote, unknown))} is none; there are {', '.join(KINDS)}")
    return tuple(kind for name in names for kind in KINDS if kind == name)


@dataclass(frozen=True)
class Marks:
    """Statistics of a pattern. Lengths in texels of `training.coats.atlas`; see `training.coats.turing`."""

    spacing: float  # a wavelength on the flank
    cover: float  # share of the flank that is marked
    quadratic: float  # 0 stripes, 1.5 round spots
    anisotropy: float  # how strictly stripes stand upright
    lean: float  # radians
    wander: float  # wavelengths
    broken: float  # how much slow noise moves the threshold, standard deviations of the field
    ragged: float  # the same by fine noise: rough edges
    strength: float  # 1 full ink, 0 none
    even: float  # 1 marks of one size all over the body, 0 small ones on legs and neck


@dataclass(frozen=True)
class Species:
    """Kind, form, marks; colours RGB 0 to 255 of back, side, belly and marks; how far the belly is paler, 0 to 1."""

    kind: Kind
    form: Form
    marks: Marks
    character: Character
    back: Colour
    side: Colour
    belly: Colour
    ink: Colour
    pale: float


def species(seed: int, number: int, kinds: Sequence[Kind] = ("rosettes",)) -> Species:
    """Species `number` of a world: kinds take turns, everything else is chance of (seed, number).

    With `kinds` of rosettes alone all are jaguars: cats of a jaguar's colours, of varying character.
    """
    rng = np.random.default_rng((seed, 1, number))
    kind = kinds[number % len(kinds)]
    character = draw_character(rng)
    forms, shares = _WEARERS[kind]
    form = forms[int(np.searchsorted(np.cumsum(shares), rng.random() * 0.999))]
    marks = _marks(rng, kind, form)
    jaguar = kind == "rosettes" and (len(set(kinds)) == 1 or rng.random() < 0.6)
    back, side, belly, ink = _JAGUAR if jaguar else _colours(rng, kind)
    pale = 1.0 if jaguar else float(rng.beta(0.8, 1.2))
    return Species(kind, form, marks, character, back, side, belly, ink, pale)


def _marks(rng: np.random.Generator, kind: Kind, form: Form) -> Marks:
    """A kind's statistics by chance."""
    low, high = {
        "rosettes": (50.0, 90.0),
        "spots": (34.0, 74.0),
        "stripes": (44.0, 100.0),
        "blotches": (100.0, 220.0),
        "reticulated": (60.0, 120.0),
        "faint": (48.0, 110.0),
    }[kind]
    least, most = {"stripes": (0.16, 0.55), "blotches": (0.3, 0.72), "faint": (0.07, 0.2)}.get(kind, (0.16, 0.42))
    upright = kind == "stripes" or (kind == "faint" and rng.random() < 0.7)
    return Marks(
        spacing=float(np.exp(rng.uniform(np.log(low), np.log(high)))) * (1.25 if form == "face" else 1.0),
        cover=float(rng.uniform(least, most)),
        quadratic=float(rng.uniform(0.0, 0.4) if upright else rng.uniform(0.9, 1.5)),
        anisotropy=float(rng.uniform(0.08, 0.6)) if upright else float(rng.uniform(0.0, 0.06)),
        lean=float(rng.normal(0.0, 0.15)),
        wander=float(rng.uniform(0.08, 0.3)),
        broken=float(rng.uniform(0.2, 0.7) if kind == "faint" else rng.uniform(0.0, 0.45)),
        ragged=float(rng.uniform(0.03, 0.22)),
        strength=float(rng.uniform(0.3, 0.75)) if kind == "faint" else float(rng.uniform(0.8, 1.0)),
        even=float(rng.uniform(0.5, 1.0)) if kind in ("blotches", "reticulated") else float(rng.uniform(0.1, 0.7)),
    )


def _colours(rng: np.random.Generator, kind: Kind) -> tuple[Colour, Colour, Colour, Colour]:
    """Back, side, belly and marks of a mammal: white, grey, sand, red, brown or black fur, marks darker or lighter."""
    pale_marks = rng.random() < {"stripes": 0.45, "faint": 0.75, "spots": 0.3, "blotches": 0.4}.get(kind, 0.0)
    level = float(rng.uniform(38.0, 150.0) if pale_marks else rng.uniform(115.0, 235.0))
    side = _fur(level, float(rng.beta(1.6, 1.4)))
    back = _scaled(side, float(rng.uniform(0.62, 1.0)))
    pale = _fur(min(245.0, level + float(rng.uniform(10.0, 90.0))), float(rng.uniform(0.0, 0.4)))
    if pale_marks:
        ink = _fur(min(245.0, level + float(rng.uniform(80.0, 170.0))), float(rng.uniform(0.0, 0.45)))
    else:
        ink = _fur(level * float(rng.uniform(0.08, 0.42)), float(rng.uniform(0.1, 0.8)))
    return back, side, pale, ink


def _fur(level: float, warmth: float) -> Colour:
    """Grey (0) to fox red (1) of a given green level."""
    return min(250.0, level * (1.0 + 0.38 * warmth)), level, level * (1.0 - 0.55 * warmth)


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return red * factor, green * factor, blue * factor
