import copy
import math

import numpy as np
import pytest
import torch

from app.reid.errors import ConfigError
from app.reid.network import EmbeddingModel
from app.reid.spec import ModelSpec
from training.config import LossConfig, OptimConfig
from training.losses import ClassifierHead
from training.optim import WeightAverage, build_optimizer, rate_factor, set_rates


def by_hand(logits, labels, smoothing):
    """Cross-entropy against (1 - s) on the label and s / C on every class, row by row."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        log_probability = row - math.log(sum(math.exp(value) for value in row))
        target = np.full(len(row), smoothing / len(row))
        target[label] += 1 - smoothing
        total -= float((target * log_probability).sum())
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
@pytest.mark.parametrize("head", ["bnneck", "cosine"])
def test_the_loss_is_the_formula(head, smoothing):
    torch.manual_seed(0)
    classifier = ClassifierHead(LossConfig(head=head, scale=7.0, label_smoothing=smoothing), 6, 4)
    neck, labels = torch.randn(5, 6), torch.tensor([0, 3, 1, 1, 2])
    x, w = neck.double().numpy(), classifier.weight.detach().double().numpy()
    if head == "cosine":
        x, w = (7.0 * x / np.linalg.norm(x, axis=1, keepdims=True), w / np.linalg.norm(w, axis=1, keepdims=True))
    assert float(classifier(neck, labels).detach()) == pytest.approx(
        by_hand(x @ w.T, labels.tolist(), smoothing), abs=1e-5
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return EmbeddingModel(ModelSpec(backbone="test_convnext", embedding_dim=16))


def test_every_parameter_is_in_one_group_and_vectors_are_not_decayed(model):
    head = ClassifierHead(LossConfig(), 16, 3)
    optimizer = build_optimizer(model, head, OptimConfig(learning_rate=0.1, head_learning_rate=0.2, weight_decay=0.3))
    seen = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert id(parameter) not in seen
            seen[id(parameter)] = (group["lr"], group["weight_decay"])
    for name, parameter in [*model.named_parameters(), *head.named_parameters()]:
        rate = 0.1 if name.startswith("backbone.") else 0.2
        assert seen.pop(id(parameter)) == (rate, 0.3 if parameter.ndim > 1 else 0.0), name
    assert not seen
    set_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05, 0.1}


def test_the_schedule_warms_up_and_falls_along_half_a_cosine():
    factors = [rate_factor(step, warmup=4, total=24) for step in range(24)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[14] == pytest.approx(0.5)
    assert factors[23] == pytest.approx((1 + math.cos(math.pi * 19 / 20)) / 2)
    assert rate_factor(0, warmup=0, total=10) == 1.0


def test_the_average_follows_the_recursion(model):
    network = copy.deepcopy(model)
    average = WeightAverage(network, 0.8)
    weight = "linear.weight"
    expected = network.state_dict()[weight].clone().double()
    for updates in range(60):
        with torch.no_grad():
            network.linear.weight.add_(1.0)
            network.batch_norm.running_mean.add_(2.0)
        average.update(network, updates)
        decay = min(0.8, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * network.state_dict()[weight].double()
    assert torch.allclose(average.model.state_dict()[weight].double(), expected, atol=1e-4)
    assert 100 < float(average.model.state_dict()["batch_norm.running_mean"][0]) < 120
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


def rates_by_name(model, config):
    optimizer = build_optimizer(model, ClassifierHead(LossConfig(), 16, 3), config)
    rate = {id(parameter): group["base_lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: rate[id(parameter)] for name, parameter in model.named_parameters()}


def test_each_layer_learns_at_a_share_of_the_next_one_s_rate():
    """Blocks counted by hand along the network, the stem first."""
    model = EmbeddingModel(ModelSpec(backbone="convnext_atto", embedding_dim=16))
    rates = rates_by_name(model, OptimConfig(learning_rate=0.1, head_learning_rate=0.2, layer_decay=0.8))
    depths = [len(stage.blocks) for stage in model.backbone.stages]
    for name, rate in rates.items():
        parts = name.split(".")
        if parts[0] in {"linear", "batch_norm"}:
            assert rate == 0.2, name
            continue
        layer = sum(depths) + 1  # the norm behind the last block
        if parts[1] == "stem":
            layer = 0
        elif parts[1] == "stages":
            layer = 1 + sum(depths[: int(parts[2])]) + (int(parts[4]) if parts[3] == "blocks" else 0)
        assert rate == pytest.approx(0.1 * 0.8 ** (sum(depths) + 1 - layer)), name
    assert max(rates["backbone.head.norm.weight"], rates["backbone.head.norm.bias"]) == 0.1


def test_weight_decay_spares_vectors_in_every_layer(model):
    head = ClassifierHead(LossConfig(), 16, 3)
    optimizer = build_optimizer(model, head, OptimConfig(layer_decay=0.5, weight_decay=0.3))
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, [*model.parameters(), *head.parameters()]))
    for group in optimizer.param_groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] == 0.3) for parameter in group["params"])


def test_a_backbone_whose_layers_nobody_lists():
    model = EmbeddingModel(ModelSpec(backbone="poolformer_s12", embedding_dim=16))
    assert build_optimizer(model, ClassifierHead(LossConfig(), 16, 3), OptimConfig())
    with pytest.raises(ConfigError, match=r"optim.layer_decay = 0.9: timm does not list the layers of poolformer_s12"):
        build_optimizer(model, ClassifierHead(LossConfig(), 16, 3), OptimConfig(layer_decay=0.9))
