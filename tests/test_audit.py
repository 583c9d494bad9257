"""`make audit`: what a vulnerability service says is told, and an audit that did not take place is not a clean one."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.audit import NotAuditedError, report

pytest.importorskip("pip_audit")

FLAW = {"id": "GHSA-0000", "modified": "2026-01-01T00:00:00Z", "summary": "x", "details": "x"}
RANGES = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.3"}]}]


@contextmanager
def service(flawed: str) -> Iterator[tuple[str, list[dict]]]:
    """A vulnerability service after OSV's manner on this machine, and what it was asked."""
    asked = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            package = asked[-1]["package"]
            flaw = {**FLAW, "affected": [{"package": package, "ranges": RANGES}]}
            body = json.dumps({"vulns": [flaw]} if package["name"] == flawed else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        server.shutdown()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Two packages and this project, as pip leaves them behind."""
    for name, version in (("Some_Package", "1.2+cpu"), ("other", "3"), ("jaguar_reid", "0.1.0")):
        place = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return tmp_path / "env"


def audit(environment: Path, address: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parent / "audit.py"
    command = [sys.executable, script, environment, "--", "-s", "osv", "--osv-url", address]
    here = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=here)


def test_nothing_known(environment: Path) -> None:
    with service("none") as (address, asked):
        done = audit(environment, address)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{environment}: 2 packages\nnothing is known against any of them\n" in done.stdout
    assert sorted((one["package"]["name"], one["version"]) for one in asked) == [
        ("other", "3"),
        ("some-package", "1.2"),
    ]
    assert "not asked about: " in done.stdout
    assert "fastapi" in done.stdout


def test_what_is_known_is_told(environment: Path) -> None:
    with service("some-package") as (address, _):
        done = audit(environment, address)
    assert done.returncode == 1
    assert "  some-package 1.2: GHSA-0000, fixed in 1.3\nsomething is known against 1 packages\n" in done.stdout


def test_no_service_is_one_sentence_that_helps(environment: Path) -> None:
    with service("none") as (address, _):
        pass  # its port is closed from here on
    done = audit(environment, address)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("The audit did not take place: no vulnerability service answered (")
    assert "pypi.org can be reached" in done.stderr


def test_no_environment_is_one_sentence(tmp_path: Path) -> None:
    done = audit(tmp_path / "gone", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.startswith(f"The audit did not take place: there is no environment {tmp_path / 'gone'}; ")
    assert len(done.stderr.splitlines()) == 1


def test_a_service_that_does_not_know_the_packages_is_no_audit() -> None:
    """A mirror of packages answers 404 to every question; pip-audit takes that for well."""
    known = {"name": "a", "version": "1", "vulns": []}
    assert report([known]) == 0
    with pytest.raises(NotAuditedError, match=r"does not know 6 of 7 packages \(b, c, d, e, f and 1 more\)"):
        report([known, *({"name": name, "skip_reason": "not found"} for name in "bcdefg")])
