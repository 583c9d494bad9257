import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.reid.errors import ConfigError
from tests.training.ranks import VARIANTS, train
from training.config import load_config
from training.distributed import ALONE, Launch, RankLostError, World, joined, read_launch, told_what_is_kept
from training.split import split_photos
from training.state import STATE, RunFolder
from training.train import Trainer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two(tmp_path_factory, herd, config_file):
    """What two ranks under torchrun computed: `two[variant][rank]`."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*launch, "tests/training/ranks.py", config_file, herd, folder]
    done = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        name: [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(2)] for name in VARIANTS
    }


@pytest.fixture(scope="module")
def one(config_file, herd_photos):
    """What one process computes: `one[variant]`."""
    return {
        name: train(load_config(config_file, overrides), herd_photos, ALONE) for name, overrides in VARIANTS.items()
    }


EQUAL = [name for name in VARIANTS if name != "drop_path"]


@pytest.mark.parametrize("variant", EQUAL)
def test_two_ranks_have_the_gradients_of_one_process(one, two, variant):
    """To float32's rounding, as a whole and in each tensor; `linear.bias`, before BatchNorm, has rounding alone."""
    alone = one[variant]["gradients"]
    for rank in range(2):
        shared = two[variant][rank]["gradients"]
        assert shared.keys() == alone.keys()
        error = {name: float((shared[name] - gradient).norm()) for name, gradient in alone.items()}
        size = {name: float(gradient.norm()) for name, gradient in alone.items()}
        assert math.hypot(*error.values()) <= 1e-6 * math.hypot(*size.values())
        assert [name for name in alone if not error[name] <= 1e-5 * size[name] + 1e-6] == []


@pytest.mark.parametrize("variant", EQUAL)
def test_two_ranks_have_the_loss_curve_of_one_process(one, two, variant):
    assert one[variant]["shared"] == 2 * two[variant][0]["shared"]
    for rank in range(2):
        assert two[variant][rank]["losses"] == pytest.approx(one[variant]["losses"], abs=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_ranks_end_with_the_same_bits(two, variant):
    first, second = (two[variant][rank]["weights"] for rank in range(2))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_shares_in_rank_order_are_the_batch():
    shares = [World(rank, 3).share(range(12)) for rank in range(3)]
    assert shares == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_one_process_is_left_as_it_is():
    rows = torch.ones(2, requires_grad=True)
    assert ALONE.gather(rows) is rows
    before = torch.get_rng_state()
    ALONE.reseed(1, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert (ALONE.any(True), ALONE.any(False), ALONE.from_lead(lambda: {"a": 1}), ALONE.leads) == (
        True, False, {"a": 1}, True,
    )  # fmt: skip
    ALONE.average_gradients([torch.nn.Parameter(rows)])
    ALONE.check_same(3)


def trainer(config, photos, world):
    return Trainer(config, photos, split_photos(photos, config.split, config.preprocess, config.seed), world)


def test_a_batch_that_cannot_be_shared_names_both_numbers(make_config, herd_photos):
    with pytest.raises(ConfigError, match=r"3 x 2 = 6 photos cannot be shared evenly by 4 ranks"):
        trainer(make_config(), herd_photos, World(0, 4))


def test_a_backbone_with_batch_norm_is_refused(make_config, herd_photos):
    config = make_config('model.backbone="test_efficientnet"', "model.drop_path=0.0")
    with pytest.raises(ConfigError, match="test_efficientnet has BatchNorm layers"):
        trainer(config, herd_photos, World(0, 2))
    trainer(config, herd_photos, ALONE)


def test_what_torchrun_says_is_read_from_the_environment(monkeypatch):
    for name, value in (("RANK", "3"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert read_launch() == Launch(rank=3, local_rank=1, world_size=4)
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(ConfigError, match="WORLD_SIZE: Input should be a valid integer"):
        read_launch()


def test_a_world_without_torchrun_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2, but the other ranks were not met"), joined("cpu"):
        pass


def test_without_torchrun_there_is_one_rank(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("auto") as world:
        assert world is ALONE


def test_a_lost_rank_is_told_with_what_is_kept(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(RankLostError, match="rank 1 of 2 stops; no epoch had ended"), told_what_is_kept(run):
        raise RankLostError("rank 1 of 2 stops")
    run.save(STATE, {})
    with pytest.raises(RankLostError, match=f"the last state is kept in {tmp_path}: start"), told_what_is_kept(run):
        raise RankLostError("rank 1 of 2 stops")
