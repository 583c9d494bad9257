"""Identity-balanced mAP against pytorch-metric-learning's calculator, on one similarity matrix of 2,000 x 2,000.

    python tests/bench/metric.py [--photos 2000] [--rounds 9]

Both start from the matrix as float64 in memory and end with the figure. The calculator is asked for this one figure,
gets the matrix through its `knn_func`, and ranks with `torch.sort`, which is faster there than its own `torch.topk`.
The two take turns; a round's ratio compares neighbours in time. Exit 1 where the values differ by more than 1e-9 or
the median ratio is below 10.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from app.reid.metric import identity_balanced_map
from app.reid.similarity import cosine_matrix

WANTED = 10.0
TOLERANCE = 1e-9


def data(photos: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and labels of noisy embeddings of 31 animals with the competition's spread of photos for each."""
    rng = np.random.default_rng(0)
    shares = np.geomspace(13, 183, 31)
    labels = rng.choice(31, size=photos, p=shares / shares.sum())
    embeddings = rng.standard_normal((31, 64))[labels] + 2 * rng.standard_normal((photos, 64))
    embeddings = embeddings.astype(np.float32)
    return cosine_matrix(embeddings, embeddings), labels


def calculator(similarity: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """The peer's road from the matrix to the figure."""
    matrix = torch.from_numpy(similarity)
    stand_in = np.zeros((len(labels), 1), dtype=np.float32)  # embeddings, which its neighbours do not need here

    def neighbours(query: object, k: int, reference: object, with_self: bool) -> tuple[torch.Tensor, torch.Tensor]:
        others = matrix.clone()
        others.fill_diagonal_(-torch.inf)
        distances, order = torch.sort(others, dim=1, descending=True)
        return distances[:, :k], order[:, :k]

    peer = AccuracyCalculator(
        include=("mean_average_precision",), avg_of_avgs=True, knn_func=neighbours, device=torch.device("cpu")
    )
    return lambda: peer.get_accuracy(stand_in, labels)["mean_average_precision"]


def timed(run: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = run()
    return value, time.perf_counter() - start


def line(name: str, values: list[float], unit: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{name:<26}{low:>9.4f}{middle:>9.4f}{high:>9.4f} {unit}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    similarity, labels = data(arguments.photos)
    names = [f"animal {label}" for label in labels]
    theirs = calculator(similarity, labels)
    theirs(), identity_balanced_map(similarity, names)  # both warm
    peer, own, ratios, gaps = [], [], [], []
    for _ in range(arguments.rounds):
        peer_value, peer_time = timed(theirs)
        own_value, own_time = timed(lambda: identity_balanced_map(similarity, names).id_map)
        peer.append(peer_time)
        own.append(own_time)
        ratios.append(peer_time / own_time)
        gaps.append(abs(peer_value - own_value))
    setting = f"{arguments.photos} photos, {arguments.rounds} rounds in turns, {torch.get_num_threads()} threads"
    print(f"{setting}; id-mAP {own_value:.9f}")
    print(f"{'':<26}{'min':>9}{'median':>9}{'max':>9}")
    print(line("pytorch-metric-learning", peer, "s"))
    print(line("app.reid.metric", own, "s"))
    print(line("ratio", ratios, "times"))
    print(f"largest difference in value: {max(gaps):.1e}; the limit is {TOLERANCE:.0e}")
    return 0 if max(gaps) <= TOLERANCE and statistics.median(ratios) >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
