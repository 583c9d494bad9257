"""The command line as processes: exit codes, Ctrl-C, what a terminal sees and a pipe does not, and what is loaded."""

import io
import os
import pty
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress

import pytest

from app.cli.exits import ExitCode
from app.cli.progress import amount, counting, progress
from tests.service.cli import ask, command, environment, python


@pytest.fixture
def env(tiny_bundle):
    return {"JAGUAR_MODEL": str(tiny_bundle)}


@pytest.fixture
def table(tmp_path, photo):
    """pairs.csv over 0.png to 5.png."""
    for seed in range(6):
        (tmp_path / f"{seed}.png").write_bytes(photo(seed))
    rows = [f"{seed}.png,{(seed + 1) % 6}.png" for seed in range(6)]
    (tmp_path / "pairs.csv").write_text("\n".join(["query_image,gallery_image", *rows, ""]))
    return tmp_path / "pairs.csv"


def test_exit_codes_of_a_process(env, table):
    photos = [table.parent / "0.png", table.parent / "1.png"]
    for words, code in (
        (["similarity", *photos], 0),
        (["similarity", photos[0], table], 2),
        (["similarity", photos[0]], 2),
        (["similarity", *photos, "--no-such-option"], 2),
        (["check", table, "--test", table], 2),
        (["serve", "--port", "99999"], 2),
        (["no-such-command"], 2),
        ([], 2),
        (["--help"], 0),
    ):
        ended = subprocess.run(command(*words), env=environment(**env), capture_output=True, text=True, check=False)
        assert ended.returncode == code, (words, ended.stderr)
        assert "Traceback" not in ended.stderr


def test_every_exit_code_is_documented():
    text = " ".join(ask("--help").out.split())
    for code in ExitCode:
        assert re.search(rf"\b{code.value} ", text.partition("Exit codes:")[2]), code


@pytest.mark.parametrize(
    "words",
    ["serve", "similarity", "rank", "embed", "batch", "submission", "check", "config", "model show", "model verify"],
)
def test_every_command_has_help(words):
    ended = ask(*words.split(), "--help")
    assert ended.code == 0
    assert "Usage:" in ended.out


def test_a_traceback_only_where_it_is_asked_for(env, table):
    words = ("similarity", table.parent / "0.png", table)
    assert "Traceback" not in ask(*words, **env).err
    ended = ask(*words, "--debug", **env)
    assert (ended.code, "Traceback" in ended.err, "UnsupportedFormatError" in ended.err) == (2, True, True)
    ended = ask("similarity", table.parent / "no.png", table, "--debug", **env)
    assert (ended.code, "Traceback" in ended.err) == (2, True)


def test_an_error_of_the_programs_own(env, table, monkeypatch):
    def broken(*_):
        raise RuntimeError("something\nnobody thought of")

    monkeypatch.setattr("app.cli.local.LocalEngine.compare", broken)
    words = ("similarity", table.parent / "0.png", table.parent / "1.png")
    ended = ask(*words, **env)
    assert ended.code == 70
    assert ended.err.splitlines()[0] == (
        "jaguar-reid: an error of the program's own: RuntimeError: something nobody thought of"
    )
    assert "--debug" in ended.err
    assert "Traceback" not in ended.err
    ended = ask(*words, "--debug", **env)
    assert (ended.code, "Traceback" in ended.err, "Please report" in ended.err) == (70, True, False)


def test_many_findings_are_cut_short(env, table):
    rows = [f"{number}.jpg,0.png" for number in range(30)]
    table.write_text("\n".join(["query_image,gallery_image", *rows, ""]))
    lines = ask("batch", table, "--images", table.parent, **env).err.splitlines()
    assert lines[0] == "jaguar-reid: photos that are not in the folder of photos"
    assert lines[1] == "  line 2: '0.jpg'"
    assert lines[21] == "  and 10 more"
    assert len(lines) == 23


@pytest.mark.parametrize("word", ["-", "folder"])
def test_photos_that_are_no_files(env, tmp_path, word):
    (tmp_path / "folder").mkdir()
    ended = ask("similarity", tmp_path / word, tmp_path / word, **env)
    assert (ended.code, str(tmp_path / word) in ended.err) == (2, True)


def test_a_gallery_that_is_a_file(env, table):
    ended = ask("rank", table.parent / "0.png", "--gallery", table, **env)
    assert (ended.code, "is no folder" in ended.err) == (2, True)
    ended = ask("batch", table, "--images", table, **env)
    assert (ended.code, "is no folder" in ended.err) == (2, True)


def test_a_table_that_is_a_folder(env, table):
    ended = ask("batch", table.parent, "--images", table.parent, **env)
    assert (ended.code, "is a folder" in ended.err) == (2, True)


