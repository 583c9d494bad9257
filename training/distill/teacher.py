"""The teacher: any timm network with weights from a file, which only looks."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from app.reid.errors import BundleError
from app.reid.network import create_backbone
from training.distill.config import TeacherConfig
from training.start import read_weights

_CLASSIFIER = ("classifier.", "head.fc.", "fc.", "_fc.")


class Teacher:
    """Gives a view's last feature map (N, C, h, w), and the last one of twice that resolution (N, c, 2h, 2w)."""

    def __init__(self, config: TeacherConfig, weights: Path) -> None:
        """Builds the network and loads it.

        Tensors are matched by name; where the file has other names, in order, as long as number and shapes agree.

        Raises:
            ConfigError: an unknown backbone, or a file that holds no tensors.
            BundleError: a tensor is missing or of another shape; it is named with both shapes.
        """
        self.config = config
        self._network: Any = create_backbone(config.backbone).eval().requires_grad_(requires_grad=False)
        _load(self._network, read_weights(weights), str(weights))
        self._network.to(memory_format=torch.channels_last)
        self._mean = torch.tensor(config.mean)[:, None, None] * 255.0
        self._std = torch.tensor(config.std)[:, None, None] * 255.0

    @torch.inference_mode()
    def look(self, views: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """(N, side, side, 3) uint8 -> the maps, middle and last, float32; views are resized to the teacher's side."""
        images = torch.from_numpy(np.array(views)).permute(0, 3, 1, 2).float()
        side = self.config.side
        if images.shape[-1] != side:
            images = F.interpolate(images, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 255)
        images = ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        last, maps = self._network.forward_intermediates(images)
        middle = next(one for one in reversed(maps) if one.shape[-1] == 2 * last.shape[-1])
        return middle, last


def _load(network: torch.nn.Module, weights: dict[str, Tensor], source: str) -> None:
    expected = network.state_dict()
    given = {name: tensor for name, tensor in weights.items() if not name.startswith(_CLASSIFIER)}
    if given.keys() != expected.keys():
        given = _in_order(expected, given, source)
    for name, tensor in given.items():
        if tensor.shape != expected[name].shape:
            raise BundleError(
                f"{source}: tensor {name} has the shape {tuple(tensor.shape)}; the network has"
                f" {tuple(expected[name].shape)}"
            )
    network.load_state_dict(given)


def _in_order(expected: dict[str, Tensor], given: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The same network written down under other names, as ports of one file are."""
    if len(given) != len(expected):
        raise BundleError(f"{source}: {len(given)} tensors; the network has {len(expected)}")
    for (name, tensor), (own, wanted) in zip(given.items(), expected.items(), strict=True):
        if tensor.shape != wanted.shape:
            raise BundleError(
                f"{source}: tensor {name} has the shape {tuple(tensor.shape)}; the network's {own} has"
                f" {tuple(wanted.shape)}"
            )
    return dict(zip(expected, given.values(), strict=True))
