"""schemathesis asks everything that the OpenAPI page allows and much that it forbids; every answer is as the page says.

The server asks for keys; all is asked with the admin's, so that reloading the bundle is among it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.reid.placed import save_placed

KEY = "of-the-admin"


def test_schemathesis_finds_nothing(server, tmp_path):
    pytest.importorskip("schemathesis")
    here = Path(__file__).parent
    keys = {"JAGUAR_API_KEYS": "of-somebody", "JAGUAR_ADMIN_KEY": KEY}
    address = server(JAGUAR_MODEL=str(save_placed(tmp_path / "placed")), **keys)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(here / "schemathesis.toml"), "run"]
    log = tmp_path / "asked.har"
    finished = subprocess.run(
        [*command, f"{address}/openapi.json", "--checks", "all", "-H", f"X-API-Key: {KEY}", "--report-har-path", log],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(here), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"},
    )
    assert finished.returncode == 0, finished.stdout
    good = documented(address)
    calls = len({answer[:2] for answer in good})
    assert f"{calls} selected / {calls} total" in finished.stdout
    assert good - seen(log) == set()


def documented(address: str) -> set[tuple[str, str, int]]:
    """Method, path and status of every good answer on the page."""
    request = Request(f"{address}/openapi.json", headers={"X-API-Key": KEY})
    with urlopen(request) as answer:
        page = json.load(answer)
    return {
        (method.upper(), path, int(status))
        for path, methods in page["paths"].items()
        for method, call in methods.items()
        for status in call["responses"]
        if status.startswith("2")
    }


def seen(log: Path) -> set[tuple[str, str, int]]:
    """The same of every answer that came."""
    entries = json.loads(log.read_text())["log"]["entries"]
    return {
        (
            entry["request"]["method"],
            re.sub(r"^/jobs/[^/]+", "/jobs/{id}", urlsplit(entry["request"]["url"]).path),
            entry["response"]["status"],
        )
        for entry in entries
    }
