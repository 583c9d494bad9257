import math
import os
import signal

import pytest
import torch

from app.reid.embedder import Embedder
from app.reid.errors import ConfigError
from app.reid.metric import identity_balanced_map
from app.reid.similarity import cosine_matrix
from app.reid.torch_runtime import TorchRuntime
from training.split import split_photos
from training.state import BEST, STATE, RunFolder
from training.train import MAX_BAD_STEPS, InterruptedRunError, Trainer, TrainingDivergedError, Watcher


def trainer(config, photos):
    return Trainer(config, photos, split_photos(photos, config.split, config.preprocess, config.seed))


def folder(path):
    run = RunFolder(path)
    run.start(resume=True)
    return run


def final_weights(run):
    state = run.load(STATE)
    return {**state["model"], **{f"average.{name}": value for name, value in state["average"].items()}}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, make_config, herd_photos):
    run = folder(tmp_path_factory.mktemp("unbroken"))
    trainer(make_config(), herd_photos).fit(run, Watcher())
    return run


def test_each_epoch_is_recorded_and_the_best_is_kept(unbroken):
    records = unbroken.metrics()
    assert [(record["epoch"], record["step"]) for record in records] == [(1, 4), (2, 8)]
    assert all(math.isfinite(record["loss"]) and 0 < record["id_map"] <= 1 for record in records)
    best = unbroken.load(BEST)
    assert best["id_map"] == max(record["id_map"] for record in records)
    assert best["epoch"] == max(records, key=lambda record: record["id_map"])["epoch"]


def test_the_recorded_figure_is_that_of_the_averaged_network(unbroken, make_config, herd_photos):
    config = make_config()
    again = trainer(config, herd_photos)
    again.resume(unbroken.load(STATE))
    rows = split_photos(herd_photos, config.split, config.preprocess, config.seed).rows("validation")
    embedder = Embedder(config.preprocess, TorchRuntime(again.average.model))
    embeddings = embedder.embed_prepared([herd_photos.prepared[row] for row in rows])
    names = [herd_photos.identities[row] for row in rows]
    figure = identity_balanced_map(cosine_matrix(embeddings, embeddings), names).id_map
    assert figure == pytest.approx(unbroken.metrics()[-1]["id_map"], abs=1e-9)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_an_interrupted_run_ends_where_an_unbroken_one_does(tmp_path, make_config, herd_photos, unbroken, stop):
    run = folder(tmp_path)

    def press(progress, *_):
        if progress.step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError, match=f"interrupted at step {stop}; --resume"):
        trainer(make_config(), herd_photos).fit(run, Watcher(on_step=press))
    resumed = trainer(make_config(), herd_photos)
    torch.rand(7)
    resumed.resume(run.load(STATE))
    assert resumed.progress.step == stop
    resumed.fit(run, Watcher())
    assert equal(final_weights(run), final_weights(unbroken))
    drop_times = [{**record, "images_per_second": 0} for record in run.metrics()]
    assert drop_times == [{**record, "images_per_second": 0} for record in unbroken.metrics()]


def test_the_second_ctrl_c_ends_at_once(tmp_path, make_config, herd_photos):
    def press(*_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(make_config(), herd_photos).fit(folder(tmp_path), Watcher(on_step=press))


def test_a_state_of_another_run_is_refused_by_name(unbroken, make_config, herd_photos):
    other = trainer(make_config("optim.learning_rate=0.5", "seed=6"), herd_photos)
    with pytest.raises(ConfigError, match="other values of seed, optim.learning_rate"):
        other.resume(unbroken.load(STATE))
    fewer = trainer(make_config(), herd_photos.part(list(range(35))))
    with pytest.raises(ConfigError, match="other values of the photos"):
        fewer.resume(unbroken.load(STATE))


def test_a_bad_step_changes_nothing_but_the_count(make_config, herd_photos):
    one = trainer(make_config(), herd_photos)
    batches = list(one.loader(0, 3))
    one.run_step(*batches[0])
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    average = {name: tensor.clone() for name, tensor in one.average.model.state_dict().items()}
    assert math.isnan(one.run_step(torch.full_like(batches[1][0], math.nan), batches[1][1]))
    assert equal(one.model.state_dict(), before)
    assert equal(one.average.model.state_dict(), average)
    assert (one.progress.step, one.progress.skipped, one.progress.bad_in_row, one.progress.updates) == (2, 1, 1, 1)
    one.run_step(*batches[2])
    assert (one.progress.skipped, one.progress.bad_in_row) == (1, 0)


def test_five_bad_steps_in_a_row_end_the_run(tmp_path, make_config, herd_photos):
    diverging = trainer(make_config(), herd_photos)

    def poison(progress, *_):
        if progress.step == 2:
            with torch.no_grad():
                diverging.head.weight.fill_(math.inf)

    run = folder(tmp_path)
    with pytest.raises(TrainingDivergedError, match=f"{MAX_BAD_STEPS} steps in a row"):
        diverging.fit(run, Watcher(on_step=poison))
    kept = run.load(STATE)
    assert kept["progress"]["step"] == 7
    assert kept["progress"]["skipped"] == 5
    assert all(torch.isfinite(tensor).all() for tensor in kept["model"].values())
    assert run.metrics()[0]["loss"] is not None


def test_a_gpu_that_is_not_there(make_config, herd_photos):
    if torch.cuda.is_available():
        assert trainer(make_config('compute.device="cuda"'), herd_photos).device.type == "cuda"
    else:
        with pytest.raises(ConfigError, match="torch finds no GPU here"):
            trainer(make_config('compute.device="cuda"'), herd_photos)
        assert trainer(make_config('compute.device="cpu"'), herd_photos).device.type == "cpu"
