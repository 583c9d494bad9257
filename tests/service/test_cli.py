"""The console script: what stops the start, in one line."""

import json
import shutil
import subprocess
import sys

import pytest
import uvicorn
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli import app


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


def test_serve_hands_the_whole_service_to_uvicorn(tiny_bundle, monkeypatch):
    given = {}
    monkeypatch.setattr(uvicorn, "run", lambda asgi, **options: given.update(options, asgi=asgi))
    env = {"JAGUAR_MODEL": "tiny", "JAGUAR_MODEL_STORE": str(tiny_bundle.parent)}
    result = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0", "--port", "8123"], env=env)
    assert result.exit_code == 0, result.stderr
    assert (given["host"], given["port"]) == ("0.0.0.0", 8123)
    assert result.stderr.startswith("jaguar-reid: bundle tiny, model_version ")
    with TestClient(given["asgi"]) as client:
        assert client.get("/model").json()["name"] == "tiny"


def test_service_imports_no_torch():
    code = "import sys, app.cli; sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'training')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
