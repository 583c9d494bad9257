import csv
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from app.reid.bundle import open_bundle
from app.reid.embedder import load_model
from app.reid.errors import BundleError, DataError
from training.cli import app
from training.evaluate import evaluate_bundle, read_split

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, herd, config_file):
    """A finished run, by the command line: (bundle, run folder, what was printed)."""
    place = tmp_path_factory.mktemp("fit")
    bundle, folder = place / "store" / "herd", place / "run"
    done = run(
        "fit", config_file, "--data", herd, "--out", bundle, "--run", folder, "--set", "optim.epochs=3", "--tensorboard"
    )
    assert done.exit_code == 0, done.output
    return bundle, folder, done.output


def slow_id_map(embeddings, names):
    """id-mAP by its definition, one photo at a time."""
    by_identity = {}
    for query, name in enumerate(names):
        others = sorted(
            (i for i in range(len(names)) if i != query), key=lambda i: -float(embeddings[query] @ embeddings[i])
        )
        hits = [rank for rank, i in enumerate(others, start=1) if names[i] == name]
        if hits:
            by_identity.setdefault(name, []).append(np.mean([(n + 1) / rank for n, rank in enumerate(hits)]))
    return np.mean([np.mean(values) for values in by_identity.values()])


def test_the_run_s_figure_is_the_bundle_s_on_its_validation_photos(fitted, herd):
    bundle, _, output = fitted
    metrics = open_bundle(bundle).manifest.metrics
    model = load_model(bundle)
    rows = [
        row for row in csv.DictReader((bundle / "split.csv").read_text().splitlines()) if row["part"] == "validation"
    ]
    embeddings = [model.embedder.embed((herd / "train" / row["filename"]).read_bytes()) for row in rows]
    names = ["animal " + row["filename"][6] for row in rows]
    assert metrics["id_map"] == pytest.approx(slow_id_map(embeddings, names), abs=1e-6)
    assert f"{metrics['id_map']:.4f}" in output
    assert metrics["protocol"] == "random"


