"""`jaguar-train evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from app.reid.bundle import MANIFEST
from app.reid.errors import ConfigError
from training.cli.exits import exit_codes
from training.cli.options import Bundle, Data
from training.cli.output import out, progress
from training.evaluate import measure_bundle
from training.report import write_report


def evaluate(
    bundle: Bundle,
    data: Data,
    within: Annotated[str | None, typer.Option(help="A column; a photo's gallery shares its value.")] = None,
    target: Annotated[
        Path | None,
        typer.Option("--out", help="FILE.json gets the figures; a folder gets report.html and report.json."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="A folder for report.html and report.json.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run's folder, for the spread of its seeds; runs/NAME by default.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Examine the heat maps as well: some minutes more.")
    ] = False,
) -> None:
    """Measure a bundle on photos with names."""
    with exit_codes():
        file, folders = _places(target, report)
        with progress() as bar:
            task = bar.add_task("embedding", total=None)

            def stage(words: str, done: int, total: int) -> None:
                bar.update(task, description=words, completed=done, total=total or None)

            measured = measure_bundle(
                bundle,
                data,
                within=within,
                explain=explain,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
            for folder in folders:
                write_report(measured, folder, run=run or Path("runs") / bundle.name, stage=stage)
        text = json.dumps(measured.figures, indent=2)
        if file:
            file.write_text(text + "\n", encoding="utf-8")
        out.print_json(text)


def _places(target: Path | None, report: Path | None) -> tuple[Path | None, list[Path]]:
    """The file for the figures, and the folders for reports. A name without an ending is a folder's.

    Raises:
        ConfigError: a folder is a file, or a bundle's, which an evaluation leaves as it is.
    """
    file = target if target and not target.is_dir() and (target.suffix or target.is_file()) else None
    folders = [folder for folder in (None if file else target, report) if folder]
    for folder in folders:
        if (folder / MANIFEST).exists():
            raise ConfigError(f"{folder} is a bundle, and an evaluation changes none; name another folder")
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"--report {folder}: a file of that name is there; name a folder")
    return file, folders
