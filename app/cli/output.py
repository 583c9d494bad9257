"""What commands print: JSON for programs, aligned columns for people."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer


def print_json(value: object) -> None:
    """JSON, in ASCII, so that file names of any bytes can be printed."""
    typer.echo(json.dumps(value, indent=2))


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Rows of equally many texts, the first row of them the header; all but the last column aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        typer.echo("  ".join([*cells, row[-1]]))


def plain(path: Path | str) -> str:
    """A name as it is where it can be printed, escaped and in quotes where it cannot."""
    text = str(path)
    return text if text.isprintable() else repr(text)
