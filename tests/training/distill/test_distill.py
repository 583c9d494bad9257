"""From pictures and a teacher to a bundle that answers, learnt the same way with and without an interruption."""

import json
import signal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from typer.testing import CliRunner

from app.reid.bundle import open_bundle
from app.reid.embedder import load_model
from app.reid.errors import ConfigError
from app.reid.network import EmbeddingModel
from app.reid.spec import ModelSpec
from training.cli import app
from training.config import load_config
from training.distill import DistillConfig, distill
from training.distill.config import LearningConfig
from training.distill.lesson import Lesson
from training.distill.sources import PICTURES
from training.distill.student import Student, change_light
from training.distill.targets import Targets
from training.evaluate import read_split
from training.start import build_model
from training.state import STATE, RunFolder
from training.train import InterruptedRunError, TrainingDivergedError

Made = tuple[DistillConfig, Path, Path]


@pytest.fixture
def made(config: DistillConfig, pictures: Path, teacher_file: Path) -> Made:
    return config, pictures, teacher_file


def weights(bundle: Path) -> bytes:
    return (bundle / "model.safetensors").read_bytes()


def test_pictures_and_a_teacher_make_a_bundle(made: Made, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    figures = distill(*made, tmp_path / "bundle", tmp_path / "run", progress=lambda *one: told.append(one))
    model = load_model(tmp_path / "bundle")
    assert model.manifest.metrics == figures
    assert figures["held_out_views"] == 16
    assert model.manifest.provenance.config["teacher"]["backbone"] == "test_efficientnet"  # type: ignore[index,call-overload]
    assert [what for what, _, _ in told if what == "learning"] == ["learning"] * 6
    seen = read_split(tmp_path / "bundle")
    assert seen.protocol == "pictures"
    assert set(seen.parts.values()) == {"train"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6]
    assert lines[-1]["teacher_cosine"] == pytest.approx(figures["teacher_cosine"], abs=1e-3)  # before it was rounded
    # The figure by another road: the bundle's own answer to the held-out views.
    views = np.load(tmp_path / "run" / "views.npy")[:16]
    pooled = np.load(tmp_path / "run" / "targets" / "pooled.npy")[:16]
    cosine = (model.embedder.embed_prepared(list(views)) * pooled).sum(axis=1).mean()
    assert cosine == pytest.approx(figures["teacher_cosine"], abs=1e-4)


def test_an_interrupted_run_goes_on_to_the_same_weights(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill(*made, tmp_path / "whole", tmp_path / "run1")

    def press(what: str, done: int, _total: int) -> None:
        if what == "learning" and done == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="step 4; --resume"):
        distill(*made, tmp_path / "parts", tmp_path / "run2", progress=press)
    told: list[str] = []
    distill(*made, tmp_path / "parts", tmp_path / "run2", resume=True, progress=lambda what, *_: told.append(what))
    assert set(told) == {"learning"}, "views and answers are used again"
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_a_run_that_is_there_is_not_lost(made: Made, tmp_path: Path) -> None:
    distill(*made, tmp_path / "bundle", tmp_path / "run")
    with pytest.raises(ConfigError, match="--resume"):
        distill(*made, tmp_path / "bundle", tmp_path / "run")
    other = made[0].model_copy(update={"seed": 9})
    with pytest.raises(ConfigError, match="another config"):
        distill(other, *made[1:], tmp_path / "bundle", tmp_path / "run", resume=True)


def lesson(config: DistillConfig) -> Lesson:
    return Lesson(config, *lesson_material())


def lesson_material() -> tuple[NDArray[np.uint8], Targets]:
    """Views of one colour each, and a teacher who tells them apart."""
    chance = np.random.default_rng(0)
    count = 64
    colours = chance.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    pooled = F.normalize(
        torch.from_numpy((colours[:, 0, 0] / 255.0 - 0.5).astype(np.float32) @ np.eye(3, 16, dtype=np.float32))
    )
    views = np.broadcast_to(colours, (count, 64, 64, 3)).copy()
    maps = np.zeros((count, 8, 2, 2), dtype=np.float16), np.zeros((count, 12, 4, 4), dtype=np.float16)
    return views, Targets(pooled, *maps)


def test_the_student_comes_nearer_to_the_teacher(config: DistillConfig) -> None:
    learning = config.learning.model_copy(update={"steps": 60, "learning_rate": 3e-3, "ema_decay": 0.5})
    one = lesson(config.model_copy(update={"learning": learning}))
    before = one.measure()["teacher_cosine"]
    losses = []
    for _ in range(60):
        assert one._learn()
        one.step += 1
        losses.append(one.measure()["teacher_cosine"])
    assert isinstance(before, float)
    assert losses[-1] > before + 0.2  # type: ignore[operator]


def test_a_second_lesson_goes_on_from_the_first_one_s_backbone(made: Made, tmp_path: Path) -> None:
    """Its neck begins anew, and the manifest tells of both lessons, the split of all pictures that either saw."""
    distill(*made, tmp_path / "first", tmp_path / "run1")
    model = made[0].model.model_copy(update={"pretrained": str(tmp_path / "first")})
    fewer = made[0].pictures.model_copy(update={"sources": {"photos": 1.0}})
    config = made[0].model_copy(update={"model": model, "seed": 4, "pictures": fewer})
    begun = Lesson(config, *lesson_material()).student.model
    first = build_model(model)
    assert torch.equal(begun.backbone.stem[0].weight, first.backbone.stem[0].weight)
    assert not torch.equal(begun.linear.weight, first.linear.weight)
    distill(config, *made[1:], tmp_path / "second", tmp_path / "run2")
    start = load_model(tmp_path / "second").manifest.provenance.start
    assert start is not None
    assert (start.seed, start.config["seed"]) == (3, 3)
    assert read_split(tmp_path / "second") == read_split(tmp_path / "first")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"pretrained": "nowhere"}, "'nowhere': there is no such file or bundle"),
        ({"backbone": "test_efficientnet"}, "a distillation's student is a ConvNeXt"),
    ],
)
def test_what_it_cannot_start_from_is_said_at_once(
    made: Made, tmp_path: Path, model: dict[str, str], said: str
) -> None:
    config = made[0].model_copy(update={"model": made[0].model.model_copy(update=model)})
    with pytest.raises(ConfigError, match=said):
        distill(config, *made[1:], tmp_path / "bundle", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_pass_sees_every_view_once(config: DistillConfig) -> None:
    one = lesson(config)
    rows = []
    for step in range(3):
        one.step = step
        rows.append(one._rows())
    assert sorted(np.concatenate(rows)) == list(range(16, 64))
    one.step = 3
    assert sorted(one._rows()) != sorted(rows[0])


def test_steps_that_are_not_finite_end_the_run_and_change_no_weight(config: DistillConfig, tmp_path: Path) -> None:
    one = lesson(config.model_copy(update={"learning": config.learning.model_copy(update={"steps": 20})}))
    one._targets.pooled[:] = float("nan")
    before = {name: tensor.clone() for name, tensor in one.student.named_parameters()}
    folder = RunFolder(tmp_path)
    with pytest.raises(TrainingDivergedError, match=r"5 steps in a row .* step 5"):
        one.run(folder, lambda *_: None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.student.named_parameters())
    assert folder.load(STATE) is None or torch.isfinite(folder.load(STATE)["student"]["model.linear.weight"]).all()  # type: ignore[index]


def test_the_losses_by_hand() -> None:
    """On maps of the student's own size: cosine, smooth L1 and the mean square as written out here."""
    torch.manual_seed(0)
    student = Student(EmbeddingModel(ModelSpec(backbone="test_convnext", embedding_dim=16)), places=8, middle=12).eval()
    images, pooled = torch.randn(3, 3, 64, 64), F.normalize(torch.randn(3, 16))
    places, middle = torch.randn(3, 8, 2, 2), torch.randn(3, 12, 4, 4)
    with torch.inference_mode():
        got = student.losses(images, pooled, places, middle)
        maps = [student.model.backbone.stem(images)]
        for stage in student.model.backbone.stages:
            maps.append(stage(maps[-1]))
        seen, before = student.to_places(maps[-1]), student.to_middle(maps[-2])
        embedding = student.model(images)
    gap = (seen - places).abs()
    smooth = torch.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean()
    cosine = ((seen * places).sum(1) / seen.norm(dim=1) / places.norm(dim=1)).mean()
    torch.testing.assert_close(got.pooled, 1 - (embedding * pooled).sum(1).mean())
    torch.testing.assert_close(got.places, smooth + 0.5 * (1 - cosine))
    torch.testing.assert_close(got.middle, ((before - middle) ** 2).mean())
    config = LearningConfig(pooled=2.0, places=3.0, middle=5.0)
    torch.testing.assert_close(got.total(config), 2 * got.pooled + 3 * got.places + 5 * got.middle)


def test_a_student_that_is_no_convnext_is_refused() -> None:
    with pytest.raises(ConfigError, match="ConvNeXt"):
        Student(EmbeddingModel(ModelSpec(backbone="test_efficientnet", embedding_dim=16)), places=8, middle=12)


def test_light_changes_light_and_nothing_else() -> None:
    """Grey stays grey, a flat picture stays flat, the order of brightness stays, and the seed decides."""
    ramp = torch.linspace(0.3, 0.6, 16).expand(20, 3, 4, 16).clone()
    changed = change_light(ramp, torch.Generator().manual_seed(0))
    again = change_light(ramp, torch.Generator().manual_seed(0))
    assert torch.equal(changed, again)
    assert ((changed >= 0) & (changed <= 1)).all()
    for left, right in pairwise(range(16)):
        assert (changed[..., left] <= changed[..., right] + 1e-6).all()
    assert changed.mean(dim=(1, 2, 3)).std() > 0.03


def test_the_command(made: Made, tmp_path: Path, pictures: Path, teacher_file: Path) -> None:
    config = tmp_path / "distill.toml"
    run = ["--pictures", str(pictures), "--teacher", str(teacher_file), "--run", str(tmp_path / "run")]
    done = CliRunner().invoke(
        app, ["distill", str(config), *run, "--out", str(tmp_path / "mine"), "--set", "learning.steps=2"]
    )
    assert done.exit_code == 0, done.output
    assert "cosine to the teacher" in done.output
    assert open_bundle(tmp_path / "mine").manifest.provenance.origins == ()
    wrong = CliRunner().invoke(
        app, ["distill", str(config), *run, "--out", str(tmp_path / "mine"), "--set", "learning.step=2"]
    )
    assert wrong.exit_code == 2
    assert "learning.step" in wrong.output


@pytest.mark.parametrize("name", ["distill.toml", "distill_second.toml"])
def test_the_configs_that_ship_are_read(name: str) -> None:
    config = load_config(Path(__file__).parents[3] / "training" / "configs" / name, [], DistillConfig)
    assert config.model.backbone == "convnext_atto"
    assert set(config.pictures.sources) == {source.package for source in PICTURES}
