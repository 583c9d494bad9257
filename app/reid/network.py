"""The network: a timm backbone, the neck, the unit sphere. The only home of timm in the engine."""

import difflib
import math
from typing import Any

import timm
import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn
from torch.nn import functional as F

from app.reid.errors import BundleError, ConfigError
from app.reid.pooling import GRID, GeM, Grid, cell_shares
from app.reid.spec import ModelSpec

GEM_POWER = "global_pool.p"  # how the name of GeM's exponent ends


class EmbeddingModel(nn.Module):
    """timm backbone without classifier -> global pooling -> Linear -> BatchNorm -> L2.

    Source of the neck (BNNeck): Luo et al. 2019, "Bag of Tricks and A Strong Baseline for Deep Person
    Re-identification".
    """

    backbone: Any  # timm's networks share no type that knows of their features

    def __init__(self, spec: ModelSpec, *, drop_path: float = 0.0) -> None:
        """Builds the network with random weights. drop_path: stochastic depth rate in [0, 1), training only.

        Raises:
            ConfigError: timm knows no such backbone, or it takes no drop_path or not this pooling.
        """
        super().__init__()
        self.spec = spec
        self.backbone = create_backbone(spec.backbone, drop_path=drop_path)
        if spec.pooling == "grid" and not self._has_plain_head:
            raise _no_pooling(spec)
        if spec.pooling != "avg":
            _put_pooling(self.backbone, spec, GeM if spec.pooling == "gem" else Grid)
        # Some networks end in a layer of another width than their last feature map, num_features.
        self.linear = nn.Linear(self.backbone.head_hidden_size * self._cells, spec.embedding_dim)
        self.batch_norm = nn.BatchNorm1d(spec.embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) preprocessed pictures -> (N, D) unit-norm embeddings."""
        return F.normalize(self.neck_output(images))

    def neck_output(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D), what BatchNorm gives before the unit sphere; the training head sits on it."""
        return self.neck(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C), what the backbone gives, pooled."""
        pooled: Tensor = self.backbone(images)
        return pooled

    def neck(self, pooled: Tensor) -> Tensor:
        """(N, C) pooled features -> (N, D), what BatchNorm gives; in training mode each row depends on the others."""
        z: Tensor = self.batch_norm(self.linear(pooled))
        return z

    @property
    def has_places(self) -> bool:
        """Whether the embedding is a sum over places: means of places, then LayerNorm or nothing, then the neck."""
        return self.spec.pooling != "gem" and self._has_plain_head

    def embed_with_places(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> (N, D) unit-norm embeddings and (N, h, w, D) places; eval mode only.

        Each place of the last feature map owns `(A f_i + d) / (h w |z|)` of the embedding: LayerNorm's mean and
        variance are those of the pooled vector, and the constant d (LayerNorm's bias, the linear bias, BatchNorm's
        shift) is spread evenly. With a grid, A is the sum over cells of each one's own, times the place's part in it.
        Places sum to the embedding, so the cosine of two photos is the sum over pairs of places of their dot products.

        Raises:
            ValueError: a network for which this does not hold.
        """
        if not self.has_places:
            pooled = f"{self.spec.backbone} with {self.spec.pooling} pooling"
            raise ValueError(f"the embedding of {pooled} is no sum over places")
        features: Tensor = self.backbone.forward_features(images)
        z = self.neck(self.backbone.forward_head(features, pre_logits=True))
        norm = z.norm(dim=1, keepdim=True)
        shares = self._shares(features)
        constant = z - shares.mean(dim=(1, 2))  # d, without writing each of its terms a second time
        places = (shares + constant[:, None, None, :]) / (shares.shape[1] * shares.shape[2] * norm[:, None, None, :])
        return z / norm, places

    @property
    def _head_norm(self) -> nn.Module:
        """What normalises the pooled vector; nothing where the backbone normalises before it pools."""
        norm: nn.Module = getattr(self.backbone.head, "norm", nn.Identity())
        return norm

    @property
    def batch_norm_scale(self) -> Tensor:
        """(D,) what BatchNorm multiplies by in eval mode."""
        variance = self.batch_norm.get_buffer("running_var")
        return self.batch_norm.weight / torch.sqrt(variance + self.batch_norm.eps)

    def _shares(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, h, w, D): what each place would give if all were like it, without the constant d."""
        places = features.permute(0, 2, 3, 1)
        height, width = features.shape[2:]
        parts = (cell_shares(self._grid, height, width) * height * width).to(features).flatten(0, 1)
        weights = (self.linear.weight * self.batch_norm_scale[:, None]).reshape(
            self.spec.embedding_dim, -1, self._cells
        )
        cells = (
            part[:, :, None] * F.linear(self._normalised(places, part), weights[:, :, cell])
            for cell, part in enumerate(parts)
        )
        return torch.stack(list(cells)).sum(dim=0)

    def _normalised(self, places: Tensor, part: Tensor) -> Tensor:
        """(N, h, w, C) -> the same: LayerNorm without its bias, with the statistics of a cell's pooled vector.

        part: (h, w), of each place in the cell; 1 on average.
        """
        norm = self._head_norm
        if not isinstance(norm, nn.LayerNorm):
            return places
        pooled = (places * part[:, :, None]).mean(dim=(1, 2), keepdim=True)
        mean = pooled.mean(dim=3, keepdim=True)
        variance = (pooled - mean).square().mean(dim=3, keepdim=True)
        return (places - mean) / torch.sqrt(variance + norm.eps) * norm.weight

    @property
    def _cells(self) -> int:
        """How many vectors of features the pooled one is made of."""
        return math.prod(self._grid)

    @property
    def _grid(self) -> tuple[int, int]:
        """Rows and columns of cells; one cell is the average over the whole map."""
        return GRID if self.spec.pooling == "grid" else (1, 1)

    @property
    def _has_plain_head(self) -> bool:
        """Whether nothing but LayerNorm stands between pooling and neck, as in a ConvNeXt."""
        return (
            isinstance(self.backbone, timm.models.ConvNeXt)
            and isinstance(getattr(self.backbone.head, "pre_logits", nn.Identity()), nn.Identity)
            and isinstance(self._head_norm, (nn.LayerNorm, nn.Identity))
        )


def create_backbone(name: str, *, drop_path: float = 0.0, pretrained: bool = False) -> nn.Module:
    """A timm backbone without classifier, global average pooling; with ImageNet weights from timm's hub if asked.

    Raises:
        ConfigError: timm knows no such backbone, or it takes no drop_path or no average pooling.
        OSError: the hub cannot be reached.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"; close: {', '.join(close)}" if close else ""
        raise ConfigError(f"timm knows no backbone {name!r}{hint}")
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="avg", **options)
    except (TypeError, AssertionError) as error:  # how timm's networks refuse an option
        wanted = ["average pooling", *options]
        raise ConfigError(f"the backbone {name!r} cannot be built with {' and '.join(wanted)}: {error}") from error


