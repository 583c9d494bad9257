"""Every option of the recipe at once: through `fit` into a bundle, and across an interruption."""

import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from app.reid.bundle import open_bundle
from app.reid.embedder import load_model
from app.reid.errors import ConfigError
from training.data import load_photos
from training.fit import fit
from training.split import split_photos
from training.state import STATE, RunFolder
from training.train import InterruptedRunError, Trainer, Watcher

ALL = [
    "model.pooling=gem", "loss.terms={arcface = 1.0, triplet = 0.5, supcon = 0.1}", "sampler.spread_bursts=true",
    "optim.layer_decay=0.8", "augment.background=0.5", "preprocess.size=64", "size_schedule.start=0.5",
    "split.burst_distance=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory, make_herd):
    """The herd as cut-outs: an ellipse shows, and what lies around it is hidden."""
    folder = make_herd(tmp_path_factory.mktemp("cutouts") / "herd", identities=5, photos=4)
    for path in (folder / "train").glob("*.png"):
        picture = Image.open(path).convert("RGB")
        rows, columns = np.mgrid[-1 : 1 : picture.height * 1j, -1 : 1 : picture.width * 1j]
        picture.putalpha(Image.fromarray(np.where(rows**2 + columns**2 < 0.8, 255, 0).astype(np.uint8)))
        picture.save(path)
    return folder


def test_a_fit_with_everything_gives_a_bundle_that_serves(tmp_path, make_config, cutouts):
    config = make_config(*ALL)
    result = fit(config, cutouts, tmp_path / "all", tmp_path / "run")
    assert 0 < result.metrics["id_map"] <= 1
    manifest = open_bundle(tmp_path / "all").manifest
    assert manifest.pooling == "gem"
    assert manifest.provenance.config["loss"]["terms"] == {"arcface": 1.0, "triplet": 0.5, "supcon": 0.1}
    model = load_model(tmp_path / "all")
    assert not model.embedder.runtime.has_places
    embedding = model.embedder.embed(next((cutouts / "train").glob("*.png")).read_bytes())
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_an_interrupted_run_goes_on_unchanged(tmp_path, make_config, cutouts):
    config = make_config(*ALL)
    photos = load_photos(cutouts, config.preprocess)
    split = split_photos(photos, config.split, config.preprocess, config.seed)

    def trained(path, stop):
        run = RunFolder(path)
        run.start(resume=False)
        if stop:
            with pytest.raises(InterruptedRunError):
                Trainer(config, photos, split).fit(
                    run, Watcher(on_step=lambda now, *_: now.step == 3 and os.kill(os.getpid(), signal.SIGINT))
                )
        trainer = Trainer(config, photos, split)
        if stop:
            trainer.resume(run.load(STATE))
        before = trainer.model.backbone.head.global_pool.p.detach().clone()
        trainer.fit(run, Watcher())
        assert not torch.equal(trainer.model.backbone.head.global_pool.p, before)
        return {**trainer.model.state_dict(), **trainer.head.state_dict()}

    whole, broken = trained(tmp_path / "whole", stop=False), trained(tmp_path / "broken", stop=True)
    assert any(name.startswith("parts.arcface.") for name in whole)
    assert all(torch.equal(tensor, broken[name]) for name, tensor in whole.items())


def test_a_run_under_other_losses_is_not_gone_on_with(make_config, herd_photos):
    config, other = make_config("loss.terms={triplet = 1.0}"), make_config("loss.terms={supcon = 1.0}")
    started, resumed, plain = (
        Trainer(one, herd_photos, split_photos(herd_photos, one.split, one.preprocess, one.seed))
        for one in (config, other, make_config())
    )
    with pytest.raises(ConfigError, match=r"other values of loss.terms.supcon, loss.terms.triplet"):
        resumed.resume(started.state())
    with pytest.raises(ConfigError, match=r"other values of loss.terms.triplet"):
        plain.resume(started.state())


def test_backgrounds_of_photos_without_alpha_end_before_the_first_step(tmp_path, make_config, herd):
    with pytest.raises(ConfigError, match="augment.background = 0.5: none of the 2[0-9] training photos is a cut-out"):
        fit(make_config("augment.background=0.5"), herd, tmp_path / "x", tmp_path / "run")
    assert not (tmp_path / "x").exists()
