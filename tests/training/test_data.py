import hashlib
import shutil

import numpy as np
import pytest
import torch

from app.reid.errors import DataError, TableError
from app.reid.preprocess import decode_image, fit, to_array
from app.reid.spec import PreprocessSpec
from training.augment import Augmentation
from training.config import AugmentConfig, SamplerConfig
from training.data import TrainingBatches, check_trainable, load_photos
from training.sampler import Draw, PKSampler


def test_photos_are_what_the_engine_prepares(herd, herd_photos):
    spec = PreprocessSpec(size=32)
    data = (herd / "train" / "animal3_2.png").read_bytes()
    row = herd_photos.filenames.index("animal3_2.png")
    assert np.array_equal(herd_photos.prepared[row], fit(decode_image(data, spec), spec))
    assert herd_photos.sha256[row] == hashlib.sha256(data).hexdigest()
    assert herd_photos.identities[row] == "animal 3"
    assert herd_photos.column("side")[row] == "right"
    with pytest.raises(DataError, match="no column 'flank'; it has filename, ground_truth, side"):
        herd_photos.column("flank")


@pytest.mark.parametrize("layout", ["", "train/train"])
def test_photos_lie_bare_or_in_the_competition_s_folders(herd, herd_photos, tmp_path, layout):
    shutil.copytree(herd / "train", tmp_path / layout, dirs_exist_ok=True)
    shutil.copy(herd / "train.csv", tmp_path)
    seen = []
    photos = load_photos(tmp_path, PreprocessSpec(size=32), lambda done, total: seen.append((done, total)))
    assert photos.fingerprint == herd_photos.fingerprint
    assert seen[-1] == (36, 36)


def test_the_fingerprint_knows_contents_and_names_but_not_order(herd_photos):
    assert herd_photos.part(list(range(36))[::-1]).fingerprint == herd_photos.fingerprint
    assert herd_photos.part(list(range(35))).fingerprint != herd_photos.fingerprint


def test_all_bad_photos_are_listed_before_anything_else(herd, tmp_path):
    folder = tmp_path / "bad"
    shutil.copytree(herd, folder)
    for number in range(5):
        (folder / "train" / f"animal0_{number}.png").unlink()
        path = folder / "train" / f"animal{number + 1}_1.png"
        path.write_bytes(path.read_bytes()[:100])
    extra = "".join(f"missing_{number}.png,animal 0,left\n" for number in range(30))
    with (folder / "train.csv").open("a") as file:
        file.write(extra)
    with pytest.raises(DataError) as caught:
        load_photos(folder, PreprocessSpec(size=32))
    assert caught.value.summary == "40 of the 66 photos in train.csv cannot be used"
    assert len(caught.value.all_problems) == 40
    assert caught.value.all_problems[0].startswith("line 2: 'animal0_0.png'")
    assert "damaged or cut short" in " ".join(caught.value.all_problems)


def test_no_table_and_a_broken_one(tmp_path):
    with pytest.raises(DataError, match="train.csv: No such file"):
        load_photos(tmp_path, PreprocessSpec())
    (tmp_path / "train.csv").write_text("filename,name\na.png,x\n")
    with pytest.raises(TableError, match="the column ground_truth is missing"):
        load_photos(tmp_path, PreprocessSpec())


def test_what_cannot_be_learnt_from():
    check_trainable(["a", "a", "b"])
    with pytest.raises(DataError, match="one identity only"):
        check_trainable(["a", "a"])
    with pytest.raises(DataError, match="no identity with two photos"):
        check_trainable(["a", "b"])


@pytest.fixture
def batches(herd_photos):
    spec = PreprocessSpec(size=32)
    labels = [int(name[-1]) for name in herd_photos.identities]
    return TrainingBatches(herd_photos, labels, spec, Augmentation(AugmentConfig(), spec), 4), labels


def test_a_draw_is_a_function_of_seed_and_number(batches, herd_photos):
    data, labels = batches
    image, label = data[Draw(7, 3)]
    torch.rand(5)
    again, _ = data[Draw(7, 3)]
    assert torch.equal(image, again)
    assert label == labels[7]
    assert not torch.equal(image, data[Draw(7, 4)][0])
    assert image.shape == (3, 32, 32)


def test_drawing_leaves_the_network_s_chance_alone(batches):
    data, _ = batches
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    for _ in data.loader(iter([[Draw(0, 0), Draw(1, 1)]]), workers=0, pin_memory=False):
        pass
    assert torch.equal(torch.rand(3), expected)


def test_without_augmentation_a_batch_is_the_service_s_input(herd_photos):
    spec = PreprocessSpec(size=32)
    off = AugmentConfig(**dict.fromkeys(AugmentConfig.model_fields, 0.0))
    data = TrainingBatches(herd_photos, [0] * 36, spec, Augmentation(off, spec), 4)
    assert np.array_equal(data[Draw(5, 9)][0].numpy(), to_array(herd_photos.prepared[5], spec))


def test_loader_processes_give_the_same_batches(batches):
    data, labels = batches
    sampler = PKSampler(labels, SamplerConfig(identities=3, photos=2, steps=1), 0)
    alone = list(data.loader(sampler.batches(0, 3), workers=0, pin_memory=False))
    helped = list(data.loader(sampler.batches(0, 3), workers=1, pin_memory=False))
    for (images, names), (others, other_names) in zip(alone, helped, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(names, other_names)
