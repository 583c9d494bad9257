"""How the tool's commands end: a sentence and a status; only a fault of the program's own keeps its traceback."""

import errno
from pathlib import Path

import pytest
import typer

from training.cli.exits import exit_codes


@pytest.mark.parametrize(("place", "why"), [("no/x.json", "no such file or directory"), (".", "is a directory")])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys, place: str, why: str):
    with pytest.raises(typer.Exit) as ended, exit_codes():
        (tmp_path / place).write_text("{}")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == f"jaguar-train: {tmp_path / place} cannot be used: {why}; name another place\n"


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), ZeroDivisionError("division by zero")])
def test_other_errors_keep_their_traceback(error: Exception):
    with pytest.raises(type(error)), exit_codes():
        raise error
