"""The console script: what stops the start, in one line, and how it ends."""

import json
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import httpx2
import pytest
from typer.testing import CliRunner

from app.cli import app
from app.reid.runtime import OnnxRuntime


def failed(result) -> str:
    """The one line that a start which failed left."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("jaguar-reid: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def broken(tiny_bundle, tmp_path):
    """A copy of the tiny bundle to be broken."""
    return shutil.copytree(tiny_bundle, tmp_path / "store" / "broken")


def test_missing_bundle(tmp_path):
    line = failed(
        CliRunner().invoke(app, ["serve"], env={"JAGUAR_MODEL": "nowhere", "JAGUAR_MODEL_STORE": str(tmp_path)})
    )
    assert "no bundle nowhere" in line


def test_weights_of_another_hash(broken):
    (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:-1] + b"!")
    line = failed(CliRunner().invoke(app, ["serve"], env={"JAGUAR_MODEL": str(broken)}))
    assert "another sha256" in line


def test_manifest_that_is_none(broken):
    (broken / "manifest.json").write_text(json.dumps({"format": "something\nelse"}))
    failed(CliRunner().invoke(app, ["serve"], env={"JAGUAR_MODEL": str(broken)}))


def test_unknown_setting(tiny_bundle):
    line = failed(CliRunner().invoke(app, ["serve"], env={"JAGUAR_MODEL": str(tiny_bundle), "JAGUAR_MAX_FILE": "3"}))
    assert "did you mean JAGUAR_MAX_FILES?" in line


def test_image_root_that_is_no_folder(tiny_bundle):
    env = {"JAGUAR_MODEL": str(tiny_bundle), "JAGUAR_IMAGE_ROOT": str(tiny_bundle / "manifest.json")}
    assert "is not a folder" in failed(CliRunner().invoke(app, ["serve"], env=env))


def test_state_that_cannot_be_used(tiny_bundle, tmp_path):
    (tmp_path / "state").write_text("no folder")
    env = {"JAGUAR_MODEL": str(tiny_bundle), "JAGUAR_STATE": str(tmp_path / "state")}
    failed(CliRunner().invoke(app, ["serve"], env=env))


@pytest.fixture
def env(tiny_bundle, tmp_path):
    return {
        "JAGUAR_MODEL": "tiny",
        "JAGUAR_MODEL_STORE": str(tiny_bundle.parent),
        "JAGUAR_STATE": str(tmp_path / "state"),
    }


@pytest.fixture
def _own_process():
    """What `serve` changes for its whole process is put back."""
    root = logging.getLogger()
    loggers = [root, logging.getLogger("uvicorn.access"), logging.getLogger("asgi_correlation_id")]
    before = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    hangup, files = signal.getsignal(signal.SIGHUP), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)
    signal.signal(signal.SIGHUP, hangup)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize("busy", [False, True])
def test_serve_answers_until_it_is_told_to_stop(env, photo, busy, monkeypatch):
    """In this very process: what it answers, and that it leaves at once where a thread would keep it."""
    ended, answers, networks = [], [], threading.Event()
    monkeypatch.setattr("app.cli.serving.os._exit", ended.append)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if busy:
        inner = OnnxRuntime.run
        monkeypatch.setattr(
            "app.reid.runtime.OnnxRuntime.run",
            lambda self, images: (answers and networks.wait(20), inner(self, images))[1],
        )
        env["JAGUAR_GRACE_S"] = "0.2"

    def ask():
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(httpx2.TransportError):
                answers.append(httpx2.get(f"{address}/model"))
                break
            time.sleep(0.02)
        threading.Timer(0.3 if busy else 0, os.kill, (os.getpid(), signal.SIGTERM)).start()
        if busy:
            answers.append(httpx2.post(f"{address}/embed", files={"images": photo(1)}))

    asking = threading.Thread(target=ask)
    asking.start()
    result = CliRunner().invoke(app, ["serve", "--port", str(port)], env=env)
    networks.set()
    asking.join(20)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("jaguar-reid: bundle tiny, model_version ")
    assert answers[0].json()["name"] == "tiny"
    assert [answer.status_code for answer in answers] == ([200, 503] if busy else [200])
    assert ended == ([0] if busy else [])


@pytest.mark.usefixtures("_own_process")
@pytest.mark.parametrize("busy", [False, True])
def test_only_a_thread_that_never_returns_is_not_waited_for(env, busy, monkeypatch):
    ended = []
    monkeypatch.setattr("app.cli.serving.os._exit", ended.append)
    monkeypatch.setattr("app.cli.serving.Server.run_until_ended", lambda self: None)
    monkeypatch.setattr("app.workers.Workers.busy", busy)
    assert CliRunner().invoke(app, ["serve"], env=env).exit_code == 0
    assert ended == ([0] if busy else [])


def test_a_port_that_is_taken_ends_with_status_3_and_says_so(env):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "app.cli", "serve", "--port", port]
        ended = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert "address already in use" in ended.stderr
    assert f"could not start on 127.0.0.1, port {port}" in ended.stderr.splitlines()[-1]
    assert "--port" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_service_imports_no_torch():
    code = "import sys, app.cli; sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'training')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
