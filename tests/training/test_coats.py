"""The drawn jaguars: the competition's layout, the same bytes every time, and coats that tell animals apart."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.reid.errors import DataError
from app.reid.preprocess import decode_image
from app.reid.spec import PreprocessSpec
from app.reid.tables import read_test, read_train
from training.cli import app
from training.coats import (
    Animal,
    Look,
    coat,
    draw_dataset,
    draw_scene,
    nudge,
    photo,
    plan_test,
    plan_train,
    render,
)
from training.coats.atlas import fur
from training.coats.rosettes import draw_character, throw_sites
from training.coats.skin import Skin

IDENTITIES, PHOTOS, TEST = 2, 4, 5
SIZE = (96, 64)
COATS = ((0, "left"), (0, "right"), (1, "left"), (1, "right"), (2, "left"))
SPEC = PreprocessSpec(size=(64, 96))


def draw_small(out: Path, **changes: object) -> Path:
    look = Look(SIZE)
    draw_dataset(out, **{"identities": IDENTITIES, "photos": PHOTOS, "test": TEST, "look": look, "seed": 4, **changes})
    return out


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(decode_image(path.read_bytes(), SPEC))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small(tmp_path_factory.mktemp("coats") / "set")


@pytest.fixture(scope="module")
def textures() -> dict[tuple[int, str], np.ndarray]:
    return {(identity, flank): coat(0, identity, flank) for identity, flank in COATS}


@pytest.fixture(scope="module")
def animals(textures: dict[tuple[int, str], np.ndarray]) -> dict[tuple[int, str], Animal]:
    return {key: Animal(Skin(texture)) for key, texture in textures.items()}


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of the torso's brightness, where the back's and the belly's shared shading is taken out."""
    rows = [picture[:440].mean(axis=2) for picture in (first, second)]
    flat = [(row - row.mean(axis=1, keepdims=True)).ravel() for row in rows]
    return float(np.corrcoef(*flat)[0, 1])


def test_layout_is_the_competitions(small: Path) -> None:
    files = set(digests(small))
    photos = {f"train/train/train_{number:04d}.png" for number in range(1, IDENTITIES * PHOTOS + 1)}
    photos |= {f"test/test/test_{number:04d}.png" for number in range(1, TEST + 1)}
    assert files == photos | {"train.csv", "test.csv", "sample_submission.csv", "test_truth.csv"}


def test_train_csv_names_every_photo_and_identity(small: Path) -> None:
    table = read_train((small / "train.csv").read_bytes())
    assert table.columns == ("filename", "ground_truth")
    assert table.column("filename") == [f"train_{number:04d}.png" for number in range(1, IDENTITIES * PHOTOS + 1)]
    assert table.column("ground_truth") == ["jaguar_0001"] * PHOTOS + ["jaguar_0002"] * PHOTOS


def test_test_csv_has_all_ordered_pairs_query_major(small: Path) -> None:
    table = read_test((small / "test.csv").read_bytes())
    names = [f"test_{number:04d}.png" for number in range(1, TEST + 1)]
    expected = []
    for query in names:
        expected += [
            [str(len(expected) + place), query, other] for place, other in enumerate(n for n in names if n != query)
        ]
    assert table.columns == ("row_id", "query_image", "gallery_image")
    assert list(table.rows()) == expected
    assert len(table) == TEST * (TEST - 1)


def test_sample_submission_is_random_and_in_range(small: Path) -> None:
    lines = (small / "sample_submission.csv").read_text().splitlines()
    values = [line.split(",") for line in lines[1:]]
    assert lines[0] == "row_id,similarity"
    assert [row for row, _ in values] == [str(number) for number in range(TEST * (TEST - 1))]
    assert all(0.0 <= float(value) <= 1.0 for _, value in values)
    assert len({value for _, value in values}) == len(values)


def test_truth_covers_the_test_photos(small: Path) -> None:
    truth = read_train((small / "test_truth.csv").read_bytes())
    assert truth.column("filename") == [f"test_{number:04d}.png" for number in range(1, TEST + 1)]


