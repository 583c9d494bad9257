"""The OpenAPI page: complete, and kept to. schemathesis asks everything that it can think of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = {
    "/similarity": "post",
    "/embed": "post",
    "/similarity/batch": "post",
    "/submission": "post",
    "/model": "get",
    "/health/live": "get",
    "/health/ready": "get",
    "/metrics": "get",
}
TABLES = {"/submission": True, "/similarity/batch": True, "/embed": False, "/similarity": False}
PROBLEMS = {
    "/similarity": {"400", "413", "415", "422", "500", "503"},
    "/embed": {"400", "413", "415", "422", "500", "503"},
    "/similarity/batch": {"400", "413", "415", "422", "500", "503"},
    "/submission": {"400", "413", "415", "422", "500", "503"},
    "/model": {"500"},
    "/health/live": {"500"},
    "/health/ready": {"500", "503"},
    "/metrics": {"500"},
}


def test_every_call_has_an_example_and_its_problems(service):
    page = service().get("/openapi.json").json()
    assert {path: next(iter(methods)) for path, methods in page["paths"].items()} == CALLS
    for path, method in CALLS.items():
        answers = page["paths"][path][method]["responses"]
        assert set(answers) == {"200", *PROBLEMS[path]}
        for status in PROBLEMS[path]:
            [(media_type, content)] = answers[status]["content"].items()
            assert media_type == "application/problem+json"
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert {example["value"]["status"] for example in content["examples"].values()} == {int(status)}
        if not path.startswith("/health"):
            assert any("example" in content for content in answers["200"]["content"].values())
    assert "Problem" in page["components"]["schemas"]
    refusals = {path: page["paths"][path]["post"]["responses"]["422"]["content"][media_type] for path in TABLES}
    assert {path: "unknown-image" in content["examples"] for path, content in refusals.items()} == TABLES


def test_schemathesis_finds_nothing(server, tmp_path):
    pytest.importorskip("schemathesis")
    here = Path(__file__).parent
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(here / "schemathesis.toml"), "run"]
    finished = subprocess.run(
        [*command, f"{server()}/openapi.json", "--checks", "all"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(here), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"},
    )
    assert finished.returncode == 0, finished.stdout
    assert "8 selected / 8 total" in finished.stdout
