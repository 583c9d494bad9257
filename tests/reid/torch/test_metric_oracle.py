"""The metric against pytorch-metric-learning's calculator."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from app.reid.metric import identity_balanced_map
from app.reid.similarity import cosine_matrix


def calculator(knn: object) -> AccuracyCalculator:
    """k=None is the whole gallery; without a reference the calculator takes each query out of its own answers."""
    metrics = ("mean_average_precision", "precision_at_1")
    return AccuracyCalculator(include=metrics, avg_of_avgs=True, k=None, knn_func=knn, device=torch.device("cpu"))


@pytest.mark.parametrize("seed", range(5))
def test_id_map_and_rank1_equal_the_calculators_to_a_billionth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.integers(12, size=170), [97, 98, 99]])  # the last three are alone and do not ask
    embeddings = (rng.standard_normal((100, 32))[labels] * 0.4 + rng.standard_normal((173, 32))).astype(np.float32)
    similarity = cosine_matrix(embeddings, embeddings)

    def knn(query: torch.Tensor, k: int, reference: torch.Tensor, with_self: bool) -> tuple[torch.Tensor, torch.Tensor]:
        others = torch.from_numpy(similarity).clone()
        assert with_self
        others.fill_diagonal_(-torch.inf)
        return torch.topk(others, k, dim=1)

    peer = calculator(knn).get_accuracy(embeddings, labels)
    mine = identity_balanced_map(similarity, [str(label) for label in labels])
    assert mine.ties == 0
    assert mine.id_map == pytest.approx(peer["mean_average_precision"], abs=1e-9)
    assert mine.rank1 == pytest.approx(peer["precision_at_1"], abs=1e-9)
    assert mine.skipped == np.count_nonzero(np.bincount(labels)[labels] == 1)
    assert 0.2 < mine.id_map < 0.95


def test_the_calculators_own_neighbours_agree() -> None:
    """The same through its documented cosine search, which leaves the query itself out by position."""
    rng = np.random.default_rng(9)
    labels = rng.integers(6, size=80)
    embeddings = (rng.standard_normal((6, 16))[labels] + rng.standard_normal((80, 16))).astype(np.float32)
    peer = calculator(CustomKNN(CosineSimilarity())).get_accuracy(embeddings, labels)
    mine = identity_balanced_map(cosine_matrix(embeddings, embeddings), [str(label) for label in labels])
    assert mine.id_map == pytest.approx(peer["mean_average_precision"], abs=1e-9)
