"""The network, piece by piece, against plain tensor algebra."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from app.reid.errors import BundleError, ConfigError
from app.reid.network import EmbeddingModel, create_backbone, load_weights
from app.reid.spec import ModelSpec

Build = Callable[..., EmbeddingModel]
Images = Callable[..., Tensor]

# timm's nets for tests, and one whose last layer is wider than its last feature map.
BACKBONES = [*timm.list_models("test_*"), "mobilenetv3_small_050"]


def neck_by_hand(model: EmbeddingModel, pooled: Tensor) -> Tensor:
    """Linear, then BatchNorm with its running statistics."""
    norm = model.batch_norm
    z = pooled @ model.linear.weight.T + model.linear.bias
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    return (z - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


@torch.inference_mode()
def test_forward_by_hand(lively: Build, images: Images) -> None:
    """The same timm network with its classifier taken off, average pooling and LayerNorm, neck, unit sphere."""
    model, batch = lively(), images(3)
    whole = timm.create_model("test_convnext", num_classes=7).eval()
    whole.load_state_dict(model.backbone.state_dict(), strict=False)
    pooled = whole.forward_features(batch).mean(dim=(2, 3))
    head = model.backbone.head.norm
    normal = (pooled - pooled.mean(1, keepdim=True)) / (pooled.var(1, keepdim=True, correction=0) + head.eps).sqrt()
    z = neck_by_hand(model, normal * head.weight + head.bias)
    torch.testing.assert_close(model.neck_output(batch), z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(batch), z / z.square().sum(1, keepdim=True).sqrt(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
@torch.inference_mode()
def test_any_timm_backbone_gives_unit_rows(name: str, images: Images) -> None:
    model = EmbeddingModel(ModelSpec(backbone=name, embedding_dim=24)).eval()
    embeddings = model(images(2, model.backbone.default_cfg["input_size"][-1]))
    assert embeddings.shape == (2, 24)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_pooling_is_the_average_even_where_timm_would_take_a_token() -> None:
    assert timm.create_model("test_vit", num_classes=0).global_pool == "token"
    assert EmbeddingModel(ModelSpec(backbone="test_vit")).backbone.global_pool == "avg"


def test_the_classifier_is_gone_and_no_head_of_training_is_there() -> None:
    model = EmbeddingModel(ModelSpec(backbone="test_convnext", embedding_dim=16))
    assert isinstance(model.backbone.get_classifier(), nn.Identity)
    own = {name for name in model.state_dict() if not name.startswith("backbone.")}
    assert own == {
        "linear.weight", "linear.bias", "batch_norm.weight", "batch_norm.bias",
        "batch_norm.running_mean", "batch_norm.running_var", "batch_norm.num_batches_tracked",
    }  # fmt: skip
    assert model.linear.weight.shape == (16, 64)


def test_drop_path_is_for_training_alone(images: Images) -> None:
    model = EmbeddingModel(ModelSpec(backbone="test_convnext"), drop_path=0.5)
    for parameter in model.backbone.parameters():  # layer scale starts so small that a dropped block does not show
        nn.init.normal_(parameter, std=0.1)
    batch = images(2)
    with torch.inference_mode():
        torch.manual_seed(0)
        first, second = model.neck_output(batch), model.neck_output(batch)
        model.eval()
        assert not torch.equal(first, second)
        assert torch.equal(model(batch), model(batch))


class TestPlaces:
    @pytest.mark.parametrize("pooling", ["avg", "grid"])
    @pytest.mark.parametrize("name", ["test_convnext", "convnext_tiny_hnf"])
    @torch.inference_mode()
    def test_they_sum_to_the_embedding_and_in_pairs_to_the_cosine(
        self, lively: Build, images: Images, name: str, pooling: str
    ) -> None:
        model, batch = lively(name, pooling=pooling), images(3, 96)
        embeddings, places = model.embed_with_places(batch)
        assert places.shape == (3, 3, 3, 32)
        torch.testing.assert_close(embeddings, model(batch), atol=1e-6, rtol=0)
        torch.testing.assert_close(places.sum(dim=(1, 2)), embeddings, atol=1e-5, rtol=0)
        cosine = embeddings @ embeddings.T
        pairs = torch.einsum("ahwd,bijd->abhwij", places, places)
        torch.testing.assert_close(pairs.sum(dim=(2, 3, 4, 5)), cosine, atol=1e-5, rtol=0)

    @torch.inference_mode()
    def test_each_place_by_hand(self, lively: Build, images: Images) -> None:
        """`(A f_i + d) / (h w |z|)` with A and d written out in float64: d is the same for every photo and place."""
        model, batch = lively().double(), images(2, 96).double()
        head, norm = model.backbone.head.norm, model.batch_norm
        scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
        shift = (model.linear.bias - norm.get_buffer("running_mean")) * scale + norm.bias
        constant = (model.linear.weight @ head.bias) * scale + shift
        _, places = model.embed_with_places(batch)
        for photo in range(2):
            features = model.backbone.forward_features(batch)[photo]
            pooled = features.mean(dim=(1, 2))
            deviation = (pooled.var(correction=0) + head.eps).sqrt()
            length = model.neck_output(batch)[photo].norm()
            for row in range(3):
                for column in range(3):
                    normal = (features[:, row, column] - pooled.mean()) / deviation * head.weight
                    expected = ((model.linear.weight @ normal) * scale + constant) / (9 * length)
                    torch.testing.assert_close(places[photo, row, column], expected, atol=1e-9, rtol=1e-7)

    @pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "convnext_zepto_rms"])
    def test_other_networks_have_none(self, images: Images, name: str) -> None:
        """The last one is a ConvNeXt, but its norm takes no mean away."""
        model = EmbeddingModel(ModelSpec(backbone=name)).eval()
        assert not model.has_places
        with pytest.raises(ValueError, match=f"the embedding of {name} with avg pooling is no sum over places"):
            model.embed_with_places(images(1, 160))

    def test_a_layer_between_pooling_and_neck_leaves_none(self) -> None:
        model = EmbeddingModel(ModelSpec(backbone="test_convnext"))
        assert model.has_places
        model.backbone = timm.create_model("test_convnext", num_classes=0, head_hidden_size=32)
        assert not model.has_places


class TestBackbone:
    def test_an_unknown_name_is_answered_with_close_ones(self) -> None:
        with pytest.raises(ConfigError, match="^timm knows no backbone 'convnext_ato'; close: .*convnext_atto"):
            create_backbone("convnext_ato")

    def test_a_name_like_no_other_is_answered_without(self) -> None:
        with pytest.raises(ConfigError, match="^timm knows no backbone 'µ'$"):
            create_backbone("µ")

    def test_what_a_network_cannot_do_is_a_config_error(self) -> None:
        with pytest.raises(ConfigError, match="'pit_ti_224' cannot be built with average pooling: "):
            create_backbone("pit_ti_224")
        with pytest.raises(ConfigError, match="'dla34' cannot be built with average pooling and drop_path_rate: "):
            create_backbone("dla34", drop_path=0.1)


class TestLoadWeights:
    def test_all_tensors_arrive(self, lively: Build, images: Images) -> None:
        source, target = lively(seed=1), lively(seed=2)
        load_weights(target, source.state_dict(), "w")
        batch = images(2)
        with torch.inference_mode():
            assert torch.equal(source(batch), target(batch))

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda w: w.pop("linear.bias"), r"w: tensors missing \['linear.bias'\], unknown \[\]"),
            (lambda w: w.update(head=torch.ones(1)), r"w: tensors missing \[\], unknown \['head'\]"),
            (
                lambda w: w.update({"linear.bias": torch.ones(31)}),
                r"w: tensor linear.bias has the shape \(31,\); the network has \(32,\)",
            ),
            (lambda w: w["linear.weight"].__setitem__((3, 3), torch.nan), "w: tensor linear.weight is not finite"),
            (lambda w: w["batch_norm.bias"].__setitem__(0, -torch.inf), "w: tensor batch_norm.bias is not finite"),
        ],
    )
    def test_what_does_not_fit_is_named_and_nothing_is_loaded(
        self, lively: Build, change: Callable[[dict[str, Tensor]], object], sentence: str
    ) -> None:
        weights = {name: tensor.clone() for name, tensor in lively(seed=1).state_dict().items()}
        change(weights)
        target = lively(seed=2)
        before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
        with pytest.raises(BundleError, match=f"^{sentence}$"):
            load_weights(target, weights, "w")
        assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
