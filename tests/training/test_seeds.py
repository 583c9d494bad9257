import json

import numpy as np
import pytest
from typer.testing import CliRunner

from app.reid.bundle import open_bundle
from training.cli import app
from training.seeds import seed_spread

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_the_same_run_under_two_seeds(tmp_path, herd, config_file):
    bundle, folder = tmp_path / "herd", tmp_path / "run"
    done = run("fit", config_file, "--data", herd, "--out", bundle, "--run", folder, "--seeds", 2)
    assert done.exit_code == 0, done.output
    manifests = [open_bundle(place).manifest for place in (bundle, folder / "seed6" / "herd")]
    assert [manifest.provenance.seed for manifest in manifests] == [5, 6]
    assert manifests[0].files != manifests[1].files
    splits = {(folder / f"seed{seed}" / "split.csv").read_text() for seed in (5, 6)}
    assert len(splits) == 1
    figures = [manifest.metrics["id_map"] for manifest in manifests]
    spread = json.loads((folder / "seeds.json").read_text())
    assert spread == {
        "seeds": [5, 6],
        "id_map": figures,
        "mean": pytest.approx(np.mean(figures)),
        "sd": pytest.approx(np.std(figures, ddof=1)),
    }
    for place in (folder, bundle):
        assert json.loads((place / "report.json").read_text())["protocols"]["seeds"] == spread
    printed = " ".join(done.output.split())
    assert f"mean id-mAP over 2 seeds: {spread['mean']:.4f}, standard deviation {spread['sd']:.4f}" in printed
    assert f"spread: {folder / 'seeds.json'}" in printed


def test_the_spread_by_hand():
    spread = seed_spread([0, 1, 2], [0.2, 0.4, 0.9])
    assert (spread.mean, spread.sd) == (pytest.approx(0.5), pytest.approx(np.sqrt((0.09 + 0.01 + 0.16) / 2)))


def test_one_seed_has_no_spread(tmp_path, herd, config_file):
    done = run("fit", config_file, "--data", herd, "--out", tmp_path / "x", "--run", tmp_path / "run", "--seeds", 1)
    assert (done.exit_code, "--seeds 1: a spread takes at least two" in done.output) == (2, True)
    assert not (tmp_path / "run").exists()
