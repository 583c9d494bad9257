"""`jaguar-train calibrate`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from training.calibrate import Figures
from training.cli.exits import exit_codes
from training.cli.options import Bundle, Data
from training.cli.output import err, out, progress
from training.report.write import HTML
from training.trust import calibrate_bundle


def calibrate(
    bundle: Bundle,
    data: Data,
    within: Annotated[str | None, typer.Option(help="A column; both photos of a pair share its value.")] = None,
    report: Annotated[Path | None, typer.Option("--out", help="Also write the figures there, as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed deals the same identities.")] = 0,
) -> None:
    """Learn what a bundle's similarities mean, on animals it was not trained on, and write that into its manifest."""
    with exit_codes():
        with progress() as bar:
            task = bar.add_task("reading and embedding photos", total=None)
            outcome = calibrate_bundle(
                bundle,
                data,
                within=within,
                seed=seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        if report:
            report.write_text(json.dumps(outcome.figures, indent=2) + "\n", encoding="utf-8")
        _print_figures(outcome.figures)
        if outcome.why_not is None and (bundle / HTML).exists():
            message = (
                f"{bundle / HTML} is from before; jaguar-train evaluate BUNDLE --data DIR --out FOLDER makes a new one"
            )
            out.print(message, highlight=False, soft_wrap=True)
        if outcome.why_not:
            message = f"jaguar-train: not calibrated, the bundle is as it was: {outcome.why_not}"
            err.print(message, style="red", highlight=False, soft_wrap=True)
            raise typer.Exit(1)


def _print_figures(found: Figures) -> None:
    figures: dict[str, Any] = found
    thresholds = figures["thresholds"]
    table = Table("calibration", "measured", "95 % interval")
    rows = (("ECE, 15 equal-mass bins", "ece"), ("log-loss below the constant's by", "log_loss_gain"))
    for name, key in rows:
        low, high = figures[f"{key}_interval"]
        table.add_row(name, f"{figures[key]:.4f}", f"{low:.4f} to {high:.4f}")
    table.add_row(f"`same` from {thresholds['same']:.4f}: false matches", f"{thresholds['false_match_rate']:.4f}", "")
    rate = f"{thresholds['false_non_match_rate']:.4f}"
    table.add_row(f"`different` to {thresholds['different']:.4f}: false non-matches", rate, "")
    table.add_row("same pairs called `same`", f"{thresholds['same_called_same']:.4f}", "")
    table.add_row("different pairs called `different`", f"{thresholds['different_called_different']:.4f}", "")
    out.print(table)
    counts = f"{figures['identities']} identities, {figures['same_pairs']} same of {figures['pairs']} pairs"
    out.print(f"{figures['method']}, prior 0.5; {counts}", highlight=False, soft_wrap=True)
    out.print(f"measured on {figures['measured_on']}", highlight=False, soft_wrap=True)