def test_ctrl_c(env, tmp_path, draw, encode):
    """Seconds of work, interrupted: no file, no half of one, no traceback."""
    large = tmp_path / "photos" / "0.png"
    large.parent.mkdir()
    large.write_bytes(encode(draw(1, size=(2000, 1500)), compress_level=1))
    names = [f"{number}.png" for number in range(400)]
    for name in names[1:]:
        os.link(large, large.with_name(name))
    rows = [f"{name},0.png" for name in names]
    (tmp_path / "pairs.csv").write_text("\n".join(["query_image,gallery_image", *rows, ""]))
    words = ("batch", tmp_path / "pairs.csv", "--images", large.parent, "--out", tmp_path / "out.csv")
    process = subprocess.Popen(command(*words), env=environment(**env), stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".out.csv.*.part")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == "jaguar-reid: interrupted; no file was written\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.csv", "photos"]


def on_terminal(words, **env) -> tuple[int, bytes, str]:
    """A command whose standard error is a terminal and whose standard output is not: exit code, and both."""
    near, far = pty.openpty()
    seen = []

    def read() -> None:
        while True:
            with suppress(OSError):  # Linux: EIO where the other side is closed
                if data := os.read(near, 65536):
                    seen.append(data)
                    continue
            return

    more = {"TERM": "xterm-256color", "COLUMNS": "120", **env}
    process = subprocess.Popen(command(*words), env=environment(**more), stdout=subprocess.PIPE, stderr=far)
    os.close(far)
    reader = threading.Thread(target=read)
    reader.start()
    out = process.communicate(timeout=60)[0]
    reader.join(20)
    os.close(near)
    return process.returncode, out, b"".join(seen).decode()


def test_a_terminal_sees_a_bar_and_a_pipe_does_not(env, table):
    words = ["batch", table, "--images", table.parent]
    plain = subprocess.run(command(*words), env=environment(**env), capture_output=True, check=True)
    assert plain.stderr == b""
    code, out, seen = on_terminal(words, **env)
    assert code == 0
    assert out == plain.stdout
    assert out.count(b"\n") == 7
    assert "photos" in seen
    assert "6/6" in seen
    assert re.search(r"\d:\d\d:\d\d", seen)  # the time left


class Terminal(io.StringIO):
    """Standard error, as far as a bar asks it."""

    def isatty(self) -> bool:
        return True


def test_a_bar_starts_anew_with_what_is_counted(monkeypatch):
    """Bytes that were sent tell nothing of how long photos take."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with progress() as tell:
        tell(500_000, 2_000_000, "sending")
        tell(0, 0, "waiting")
        embedded = counting(tell, 3, "photos")
        for _ in range(3):
            embedded()
    text = screen.getvalue()
    assert "photos 3/3" in text
    assert "100%" in text
    assert "\x1b[2K" in text  # it is gone afterwards


def test_amounts_are_told_in_their_units():
    assert amount(500_000, 2_000_000, "sending") == "0.5/2.0 MB"
    assert amount(3, 7, "photos") == "3/7"


def test_errors_are_red_on_a_terminal_alone(env, table):
    words = ["similarity", table.parent / "0.png", table]
    assert "\x1b" not in ask(*words, **env).err
    code, _, seen = on_terminal(words, **env)
    assert (code, "\x1b[31mjaguar-reid: " in seen) == (2, True)


@pytest.mark.parametrize(
    ("words", "unloaded"),
    [
        ("similarity 0.png 1.png", "fastapi uvicorn starlette prometheus_client rich httpx2 torch app.main app.client"),
        ("config", "fastapi uvicorn starlette prometheus_client rich httpx2 torch"),
        ("--show-completion bash", "numpy onnxruntime app.settings"),
    ],
)
def test_a_command_loads_no_more_than_it_needs(env, table, words, unloaded):
    """`similarity` answers in less than 1.5 s because of this; 0.7 s were measured."""
    asked = [str(table.parent / word) if word.endswith(".png") else word for word in words.split()]
    code = (
        "import sys; from app.cli import app\n"
        f"try: app({asked!r})\nexcept SystemExit as ended:\n    if ended.code: raise\n"
        f"sys.exit(', '.join(name for name in {unloaded.split()!r} if name in sys.modules))"
    )
    ended = python(code, **env)
    assert ended.stderr.strip() == ""


def test_completion_for_every_shell():
    for shell in ("bash", "zsh", "fish"):
        words = {"_JAGUAR_REID_COMPLETE": f"source_{shell}"}
        ended = python("from app.cli import app; app(prog_name='jaguar-reid')", **words)
        assert (ended.returncode, "jaguar-reid" in ended.stdout) == (0, True)
    words = {"_JAGUAR_REID_COMPLETE": "complete_bash", "COMP_WORDS": "jaguar-reid su", "COMP_CWORD": "1"}
    assert python("from app.cli import app; app(prog_name='jaguar-reid')", **words).stdout.split() == ["submission"]