def test_photos_are_cut_outs_with_their_background_hidden(small: Path) -> None:
    for path in sorted(small.rglob("*.png")):
        rgba = pixels(path)
        alpha, hidden = rgba[..., 3], rgba[..., :3][rgba[..., 3] == 0]
        assert rgba.shape[2] == 4
        assert alpha.max() == 255, path.name
        assert (alpha > 127).mean() > 0.05, path.name
        if len(hidden):
            assert hidden.mean() > 3.0, path.name
            assert hidden.std() > 1.0, path.name
    alphas = [pixels(path)[..., 3] for path in small.rglob("*.png")]
    assert min(int(alpha.min()) for alpha in alphas) == 0
    assert any(((alpha > 0) & (alpha < 255)).any() for alpha in alphas)


def test_one_seed_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    assert digests(draw_small(tmp_path / "again")) == digests(small)
    other = digests(draw_small(tmp_path / "other", seed=5, identities=1, photos=1, test=2))
    before = digests(small)
    assert all(before[name] != digest for name, digest in other.items() if name.endswith(".png"))


def test_processes_change_no_byte(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.coats.dataset._POOL_PAYS", 1)
    assert digests(draw_small(tmp_path / "two", workers=2)) == digests(small)


def test_progress_counts_photos(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    draw_small(
        tmp_path / "set", identities=1, photos=2, test=2, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(done, 4) for done in range(5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identities": 0}, "identities is 0; at least 1 is needed"),
        ({"photos": 0}, "photos is 0; at least 1 is needed"),
        ({"test": 1}, "test is 1; at least 2 is needed"),
        ({"seed": -1}, "seed is -1; at least 0 is needed"),
        ({"look": Look((96, 8))}, "height is 8; at least 32 is needed"),
        ({"look": Look(SIZE, ("rosettes", "checks"))}, "kind 'checks' is none; there are rosettes, spots, stripes"),
        ({"look": Look(SIZE, ())}, "no kind of coat; there are rosettes, spots, stripes"),
        ({"look": Look(SIZE, alike=0)}, "alike is 0; at least 1 is needed"),
        ({"workers": 0}, "workers is 0; at least 1 is needed"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        draw_small(tmp_path / "set", **changes)
    assert not (tmp_path / "set").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="not an empty folder"):
        draw_small(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_coat_hangs_on_its_arguments_alone(textures: dict[tuple[int, str], np.ndarray]) -> None:
    assert np.array_equal(coat(0, 1, "left"), textures[1, "left"])
    assert not np.array_equal(coat(1, 1, "left"), textures[1, "left"])


def test_no_two_coats_are_alike(textures: dict[tuple[int, str], np.ndarray]) -> None:
    keys = list(textures)
    for place, first in enumerate(keys):
        for second in keys[place + 1 :]:
            assert abs(likeness(textures[first], textures[second])) < 0.15, (first, second)
    assert likeness(textures[0, "left"], textures[0, "left"]) == pytest.approx(1.0)


def test_photos_of_one_flank_share_its_pattern(animals: dict[tuple[int, str], Animal]) -> None:
    """Two coats in one scene: the frames of a burst are nearer to each other than to the other animal's photo."""
    scene = draw_scene(np.random.default_rng(11))
    one, other = (render(animals[key, "left"], scene, np.random.default_rng(1), size=(192, 128)) for key in (0, 1))
    again = render(animals[0, "left"], scene, np.random.default_rng(2), size=(192, 128))
    body = one[..., 3] == 255
    assert np.array_equal(one[..., 3], other[..., 3])
    same, apart = (np.corrcoef(one[body][:, 1], picture[body][:, 1])[0, 1] for picture in (again, other))
    assert same > 0.9
    assert apart < 0.7 * same


def test_a_nudge_moves_the_animal_a_little() -> None:
    scene = draw_scene(np.random.default_rng(3))
    moved = nudge(scene, np.random.default_rng(4))
    assert moved != scene
    assert (moved.seed, moved.light.cast, moved.camera.window) == (scene.seed, scene.light.cast, scene.camera.window)
    assert abs(moved.camera.yaw - scene.camera.yaw) < 0.1


def test_light_differs_more_between_photos_than_fur_between_animals(
    textures: dict[tuple[int, str], np.ndarray], animals: dict[tuple[int, str], Animal]
) -> None:
    """Red over blue of what is not ink: by animal (texture), and by photo of one animal in colour."""

    def warmth(colours: np.ndarray) -> float:
        bright = colours[colours.mean(axis=1) > np.median(colours.mean(axis=1))].astype(float)
        return float(np.log(bright[:, 0].mean() / bright[:, 2].mean()))

    furs = [warmth(textures[identity, "left"][:440].reshape(-1, 3)) for identity in (0, 1, 2)]
    scenes = [draw_scene(np.random.default_rng(number)) for number in range(24)]
    assert len({scene.light.kind for scene in scenes}) == 5
    shots = [photo(animals[0, "left"], np.random.default_rng(number), size=SIZE) for number in range(24)]
    photos = [warmth(shot[shot[..., 3] == 255][:, :3]) for shot in shots]
    assert np.std(photos) > 3.0 * np.std(furs)


def test_a_left_flank_looks_left(animals: dict[tuple[int, str], Animal]) -> None:
    left, right = (
        photo(animals[0, "left"], np.random.default_rng(5), size=SIZE, flank=flank) for flank in ("left", "right")
    )
    assert left.shape == (SIZE[1], SIZE[0], 4)
    assert np.array_equal(left, right[:, ::-1])


@pytest.mark.parametrize("size", [(32, 32), (300, 40), (40, 300), (333, 217)])
def test_any_size_can_be_drawn(animals: dict[tuple[int, str], Animal], size: tuple[int, int]) -> None:
    for number in range(5):
        drawn = photo(animals[1, "right"], np.random.default_rng((7, number)), size=size)
        assert drawn.shape == (size[1], size[0], 4)
        assert drawn[..., 3].max() > 200


def test_a_full_plan_has_the_competitions_numbers() -> None:
    train, test = plan_train(0, 31, 61), plan_test(0, 31, 371)
    counts = np.bincount([shot.identity for shot in train])
    assert counts.tolist() == [61] * 31
    assert len({shot.filename for shot in train}) == 31 * 61
    known = sum(shot.identity < 31 for shot in test)
    assert (len(test), known) == (371, 186)
    assert np.bincount([shot.identity for shot in test])[31:].min() >= 2
    assert {shot.scene for shot in train}.isdisjoint(shot.scene for shot in test)


class _AtTheEdge(np.random.Generator):
    """Chance whose every place is as near the far edge as float64 can be; float32 rounds it onto the edge."""

    def uniform(self, low: object, high: object, size: object) -> np.ndarray:
        return np.broadcast_to(np.nextafter(np.asarray(high, np.float64), 0.0), size).copy()


def test_a_spot_at_the_very_edge_is_on_the_coat() -> None:
    chance = np.random.default_rng(0)
    nature = draw_character(chance)
    sites = throw_sites(_AtTheEdge(np.random.PCG64(0)), nature, fur())
    assert len(sites.centre) == 1


def test_bursts_are_frames_of_one_scene() -> None:
    shots = plan_train(0, 31, 61)
    frames = [shot for shot in shots if shot.frame]
    assert 0.2 < len(frames) / len(shots) < 0.4
    by_scene = {shot.scene: shot for shot in shots if not shot.frame}
    assert all(by_scene[shot.scene].identity == shot.identity for shot in frames)
    assert all(by_scene[shot.scene].flank == shot.flank for shot in frames)


def test_the_command_draws_kinds_and_sizes(tmp_path: Path) -> None:
    out = tmp_path / "set"
    numbers = ("--identities", "2", "--photos", "1", "--test", "2", "--seed", "4", "--size", "96", "64")
    drawn = CliRunner().invoke(app, ["coats", "--out", str(out), *numbers, "--kinds", "stripes,faint", "--alike", "2"])
    assert drawn.exit_code == 0, drawn.output
    draw_dataset(
        tmp_path / "same", identities=2, photos=1, test=2, seed=4, look=Look(SIZE, ("stripes", "faint"), alike=2)
    )
    assert digests(out) == digests(tmp_path / "same")
    refused = CliRunner().invoke(app, ["coats", "--out", str(tmp_path / "no"), *numbers, "--kinds", "plaid"])
    assert refused.exit_code == 2
    assert "kind 'plaid' is none; there are rosettes, spots" in refused.output.replace("\n", " ")
    assert not (tmp_path / "no").exists()
