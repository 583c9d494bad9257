"""Invented animals: data sets in the competition's layout, and photos drawn on the fly, without a real photo.

    coat(seed, identity, flank)            one flank's texture, marks and all
    animal(seed, identity, flank)          the same, ready to be photographed
    photo(animal, rng, size=(480, 320))    an RGBA cut-out of it, background hidden under alpha 0
    draw_dataset(out, identities=31, photos=60)
    CoatHerd(seed, identities, size)       photos when asked for, for a training loader

From the bottom up: noise, atlas (which part lies where on a texture), rosettes and turing (patterns), species (what
many animals share), pattern, coat, skin (copies for every distance), form (proportions), animal; scene (all that
chance decides about a photo), body (shape), paint, backdrop, lens, photo; herd; plan, dataset. Without torch.
"""

from training.coats.animal import Animal, animal
from training.coats.coat import FLANKS, Flank, coat
from training.coats.dataset import SIZE, Look, draw_dataset, draw_shot
from training.coats.herd import CoatHerd, on_ground
from training.coats.photo import photo, render
from training.coats.plan import Shot, plan_test, plan_train
from training.coats.scene import Scene, draw_scene, nudge
from training.coats.species import KINDS, Kind, kinds_of

__all__ = [
    "FLANKS",
    "KINDS",
    "SIZE",
    "Animal",
    "CoatHerd",
    "Flank",
    "Kind",
    "Look",
    "Scene",
    "Shot",
    "animal",
    "coat",
    "draw_dataset",
    "draw_scene",
    "draw_shot",
    "kinds_of",
    "nudge",
    "on_ground",
    "photo",
    "plan_test",
    "plan_train",
    "render",
]
