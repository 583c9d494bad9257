import csv
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from app.reid.bundle import open_bundle
from app.reid.embedder import load_model
from app.reid.errors import DataError
from training.cli import app
from training.folds import fold_splits
from training.split import find_bursts

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def splits_of(photos, config, folds):
    return fold_splits(photos, config.split, config.preprocess, config.seed, folds)


def validated(splits):
    """How often each photo validates."""
    return [sum(split.parts[row] == "validation" for split in splits) for row in range(len(splits[0].parts))]


def counts(photos, split):
    return Counter(photos.identities[row] for row in split.rows("validation"))


def test_random_folds_share_out_each_identity_evenly(make_config, herd_photos):
    splits = splits_of(herd_photos, make_config(), 3)
    assert validated(splits) == [1] * 36
    assert all(set(counts(herd_photos, split).values()) == {2} for split in splits)
    uneven = herd_photos.part([row for row in range(36) if row not in (0, 6, 7, 35)])
    splits = splits_of(uneven, make_config(), 3)
    assert validated(splits) == [1] * 32
    per_fold = [counts(uneven, split) for split in splits]
    for identity in set(uneven.identities):
        shares = [fold[identity] for fold in per_fold]
        assert max(shares) - min(shares) <= 1
    totals = [fold.total() for fold in per_fold]
    assert max(totals) - min(totals) <= 1


def test_identity_folds_hold_whole_identities(make_config, herd_photos):
    splits = splits_of(herd_photos, make_config('split.protocol="identity"'), 3)
    assert validated(splits) == [1] * 36
    for split in splits:
        inside = {herd_photos.identities[row] for row in split.rows("validation")}
        assert len(inside) == 2
        assert inside.isdisjoint(herd_photos.identities[row] for row in split.rows("train"))


def test_burst_folds_take_no_burst_apart(make_config, herd_photos):
    pairs = {"encounter": [f"{name} {number % 3}" for number, name in enumerate(herd_photos.identities)]}
    chance = np.random.default_rng(0)  # of one animal the herd's photos are too alike not to be one burst
    unlike = [chance.integers(0, 255, pixels.shape).astype(np.uint8) for pixels in herd_photos.prepared]
    photos = replace(herd_photos, columns=pairs, prepared=unlike)
    config = make_config('split.protocol="burst"', "split.burst_distance=0")
    splits = splits_of(photos, config, 3)
    bursts = find_bursts(photos, config.split, config.preprocess)
    assert {len(burst) for burst in bursts} == {2}
    assert validated(splits) == [1] * 36
    assert all(len({split.parts[row] for row in burst}) == 1 for split in splits for burst in bursts)


def test_an_only_photo_always_trains(make_config, herd_photos):
    for protocol in ("random", "identity"):
        config = make_config(f'split.protocol="{protocol}"')
        photos = herd_photos.part([0, *range(6, 36)])
        assert validated(splits_of(photos, config, 2)) == [0] + [1] * 30


def test_folds_are_a_function_of_the_seed(make_config, herd_photos):
    one, same, other = (
        [split.parts for split in splits_of(herd_photos, make_config(f"seed={seed}"), 3)] for seed in (5, 5, 6)
    )
    assert one == same
    assert one != other


def test_too_many_folds(make_config, herd_photos):
    with pytest.raises(DataError, match=r"fold 1 of 6: the random split leaves no identity .*; or fewer folds"):
        splits_of(herd_photos, make_config(), 6)


@pytest.fixture(scope="module")
def folded(tmp_path_factory, make_herd, config_file):
    """Two fold models and their submission, by the command line: (data, bundles, run folder, output)."""
    place = tmp_path_factory.mktemp("folds")
    data = make_herd(place / "data")
    names = sorted(path.name for path in (data / "train").iterdir())[::5]
    rows = [f"{number},{first},{second}" for number, (first, second) in enumerate(pairwise(names))]
    (data / "test.csv").write_text("\n".join(["row_id,query_image,gallery_image", *rows]) + "\n")
    done = run("fit", config_file, "--data", data, "--out", place / "herd", "--run", place / "run", "--folds", 2)
    assert done.exit_code == 0, done.output
    return data, [place / "herd-fold1", place / "herd-fold2"], place / "run", " ".join(done.output.split())


def test_a_bundle_for_each_fold(folded):
    _, bundles, folder, output = folded
    figures = []
    for number, bundle in enumerate(bundles, start=1):
        manifest = open_bundle(bundle).manifest
        assert manifest.name == f"herd-fold{number}"
        figures.append(manifest.metrics["id_map"])
        assert (folder / f"fold{number}" / "split.csv").read_text() == (bundle / "split.csv").read_text()
        assert f"random, fold {number}: {bundle}" in output
    mean, sd = np.mean(figures), np.std(figures, ddof=1)
    assert f"mean id-mAP over 2 folds: {mean:.4f}, standard deviation {sd:.4f}" in output
    halves = [list(csv.DictReader((bundle / "split.csv").read_text().splitlines())) for bundle in bundles]
    assert all({one["part"], two["part"]} == {"train", "validation"} for one, two in zip(*halves, strict=True))


def test_the_submission_is_the_mean_of_the_folds(folded, tmp_path):
    data, bundles, folder, output = folded
    assert f"averaged submission: {folder / 'submission.csv'}" in output
    models = [load_model(bundle) for bundle in bundles]
    written = list(csv.DictReader((folder / "submission.csv").read_text().splitlines()))
    asked = list(csv.DictReader((data / "test.csv").read_text().splitlines()))
    assert [row["row_id"] for row in written] == [row["row_id"] for row in asked]
    for row, pair in zip(written, asked, strict=True):
        files = [(data / "train" / pair[name]).read_bytes() for name in ("query_image", "gallery_image")]
        cosines = [float(np.dot(*(model.embedder.embed(file) for file in files))) for model in models]
        assert float(row["similarity"]) == pytest.approx((sum(cosines) / 2 + 1) / 2, abs=1e-6)
        assert abs(cosines[0] - cosines[1]) > 1e-4
    again = run("submission", *bundles, "--data", data, "--out", tmp_path / "again.csv")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.csv").read_bytes() == (folder / "submission.csv").read_bytes()


def test_one_fold_is_none(tmp_path, herd, config_file):
    done = run("fit", config_file, "--data", herd, "--out", tmp_path / "x", "--run", tmp_path / "run", "--folds", 1)
    assert (done.exit_code, "--folds 1: at least two are needed" in done.output) == (2, True)
    assert not (tmp_path / "run").exists()


def test_one_way_at_a_time(tmp_path, herd, config_file):
    done = run(
        "fit", config_file, "--data", herd, "--out", tmp_path / "x", "--run", tmp_path / "run", "--folds", 2,
        "--seeds", 3,
    )  # fmt: skip
    assert (done.exit_code, "--folds and --seeds: one at a time" in done.output) == (2, True)
