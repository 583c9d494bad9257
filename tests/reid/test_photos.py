"""Finding photos by name, and never anything outside their folder."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reid.errors import AmbiguousImageError, LookupFailedError, UnknownImageError, UnsafeNameError
from app.reid.photos import Findings, PhotoFile, PhotoFolder, image_key, is_safe_name


def put(root: Path, *names: str) -> PhotoFolder:
    """Files whose content is their name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return PhotoFolder(root)


def found(folder: PhotoFolder, name: str) -> str:
    """The content of the photo of this name."""
    return folder.find({name: 2})[name].read().decode()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.png", "a.png"),
        ("test/a.png", "a.png"),
        ("test/test/a.png", "a.png"),
        ("train/a.png", "a.png"),
        ("train/train/a.png", "a.png"),
        ("train/test/a.png", "test/a.png"),
        ("test/test/test/a.png", "test/a.png"),
        ("testing/a.png", "testing/a.png"),
        ("Train/a.png", "Train/a.png"),
        ("night/a.png", "night/a.png"),
    ],
)
def test_the_key_is_the_name_without_the_competitions_folders(name: str, key: str) -> None:
    assert image_key(name) == key


@pytest.mark.parametrize("stored", ["a.png", "test/a.png", "test/test/a.png", "train/a.png", "train/train/a.png"])
@pytest.mark.parametrize("asked", ["a.png", "test/a.png", "test/test/a.png", "train/a.png", "train/train/a.png"])
def test_a_photo_is_found_wherever_the_competition_puts_it(tmp_path: Path, stored: str, asked: str) -> None:
    assert found(put(tmp_path, stored), asked) == stored


def test_folders_of_ones_own_are_part_of_the_name(tmp_path: Path) -> None:
    folder = put(tmp_path, "night/a.png", "train/day/a.png")
    assert found(folder, "night/a.png") == "night/a.png"
    assert found(folder, "day/a.png") == "train/day/a.png"
    with pytest.raises(UnknownImageError):
        folder.find({"a.png": 2})


def test_a_name_with_its_folder_is_taken_at_its_word(tmp_path: Path) -> None:
    folder = put(tmp_path, "train/a.png", "test/a.png")
    assert found(folder, "train/a.png") == "train/a.png"
    assert found(folder, "test/a.png") == "test/a.png"


def test_two_different_files_are_ambiguous(tmp_path: Path) -> None:
    folder = put(tmp_path, "train/a.png", "test/test/a.png", "b.png")
    with pytest.raises(AmbiguousImageError) as caught:
        folder.find({"b.png": 2, "a.png": 3, "train/train/a.png": 4})
    assert caught.value.problems == ("line 3: 'a.png'", "line 4: 'train/train/a.png'")
    assert caught.value.summary == "names that two different files in the photo folder match"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_file_under_two_names_is_not_ambiguous(tmp_path: Path, link: object) -> None:
    folder = put(tmp_path, "train/a.png")
    link(tmp_path / "train/a.png", tmp_path / "a.png")  # type: ignore[operator]
    assert found(folder, "a.png") == "train/a.png"


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "../a.png", "x/../../a.png", "x/..", "/etc/passwd", "//etc/passwd", "a\0.png", "\0",
        "train/", "test/test/", "train//etc/passwd", "train/train//etc/passwd", "test/../a.png", "train/..",
    ],
)  # fmt: skip
def test_names_that_lead_out_or_nowhere_are_unsafe(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_text("outside")
    folder = put(tmp_path / "root", "b.png")
    assert not is_safe_name(name)
    with pytest.raises(UnsafeNameError) as caught:
        folder.find({"b.png": 2, name: 3})
    assert caught.value.problems == (f"line 3: {name!r}",)


@pytest.mark.parametrize(
    "name", ["a.png", "./a.png", "..a.png", "a..png", "x/a.png", "a b.png", "ä.png", "C:\\a.png", "~/a"]
)
def test_other_names_are_safe(name: str) -> None:
    assert is_safe_name(name)


def test_a_link_that_leads_out_is_unsafe_and_one_that_stays_is_not(tmp_path: Path) -> None:
    folder = put(tmp_path / "root", "deep/b.png")
    (tmp_path / "secret.png").write_text("secret")
    (tmp_path / "root" / "out.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    (tmp_path / "root" / "in.png").symlink_to("deep/b.png")
    (tmp_path / "root" / "train").symlink_to("deep")
    assert found(folder, "in.png") == "deep/b.png"
    assert found(folder, "b.png") == "deep/b.png"
    for name in ("out.png", "up/secret.png", "train/out.png"):
        with pytest.raises(UnsafeNameError):
            folder.find({name: 2})


def test_a_root_that_is_a_link_is_the_folder_behind_it(tmp_path: Path) -> None:
    put(tmp_path / "real", "a.png")
    (tmp_path / "link").symlink_to("real")
    assert found(PhotoFolder(tmp_path / "link"), "a.png") == "a.png"


@pytest.mark.parametrize("name", ["missing.png", "x" * 300 + ".png", "y/" * 2_100 + "z.png", "a.png/b.png", "fifo"])
def test_what_is_not_there_is_unknown(tmp_path: Path, name: str) -> None:
    folder = put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UnknownImageError):
        folder.find({name: 2})


def test_a_loop_of_links_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(UnknownImageError):
        PhotoFolder(tmp_path).find({"loop.png": 2})


def test_a_folder_named_like_a_photo_is_no_photo(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UnknownImageError):
        PhotoFolder(tmp_path).find({"a.png": 2})
    assert found(put(tmp_path, "train/a.png"), "a.png") == "train/a.png"


def test_everything_missing_is_listed_by_line_and_nothing_tells_where(tmp_path: Path) -> None:
    folder = PhotoFolder(tmp_path, label="the upload")
    names = {f"{number}.png": 100 - number for number in range(30)}
    with pytest.raises(UnknownImageError) as caught:
        folder.find(names)
    assert caught.value.all_problems == tuple(f"line {100 - number}: '{number}.png'" for number in reversed(range(30)))
    assert caught.value.summary == "photos that are not in the upload"
    assert str(tmp_path) not in str(caught.value)


def test_the_gravest_kind_is_told_first(tmp_path: Path) -> None:
    folder = put(tmp_path, "a.png", "train/a.png")
    with pytest.raises(UnsafeNameError):
        folder.find({"gone.png": 2, "a.png": 3, "../x": 4})
    with pytest.raises(AmbiguousImageError):
        folder.find({"gone.png": 2, "a.png": 3})
    Findings().raise_any("nothing found wrong")


def test_no_names_are_no_photos(tmp_path: Path) -> None:
    assert PhotoFolder(tmp_path).find({}) == {}


def test_a_photo_is_read_when_its_turn_comes(tmp_path: Path) -> None:
    photo = put(tmp_path, "a.png").find({"a.png": 2})["a.png"]
    (tmp_path / "a.png").write_text("changed")
    assert photo == PhotoFile(tmp_path.resolve() / "a.png")
    assert photo.read() == b"changed"


PARTS = st.lists(st.sampled_from(["..", ".", "", "train", "test", "a.png", "\0", "~", "x" * 300]), max_size=6)


@given(PARTS.map("/".join))
def test_no_name_reads_anything_outside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    place = tmp_path_factory.mktemp("walk", numbered=True)
    (place / "a.png").write_text("outside")
    put(place / "root", "train/a.png")
    try:
        photo = PhotoFolder(place / "root").find({name: 2})[name]
    except LookupFailedError:
        return
    assert photo.read() == b"train/a.png"