def _put_pooling(backbone: nn.Module, spec: ModelSpec, pooling: type[GeM | Grid]) -> None:
    """Puts another pooling in the place of timm's average.

    Raises:
        ConfigError: the backbone has none in one place over feature maps of the form (N, C, h, w).
    """
    pools = {
        path: module
        for path, module in backbone.named_modules()
        if isinstance(module, SelectAdaptivePool2d) and path.rpartition(".")[2] == "global_pool"
    }
    pooled = {path: pool(torch.zeros(1, 2, 3, 4)) for path, pool in pools.items()}
    if [len(vector.flatten()) for vector in pooled.values()] != [2]:  # 4 where channels come last
        raise _no_pooling(spec)
    ((path, vector),) = pooled.items()
    backbone.set_submodule(path, pooling(flatten=vector.ndim == 2))


def _no_pooling(spec: ModelSpec) -> ConfigError:
    return ConfigError(
        f'the backbone {spec.backbone!r} cannot be built with model.pooling = "{spec.pooling}"; a ConvNeXt can'
    )


def load_weights(model: EmbeddingModel, weights: dict[str, Tensor], source: str) -> None:
    """Puts tensors into a model, all of them, in place.

    Raises:
        BundleError: a tensor is missing, left over, of another shape or not finite; each is named.
    """
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        raise BundleError(f"{source}: tensors missing {missing[:3]}, unknown {extra[:3]}")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}; the network has {tuple(expected[name].shape)}"
            raise BundleError(f"{source}: tensor {name} has the shape {shapes}")
        if not torch.isfinite(tensor).all():
            raise BundleError(f"{source}: tensor {name} is not finite")
    model.load_state_dict(weights)
