"""The teacher is the network that its file describes, and its answers are turned as the formulas say."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from app.reid.errors import BundleError, ConfigError
from training.distill.config import LayoutConfig, TeacherConfig
from training.distill.targets import generalised_mean, make_targets, part_whitened, read_targets
from training.distill.teacher import Teacher

CONFIG = TeacherConfig(backbone="test_efficientnet", side=64, places=8)


def test_tensors_under_other_names_are_taken_in_order(teacher_file: Path) -> None:
    weights = torch.load(teacher_file, weights_only=True)
    peer = timm.create_model("test_efficientnet", num_classes=7).eval()
    peer.load_state_dict({name.removeprefix("_"): tensor for name, tensor in weights.items()})
    views = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    middle, last = Teacher(CONFIG, teacher_file).look(views)
    with torch.inference_mode():
        wanted = peer.forward_features(torch.from_numpy(views).permute(0, 3, 1, 2) / 127.5 - 1.0)
    torch.testing.assert_close(last, wanted, rtol=1e-4, atol=1e-5)
    assert middle.shape[-1] == 2 * last.shape[-1]


def test_views_of_another_side_are_resized(teacher_file: Path) -> None:
    views = np.full((1, 32, 32, 3), 77, dtype=np.uint8)
    small = Teacher(CONFIG, teacher_file).look(views)[1]
    same = Teacher(CONFIG, teacher_file).look(np.full((1, 64, 64, 3), 77, dtype=np.uint8))[1]
    torch.testing.assert_close(small, same, rtol=1e-4, atol=1e-4)


def test_a_tensor_of_another_shape_is_named_with_both(teacher_file: Path, tmp_path: Path) -> None:
    weights = torch.load(teacher_file, weights_only=True)
    name = next(iter(weights))
    torch.save(weights | {name: torch.zeros(2, 2)}, tmp_path / "other.pth")
    shape = tuple(weights[name].shape)
    with pytest.raises(BundleError) as caught:
        Teacher(CONFIG, tmp_path / "other.pth")
    for part in (name, "(2, 2)", str(shape)):
        assert part in str(caught.value)


def test_a_tensor_of_another_shape_under_the_right_name_is_named_with_both(tmp_path: Path) -> None:
    weights = timm.create_model("test_efficientnet", num_classes=0).state_dict()
    name = "conv_stem.weight"
    safetensors.torch.save_file({**weights, name: torch.zeros(3, 1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        BundleError, match=rf"{name} has the shape \(3, 1\); the network has \({weights[name].shape[0]}, "
    ):
        Teacher(CONFIG, tmp_path / "other.safetensors")


def test_too_few_tensors_are_counted(tmp_path: Path) -> None:
    torch.save({"one": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(BundleError, match=r"1 tensors; the network has \d+"):
        Teacher(CONFIG, tmp_path / "other.pth")


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_a_file_that_is_none_is_a_config_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "teacher.pth"
    if content:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="teacher.pth"):
        Teacher(CONFIG, file)


def test_generalised_mean_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    assert generalised_mean(maps, 3.0).item() == pytest.approx(((1 + 8 + 27) / 4) ** (1 / 3), rel=1e-6)


def test_part_whitening_leaves_deviations_of_the_power_that_is_left() -> None:
    """Directions with deviations 4 and 1: whitened by half 2 and 1, wholly 1 and 1, before the unit sphere."""
    chance = torch.Generator().manual_seed(0)
    vectors = torch.randn(4_000, 2, generator=chance) * torch.tensor([4.0, 1.0]) + 3.0
    for power, ratio in ((0.0, 4.0), (0.5, 2.0), (1.0, 1.0)):
        turned = part_whitened(vectors, 2, power)
        torch.testing.assert_close(turned.norm(dim=1), torch.ones(len(turned)))
        median = (turned[:, 0].abs() / turned[:, 1].abs()).median()
        assert median.item() == pytest.approx(ratio, rel=0.1)  # the median of |Cauchy| is its scale


def test_targets_on_the_disk_are_the_teachers_answers(teacher_file: Path, tmp_path: Path) -> None:
    views = np.random.default_rng(1).integers(0, 256, (70, 64, 64, 3), dtype=np.uint8)
    teacher = Teacher(CONFIG, teacher_file)
    targets = make_targets(teacher, views, LayoutConfig(), 16, tmp_path)
    middle, last = teacher.look(views)
    pooled = part_whitened(generalised_mean(last, 3.0), 16, 0.5)
    torch.testing.assert_close(targets.pooled, pooled, rtol=1e-3, atol=1e-3)
    channels = middle.transpose(0, 1).flatten(1)
    scaled = (middle - channels.mean(1)[:, None, None]) / channels.std(1).clamp(min=1e-3)[:, None, None]
    assert np.corrcoef(scaled.flatten(), targets.middle.astype(np.float32).flatten())[0, 1] > 0.999
    places = last.permute(0, 2, 3, 1).flatten(0, 2)
    centred = places - places.mean(0)
    wanted = centred @ torch.linalg.svd(centred, full_matrices=False)[2][:8].T
    kept = torch.from_numpy(targets.places.astype(np.float32)).permute(0, 2, 3, 1).flatten(0, 2)
    assert kept.std().item() == pytest.approx(1.0, rel=0.02)
    assert np.corrcoef((kept[:50] @ kept[:50].T).flatten(), (wanted[:50] @ wanted[:50].T).flatten())[0, 1] > 0.999
    again = read_targets(tmp_path)
    assert torch.equal(again.pooled, targets.pooled)
    assert np.array_equal(again.middle, targets.middle)
