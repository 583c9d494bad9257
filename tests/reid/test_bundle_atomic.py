"""A bundle under a save that is killed, or that the disk stops: the old one or the new one, never a mixture."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.reid import bundle as module
from app.reid.bundle import MANIFEST, ONNX_WEIGHTS, TORCH_WEIGHTS, file_entry, open_bundle, save_bundle
from app.reid.errors import BundleError
from tests.conftest import tiny_manifest

SAVER = """
import itertools, sys
from pathlib import Path
from app.reid.bundle import Manifest, file_entry, save_bundle
folder, manifest = Path(sys.argv[1]), Manifest.model_validate_json(Path(sys.argv[2]).read_text())
print("ready", flush=True)
for number in itertools.count(1):
    data = {name: (b"%06d" % number) * 50_000 for name in ("model.onnx", "model.safetensors")}
    files = {name: file_entry(content) for name, content in data.items()}
    save_bundle(folder, manifest.model_copy(update={"name": str(number), "files": files}), data)
"""


def save(folder: Path, number: int, size: int = 6) -> None:
    """A bundle whose name and both of whose weight files say the same number."""
    data = dict.fromkeys((ONNX_WEIGHTS, TORCH_WEIGHTS), (b"%06d" % number) * (size // 6))
    files = {name: file_entry(content) for name, content in data.items()}
    save_bundle(folder, tiny_manifest(b"x").model_copy(update={"name": str(number), "files": files}), data)


def number_of(folder: Path) -> int:
    """The number that every part of a bundle agrees on."""
    bundle = open_bundle(folder)
    numbers = {int(bundle.manifest.name), *(int(bundle.read(name)[:6]) for name in bundle.manifest.files)}
    assert len(numbers) == 1
    return numbers.pop()


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)


def test_killed_at_random_moments_it_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    """One process saves bundle after bundle and is killed with -9, twelve times; what is left always loads."""
    folder, draft = tmp_path / "store" / "jaguar", tmp_path / "manifest.json"
    save(folder, 0)
    draft.write_text(tiny_manifest(b"x").model_dump_json())
    moments = random.Random(0)
    seen = 0
    for _ in range(12):
        command = [sys.executable, "-c", SAVER, str(folder), str(draft)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.06))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        seen = max(seen, number_of(folder))
    assert seen > 0
    save(folder, 7)
    assert number_of(folder) == 7
    assert left_over(folder) == []


class Stopped(BaseException):
    """Stands for the kill: nothing in the engine catches it."""


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, type[BaseException]], None]]:
    """`stop_at(n, kind)`: the n-th call that changes the disk raises instead."""
    calls = {"left": -1}

    def arm(count: int, kind: type[BaseException]) -> None:
        calls["left"] = count

        def wrap(owner: object, name: str) -> None:
            real = getattr(owner, name)

            def counted(*args: object, **kwargs: object) -> object:
                calls["left"] -= 1
                if calls["left"] == 0:
                    raise kind(28, "No space left on device")
                return real(*args, **kwargs)

            monkeypatch.setattr(owner, name, counted)

        wrap(module.tempfile, "mkdtemp")
        wrap(os, "fsync")
        wrap(module.shutil, "rmtree")
        wrap(Path, "rename")
        wrap(Path, "open")

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("former", [True, False])
def test_stopped_before_each_single_step_it_loads_or_was_never_there(
    tmp_path: Path, stop_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch, former: bool
) -> None:
    outcomes = set()
    for step in range(1, 40):
        folder = tmp_path / str(step) / "jaguar"
        if former:
            save(folder, 1)
        stop_at(step, Stopped)
        try:
            save(folder, 2)
            finished = True
        except Stopped:
            finished = False
        monkeypatch.undo()
        if former or finished or folder.exists():
            outcomes.add(number_of(folder))
        save(folder, 3)
        assert number_of(folder) == 3
        assert left_over(folder) == []
        if finished:
            break
    else:
        pytest.fail("a save takes fewer than 40 steps")
    assert outcomes == ({1, 2} if former else {2})


def test_an_error_at_each_single_step_keeps_the_former_bundle_and_leaves_no_rubbish(
    tmp_path: Path, stop_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = []
    for step in range(1, 40):
        folder = tmp_path / str(step) / "jaguar"
        save(folder, 1)
        stop_at(step, OSError)
        try:
            save(folder, 2)
            finished = True
        except BundleError as error:
            finished = False
            sentences.append(str(error))
        monkeypatch.undo()
        assert number_of(folder) in {1, 2}
        assert not [name for name in left_over(folder) if ".new-" in name]
        if finished:
            break
    assert len(sentences) >= 8
    assert set(sentences) == {"bundle jaguar cannot be saved: No space left on device; the former one stays"}


def test_a_full_disk_keeps_the_former_bundle(small_disk: Path) -> None:
    folder = small_disk / "jaguar"
    save(folder, 1, size=240_000)
    free = shutil.disk_usage(small_disk).free
    with pytest.raises(BundleError, match="cannot be saved: No space left on device; the former one stays"):
        save(folder, 2, size=720_000)
    assert number_of(folder) == 1
    assert left_over(folder) == []
    assert shutil.disk_usage(small_disk).free == free
    save(folder, 3)
    assert number_of(folder) == 3


def test_a_limit_on_file_size_keeps_the_former_bundle(tmp_path: Path) -> None:
    """The same where nothing can be mounted: the system refuses to let a file grow."""
    folder = tmp_path / "jaguar"
    save(folder, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(BundleError, match="cannot be saved: File too large; the former one stays"):
            save(folder, 2, size=600_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert number_of(folder) == 1
    assert left_over(folder) == []


def test_a_place_that_cannot_be_written_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="bundle jaguar cannot be saved: (Not a directory|File exists)"):
        save(tmp_path / "file" / "jaguar", 1)


def test_what_a_killed_save_left_beside_other_bundles_is_swept_and_they_are_not(tmp_path: Path) -> None:
    save(tmp_path / "jaguar", 1)
    save(tmp_path / "jaguar[2]", 2)
    (tmp_path / ".jaguar.new-abc").mkdir()
    (tmp_path / ".jaguar.new-abc" / MANIFEST).write_text("{}")
    (tmp_path / ".jaguar[2].new-abc").mkdir()
    save(tmp_path / "jaguar[2]", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".jaguar.new-abc", "jaguar", "jaguar[2]"]
    save(tmp_path / "jaguar", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jaguar", "jaguar[2]"]
    assert (number_of(tmp_path / "jaguar"), number_of(tmp_path / "jaguar[2]")) == (4, 3)
