"""`jaguar-train quantize`."""

from typing import Annotated

import typer
from rich.table import Table

from training.cli.exits import exit_codes
from training.cli.options import Bundle, Data
from training.cli.output import err, out, progress
from training.quantize import DEFAULT_PHOTOS, MIN_PHOTOS, Outcome, quantize_bundle


def quantize(
    bundle: Bundle,
    data: Data,
    photos: Annotated[
        int, typer.Option(help="At most so many to calibrate on, and as many others to measure on.", min=MIN_PHOTOS)
    ] = DEFAULT_PHOTOS,
    seed: Annotated[int, typer.Option(help="The same seed draws the same photos.")] = 0,
) -> None:
    """Add int8 weights to a bundle, for JAGUAR_PRECISION=int8, if they answer as float32 does and are faster."""
    with exit_codes():
        with progress() as bar:
            task = bar.add_task("reading photos", total=None)
            outcome = quantize_bundle(
                bundle,
                data,
                photos=photos,
                seed=seed,
                progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            )
        _print_outcome(outcome)
        if not outcome.kept:
            failed = ", ".join(check.name for check in outcome.checks if not check.holds)
            message = f"jaguar-train: no int8 weights were added, the bundle is as it was: {failed}"
            err.print(message, style="red", highlight=False, soft_wrap=True)
            raise typer.Exit(1)


def _print_outcome(outcome: Outcome) -> None:
    figures = outcome.figures
    table = Table("int8 against float32", "measured", "needed", "holds")
    for check in outcome.checks:
        table.add_row(check.name, f"{check.measured:.5f}", check.needed, "yes" if check.holds else "no")
    out.print(table)
    counts = f"{figures.calibration_photos} photos, measured on {figures.measured_photos} others"
    out.print(f"calibrated on {counts}; median cosine {figures.median_cosine:.5f}", highlight=False, soft_wrap=True)
