"""The service over the tiny bundle, with any settings and any runtime."""

import io
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.reid.embedder import LoadedModel, load_model
from app.reid.runtime import Runtime
from app.settings import Settings

Service = Callable[..., TestClient]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have JAGUAR_ variables set."""
    for name in [name for name in os.environ if name.upper().startswith("JAGUAR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def service(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`service(runtime=None, model=None, **settings)` -> a client of a fresh service; errors come back as answers.

    Each has a `state` of its own, unless it is given one.
    """
    with ExitStack() as stack:

        def start(runtime: Runtime | None = None, model: LoadedModel | None = None, **values: object) -> TestClient:
            settings = Settings.model_validate({"state": tmp_path_factory.mktemp("state"), **values})
            loaded = model or load_model(tiny_bundle, max_pixels=settings.max_pixels)
            if runtime is not None:
                loaded = replace(loaded, embedder=replace(loaded.embedder, runtime=runtime))
            return stack.enter_context(TestClient(create_app(settings, loaded), raise_server_exceptions=False))

        yield start


@pytest.fixture
def server(tiny_bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """`server(**environment)` -> the address of a real server process, ended after the test; `.processes` has it.

    `tmp_path` is its TMPDIR and holds its log; what it keeps (JAGUAR_STATE) lies elsewhere. `launcher` is what python
    runs before the CLI's words.
    """
    root = Path(__file__).parents[2]
    with ExitStack() as stack:

        def start(launcher: Sequence[str] = ("-m", "app.cli"), **environment: str) -> str:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            command = [sys.executable, *launcher, "serve", "--port", str(port)]
            settings = {
                "JAGUAR_MODEL": str(tiny_bundle),
                "JAGUAR_STATE": str(tmp_path_factory.mktemp("state")),
                "PYTHONPATH": str(root),
                "TMPDIR": str(tmp_path),
            }
            log = stack.enter_context((tmp_path / "server.log").open("w"))
            process = subprocess.Popen(command, env={**os.environ, **settings, **environment}, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            start.processes.append(process)
            _wait_until_live(port, process)
            return f"http://127.0.0.1:{port}"

        start.processes = []
        yield start


def _wait_until_live(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"the server did not start; it ended with {process.poll()}")


@pytest.fixture(scope="session")
def photo(draw, encode) -> Callable[[int], bytes]:
    """`photo(seed)` -> a small PNG's bytes, another for every seed."""
    return lambda seed: encode(draw(seed))


@pytest.fixture(scope="session")
def zipped() -> Callable[..., bytes]:
    """`zipped({name or ZipInfo: bytes}, compression)` -> a zip's bytes."""

    def pack(members: dict[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    return pack


@pytest.fixture(scope="session")
def embedded() -> Callable[[TestClient], int]:
    """`embedded(client)` -> how many photos went through the network, as /metrics tells it."""

    def count(client: TestClient) -> int:
        lines = client.get("/metrics").text.splitlines()
        return int(float(next(line.split()[1] for line in lines if line.startswith("jaguar_images_embedded_total "))))

    return count


@pytest.fixture(scope="session")
def assert_problem() -> Callable[..., dict]:
    """`assert_problem(response, status, slug)` -> the problem's body, after looking at all that every problem has."""

    def check(response, status: int, slug: str) -> dict:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert set(body) == {"type", "title", "status", "detail", "request_id", "problems"}
        assert body["type"] == f"urn:jaguar-reid:problem:{slug}"
        assert body["status"] == status
        assert body["title"]
        assert body["detail"]
        assert body["request_id"] == response.headers["x-request-id"]
        assert "Traceback" not in response.text
        assert "/tmp" not in response.text
        return body

    return check
