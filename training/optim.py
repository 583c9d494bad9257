"""AdamW's parameter groups, the learning-rate schedule, and the moving average of the weights."""

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from app.reid.errors import ConfigError
from app.reid.network import EmbeddingModel
from training.config import OptimConfig


def build_optimizer(model: EmbeddingModel, head: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over groups of one rate each, with and without weight decay: the backbone's layers, then neck and head.

    Vectors and scalars (biases, norms, layer scales) are not decayed. Each group keeps its full rate as `base_lr`.

    Raises:
        ConfigError: a layer decay for a backbone whose layers timm does not list.
    """
    new = [*model.linear.parameters(), *model.batch_norm.parameters(), *head.parameters()]
    groups: list[dict[str, Any]] = []
    for parameters, rate in (*_backbone_rates(model, config), (new, config.head_learning_rate)):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for decay, members in (
            (config.weight_decay, [parameter for parameter in trained if parameter.ndim > 1]),
            (0.0, [parameter for parameter in trained if parameter.ndim <= 1]),
        ):
            if members:
                groups.append({"params": members, "weight_decay": decay, "lr": rate, "base_lr": rate})
    return torch.optim.AdamW(groups, fused=True)


def _backbone_rates(model: EmbeddingModel, config: OptimConfig) -> list[tuple[Iterable[nn.Parameter], float]]:
    """The parameters of each layer of the backbone, from the stem on, and its rate: `decay ** (last - layer)` of all.

    timm says which parameters are one layer; in a ConvNeXt, the stem, each block (a stage's first one with the
    downsampling before it) and the norm behind the last block. Source: Clark et al. 2020, ELECTRA, appendix B.
    """
    if config.layer_decay == 1.0:
        return [(model.backbone.parameters(), config.learning_rate)]
    if not hasattr(model.backbone, "group_matcher"):
        raise ConfigError(
            f"optim.layer_decay = {config.layer_decay}: timm does not list the layers of {model.spec.backbone};"
            " set it to 1.0 or take another backbone"
        )
    layers = group_parameters(model.backbone, model.backbone.group_matcher(coarse=False), return_values=True)
    last = len(layers) - 1
    return [
        (parameters, config.learning_rate * config.layer_decay ** (last - layer))
        for layer, (_, parameters) in enumerate(sorted(layers.items()))
    ]


def rate_factor(step: int, *, warmup: int, total: int) -> float:
    """Share of the full learning rate at a step, in (0, 1]: linear warm-up, then half a cosine towards 0.

    Source: Loshchilov and Hutter 2017, SGDR, eq. 5, one period.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Gives every group its share of its own full rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class WeightAverage:
    """Exponential moving average of parameters and buffers; the averaged network is what is evaluated and exported.

    The decay warms up as min(decay, (1 + n) / (10 + n)), so that early averages forget the random start.
    Source: the schedule of TensorFlow's ExponentialMovingAverage. decay 0 follows the network itself.
    """

    def __init__(self, model: EmbeddingModel, decay: float) -> None:
        """Starts from a copy of the network."""
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self._decay = decay

    def update(self, model: EmbeddingModel, updates: int) -> None:
        """Moves the average towards the network; `updates` counts the calls before this one."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        averages, values = _float_tensors(self.model), _float_tensors(model)
        with torch.no_grad():
            torch._foreach_lerp_(averages, values, 1.0 - decay)


def _float_tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in model.state_dict().values() if tensor.is_floating_point()]