def test_the_run_folder_holds_what_the_design_says(fitted):
    _, folder, _ = fitted
    assert {"split.csv", "metrics.jsonl", "state.pt", "best.pt", "tensorboard", "report.html", "report.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert list((folder / "tensorboard").iterdir())


def test_a_finished_run_is_not_overwritten_and_resume_exports_again(fitted, herd, config_file, tmp_path):
    _, folder, _ = fitted
    again = ("fit", config_file, "--data", herd, "--out", tmp_path / "herd", "--run", folder, "--set", "optim.epochs=3")
    refused = run(*again)
    assert (refused.exit_code, "add --resume" in " ".join(refused.output.split())) == (2, True)
    assert run(*again, "--resume").exit_code == 0
    first, second = open_bundle(fitted[0]).manifest, open_bundle(tmp_path / "herd").manifest
    assert first.files["model.safetensors"] == second.files["model.safetensors"]


def test_one_bundle_for_each_protocol(tmp_path, herd, config_file):
    bundle, folder = tmp_path / "three", tmp_path / "run"
    protocols = "burst,random,identity"
    done = run(
        "fit", config_file, "--data", herd, "--out", bundle, "--run", folder, "--protocols", protocols,
        "--set", "sampler.identities=2", "--set", "split.burst_distance=0",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for protocol in protocols.split(","):
        assert protocol in done.output
        split = {row["protocol"] for row in csv.DictReader((folder / protocol / "split.csv").read_text().splitlines())}
        assert split == {protocol}
    assert open_bundle(bundle).manifest.metrics["protocol"] == "burst"
    assert open_bundle(folder / "identity" / "three").manifest.metrics["protocol"] == "identity"
    for place in (bundle, folder / "random"):  # each report tells of all three
        report = json.loads((place / "report.json").read_text())
        shown = {row["protocol"]: row["id_map"] for row in report["protocols"]["rows"]}
        for protocol in protocols.split(","):
            sister = bundle if protocol == "burst" else folder / protocol / "three"
            assert shown[protocol]["value"] == pytest.approx(open_bundle(sister).manifest.metrics["id_map"])


@pytest.mark.parametrize("value", ["random,chance", "random,random", ""])
def test_protocols_that_are_none(tmp_path, herd, config_file, value):
    done = run("fit", config_file, "--data", herd, "--out", tmp_path / "x", "--protocols", value)
    assert (done.exit_code, "name each of random, burst, identity at most once" in " ".join(done.output.split())) == (
        2,
        True,
    )


def test_bad_photos_are_all_printed_before_training(tmp_path, herd, config_file):
    folder = tmp_path / "bad"
    shutil.copytree(herd, folder)
    for number in range(25):
        (folder / "train" / f"animal{number % 5}_{number // 5}.png").write_bytes(b"")
    done = run("fit", config_file, "--data", folder, "--out", tmp_path / "x", "--run", tmp_path / "run")
    assert done.exit_code == 2
    assert done.output.count("the file is empty") == 25
    assert not (tmp_path / "x").exists()


def test_what_is_no_bundle_is_not_replaced(tmp_path, herd, config_file):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("")
    for protocols in ([], ["--protocols", "random"]):
        done = run(
            "fit", config_file, "--data", herd, "--out", tmp_path / "precious", "--run", tmp_path / "run", *protocols
        )
        assert done.exit_code == 2
        assert "precious is there and is no bundle" in " ".join(done.output.split())
    assert not (tmp_path / "run").exists()


def test_a_bundle_does_not_take_the_place_of_its_run(tmp_path, herd, config_file):
    for name, protocols in (("here", []), ("here/run", []), ("here", ["--protocols", "random"])):
        done = run("fit", config_file, "--data", herd, "--out", tmp_path / "here", "--run", tmp_path / name, *protocols)
        assert done.exit_code == 2
        assert "is the bundle's own folder or lies in it" in " ".join(done.output.split())
    assert not (tmp_path / "here").exists()


def test_a_diverging_run_exits_with_1(tmp_path, herd, config_file):
    options = ("--set", "optim.learning_rate=1e30", "--set", "optim.head_learning_rate=1e30")
    done = run("fit", config_file, "--data", herd, "--out", tmp_path / "x", "--run", tmp_path / "run", *options)
    assert done.exit_code == 1
    assert "the network gave an embedding that is not finite; the last good state is kept" in " ".join(
        done.output.split()
    )


def test_evaluate_tells_seen_from_unseen(fitted, herd, tmp_path, make_herd):
    bundle, folder, _ = fitted
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    own = evaluate_bundle(bundle, herd)
    metrics = open_bundle(bundle).manifest.metrics
    assert own["protocols"]["random"]["id_map"] == pytest.approx(metrics["id_map"], abs=1e-9)
    assert own["protocols"]["burst"]["id_map"] is None
    assert "trained under the random split" in own["protocols"]["burst"]["reason"]
    assert own["protocols"]["zero-shot"]["id_map"] is None
    assert own["left_out"] == sum(
        row["part"] == "train" for row in csv.DictReader((folder / "split.csv").read_text().splitlines())
    )

    new = make_herd(tmp_path / "new", seed=9)
    report = tmp_path / "figures.json"
    done = run("evaluate", bundle, "--data", new, "--within", "side", "--out", report)
    assert done.exit_code == 0, done.output
    figures = json.loads(report.read_text())
    assert figures["left_out"] == 0
    assert figures["protocols"]["zero-shot"]["queries"] == 36
    assert figures["protocols"]["random"] == {
        "id_map": None,
        "reason": "the model never saw these photos: see zero-shot",
    }
    low, high = figures["protocols"]["zero-shot"]["id_map_interval"]
    assert low <= figures["protocols"]["zero-shot"]["id_map"] <= high
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_within_splits_the_galleries(fitted, herd):
    with pytest.raises(DataError, match="no column 'flank'"):
        evaluate_bundle(fitted[0], herd, within="flank")
    with pytest.raises(DataError, match="no photo has another photo of its identity"):
        evaluate_bundle(fitted[0], herd, within="filename")


def test_nothing_left_to_measure(fitted, herd, tmp_path):
    folder = tmp_path / "seen"
    shutil.copytree(herd, folder)
    train = {
        row["filename"]
        for row in csv.DictReader((fitted[0] / "split.csv").read_text().splitlines())
        if row["part"] == "train"
    }
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if line.split(",")[0] in train)])
    )
    with pytest.raises(DataError, match="were trained on; there is nothing to measure"):
        evaluate_bundle(fitted[0], folder)


def test_a_bundle_without_a_readable_split(fitted, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(fitted[0], copy)
    (copy / "split.csv").write_text("filename\nx\n")
    with pytest.raises(BundleError, match=r"split.csv is damaged"):
        read_split(copy)
    (copy / "split.csv").unlink()
    done = run("evaluate", copy, "--data", tmp_path)
    assert done.exit_code == 2
    assert "nobody can tell" in " ".join(done.output.split())
