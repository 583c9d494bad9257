"""Proportions: how a cat, an antelope, a cow differ from one another in shape. A species has one build."""

from dataclasses import dataclass

import numpy as np

from training.coats.noise import Float32
from training.coats.species import Species

_PLACES = 28


@dataclass(frozen=True)
class Build:
    """Factors on a jaguar's measures, 1 = as a jaguar; `lift` in body units: how much higher the head is carried.

    girth: (28,) along the torso from the tail's root to the head's joint.
    """

    girth: Float32
    leg: float  # length
    limb: float  # a leg's thickness
    lift: float
    head: float
    ear: float
    tail: float  # length
    brush: float  # the tail's thickness
    hooves: bool  # grazes instead of crouching


_CAT = ((1.0,) * 6, (0.9, 1.1), (0.9, 1.15), (0.0, 0.03), (0.9, 1.1), (0.9, 1.2), (0.85, 1.15), (0.9, 1.4))
_HOOFED = {
    "antelope": (
        (0.98, 1.02, 1.06, 1.0, 0.74, 0.62), (1.12, 1.4), (0.5, 0.66), (0.13, 0.26), (0.72, 0.95), (1.1, 1.9),
        (0.35, 0.7), (0.8, 1.6),
    ),
    "cow": (
        (1.12, 1.16, 1.2, 1.12, 1.05, 0.98), (0.95, 1.15), (0.62, 0.85), (0.02, 0.14), (0.95, 1.2), (1.0, 1.6),
        (0.6, 0.9), (0.5, 0.8),
    ),
}  # fmt: skip


def build(kind: Species, seed: int, number: int) -> Build:
    """The build of species `number`."""
    rng = np.random.default_rng((seed, 9, number))
    knots, *ranges = _HOOFED.get(kind.form, _CAT)
    leg, limb, lift, head, ear, tail, brush = (float(rng.uniform(*limits)) for limits in ranges)
    stout = float(rng.uniform(0.92, 1.08))
    girth = np.interp(np.linspace(0.0, 1.0, _PLACES), np.linspace(0.0, 1.0, len(knots)), knots) * stout
    return Build(
        girth.astype(np.float32), leg, limb, lift, head, ear, tail, brush, hooves=kind.form in ("antelope", "cow")
    )


JAGUAR = Build(np.ones(_PLACES, dtype=np.float32), 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, hooves=False)
