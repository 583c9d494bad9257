"""After learning: the student's answers are spread more evenly over their directions."""

import torch
from torch import Tensor

from app.reid.network import EmbeddingModel

_LEAST = 1e-6  # deviation that a direction is taken to have at least


@torch.no_grad()
def whiten_neck(model: EmbeddingModel, answers: Tensor, power: float) -> None:
    """Changes the neck so that answers are centred, and in each principal direction divided by deviation ** power.

    A student that is not sure answers near the mean, so that the directions it knows worst shrink most. answers: (N, D)
    what the neck gave for N views, before the unit sphere. Directions stay where they are: the matrix is symmetric.
    BatchNorm's statistics become those of the new answers, so that training goes on from the same network.

    Source: Jegou and Chum 2012, "Negative evidences and co-occurences in image retrieval"; Kessy et al. 2018, "Optimal
    Whitening and Decorrelation" (ZCA).
    """
    answers = answers.double()
    mean = answers.mean(dim=0)
    variances, directions = torch.linalg.eigh(torch.cov(answers.T, correction=0))
    deviations = variances.clamp(min=0).sqrt().clamp(min=_LEAST)
    turn = directions @ torch.diag(deviations.pow(-power)) @ directions.T

    linear, norm = model.linear, model.batch_norm
    scale = model.batch_norm_scale.double()
    shift = (linear.bias.double() - norm.get_buffer("running_mean").double()) * scale + norm.bias.double()
    linear.weight.copy_(turn @ (scale[:, None] * linear.weight.double()))
    linear.bias.copy_(turn @ (shift - mean))
    variance = ((answers - mean) @ turn).var(dim=0, correction=0)
    norm.get_buffer("running_mean").zero_()
    norm.get_buffer("running_var").copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.zero_()
