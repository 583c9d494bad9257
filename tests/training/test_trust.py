"""`jaguar-train calibrate`: on whose photos, what stands in the manifest then, and when the bundle stays as it is."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.reid.bundle import MANIFEST, SPLIT, open_bundle
from app.reid.embedder import load_model
from app.reid.errors import DataError
from training.cli import app
from training.held_out import KNOWN, UNSEEN, choose_rows, load_held_out
from training.trust import calibrate_bundle


@pytest.fixture(scope="module")
def animals(tmp_path_factory, make_herd) -> Path:
    return make_herd(tmp_path_factory.mktemp("animals") / "herd", identities=20, photos=6, seed=3)


@pytest.fixture
def bundle(tiny_bundle, tmp_path) -> Path:
    """The tiny bundle with a split of photos that are not among the animals."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "mine"))
    write_split(folder, {})
    return folder


def write_split(folder: Path, parts: dict[str, str], protocol: str = "identity") -> None:
    rows = [f"x,{digest},{part},{protocol}" for digest, part in {"0" * 64: "train", **parts}.items()]
    (folder / SPLIT).write_text("\n".join(["filename,sha256,part,protocol", *rows]) + "\n")


def digests(data: Path, *identities: int) -> list[str]:
    files = sorted(path for path in (data / "train").iterdir() if int(path.stem[6:].split("_")[0]) in identities)
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


class TestWhosePhotos:
    def test_all_of_a_data_set_that_it_never_saw(self, bundle, animals):
        found = load_held_out(bundle, animals, identities=15, most=999)
        assert (len(found.photos), found.whose) == (120, UNSEEN)
        assert found.fingerprint == found.photos.fingerprint

    def test_no_photo_of_an_identity_that_it_was_trained_on(self, bundle, animals):
        """One photo that was trained on keeps all photos of its animal out."""
        write_split(bundle, {digests(animals, 4)[0]: "train", digests(animals, 5)[0]: "validation"})
        found = load_held_out(bundle, animals, identities=15, most=999)
        assert found.whose == UNSEEN
        assert "animal 4" not in found.photos.identities
        assert found.photos.identities.count("animal 5") == 6

    def test_photos_of_known_identities_where_there_are_no_others(self, bundle, animals):
        own = digests(animals, *range(20))
        write_split(bundle, {digest: "validation" if row % 2 else "train" for row, digest in enumerate(own)}, "random")
        found = load_held_out(bundle, animals, identities=15, most=999)
        assert found.whose == KNOWN
        assert sorted(found.photos.sha256) == sorted(own[1::2])

    def test_a_photo_that_is_there_twice_counts_once(self, bundle, animals, tmp_path):
        data = Path(shutil.copytree(animals, tmp_path / "twice"))
        shutil.copy(data / "train" / "animal0_0.png", data / "train" / "copy.png")
        with (data / "train.csv").open("a") as file:
            file.write("copy.png,animal 0,left\n")
        assert "copy.png" not in load_held_out(bundle, data, identities=15, most=999).photos.filenames

    def test_nothing_is_left(self, bundle, animals):
        write_split(bundle, dict.fromkeys(digests(animals, *range(20)), "train"))
        with pytest.raises(DataError, match="all 120 photos were trained on"):
            load_held_out(bundle, animals, identities=15, most=999)

    def test_of_very_many_some_are_drawn(self, bundle, animals):
        first, again, other = (
            load_held_out(bundle, animals, identities=15, most=50, seed=seed).photos for seed in (0, 0, 1)
        )
        assert len(first) == 50
        assert first.filenames == again.filenames != other.filenames

    def test_few_unseen_identities_are_all_there_is_where_none_is_known(self, bundle, animals):
        photos = load_held_out(bundle, animals, identities=99, most=999).photos
        rows, whose = choose_rows(photos, {}, 99)
        assert (len(rows), whose) == (120, UNSEEN)


class TestCalibrateBundle:
    def test_it_stands_in_the_manifest(self, bundle, animals):
        before = load_model(bundle)
        outcome = calibrate_bundle(bundle, animals, within="side")
        assert outcome.why_not is None
        model = load_model(bundle)
        calibration = model.manifest.calibration
        assert calibration.measured == outcome.figures
        assert calibration.model_version == model.version == before.version
        assert (calibration.measured["measured_on"], calibration.measured["within"]) == (UNSEEN, "side")
        assert calibration.measured["photos"] == 120
        assert model.manifest.model_copy(update={"calibration": None}) == before.manifest
        assert (bundle / SPLIT).is_file()
        similar = model.scale.probability(np.array([0.1, 0.99]))
        assert similar[0] < 0.5 < similar[1]

    def test_a_bundle_that_carries_the_calibration_of_other_weights_gets_a_fresh_one(self, bundle, animals):
        calibrate_bundle(bundle, animals)
        values = json.loads((bundle / MANIFEST).read_text())
        values["preprocess"]["jpeg_draft"] = False
        (bundle / MANIFEST).write_text(json.dumps(values))
        calibrate_bundle(bundle, animals)
        assert load_model(bundle).scale is not None

    def test_too_few(self, bundle, animals):
        write_split(bundle, dict.fromkeys(digests(animals, *range(8)), "train"))
        whole = (bundle / MANIFEST).read_bytes()
        with pytest.raises(DataError, match="too few: 12 identities .*the bundle stays as it is"):
            calibrate_bundle(bundle, animals)
        assert (bundle / MANIFEST).read_bytes() == whole


class TestCommand:
    def test_it_prints_and_writes(self, bundle, animals, tmp_path):
        report = tmp_path / "figures.json"
        ended = CliRunner().invoke(app, ["calibrate", str(bundle), "--data", str(animals), "--out", str(report)])
        assert ended.exit_code == 0, ended.output
        figures = json.loads(report.read_text())
        assert figures == open_bundle(bundle).manifest.calibration.measured
        assert f"{figures['ece']:.4f}" in ended.output
        assert "measured on identities that the model was not trained on" in ended.output
        assert "is from before" not in ended.output

    def test_it_says_that_the_report_in_the_bundle_knows_nothing_of_it(self, bundle, animals):
        (bundle / "report.html").write_text("<p>uncalibrated")
        ended = CliRunner().invoke(app, ["calibrate", str(bundle), "--data", str(animals)])
        assert ended.exit_code == 0, ended.output
        assert f"{bundle / 'report.html'} is from before; jaguar-train evaluate" in ended.output

    def test_scores_that_tell_nothing_are_not_made_into_probabilities(self, bundle, animals, tmp_path):
        """The names are dealt out by chance, so that a pair of one name is a pair of any two."""
        data = Path(shutil.copytree(animals, tmp_path / "shuffled"))
        header, *rows = (data / "train.csv").read_text().splitlines()
        names = np.random.default_rng(0).permutation([row.split(",")[1] for row in rows])
        mixed = [f"{row.split(',')[0]},{name},left" for row, name in zip(rows, names, strict=True)]
        (data / "train.csv").write_text("\n".join([header, *mixed]) + "\n")
        ended = CliRunner().invoke(app, ["calibrate", str(bundle), "--data", str(data)])
        assert ended.exit_code == 1
        assert "not calibrated, the bundle is as it was" in ended.output
        assert open_bundle(bundle).manifest.calibration is None

    def test_too_few_is_exit_2(self, bundle, animals, make_herd, tmp_path):
        data = make_herd(tmp_path / "few", identities=3)
        ended = CliRunner().invoke(app, ["calibrate", str(bundle), "--data", str(data)])
        assert ended.exit_code == 2
        assert "too few: 3 identities with two photos to compare" in " ".join(ended.output.split())
