"""What stands in the place of timm's average, against plain tensor algebra."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from app.reid.errors import ConfigError
from app.reid.network import EmbeddingModel
from app.reid.pooling import GRID, GeM, Grid, cell_shares
from app.reid.spec import ModelSpec
from tests.reid.torch.test_network import neck_by_hand

Build = Callable[..., EmbeddingModel]
Images = Callable[..., Tensor]


class TestGeM:
    def test_by_a_slow_loop(self) -> None:
        features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
        pool = GeM(flatten=True)
        with torch.no_grad():
            pool.p.fill_(2.5)
        pooled = pool(features).detach()
        for photo in range(2):
            for channel in range(5):
                powers = [max(float(x), 1e-6) ** 2.5 for x in features[photo, channel].ravel()]
                assert float(pooled[photo, channel]) == pytest.approx((sum(powers) / 12) ** (1 / 2.5), rel=1e-5)

    def test_one_is_the_mean_of_positive_features_and_a_large_power_nears_the_maximum(self) -> None:
        features = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
        pool = GeM(flatten=False)
        with torch.no_grad():
            pool.p.fill_(1.0)
            torch.testing.assert_close(pool(features), features.mean(dim=(2, 3), keepdim=True))
            pool.p.fill_(60.0)
            torch.testing.assert_close(pool(features)[..., 0, 0], features.amax(dim=(2, 3)), atol=0, rtol=0.05)

    @torch.inference_mode()
    def test_a_network_pools_with_it_before_its_norm(self, images: Images) -> None:
        spec = ModelSpec(backbone="test_convnext", pooling="gem", embedding_dim=16)
        model, batch = EmbeddingModel(spec).eval(), images(3)
        features = model.backbone.forward_features(batch)
        pooled = features.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
        head = model.backbone.head.norm
        normal = (pooled - pooled.mean(1, keepdim=True)) / (pooled.var(1, keepdim=True, correction=0) + head.eps).sqrt()
        z = neck_by_hand(model, normal * head.weight + head.bias)
        torch.testing.assert_close(model.neck_output(batch), z, atol=1e-5, rtol=1e-5)

    def test_its_power_is_learnt_and_gradients_stay_finite(self, images: Images) -> None:
        model = EmbeddingModel(ModelSpec(backbone="test_convnext", pooling="gem", embedding_dim=16))
        model.neck_output(images(4)).square().sum().backward()
        assert all(
            torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None
        )
        assert float(model.backbone.head.global_pool.p.grad.abs()) > 0
        features = torch.full((1, 2, 3, 3), -1.0, requires_grad=True)  # nothing positive to pool
        GeM(flatten=True)(features).sum().backward()
        assert features.grad is not None
        assert torch.isfinite(features.grad).all()

    def test_it_has_no_places(self, images: Images) -> None:
        model = EmbeddingModel(ModelSpec(backbone="test_convnext", pooling="gem")).eval()
        assert not model.has_places
        with pytest.raises(ValueError, match="test_convnext with gem pooling is no sum over places"):
            model.embed_with_places(images(1))

    @pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
    @torch.inference_mode()
    def test_other_networks_that_pool_once_take_it(self, name: str, images: Images) -> None:
        model = EmbeddingModel(ModelSpec(backbone=name, pooling="gem", embedding_dim=16)).eval()
        assert model(images(2, 160)).shape == (2, 16)

    def test_others_are_a_config_error(self) -> None:
        with pytest.raises(
            ConfigError, match="'test_vit' cannot be built with model.pooling = \"gem\"; a ConvNeXt can"
        ):
            EmbeddingModel(ModelSpec(backbone="test_vit", pooling="gem"))


class TestGrid:
    @pytest.mark.parametrize("times", [(1, 1), (2, 3)])
    def test_where_cells_divide_the_map_it_is_torchs_own(self, times: tuple[int, int]) -> None:
        sides = [cells * factor for cells, factor in zip(GRID, times, strict=True)]
        features = torch.randn(2, 5, *sides, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(Grid(flatten=False)(features), F.adaptive_avg_pool2d(features, GRID))

    @pytest.mark.parametrize("sides", [(5, 7), (3, 3), (1, 1), (2, 11)])
    def test_elsewhere_it_is_torchs_own_of_a_finer_map(self, sides: tuple[int, int]) -> None:
        """A map whose every place is written down `GRID` times either way is the same picture, and is divided."""
        features = torch.randn(2, 5, *sides, generator=torch.Generator().manual_seed(0))
        finer = features.repeat_interleave(GRID[0], dim=2).repeat_interleave(GRID[1], dim=3)
        torch.testing.assert_close(Grid(flatten=False)(features), F.adaptive_avg_pool2d(finer, GRID))

    def test_a_cells_shares_add_up_to_one(self) -> None:
        shares = cell_shares(GRID, 5, 4)
        assert shares.shape == (*GRID, 5, 4)
        torch.testing.assert_close(shares.sum(dim=(2, 3)), torch.ones(GRID, dtype=torch.float64))

    @torch.inference_mode()
    def test_a_network_pools_with_it_before_its_norm(self, lively: Build, images: Images) -> None:
        model, batch = lively(pooling="grid"), images(3, 96)
        cells = F.adaptive_avg_pool2d(
            model.backbone.forward_features(batch).repeat_interleave(GRID[0], 2).repeat_interleave(GRID[1], 3), GRID
        )
        head = model.backbone.head.norm
        normal = (cells - cells.mean(1, keepdim=True)) / (cells.var(1, keepdim=True, correction=0) + head.eps).sqrt()
        scaled = normal * head.weight[:, None, None] + head.bias[:, None, None]
        torch.testing.assert_close(model.neck_output(batch), neck_by_hand(model, scaled.flatten(1)), atol=1e-5, rtol=0)

    @torch.inference_mode()
    def test_it_tells_a_picture_from_its_mirror_image_where_the_average_of_a_map_does_not(self) -> None:
        features = torch.randn(1, 5, 4, 4, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(features.mean(dim=(2, 3)), features.flip(3).mean(dim=(2, 3)))
        assert not torch.allclose(Grid(flatten=False)(features), Grid(flatten=False)(features.flip(3)))

    @pytest.mark.parametrize("name", ["test_vit", "test_resnet", "convnext_zepto_rms"])
    def test_others_are_a_config_error(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f'{name!r} cannot be built with model.pooling = "grid"; a ConvNeXt can'):
            EmbeddingModel(ModelSpec(backbone=name, pooling="grid"))
