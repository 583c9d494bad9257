"""`jaguar-train coats`."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.exits import exit_codes
from training.cli.output import progress
from training.coats import KINDS, SIZE, Look, draw_dataset, kinds_of


def coats(
    folder: Annotated[Path, typer.Option("--out", help="The folder to draw into; it must be new or empty.")],
    identities: Annotated[int, typer.Option(help="Animals to train on.")] = 31,
    photos: Annotated[int, typer.Option(help="Training photos of each.")] = 60,
    test: Annotated[int, typer.Option(help="Test photos.")] = 371,
    seed: Annotated[int, typer.Option(help="The same seed draws the same files.")] = 0,
    size: Annotated[
        tuple[int, int], typer.Option(metavar="W H", help="Width and height in pixels, from which photos vary.")
    ] = SIZE,
    kinds: Annotated[str, typer.Option(help=f"Coats, with commas between: {', '.join(KINDS)}.")] = "rosettes",
    alike: Annotated[int, typer.Option(help="Animals of a species: these differ in arrangement alone.")] = 1,
) -> None:
    """Draw a data set of invented jaguars in the competition's layout."""
    with exit_codes(), progress() as bar:
        task = bar.add_task("drawing", total=None)
        draw_dataset(
            folder,
            identities=identities,
            photos=photos,
            test=test,
            seed=seed,
            look=Look(size, kinds_of(kinds), alike),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
