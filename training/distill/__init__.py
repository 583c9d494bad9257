"""Distillation: a ConvNeXt learns, over pictures of anything, what another network sees in them.

A teacher (any timm network with a weights file) looks once at many cut-outs of pictures, the *views*; the student
learns to give the same pooled vector and the same maps, under changed light. A layout, of no network, may stand beside
the teacher's vector. Layers, from the top: `run` > `lesson` > `student`, `targets` > `layout`, `sources`, `teacher`,
`views` > `pictures` > `config`.

Sources: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; Romero et al. 2015, "FitNets" (the maps);
Asano and Saeed 2021, "The Augmented Image Prior" (few pictures, many views); Beyer et al. 2022, "Knowledge
distillation: A good teacher is patient and consistent" (teacher and student see the same view).
"""

from training.distill.config import DistillConfig
from training.distill.run import distill

__all__ = ["DistillConfig", "distill"]
