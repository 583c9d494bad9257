"""The student: the network that becomes the bundle, two maps that only learning needs, and the three losses."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.reid.errors import ConfigError
from app.reid.network import EmbeddingModel
from training.distill.config import LearningConfig


@dataclass(frozen=True)
class Losses:
    """Of one batch, scalars. pooled: mean of 1 - cosine. places, middle: see `Student.losses`."""

    pooled: Tensor
    places: Tensor
    middle: Tensor

    def total(self, config: LearningConfig) -> Tensor:
        """The weighted sum."""
        return config.pooled * self.pooled + config.places * self.places + config.middle * self.middle


class Student(nn.Module):
    """The network, and from its last two stages a 1 x 1 convolution each to what the teacher's maps hold."""

    def __init__(self, model: EmbeddingModel, places: int, middle: int) -> None:
        """places, middle: channels of the targets.

        Raises:
            ConfigError: the backbone is no ConvNeXt, whose stages are known.
        """
        super().__init__()
        if not model.has_places:
            raise ConfigError(
                f"model.backbone {model.spec.backbone}: a distillation's student is a ConvNeXt with pooling avg or grid"
            )
        self.model = model
        widths = [stage["num_chs"] for stage in model.backbone.feature_info]
        self.to_places = nn.Sequential(nn.GroupNorm(1, widths[-1]), nn.Conv2d(widths[-1], places, 1))
        self.to_middle = nn.Sequential(nn.GroupNorm(1, widths[-2]), nn.Conv2d(widths[-2], middle, 1))

    def losses(self, images: Tensor, pooled: Tensor, places: Tensor, middle: Tensor) -> Losses:
        """(N, 3, H, W) images, (N, D) unit vectors and the teacher's two maps of the same views -> the three losses.

        The teacher's maps are resized to the student's. `places`: smooth L1 (Girshick 2015, eq. 3) plus half of
        1 - cosine at each place; `middle`: the mean square.
        """
        embedding, last, before = self._forward(images)
        seen = self.to_places(last)
        wanted = F.interpolate(places, size=seen.shape[2:], mode="bilinear", align_corners=False)
        seen_half = self.to_middle(before)
        wanted_half = F.interpolate(middle, size=seen_half.shape[2:], mode="area")
        return Losses(
            (1.0 - F.cosine_similarity(embedding, pooled)).mean(),
            F.smooth_l1_loss(seen, wanted) + 0.5 * (1.0 - F.cosine_similarity(seen, wanted, dim=1)).mean(),
            F.mse_loss(seen_half, wanted_half),
        )

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone: Any = self.model.backbone
        maps = [backbone.stem(images)]
        for stage in backbone.stages:
            maps.append(stage(maps[-1]))
        last = backbone.norm_pre(maps[-1])
        return self.model.neck(backbone.forward_head(last, pre_logits=True)), last, maps[-2]


def change_light(images: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, H, W) in [0, 1] -> the same places under another light, as the student sees them.

    Saturation 0.5 to 1.4, grey for 15 %, contrast 0.6 to 1.4, brightness 0.65 to 1.35, each channel 0.92 to 1.08.
    """
    count = len(images)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.empty(count, channels, 1, 1).uniform_(low, high, generator=generator)

    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * draw(0.5, 1.4)
    infra_red = (draw(0.0, 1.0) < 0.15).float()
    images = images * (1 - infra_red) + images.mean(dim=1, keepdim=True) * infra_red
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (middle + (images - middle) * draw(0.6, 1.4)) * draw(0.65, 1.35)
    return (images * draw(0.92, 1.08, 3)).clamp(0.0, 1.0)
