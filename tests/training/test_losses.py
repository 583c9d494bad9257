"""Every loss against its paper's formula, written as slow loops in float64."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch

from app.reid.errors import ConfigError
from app.reid.network import EmbeddingModel
from app.reid.spec import ModelSpec
from training.config import LossConfig, LossKind, OptimConfig, load_config
from training.losses import ClassifierHead, build_head
from training.optim import build_optimizer
from training.split import split_photos
from training.train import Trainer

LABELS = [0, 3, 1, 1, 2, 0, 3, 3]


@pytest.fixture
def neck():
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(1))


def value(head, neck):
    return float(head(neck, torch.tensor(LABELS)).detach())


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def margin_softmax(neck, weights, scale, own):
    """Mean of -log(e^{s own(t)} / (e^{s own(t)} + sum of e^{s cos})), the form that ArcFace and CosFace share."""
    total = 0.0
    for row, label in zip(unit(neck), LABELS, strict=True):
        cosines = unit(weights) @ row
        logits = [scale * (own(cosine) if k == label else cosine) for k, cosine in enumerate(cosines)]
        total -= logits[label] - math.log(sum(math.exp(logit) for logit in logits))
    return total / len(LABELS)


def test_arcface_s_margin_is_an_angle_in_radians(neck):
    head = build_head(LossConfig(kind="arcface", arcface_margin=0.4, scale=5.0), 6, 4)
    weights = head.loss.W.detach().T
    own = margin_softmax(neck, weights, 5.0, lambda cosine: math.cos(math.acos(cosine) + 0.4))
    angles = np.arccos((unit(neck) * unit(weights)[LABELS]).sum(axis=1))
    assert angles.max() < math.pi - 0.4  # the formula holds for all eight
    assert value(head, neck) == pytest.approx(own, abs=1e-5)


def test_cosface_s_margin_is_a_cosine(neck):
    head = build_head(LossConfig(kind="cosface", cosface_margin=0.25, scale=5.0), 6, 4)
    own = margin_softmax(neck, head.loss.W.detach().T, 5.0, lambda cosine: cosine - 0.25)
    assert value(head, neck) == pytest.approx(own, abs=1e-5)


def test_triplets_are_the_hardest_of_the_batch(neck):
    rows, violations = unit(neck), []
    for anchor, label in enumerate(LABELS):
        distances = np.linalg.norm(rows - rows[anchor], axis=1)
        positives = [distances[i] for i, other in enumerate(LABELS) if other == label and i != anchor]
        negatives = [distances[i] for i, other in enumerate(LABELS) if other != label]
        if positives:
            violations.append(max(positives) - min(negatives) + 0.3)
    expected = np.mean([violation for violation in violations if violation > 0])
    assert len(violations) == 7
    assert value(build_head(LossConfig(kind="triplet", triplet_margin=0.3), 6, 4), neck) == pytest.approx(
        expected, abs=1e-5
    )


def test_supcon_averages_over_positives_outside_the_logarithm(neck):
    rows, terms = unit(neck), []
    for anchor, label in enumerate(LABELS):
        similarity = {i: float(rows[i] @ rows[anchor]) / 0.2 for i in range(8) if i != anchor}
        below = math.log(sum(math.exp(s) for s in similarity.values()))
        positives = [similarity[i] - below for i in similarity if LABELS[i] == label]
        if positives:
            terms.append(-np.mean(positives))
    assert value(build_head(LossConfig(kind="supcon", supcon_temperature=0.2), 6, 4), neck) == pytest.approx(
        np.mean(terms), abs=1e-5
    )


def test_a_sum_is_the_sum_of_its_parts_and_their_gradients(neck):
    torch.manual_seed(0)
    head = build_head(LossConfig(terms={"triplet": 2.0, "cross_entropy": 0.5}), 6, 4)
    parts = head.parts
    assert list(parts) == ["cross_entropy", "triplet"]
    neck.requires_grad_()
    labels = torch.tensor(LABELS)
    (whole,) = torch.autograd.grad(head(neck, labels), neck)
    cross, triplet = (torch.autograd.grad(parts[kind](neck, labels), neck)[0] for kind in parts)
    torch.testing.assert_close(whole, 0.5 * cross + 2.0 * triplet)
    assert value(head, neck) == pytest.approx(
        0.5 * value(parts["cross_entropy"], neck) + 2.0 * value(parts["triplet"], neck), abs=1e-6
    )


def test_cross_entropy_stays_what_it_was(neck):
    torch.manual_seed(3)
    head = build_head(LossConfig(), 6, 4)
    torch.manual_seed(3)
    assert isinstance(head, ClassifierHead)
    assert torch.equal(head.weight, ClassifierHead(LossConfig(), 6, 4).weight)
    torch.manual_seed(3)
    half = build_head(LossConfig(terms={"cross_entropy": 0.5}), 6, 4)
    assert value(half, neck) == pytest.approx(0.5 * value(head, neck), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "parameters"), [("cross_entropy", 1), ("arcface", 1), ("cosface", 1), ("triplet", 0), ("supcon", 0)]
)
def test_a_loss_s_weights_are_trained_at_the_head_s_rate(kind, parameters):
    head = build_head(LossConfig(kind=kind), 16, 3)
    own = list(head.parameters())
    assert len(own) == parameters
    model = EmbeddingModel(ModelSpec(backbone="test_convnext", embedding_dim=16))
    optimizer = build_optimizer(model, head, OptimConfig(learning_rate=0.1, head_learning_rate=0.2))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(parameter)] for parameter in own] == [0.2] * parameters


SUMS = ["loss.terms={arcface = 1.0, triplet = 0.5}", "loss.terms={cross_entropy = 1.0, supcon = 0.2}"]


@pytest.mark.parametrize("loss", [*(f"loss.kind={kind}" for kind in get_args(LossKind)), *SUMS])
def test_each_loss_trains(make_config, herd_photos, loss):
    """Twelve steps on the herd make the loss of a batch smaller, for every loss and for sums."""
    config = make_config(loss, "optim.warmup_epochs=0", "optim.epochs=9", "sampler.photos=3", "model.drop_path=0")
    trainer = Trainer(config, herd_photos, split_photos(herd_photos, config.split, config.preprocess, 0))
    batch = next(trainer.loader(0, 1))
    values = [trainer.run_step(*batch) for _ in range(12)]
    assert all(math.isfinite(value) for value in values)
    assert values[-1] < values[0]
    assert trainer.progress.skipped == 0


def test_a_batch_without_a_violation_costs_nothing_and_gives_finite_gradients():
    neck = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    loss = build_head(LossConfig(kind="triplet"), 2, 2)(neck, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.isfinite(neck.grad).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.kind=arcfase"], "--set loss.kind: Input should be 'cross_entropy', 'arcface', 'cosface', 'triplet' or"),
        (["loss.terms={arcfase = 1.0}"], "--set loss.terms.arcfase: Input should be 'cross_entropy'"),
        (["loss.terms={arcface = 0.0}"], "--set loss.terms.arcface: Input should be greater than 0"),
        (["loss.arcface_margin=28.6"], "--set loss.arcface_margin: Input should be less than 1.57"),
        (["loss.arcface_margin=0"], "--set loss.arcface_margin: Input should be greater than 0"),
        (["loss.cosface_margin=1"], "--set loss.cosface_margin: Input should be less than 1"),
        (["loss.triplet_margin=2"], "--set loss.triplet_margin: Input should be less than 2"),
        (["loss.supcon_temperature=0"], "--set loss.supcon_temperature: Input should be greater than 0"),
        (["loss.kind=arcface", "loss.terms={triplet = 1}"], "kind names one loss and terms a sum of several"),
        (["loss.kind=triplet", "sampler.photos=1"], "the loss triplet learns from pairs of one identity, and sampler"),
        (
            ["loss.terms={cross_entropy = 1, supcon = 1}", "sampler.photos=1"],
            "the loss supcon learns from pairs of one identity, and sampler.photos = 1",
        ),
    ],
)
def test_losses_that_cannot_be_are_refused(make_config, overrides, message):
    with pytest.raises(ConfigError) as caught:
        make_config(*overrides)
    assert message in str(caught.value)


def test_a_fault_in_an_inline_table_is_named_with_its_line(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("seed = 1\n[loss]\nterms = {arcface = 1.0, tripled = 1.0}\n")
    with pytest.raises(ConfigError, match=r"config.toml, line 3: loss.terms.tripled: Input should be 'cross_entropy'"):
        load_config(path)
    path.write_text("[loss.terms]\narcface = 1.0\ntripled = 1.0\n")
    with pytest.raises(ConfigError, match=r"config.toml, line 3: loss.terms.tripled: "):
        load_config(path)


def test_the_order_of_terms_does_not_matter():
    one, two = (LossConfig(terms=dict(pairs)) for pairs in itertools.permutations([("triplet", 1), ("arcface", 2)]))
    assert list(one.weights.items()) == list(two.weights.items()) == [("arcface", 2.0), ("triplet", 1.0)]


def test_arcface_at_both_ends_of_the_angle():
    """On the own vector and opposite to it: beyond pi - margin the logit is `cos - margin sin(margin)`."""
    head = build_head(LossConfig(kind="arcface", arcface_margin=0.5, scale=2.0), 3, 3)
    with torch.no_grad():
        head.loss.W.copy_(torch.eye(3))
    for sign, own in ((1.0, math.cos(0.5)), (-1.0, -1 - 0.5 * math.sin(0.5))):
        neck = torch.tensor([[sign, 0.0, 0.0]], requires_grad=True)
        loss = head(neck, torch.tensor([0]))
        loss.backward()
        expected = -math.log(math.exp(2 * own) / (math.exp(2 * own) + 2))
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)
        assert torch.isfinite(neck.grad).all()
