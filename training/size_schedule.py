"""Progressive size: smaller pictures first, which cost less and teach the coarse; full size long before the end."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import SizeSchedule

STRIDE = 32  # of a ConvNeXt from its input to its last feature map; sides in between would be padded or cut


def size_at(schedule: SizeSchedule, full: tuple[int, int], step: int, total: int) -> tuple[int, int]:
    """Height and width in pixels of the pictures of a step, of `total`; `full` is what the network is served at.

    The share of the full side grows linearly, and sides are multiples of 32 on the way, at least 32.
    Source: Tan and Le 2021, EfficientNetV2, algorithm 1.
    """
    reached = step / (schedule.full_at * total)
    share = schedule.start + (1.0 - schedule.start) * reached
    return full if share >= 1.0 else (_side(full[0], share), _side(full[1], share))


def resize_batch(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) -> (N, 3, *size), each smaller pixel a weighted mean of all that it covers."""
    if images.shape[2:] == torch.Size(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def _side(full: int, share: float) -> int:
    return min(full, max(STRIDE, int(full * share) // STRIDE * STRIDE))
