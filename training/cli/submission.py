"""`jaguar-train submission`."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.exits import exit_codes
from training.cli.output import out, progress
from training.submission import TEST_CSV, read_test_pairs, write_submission


def submission(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles' folders, for example the models of the folds.")],
    data: Annotated[Path, typer.Option("--data", help="Folder with the test photos.")],
    target: Annotated[Path, typer.Option("--out", help="The submission; a file there is replaced.")],
    test: Annotated[
        Path | None, typer.Option("--test", help="The competition's table; DATA/test.csv by default.")
    ] = None,
) -> None:
    """Write a submission from several bundles: each pair's cosines are averaged."""
    with exit_codes():
        pairs = read_test_pairs(test or data / TEST_CSV, data)
        with progress() as bar:
            task = bar.add_task("embedding", total=None)
            write_submission(
                bundles, pairs, target, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        out.print(f"{len(bundles)} bundles averaged: {target}", highlight=False, soft_wrap=True)
