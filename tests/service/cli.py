"""The command line as tests ask it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from app.cli import app

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ask(*words: object, **environment: str) -> Ended:
    """A command in this process, its exit code as the console script would end with."""
    result = CliRunner().invoke(app, [str(word) for word in words], env=environment)
    return Ended(result.exit_code, result.stdout, result.stderr)


def ask_bytes(*words: object, **environment: str) -> bytes:
    """What a command that succeeds writes to standard output, to the byte."""
    result = CliRunner().invoke(app, [str(word) for word in words], env=environment)
    assert result.exit_code == 0, result.stderr
    return result.stdout_bytes


def command(*words: object) -> list[str]:
    """The same for a process of its own."""
    return [sys.executable, "-m", "app.cli", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """For a process that may start anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def python(code: str, **more: str) -> subprocess.CompletedProcess:
    """A piece of Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(**more), capture_output=True, text=True, check=False
    )
