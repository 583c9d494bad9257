"""Which post-processing is kept: what surely helps, what only seems to, and what stands in the manifest."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.reid.bundle import MANIFEST, SPLIT, open_bundle
from app.reid.embedder import load_model
from app.reid.errors import DataError
from app.reid.metric import identity_balanced_map
from app.reid.postprocess import Postprocess, Rerank
from training import postprocessing, trust
from training.cli import app
from training.data import PhotoSet, load_photos
from training.postprocessing import Judge, _gain_elsewhere, choose_steps

VERSION = "0123456789ab"


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def herd(identities: int, photos: int, spread: float, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, embeddings and those of the mirror images: the same animal seen twice, each time with its own noise."""
    chance = np.random.default_rng(seed)
    centres = np.repeat(chance.standard_normal((identities, 24)), photos, axis=0)
    views = [unit(centres + spread * chance.standard_normal(centres.shape)) for _ in range(2)]
    return [f"animal {row // photos}" for row in range(identities * photos)], *views


def test_a_mirror_that_adds_what_the_photo_lacks_is_kept() -> None:
    names, own, mirrored = herd(30, 5, 1.2)
    steps = choose_steps(Judge.of(names, own, mirrored), VERSION)
    figures = steps.measured["flip"]
    assert (steps.flip, figures["kept"]) == (True, True)
    mean = unit(own.astype(float) + mirrored)
    before = identity_balanced_map((own @ own.T).astype(float), names).id_map
    assert steps.measured["id_map"] == pytest.approx(before, abs=1e-4)
    assert figures["gain"] == pytest.approx(
        identity_balanced_map((mean @ mean.T).astype(float), names).id_map - before, abs=1e-4
    )
    assert figures["interval"][0] > 0
    assert steps.model_version == VERSION


def test_a_mirror_that_is_another_animal_is_not() -> None:
    names, own, _ = herd(30, 5, 1.2)
    steps = choose_steps(Judge.of(names, own, herd(30, 5, 1.2, seed=9)[1]), VERSION)
    assert not steps.flip
    assert steps.measured["flip"]["gain"] < 0
    assert steps.measured["flip"]["kept"] is False


def test_neighbours_help_where_animals_have_many_photos() -> None:
    names, own, _ = herd(30, 8, 1.2)
    steps = choose_steps(Judge.of(names, own, own), VERSION)
    assert not steps.flip
    kept = [name for name in ("query_expansion", "rerank") if steps.measured[name]["kept"]]
    assert kept
    plain, done = (Judge.of(names, own, own).identity_ap(how) for how in (Postprocess(model_version=VERSION), steps))
    assert np.mean(list(done.values())) > np.mean(list(plain.values()))


def test_of_noise_nothing_is_kept() -> None:
    """Many settings are tried; the best of them on all identities would look like a gain."""
    chance = np.random.default_rng(4)
    names = [f"animal {row // 4}" for row in range(120)]
    own, mirrored = unit(chance.standard_normal((120, 24))), unit(chance.standard_normal((120, 24)))
    steps = choose_steps(Judge.of(names, own, mirrored), VERSION)
    assert str(steps) == "none"
    assert all(steps.measured[name]["kept"] is False for name in ("flip", "query_expansion", "rerank"))


def test_the_gain_is_that_of_a_setting_which_others_chose() -> None:
    """Two settings, each best for its own half: chosen by the other half, neither gains."""
    gains = np.array([[1.0, 1, 1, -1, -1, -1], [-1, -1, -1, 1, 1, 1]])
    assert _gain_elsewhere(np.tile([[1.0], [2.0]], (1, 6)), 0).tolist() == [2.0] * 6
    assert _gain_elsewhere(gains, 0).mean() < 0


def test_within_a_column() -> None:
    names, own, mirrored = herd(12, 6, 1.0)
    sides = ["left", "right"] * 36
    judge = Judge.of(names, own, mirrored, sides)
    plain = judge.identity_ap(Postprocess(model_version=VERSION))
    similarity = (own @ own.T).astype(float)
    assert plain == pytest.approx(identity_balanced_map(similarity, names, within=sides).identity_ap, abs=1e-4)


def test_too_few_identities_are_said() -> None:
    steps = choose_steps(Judge.of(*herd(5, 4, 1.0)), VERSION)
    assert str(steps) == "none"
    assert steps.measured == {"reason": "too few identities to measure on: 5, and 6 are needed"}


