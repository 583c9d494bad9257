"""Durable writing: what is there afterwards, and that the system was asked to keep it."""

import os
from pathlib import Path

import pytest

from app.reid.durable import sync_folder, write_synced


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[os.stat_result]:
    """What was synced, in order; syncing still happens."""
    seen: list[os.stat_result] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        real(descriptor)
        seen.append(os.fstat(descriptor))

    monkeypatch.setattr(os, "fsync", watched)
    return seen


def test_a_file_is_whole_when_it_is_synced(tmp_path: Path, synced: list[os.stat_result]) -> None:
    write_synced(tmp_path / "a", b"four")
    write_synced(tmp_path / "a", b"five!")
    assert (tmp_path / "a").read_bytes() == b"five!"
    assert [(found.st_ino, found.st_size) for found in synced] == [
        ((tmp_path / "a").stat().st_ino, size) for size in (4, 5)
    ]


def test_a_folder_is_synced_and_closed(tmp_path: Path, synced: list[os.stat_result]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sync_folder(tmp_path)
    assert [found.st_ino for found in synced] == [tmp_path.stat().st_ino]
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "gone")
    assert len(os.listdir("/proc/self/fd")) == before
