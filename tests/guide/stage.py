"""A scratch copy of the project where a reader's commands can be run, and the shell that runs them."""

import os
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from PIL import Image

from tests.guide.blocks import ROOT
from tests.guide.differences import TINY

COPIED = (
    "app", "training", "model_store", "docker", "Makefile", "README.md", "LICENSE", "pyproject.toml",
    "docker-compose.yml",
    ".dockerignore",
)  # fmt: skip
IMAGE_TAG = "guide"  # so that no image of the caller's is replaced
SHELL = """\
set -euo pipefail
started=()
until_ready() {  # a service in the background: waits until it answers
    "$@" >"service-$PORT.log" 2>&1 &
    started+=($!)
    for _ in $(seq 600); do
        if curl -sf -o ready.txt "http://127.0.0.1:$PORT/health/ready"; then return; fi
        if ! kill -0 $! 2>/dev/null; then break; fi
        sleep 0.1
    done
    cat "service-$PORT.log" >&2
    return 1
}
finish() {
    local status=$? process
    for process in "${started[@]}"; do
        kill -TERM "$process" && wait "$process" || true
    done
    exit "$status"
}
trap finish EXIT
"""


def is_full() -> bool:
    """Whether the blocks that train or serve are run as well: GUIDE=full."""
    return os.environ.get("GUIDE") == "full"


class Stage:
    """The scratch copy's folder."""

    def __init__(self, folder: Path) -> None:
        """Copies what a clone has and the README uses; links to the packages of the interpreter that runs this."""
        self.folder = folder
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*.part"))
            else:
                shutil.copy2(ROOT / name, folder / name)
        service = ROOT / ".venv" if is_full() and (ROOT / ".venv" / "ready").exists() else Path(sys.prefix)
        self._link_environment(folder / ".venv", service)
        self._link_environment(folder / ".venv-dev", Path(sys.prefix))
        self._write_config(folder / "guide.toml")

    @staticmethod
    def _link_environment(place: Path, packages: Path) -> None:
        place.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (place / name).symlink_to(packages / name)
        (place / "ready").touch()  # newer than pyproject.toml, so that make installs nothing

    @staticmethod
    def _write_config(file: Path) -> None:
        values = tomllib.loads((ROOT / "training" / "configs" / "convnext_atto.toml").read_text(encoding="utf-8"))
        for (table, key), value in TINY.items():
            values.setdefault(table, {})[key] = value
        plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
        lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
        for table in values.keys() - plain.keys():
            lines += [f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in values[table].items())]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def draw(self, identities: int, photos: int, test: int) -> None:
        """Drawn jaguars as a reader has photos: data/, jaguar-re-id.zip, photos/, a.jpg and b.jpg."""
        counts = ("--identities", str(identities), "--photos", str(photos), "--test", str(test))
        draw = [sys.executable, "-m", "training", "coats", "--out", "data", *counts]
        subprocess.run(draw, cwd=self.folder, env=self.environment(), check=True, capture_output=True)
        drawn = sorted((self.folder / "data" / "test" / "test").glob("*.png"))
        (self.folder / "photos").mkdir()
        for number, path in enumerate(drawn[:4]):
            with Image.open(path) as picture:
                picture.convert("RGB").save(self.folder / "photos" / f"{number}.jpg")
        for name, number in (("a.jpg", 0), ("b.jpg", 1)):
            shutil.copy(self.folder / "photos" / f"{number}.jpg", self.folder / name)
        with zipfile.ZipFile(self.folder / "jaguar-re-id.zip", "w") as archive:
            for path in sorted((self.folder / "data").rglob("*")):
                archive.write(path, path.relative_to(self.folder / "data"))

        self._lay_bare()

    def _lay_bare(self) -> None:
        """animals/: the training photos beside their train.csv, as a biologist may have them."""
        animals, data = self.folder / "animals", self.folder / "data"
        shutil.copytree(data / "train" / "train", animals)
        shutil.copy(data / "train.csv", animals)

    def environment(self, port: int | None = None) -> dict[str, str]:
        """A reader's: no JAGUAR_ variable of the caller's, and nothing that goes to a proxy."""
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("JAGUAR_")}
        ours = {"PYTHONPATH": str(self.folder), "CONFIG": "guide.toml", "NO_PROXY": "*", "OMP_NUM_THREADS": "1"}
        ours |= {"IMAGE_TAG": IMAGE_TAG, "COMPOSE_PROJECT_NAME": "jaguar-guide"}
        return {**inherited, **ours, "PORT": str(port or free_port())}

    def run(self, text: str, language: str, port: int) -> subprocess.CompletedProcess[str]:
        """A block through bash, which stops at the first command that fails, or through Python."""
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-c", SHELL + text]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment(port), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=900)
            finally:
                _end_group(process.pid)
        return subprocess.CompletedProcess(text, process.returncode, out, err)


def _end_group(leader: int) -> None:
    """Ends whatever a block has left behind, by the group that it was started in."""
    try:
        os.killpg(leader, 9)
    except ProcessLookupError:
        return


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in value.items())} }}"
    return f'"{value}"' if isinstance(value, str) else repr(value)
