"""animal(seed, identity, flank): all that photos of one flank of one animal have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.coats.coat import Flank, coat
from training.coats.form import JAGUAR, Build, build
from training.coats.skin import Skin
from training.coats.species import Kind, species


@dataclass(frozen=True)
class Animal:
    """A coat, a build, and whether photos show the face alone."""

    skin: Skin
    build: Build = JAGUAR
    face: bool = False


def animal(
    seed: int, identity: int, flank: Flank, *, kinds: Sequence[Kind] = ("rosettes",), alike: int = 1, detail: int = 2
) -> Animal:
    """The arguments are those of `training.coats.coat.coat`."""
    number = identity // alike
    kind = species(seed, number, kinds)
    texture = coat(seed, identity, flank, kinds=kinds, alike=alike, detail=detail)
    return Animal(Skin(texture), build(kind, seed, number), kind.form == "face")