class TestBundle:
    @pytest.fixture
    def bundle(self, tiny_bundle, tmp_path) -> Path:
        folder = Path(shutil.copytree(tiny_bundle, tmp_path / "mine"))
        (folder / SPLIT).write_text(f"filename,sha256,part,protocol\nx,{'0' * 64},train,identity\n")
        return folder

    def test_it_stands_in_the_manifest(self, bundle, make_herd, tmp_path, monkeypatch):
        monkeypatch.setattr(postprocessing, "MAX_PHOTOS", 60)
        data = make_herd(tmp_path / "herd", identities=12, photos=6)
        ended = CliRunner().invoke(app, ["postprocess", str(bundle), "--data", str(data), "--within", "side"])
        assert ended.exit_code == 0, ended.output
        manifest = load_model(bundle).manifest
        steps = manifest.postprocess
        assert steps.model_version == load_model(bundle).version
        assert (steps.measured["within"], steps.measured["identities"]) == ("side", 12)
        assert f"the manifest says: {steps}; measured on identities that the model was not" in ended.output
        assert f"{steps.measured['flip']['gain']:+.4f}" in ended.output

    def test_too_few_in_words(self, bundle, make_herd, tmp_path):
        data = make_herd(tmp_path / "herd", identities=3)
        ended = CliRunner().invoke(app, ["postprocess", str(bundle), "--data", str(data)])
        assert ended.exit_code == 0, ended.output
        assert "too few identities to measure on: 3" in ended.output
        assert str(open_bundle(bundle).manifest.postprocess) == "none"

    def test_nobody_twice(self, bundle, make_herd, tmp_path):
        data = make_herd(tmp_path / "herd", identities=4, photos=1)
        ended = CliRunner().invoke(app, ["postprocess", str(bundle), "--data", str(data)])
        assert ended.exit_code == 2
        assert "no photo has another photo of its identity" in " ".join(ended.output.split())

    def test_what_was_fitted_for_other_weights_goes(self, bundle, make_herd, tmp_path):
        data = make_herd(tmp_path / "herd", identities=16, photos=5)
        trust.postprocess_bundle(bundle, data)
        trust.calibrate_bundle(bundle, data)
        assert open_bundle(bundle).manifest.postprocess is not None
        values = json.loads((bundle / MANIFEST).read_text())
        values["preprocess"]["jpeg_draft"] = False
        (bundle / MANIFEST).write_text(json.dumps(values))
        trust.calibrate_bundle(bundle, data)
        manifest = load_model(bundle).manifest
        assert manifest.calibration is not None
        assert manifest.postprocess is None


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, make_herd, tiny_bundle: Path) -> PhotoSet:
    data = make_herd(tmp_path_factory.mktemp("fit") / "herd", identities=16, photos=5)
    return load_photos(data, load_model(tiny_bundle).manifest.preprocess)


class TestFit:
    """What a run's own validation photos say."""

    def test_of_animals_that_it_never_saw(self, tiny_bundle, photos):
        model = load_model(tiny_bundle)
        calibration, steps = trust.judge_fit(model, photos, unseen=True, seed=1)
        assert calibration.model_version == steps.model_version == model.version
        assert (
            calibration.measured["measured_on"] == steps.measured["measured_on"] == "the validation photos of the run"
        )
        assert calibration.measured["identities"] == 16

    def test_of_animals_that_it_knows_there_is_no_calibration(self, tiny_bundle, photos):
        assert trust.judge_fit(load_model(tiny_bundle), photos, unseen=False, seed=1)[0] is None

    def test_nor_of_too_few(self, tiny_bundle, photos):
        assert trust.judge_fit(load_model(tiny_bundle), photos.part(range(40)), unseen=True, seed=1)[0] is None

    def test_nobody_twice(self, tiny_bundle, photos):
        with pytest.raises(DataError, match="no photo has another photo of its identity"):
            trust.judge_fit(load_model(tiny_bundle), photos.part(range(0, 80, 5)), unseen=True, seed=1)


def test_settings_that_are_tried_can_stand_in_a_manifest() -> None:
    for how in postprocessing.RERANKS:
        assert isinstance(how, Rerank)
        Postprocess(model_version=VERSION, rerank=how)
