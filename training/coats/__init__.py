"""Invented jaguars: data sets in the competition's layout, for trying, teaching and testing without a real photo.

    coat(seed, identity, flank)            one flank's texture, rosettes and all
    photo(texture, rng, size=(480, 320))   an RGBA cut-out of it, background hidden under alpha 0
    draw_dataset(out, identities=31, photos=60)

From the bottom up: noise, atlas (which part lies where on a texture), rosettes, coat; scene (all that chance decides
about a photo), body (shape), paint, backdrop, photo; plan, dataset. Nothing here needs torch.
"""

from training.coats.coat import FLANKS, Flank, coat
from training.coats.dataset import SIZE, draw_dataset, draw_shot
from training.coats.photo import photo, render
from training.coats.plan import Shot, plan_test, plan_train
from training.coats.scene import Scene, draw_scene, nudge

__all__ = [
    "FLANKS",
    "SIZE",
    "Flank",
    "Scene",
    "Shot",
    "coat",
    "draw_dataset",
    "draw_scene",
    "draw_shot",
    "nudge",
    "photo",
    "plan_test",
    "plan_train",
    "render",
]
