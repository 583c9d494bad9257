"""Do scores carry structure: the statistic by a slow loop, and what it says of right, random and misplaced scores."""

from itertools import permutations

import numpy as np
import pytest

from app.reid.preflight import check_submission
from app.reid.preflight.scores import Scores
from app.reid.preflight.structure import MAX_PHOTOS, MIN_AGREEMENT, MIN_PHOTOS, agreement, find_randomness, measure
from app.reid.tables import PairTable, read_test


def of_matrix(matrix: np.ndarray, keep: float = 1.0) -> Scores:
    """A matrix's scores as those of a test.csv over all ordered pairs, or a share of them."""
    count = len(matrix)
    pairs = np.array(list(permutations(range(count), 2)))
    pairs = pairs[np.random.default_rng(5).random(len(pairs)) < keep]
    query, gallery = pairs.T.astype(np.int32)
    names = [f"{number}.png" for number in range(count)]
    test = PairTable(b"", (), names, np.zeros(count, dtype=np.int64), query, gallery)
    return Scores(test, matrix[query, gallery], np.arange(2, len(pairs) + 2))


def embedded(count: int, dim: int = 16, seed: int = 3, groups: int = 8) -> np.ndarray:
    """(count, count) similarities of embeddings around a few centres, as of photos of a few animals."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((groups, dim))[rng.integers(0, groups, count)] + rng.standard_normal((count, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows @ rows.T + 1) / 2


def shuffled(matrix: np.ndarray, seed: int = 0) -> np.ndarray:
    off = ~np.eye(len(matrix), dtype=bool)
    out = matrix.copy()
    out[off] = np.random.default_rng(seed).permutation(matrix[off])
    return out


def slow_agreement(matrix: np.ndarray) -> float:
    """By least squares and a loop over triples, for a matrix without gaps."""
    count = len(matrix)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    design = np.zeros((len(pairs), count + 1))
    for row, (i, j) in enumerate(pairs):
        design[row, [i, j, count]] = 1
    values = np.array([matrix[pair] for pair in pairs])
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    left = {}
    for (i, j), value in zip(pairs, rest, strict=True):
        left[i, j] = left[j, i] = value
    by_others = [sum(left[i, k] * left[k, j] for k in range(count) if k not in (i, j)) for i, j in pairs]
    return float(np.corrcoef(rest, by_others)[0, 1])


def codes(scores: Scores) -> list[str]:
    return [finding.code for finding in find_randomness(scores)[1]]


def test_the_statistic_by_a_slow_loop() -> None:
    matrix = embedded(14)
    gaps = matrix.copy()
    np.fill_diagonal(gaps, np.nan)
    assert agreement(gaps) == pytest.approx(slow_agreement(matrix), abs=1e-6)
    noise = shuffled(matrix)
    noise = (noise + noise.T) / 2
    np.fill_diagonal(noise, np.nan)
    assert agreement(noise) == pytest.approx(slow_agreement(noise), abs=1e-6)


def test_what_two_photos_have_in_common_with_all_others_is_no_structure() -> None:
    """m + a(i) + a(j) and nothing else: photos that are bright, or that a network knows to be like all others."""
    height = np.random.default_rng(1).random(12)
    matrix = 0.2 + (height[:, None] + height[None, :]) / 4
    np.fill_diagonal(matrix, np.nan)
    assert agreement(matrix) == 0


@pytest.mark.parametrize("count", [MIN_PHOTOS, 100, MAX_PHOTOS])
def test_embeddings_agree_and_chance_does_not(count: int) -> None:
    matrix = embedded(count)
    structure = measure(of_matrix(matrix))
    assert structure.photos == count
    assert structure.agreement > 0.6
    assert structure.by_chance < MIN_AGREEMENT
    assert codes(of_matrix(matrix)) == []
    for random in (shuffled(matrix), np.random.default_rng(2).random((count, count))):
        assert abs(measure(of_matrix(random)).agreement) < MIN_AGREEMENT
        assert codes(of_matrix(random)) == ["random"]


def test_ranks_zeros_and_ones_and_rounded_scores_agree() -> None:
    matrix = embedded(60)
    off = of_matrix(matrix)
    ranks = matrix.argsort(axis=1).argsort(axis=1) / 59
    animals = np.random.default_rng(4).integers(0, 9, 60)
    same = (animals[:, None] == animals[None, :]).astype(float)
    for other in (ranks, same, np.round(matrix, 4), np.round(matrix, 2)):
        assert codes(of_matrix(other)) == []
    assert measure(of_matrix(np.round(matrix, 4))).agreement == pytest.approx(measure(off).agreement, abs=1e-3)


def test_distances_are_upside_down() -> None:
    structure, (finding,) = find_randomness(of_matrix(1 - embedded(60)))
    assert structure.agreement == pytest.approx(-measure(of_matrix(embedded(60))).agreement)
    assert finding.code == "inverted"
    assert "distances" in finding.advice


def test_scores_that_moved_by_one_row_look_random() -> None:
    scores = of_matrix(embedded(60))
    moved = Scores(scores.test, np.roll(scores.values, 1), scores.lines)
    assert codes(moved) == ["random"]


def test_right_scores_under_wrong_row_ids_are_told_apart() -> None:
    """row_ids sorted as text: 0, 1, 10, 100, ... beside scores in the order of numbers."""
    matrix = embedded(40)
    pairs = list(permutations(range(40), 2))
    asked = "\n".join(f"{row},{query}.png,{gallery}.png" for row, (query, gallery) in enumerate(pairs))
    test = read_test(f"row_id,query_image,gallery_image\n{asked}\n".encode())
    as_text = sorted(map(str, range(len(pairs))))
    lines = [f"{row_id},{matrix[pair]:.9g}" for row_id, pair in zip(as_text, pairs, strict=True)]
    report = check_submission("\n".join(["row_id,similarity", *lines]).encode(), test)
    assert {finding.code for finding in report.findings} == {"rows-moved", "asymmetric", "random"}
    assert "the row_ids are on wrong rows" in report.findings[-1].advice
    # Shuffled for good, they agree in no order.
    lines = [f"{row_id},{value:.9g}" for row_id, value in zip(as_text, of_matrix(shuffled(matrix)).values, strict=True)]
    report = check_submission("\n".join(["row_id,similarity", *lines]).encode(), test)
    assert "Join scores and rows" in report.findings[-1].advice


def test_a_row_too_few_leaves_no_order_to_look_at() -> None:
    matrix = shuffled(embedded(40))
    pairs = list(permutations(range(40), 2))
    asked = "\n".join(f"{row},{query}.png,{gallery}.png" for row, (query, gallery) in enumerate(pairs))
    test = read_test(f"row_id,query_image,gallery_image\n{asked}\n".encode())
    lines = [f"{row},{matrix[pair]:.9g}" for row, pair in enumerate(pairs)][1:]
    report = check_submission("\n".join(["row_id,similarity", *lines]).encode(), test)
    assert "Join scores and rows" in next(found for found in report.findings if found.code == "random").advice


@pytest.mark.parametrize(("count", "keep"), [(MIN_PHOTOS - 1, 1.0), (40, 0.5)])
def test_too_few_to_tell(count: int, keep: float) -> None:
    structure, (finding,) = find_randomness(of_matrix(embedded(count), keep))
    assert structure is None
    assert (finding.code, finding.severity) == ("structure-unknown", "note")


def test_gaps_do_not_matter_much() -> None:
    whole, thinned = measure(of_matrix(embedded(60))), measure(of_matrix(embedded(60), keep=0.6))
    assert thinned.agreement == pytest.approx(whole.agreement, abs=0.1)


def test_of_many_photos_some_are_looked_at() -> None:
    scores = of_matrix(embedded(MAX_PHOTOS + 30))
    structure = measure(scores)
    assert structure.photos == MAX_PHOTOS
    assert structure == measure(scores)
    assert structure.agreement != measure(scores, seed=1).agreement
    assert structure.agreement == pytest.approx(measure(scores, seed=1).agreement, abs=0.05)


def test_the_competitions_sample_submission_looks_random(shared_data) -> None:
    data = (shared_data("kaggle/sample_submission.csv")).read_bytes()
    test = read_test((shared_data("kaggle/test.reconstructed.csv")).read_bytes())
    report = check_submission(data, test)
    assert [finding.code for finding in report.findings] == ["asymmetric", "random"]
    assert abs(report.structure.agreement) < 0.02
    assert (report.rows, report.asked, report.photos) == (137_270, 137_270, 371)
    assert report.tied < 0.001
